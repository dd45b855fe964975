"""Which process somebody is: its id and when it started, so that an id that was given again is not mistaken."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this machine, since its boot."""

    pid: int
    started: str
    """Opaque: equal for the same process only. Empty where the system does not tell."""

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        if self.started:
            return _started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"pid": self.pid, "started": self.started}

    @classmethod
    def from_json(cls, document: Any) -> "ProcessId":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(int(document["pid"]), str(document["started"]))


def identify(pid: int | None = None) -> ProcessId:
    """A running process, by default this one."""
    pid = os.getpid() if pid is None else pid
    return ProcessId(pid, _started(pid))


def _started(pid: int) -> str:
    # proc(5): field 22 of stat is the start in clock ticks since boot; the command in field 2 may contain anything.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    if fields[0] in ("Z", "X"):
        return ""
    return f"{fields[19]}@{boot}"
