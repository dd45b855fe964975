"""Time as a parameter: the wall clock for records, the monotonic clock for durations, and a sleep that follows it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Tests pass one that they move by hand."""

    def now(self) -> float:
        """Unix time in seconds: for what is recorded and shown, never for measuring."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment, never going back: for durations and deadlines."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return when `monotonic()` has reached `moment`, at once if it has already."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep_until(self, moment: float) -> None:
        """Sleep on the running asyncio loop."""
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
