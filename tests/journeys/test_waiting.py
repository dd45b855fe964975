"""What waits before it begins is seen: who, and for what."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from stormwatch.exporters.exposition import Family
from stormwatch.harness import telemetry
from stormwatch.harness.turns import Turns
from stormwatch.journeys.journey import JourneyOptions, build
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome
from stormwatch.probes.run import run_once
from stormwatch.probes.waiting import Waiting

Write = Callable[..., Path]


def told(*rooms: Waiting) -> dict[tuple[str, ...], float]:
    """Samples that are not zero, by the values of their labels."""
    families: list[Family] = list(telemetry.waiting(*rooms))
    assert len(families[0].samples) == 3, "the series of the reasons are always there"
    return {tuple(each.labels.values()): each.value for family in families for each in family.samples if each.value}


async def seen(rooms: Waiting, wanted: dict[tuple[str, ...], float]) -> None:
    """Wait until this is what is told."""
    async with asyncio.timeout(30):
        while told(rooms) != wanted:
            await asyncio.sleep(0.01)


async def test_a_journey_waits_for_memory_and_runs_when_there_is_some(
    write: Write, scratch: Path, tmp_path: Path
) -> None:
    """It is not refused at once: what is short now may be free a moment later."""
    free = 100 * 2**20
    pool = WorkerPool(artifacts=tmp_path / "artifacts", available=lambda: free)
    target = f"{write('def test_it(step): pass')}::test_it"
    probe = Probe(name="buy", kind="journey", target=target, check=build(target, JourneyOptions()), timeout=90.0)
    async with Resources() as resources:
        resources.put(WorkerPool, pool)
        running = asyncio.create_task(run_once(probe, clock=SystemClock(), resources=resources))
        await seen(pool.waiting, {("memory",): 1, ("buy", "memory"): 1})
        assert pool.workers == 0
        free = 2**40
        assert (await running).outcome is Outcome.UP
    assert told(pool.waiting) == {}


async def test_runs_that_wait_for_their_turn_are_named() -> None:
    """Whoever is cancelled while it waits waits no more."""
    turns = Turns({"journey": 1, "shared": 1}, clock=time.monotonic)

    async def run(probe: str) -> None:
        async with turns.turn("journey", probe):
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(run(name)) for name in ("a", "b", "c", "c")]
    await seen(turns.waiting, {("turn",): 3, ("b", "turn"): 1, ("c", "turn"): 2})
    tasks[2].cancel()
    tasks[0].cancel()
    await seen(turns.waiting, {("turn",): 1, ("c", "turn"): 1})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert told(turns.waiting) == {}
    other = Waiting()
    with other.noted("d", "worker"):
        assert told(turns.waiting, other) == {("worker",): 1, ("d", "worker"): 1}
