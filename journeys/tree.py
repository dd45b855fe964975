"""The processes that a worker started, and their end.

Chromium makes a process group and a session of its own, and a process whose parent died belongs to init: neither a
group nor a parent is enough to find all. So a worker starts with a mark in its environment, which every process that
descends from it inherits, and a process belongs to the worker if it descends from it or carries the mark.
"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from stormwatch.probes.procfs import ENDED, PARENT, STATE, STOPPED, environment, running, status_of

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
    known = _known()
    found = _descendants(pid, known)
    sign = f"{MARK}={mark}"
    found.update(one for one in known if one not in found and sign in environment(one))
    return {one for one in found if known[one].state not in ENDED}


def stopped(pid: int) -> set[int]:
    """Those of a process and of what descends from it that a signal has stopped (SIGSTOP) and nobody continued."""
    known = _known()
    return {one for one in _descendants(pid, known) if known[one].state == STOPPED}


class _Known(NamedTuple):
    parent: int
    state: str


def _known() -> dict[int, _Known]:
    return {pid: _Known(int(status[PARENT]), status[STATE]) for pid in running() if (status := status_of(pid))}


def _descendants(pid: int, known: Mapping[int, _Known]) -> set[int]:
    """It and all that it started, as far as nobody on the way has ended."""
    children: dict[int, list[int]] = defaultdict(list)
    for child, of in known.items():
        children[of.parent].append(child)
    found, waiting = set[int](), [pid] if pid in known else []
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting += children[one]
    return found
