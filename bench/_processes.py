"""What a journey costs: its processes, which are many, live short, and have parents that die before them.

    python -m bench._processes COMMAND …      runs it, waits for all that it started, and prints what that used as JSON

A tag in the environment tells whose a process is: every process that descends from a tagged one inherits it, and Chromium
cannot lose it by leaving its group. Linux: everything is read from /proc.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TAG: Final = "STORMWATCH_BENCH"
"""The environment variable that says which way of the bench a process belongs to."""
_TICK: Final = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER: Final = 36
"""Of prctl(2): orphans of a process become its children, and their time is counted when it waits for them."""
_LINGERING: Final = 10.0
"""Seconds that a command's processes may outlive it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a tree of processes holds."""

    processes: int
    bytes: int
    """In memory, each process for itself (RSS): the pages of a program that run several times are counted each time."""
    own_bytes: int
    """In memory and of nobody else: what was allocated, and not what was mapped of a file."""
    descriptors: int


def tag(name: str) -> Mapping[str, str]:
    """The environment of what is to be known by a name: to this bench, and to no other that runs beside it."""
    return {_TAG: f"{os.getpid()} {name}"}


def tagged(name: str) -> frozenset[int]:
    """The living processes of a name, with all that descend from them."""
    parents, sign = _parents(), f"{_TAG}={tag(name)[_TAG]}".encode()
    found = {pid for pid in parents if sign in _environment(pid).split(b"\0")}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return frozenset(found)


def cpu_of(pids: frozenset[int]) -> float:
    """Seconds of processor time of these and of all that they have waited for."""
    ticks = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICK


def size_of(pids: frozenset[int]) -> Size:
    """What these hold now. One that ends meanwhile holds nothing."""
    resident = own = descriptors = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            descriptors += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        known = {line.split()[0]: line.split()[1] for line in rollup.splitlines()[1:]}
        resident += int(known["Rss:"]) * 1024
        # Of these, what a tree's own processes share is divided among them. `Pss` itself falls when a stranger starts a browser.
        own += (int(known["Pss_Anon:"]) + int(known["Pss_Shmem:"])) * 1024
    return Size(processes=len(pids), bytes=resident, own_bytes=own, descriptors=descriptors)


def resident_bytes(pids: frozenset[int]) -> int:
    """Bytes in memory, each process for itself. Quick: for looking often."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def metered(command: Sequence[str | Path]) -> Sequence[str | Path]:
    """A command that runs another and prints what it used."""
    return (sys.executable, "-m", "bench._processes", *command)


def _parents() -> Mapping[int, int]:
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))) and fields[0] not in "ZX":
            parents[int(entry.name)] = int(fields[1])
    return parents


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name, from its state on; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def main(command: Sequence[str]) -> int:
    """Run a command. Returns its exit code; its output goes to stderr."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    began = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    code = child.wait()
    seconds = time.perf_counter() - began
    left = _wait_for_orphans()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"code": code, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "left": left}))
    return code


def _wait_for_orphans() -> int:
    """Wait until none is left; returns how many are after a while."""
    until = time.monotonic() + _LINGERING
    while time.monotonic() < until:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if not pid:
            time.sleep(0.01)
    return sum(parent == os.getpid() for parent in _parents().values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
