"""The processes that a worker started, and their end.

Chromium makes a process group and a session of its own, and a process whose parent died belongs to init: neither a
group nor a parent is enough to find all. So a worker starts with a mark in its environment, which every process that
descends from it inherits, and a process belongs to the worker if it descends from it or carries the mark.
"""

import os
import signal
import time
from collections import defaultdict

from stormwatch.probes.procfs import ENDED, PARENT, STATE, environment, running, status_of

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
    sign = f"{MARK}={mark}"
    found.update(one for one in parents if one not in found and sign in environment(one))
    return found - dead


def _parents() -> tuple[dict[int, int], set[int]]:
    parents: dict[int, int] = {}
    dead: set[int] = set()
    for pid in running():
        if status := status_of(pid):
            parents[pid] = int(status[PARENT])
            if status[STATE] in ENDED:
                dead.add(pid)
    return parents, dead
