"""`stormwatch check`: run probes once, for CI and for debugging."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.turns import Turns, sizes
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.run import run_once


async def check(
    probes: Sequence[Probe],
    resources: Resources,
    *,
    concurrency: Mapping[str, int] | None = None,
    mask: Callable[[Any], Any] | None = None,
) -> list[Result]:
    """Run every probe once, as many at once as `concurrency` allows of their kind; results in the order of probes."""
    clock = SystemClock()
    lag = LoopLag(clock)
    turns = Turns(sizes(KINDS, {"journey": 1, **(concurrency or {})}), clock=clock.monotonic)

    async def one(probe: Probe) -> Result:
        async with turns.turn(probe.kind) as waited:
            return await run_once(
                probe, clock=clock, resources=resources, late=waited, queued=waited, worst_lag=lag.worst, mask=mask
            )

    watching = asyncio.create_task(lag.watch())
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(probe)) for probe in probes]
    finally:
        watching.cancel()
    return [task.result() for task in tasks]


def metrics_of(probe: Probe, result: Result) -> str:
    """What a result would export."""
    return PrometheusExporter([probe], KINDS, started=result.started).of(result).decode()


def exit_code(results: Sequence[Result]) -> int:
    """0 all up; 1 something is down; 3 nothing is down, but something is broken, so there is no verdict about it."""
    outcomes = {result.outcome for result in results}
    if Outcome.DOWN in outcomes:
        return 1
    return 3 if Outcome.BROKEN in outcomes else 0
