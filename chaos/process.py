"""Which process somebody is: its id and when it started, so that an id that was given again is not mistaken."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormwatch.probes.procfs import ENDED, START, STATE, STOPPED, status_of


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
        if status_of(os.getpid()):
            # This system tells of everybody who runs: what it did not tell of was a zombie, or gone.
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def stopped(self) -> bool:
        """Whether this very process is stopped by a signal."""
        return status_of(self.pid)[:1] == [STOPPED] and self.alive()

    def is_being_killed(self) -> bool:
        """Whether a SIGKILL is on its way to this very process: on a busy machine it lives on for a while."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
        return any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending) and self.alive()

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process, and never one that was given its number since: False when it is gone.

        Raises PermissionError.
        """
        try:
            # A descriptor stays with its process (pidfd_open(2)): what holds for it now cannot turn to hold for another.
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
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
    status = status_of(pid)
    if not status or status[STATE] in ENDED:
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    # In clock ticks since boot.
    return f"{status[START]}@{boot}"
