"""Which process somebody is: its id and when it started, so that an id that was given again is not mistaken."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


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
        if _fields(os.getpid()):
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
        return _fields(self.pid)[:1] == ["T"] and self.alive()

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


_LOOKS: Final = 10
_EXEC: Final = 0.002
"""Seconds between looks at a process that shows no environment. One that was started without any costs this each time."""
_KERNEL_THREAD: Final = 0x00200000
"""PF_KTHREAD of the flags in /proc/PID/stat (linux/sched.h)."""


def running() -> Iterator[int]:
    """The ids of all processes that this one may see, zombies among them."""
    yield from (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def command_line(pid: int) -> tuple[str, ...]:
    """How a process was started; empty for a kernel thread, a zombie, and one that is gone."""
    return _strings(f"/proc/{pid}/cmdline")


def environment(pid: int) -> tuple[str, ...]:
    """`NAME=value` as a process was started with; empty when it is gone, or not ours to look at."""
    for _ in range(_LOOKS):
        try:
            data = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            break
        if data or not _is_program(pid):
            return _parts(data)
        time.sleep(_EXEC)  # a thread's, as all that reads /proc
    return ()


def _is_program(pid: int) -> bool:
    """Whether it has an environment: no kernel thread, no zombie. One that is in the middle of execve(2) shows none for a moment."""
    fields = _fields(pid)
    return bool(fields) and fields[0] not in ("Z", "X") and not int(fields[6]) & _KERNEL_THREAD


def _strings(path: str) -> tuple[str, ...]:
    try:
        data = Path(path).read_bytes()
    except OSError:
        return ()
    return _parts(data)


def _parts(data: bytes) -> tuple[str, ...]:
    return tuple(part.decode(errors="replace") for part in data.rstrip(b"\0").split(b"\0")) if data else ()


def _started(pid: int) -> str:
    fields = _fields(pid)
    if not fields or fields[0] in ("Z", "X"):
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{fields[19]}@{boot}"


def _fields(pid: int) -> list[str]:
    # proc(5): field 22 of stat is the start in clock ticks since boot; the command in field 2 may contain anything.
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
