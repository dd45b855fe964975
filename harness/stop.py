"""SIGTERM and Ctrl-C as an event: long-lived commands stop cleanly, in their own order."""

import asyncio
import signal


def stop_on_signals() -> asyncio.Event:
    """An event that is set by the first SIGTERM or SIGINT. A second one has its usual, sudden effect."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def stopping() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    return stop
