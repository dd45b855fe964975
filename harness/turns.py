"""How many runs are under way at once: a room of its own for kinds that are heavy, one room for all the others.

What waits for its turn has not begun, so that waiting is never charged to a target: it is told as queue wait.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from stormwatch.probes.probe import Kind, Probe
from stormwatch.probes.waiting import Waiting

SHARED: Final = "shared"
"""The name of the room of all kinds that have none of their own."""
SHARED_SIZE: Final = 128
"""Runs of light kinds at once. More of them would measure each other."""


def sizes(kinds: Mapping[str, Kind[Any]], used: Iterable[Probe], chosen: Mapping[str, int]) -> dict[str, int]:
    """The rooms that there are: those of the kinds of these probes, and what the configuration chooses instead."""
    rooms = {probe.kind: kinds[probe.kind].concurrency for probe in used}
    own = {name: size for name, size in rooms.items() if size}
    return {SHARED: SHARED_SIZE, **own, **chosen}


class Turns:
    """Gives each run its turn."""

    def __init__(self, sizes: Mapping[str, int], *, clock: Callable[[], float]) -> None:
        """`sizes` by kind, and under `SHARED`; `clock` is monotonic, in seconds."""
        self.sizes = dict(sizes)
        self._rooms = {name: asyncio.Semaphore(size) for name, size in sizes.items()}
        self._clock = clock
        self.waiting = Waiting()
        """Which runs wait for their turn."""

    @asynccontextmanager
    async def turn(self, kind: str, probe: str = "") -> AsyncGenerator[float]:
        """Wait for a place in the kind's room and keep it; gives the seconds that were waited. `probe` is who waits."""
        began = self._clock()
        room = self._rooms.get(kind) or self._rooms[SHARED]
        if room.locked():
            with self.waiting.noted(probe, "turn"):
                await room.acquire()
        else:
            await room.acquire()
        try:
            yield self._clock() - began
        finally:
            room.release()
