"""SIGTERM and Ctrl-C: long-lived commands stop cleanly, in their own order."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> asyncio.Event:
    """An event that is set by the first SIGTERM or SIGINT. A second one has its usual, sudden effect."""
    stop = asyncio.Event()
    _on_first_signal(stop.set)
    return stop


@contextlib.asynccontextmanager
async def cancelled_by_signals() -> AsyncGenerator[None]:
    """Cancel the block on the first SIGTERM or SIGINT, so that what it holds is let go of: faults are taken back."""
    task = asyncio.current_task()
    assert task is not None
    _on_first_signal(task.cancel)
    try:
        yield
    finally:
        _forget()


def _on_first_signal(act: Callable[[], object]) -> None:
    def once() -> None:
        _forget()
        act()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, once)


def _forget() -> None:
    for number in _SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)
