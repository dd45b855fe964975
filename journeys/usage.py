"""What a worker and all that it started have taken of the machine: memory of its processes, disk of its directory."""

import os
from collections.abc import Iterable
from pathlib import Path

_OWN = ("RssAnon:", "RssShmem:", "VmSwap:")
"""Lines of /proc/PID/status (proc(5)), in kB: what belongs to the process, without the files that it has mapped."""


def memory_of(processes: Iterable[int]) -> int:
    """Bytes of memory that these processes have together. One that has ended has none."""
    return sum(_memory(pid) for pid in processes)


def written_below(directory: Path) -> int:
    """Bytes of disk that files below a directory take. What goes away while it is looked at counts as gone."""
    found, waiting = 0, [os.fspath(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        # Not its length: a file may be longer than what was written to it.
                        found += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return found


def _memory(pid: int) -> int:
    try:
        lines = Path("/proc", str(pid), "status").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN))
