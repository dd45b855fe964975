"""What the system tells of its processes. Linux: everything is read from /proc, see proc(5).

Journeys and faults both ask, and imports point one way: so it stands below them.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

STATE: Final = 0
"""Places in `status_of`, which begins with field 3 of proc(5)."""
PARENT: Final = 1
FLAGS: Final = 6
USER_TICKS: Final = 11
SYSTEM_TICKS: Final = 12
START: Final = 19

ENDED: Final = "ZX"
"""States of a process that has ended and is still listed: nobody waited for it yet."""
STOPPED: Final = "T"
"""The state of one that was stopped by a signal."""
_KERNEL_THREAD: Final = 0x00200000
"""PF_KTHREAD of the flags (linux/sched.h)."""
_LOOKS: Final = 10
_EXEC: Final = 0.002
"""Seconds between looks at a process that shows no environment. One that was started without any costs this each time."""


def running() -> Iterator[int]:
    """The ids of all processes that this one may see, those that ended and were not waited for among them."""
    yield from (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def status_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from its third on, the state; empty when it is gone, or the system does not tell."""
    try:
        # The name in field 2 stands in brackets and may hold anything, brackets too: the rest follows the last one.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether it runs: not gone, and not ended."""
    status = status_of(pid)
    return bool(status) and status[STATE] not in ENDED


def command_line(pid: int) -> tuple[str, ...]:
    """How a process was started; empty for a kernel thread, one that ended, and one that is gone."""
    try:
        return _parts(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ()


def environment(pid: int) -> tuple[str, ...]:
    """`NAME=value` as a process was started with; empty when it is gone, or not ours to look at.

    In the middle of execve(2) a process shows none for a moment (one start in eighty was met in it): whoever shows none is looked at
    again. Blocks for 20 ms where a program was really started without any.
    """
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
    """Whether it has an environment: no kernel thread, and not ended."""
    status = status_of(pid)
    return bool(status) and status[STATE] not in ENDED and not int(status[FLAGS]) & _KERNEL_THREAD


def _parts(data: bytes) -> tuple[str, ...]:
    return tuple(part.decode(errors="replace") for part in data.rstrip(b"\0").split(b"\0")) if data else ()
