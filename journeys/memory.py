"""How much memory a new browser could have: of the machine, and of the container we live in."""

from pathlib import Path


def available_memory(*, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be taken without swapping or being killed: the machine's, or the cgroup's if that is less.

    Files that are not there bound nothing. See proc(5) for MemAvailable, and the kernel's cgroup-v2 for memory.max.
    """
    lines = _read(meminfo).splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        # Cached files count as used there, and are given back when memory gets short.
        cached = next(
            (
                int(line.split()[1])
                for line in _read(cgroup / "memory.stat").splitlines()
                if line.startswith("inactive_file ")
            ),
            0,
        )
        found.append(max(0, int(limit) - int(used) + cached))
    return min(found, default=2**63)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
