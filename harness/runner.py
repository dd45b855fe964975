"""The scheduled runner: one heap of due moments, one task per run, a cap on how many run at once."""

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from stormwatch.exporters.histogram import SHORT_SECONDS, Histogram
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.schedule import Schedule, place_of, spread_of
from stormwatch.harness.turns import Turns
from stormwatch.probes.clock import Clock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Result
from stormwatch.probes.run import run_once

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Runs that begin in one turn of the event loop."""


class Runner:
    """Runs probes when they are due and hands each result to `take`."""

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        take: Callable[[Result], None],
        clock: Clock,
        resources: Resources,
        lag: LoopLag,
        turns: Turns,
        mask: Callable[[Any], Any] | None = None,
    ) -> None:
        """`mask` takes secrets out of what results tell."""
        self._probes = {probe.name: probe for probe in probes}
        self._take = take
        self._clock = clock
        self._resources = resources
        self._lag = lag
        self._turns = turns
        self._mask = mask
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._begin: Callable[[str, float], None] | None = None
        self._due: list[tuple[float, int, str]] = []
        """A heap: when each probe is due next, by the monotonic clock."""
        self.skipped: Counter[str] = Counter(dict.fromkeys(self._probes, 0))
        """Due moments of each probe that were let go: its last run was not over, or the runner itself was late."""
        self.delays = Histogram(SHORT_SECONDS)
        """Seconds between the moment that a run was due and its start."""
        self.waits = Histogram(SHORT_SECONDS)
        """Seconds of them that it waited for other runs to end."""

    @property
    def under_way(self) -> int:
        """How many runs have begun or wait for their turn."""
        return len(self._running)

    @property
    def behind(self) -> float:
        """Seconds for which the next run has been due. More than moments: the schedule stands still."""
        return max(0.0, self._clock.monotonic() - self._due[0][0]) if self._due else 0.0

    def soon(self, name: str) -> None:
        """Run a probe now, because there is news of it; once more afterwards if it is running. Its schedule goes on as it was."""
        if name in self._running:
            self._again.add(name)
        elif self._begin is not None:
            self._begin(name, self._clock.monotonic())

    async def run(self) -> None:
        """Run until cancelled. Runs that are under way are cancelled with it, and give no result."""
        start = self._clock.monotonic()
        order = itertools.count()
        spread = spread_of(len(self._probes))
        schedules = {
            name: Schedule(every=probe.every, place=place_of(name), start=start, spread=spread)
            for name, probe in self._probes.items()
        }
        due = self._due = [(schedule.first(), next(order), name) for name, schedule in schedules.items()]
        heapq.heapify(due)
        begun = 0
        try:
            async with asyncio.TaskGroup() as group:

                def begin(name: str, due: float) -> None:
                    task = group.create_task(self._one(self._probes[name], due), name=f"probe {name}")
                    self._running[name] = task

                self._begin = begin
                while due:
                    moment, _, name = due[0]
                    # What is due already begins without a turn of the loop for each: when turns are long, as during a scrape of
                    # ten thousand probes, fewer of them come than runs are due. But only some at once: a start of libcurl also
                    # serves what others receive, and a server that never stops sending would make hundreds of starts a stall.
                    if moment > self._clock.monotonic() or begun >= AT_ONCE:
                        await self._clock.sleep_until(moment)
                        begun = 0
                    begun += 1
                    now = self._clock.monotonic()
                    missed = schedules[name].missed(moment, now)
                    if missed:
                        self.skipped[name] += missed
                    if name in self._running:
                        self.skipped[name] += 1
                    else:
                        begin(name, moment)
                    heapq.heapreplace(due, (schedules[name].after(max(moment, now)), next(order), name))
        finally:
            self._begin = None
            self._running.clear()

    async def _one(self, probe: Probe, due: float) -> None:
        try:
            async with self._turns.turn(probe.kind, probe.name) as waited:
                late = max(0.0, self._clock.monotonic() - due)
                self.delays.observe(late)
                self.waits.observe(waited)
                result = await run_once(
                    probe,
                    clock=self._clock,
                    resources=self._resources,
                    late=late,
                    queued=waited,
                    worst_lag=self._lag.worst,
                    mask=self._mask,
                )
            self._take(result)
        finally:
            self._running.pop(probe.name, None)
        if probe.name in self._again:
            self._again.discard(probe.name)
            self.soon(probe.name)
