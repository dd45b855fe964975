"""`stormwatch check`: run probes once, for CI and for debugging."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.problem import Problem
from stormwatch.harness.turns import Turns, sizes
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.run import run_once


def journeys_among(probes: Sequence[Probe], *, named: bool, config: Path) -> list[Probe]:
    """The journeys of them. Raises Problem where there is none, and where one was named that is no journey."""
    found = [probe for probe in probes if probe.kind == "journey"]
    others = [probe for probe in probes if probe.kind != "journey"]
    if named and others:
        raise Problem(
            f"--journeys: {others[0].name} is no journey, but of kind {others[0].kind}; leave one of them out"
        )
    if not found:
        raise Problem(f"--journeys: no probe in {config} is of kind journey; write one, or leave --journeys out")
    return found


def standing_for(name: str, probes: Sequence[Probe]) -> list[Probe]:
    """The journeys that an entry of this name stands for, by its target or its matrix; none where it is a probe itself, or nothing."""
    return [
        probe
        for probe in probes
        if name in (probe.labels.get("journeys"), probe.labels.get("matrix")) and probe.name.startswith(f"{name}.")
    ]


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
    turns = Turns(sizes(KINDS, probes, {"journey": 1, **(concurrency or {})}), clock=clock.monotonic)

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
