"""A network of one's own, in which a host is unreachable: no packet leaves the machine, and the machine stays as it is.

A network namespace belongs to a thread, so the test's code runs in one of its own.
"""

import asyncio
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from tests.program import program

HOST = "198.51.100.1"
"""An address for documentation (RFC 5737), to which the island's routes say: host unreachable."""

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET, see namespaces(7)."""

T = TypeVar("T")


def on_an_island(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a loop of its own in a thread with a network of its own. Needs root: without it, the test is skipped."""
    ended: list[T | BaseException] = []

    def live() -> None:
        try:
            leave_the_network()
            subprocess.run([program("ip"), "route", "add", "unreachable", HOST], check=True)
            ended.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            ended.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    (end,) = ended
    if isinstance(end, PermissionError) and not os.environ.get("CI"):
        pytest.skip("a network of one's own needs root, with CAP_SYS_ADMIN where that is taken away")
    if isinstance(end, BaseException):
        raise end
    return end


def leave_the_network() -> None:
    """Give the calling thread a network of its own. Raises PermissionError."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) != 0:
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
