"""How much memory there is to be had: of the machine, and of the container or service we live in."""

from pathlib import Path, PurePosixPath


def available_memory(
    *,
    meminfo: Path = Path("/proc/meminfo"),
    cgroup: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> int:
    """Bytes that can still be taken without swapping or being killed: the least of the machine's and of each of our cgroups'.

    A limit binds everything below it (the kernel's cgroup-v2, "Resource Distribution Models"), and that of a systemd service is
    its own while `/` has none: so all from ours up to the root are asked. Files that are not there bound nothing. See proc(5)
    for MemAvailable and for /proc/PID/cgroup, and cgroup-v2 for memory.max.
    """
    lines = _read(meminfo).splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    found += [left for group in _groups(cgroup, membership) if (left := _left(group)) is not None]
    return min(found, default=2**63)


def _groups(cgroup: Path, membership: Path) -> list[Path]:
    """Ours and those around it. In a container ours is the root, and `..` in its name is above what can be seen."""
    name = next((line[3:] for line in _read(membership).splitlines() if line.startswith("0::")), "/")
    steps = PurePosixPath(name).parts[1:]
    if ".." in steps:
        steps = ()
    return [cgroup.joinpath(*steps[:count]) for count in range(len(steps) + 1)]


def _left(group: Path) -> int | None:
    limit, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not limit.isdecimal() or not used.isdecimal():
        return None
    # Cached files count as used there, and are given back when memory gets short.
    stat = _read(group / "memory.stat").splitlines()
    cached = next((int(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - int(used) + cached)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
