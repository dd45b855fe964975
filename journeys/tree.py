"""The processes that a worker started, and their end. Linux: everything is read from /proc.

Chromium makes a process group and a session of its own, and a process whose parent died belongs to init: neither a
group nor a parent is enough to find all. So a worker starts with a mark in its environment, which every process that
descends from it inherits, and a process belongs to the worker if it descends from it or carries the mark.
"""

import os
import signal
import time
from collections import defaultdict
from pathlib import Path

MARK = "STORMWATCH_WORKER"
"""The environment variable that marks a worker and everything it starts."""


def kill_tree(pid: int, mark: str, *, spare: int = 0, patience: float = 5.0) -> bool:
    """SIGKILL a process and all that it started, except `spare`, until none is alive. Blocks: call it in a thread.

    Returns whether none was left after `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        left = members(pid, mark) - {spare, os.getpid()}
        if not left:
            return True
        for one in left:
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > until:
            return False
        time.sleep(0.01)


def members(pid: int, mark: str) -> set[int]:
    """The living processes of a worker: itself, what descends from it, and what carries its mark."""
    parents, dead = _parents()
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    found, waiting = set[int](), [pid] if pid in parents else []
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting += children[one]
    sign = f"{MARK}={mark}".encode()
    found.update(one for one in parents if one not in found and sign in _environment(one))
    return found - dead


def _parents() -> tuple[dict[int, int], set[int]]:
    parents: dict[int, int] = {}
    dead: set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                # The name stands in brackets and may hold anything, brackets too: state and parent follow the last one.
                state, parent = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            parents[int(entry.name)] = int(parent)
            if state in "ZX":
                dead.add(int(entry.name))
    return parents, dead


def _environment(pid: int) -> list[bytes]:
    try:
        return Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    except OSError:
        return []
