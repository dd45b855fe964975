"""The runner starts what is due, caps what runs at once, counts what it let go, and stops cleanly."""

import asyncio
import itertools
import time

from stormwatch.harness.lag import LoopLag
from stormwatch.harness.runner import Runner
from stormwatch.harness.turns import SHARED, Turns
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Check, Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Result
from stormwatch.probes.watch import Watch


def probe(name: str, check: Check, every: float = 0.1, kind: str = "tcp") -> Probe:
    return Probe(name=name, kind=kind, target="nowhere", check=check, every=every, timeout=2.0)


async def run_until(count: int, probes: list[Probe], concurrency: dict[str, int]) -> tuple[Runner, list[Result]]:
    """Run until so many results came, then stop; fails after a minute."""
    clock, results, enough = SystemClock(), list[Result](), asyncio.Event()

    def take(result: Result) -> None:
        results.append(result)
        if len(results) >= count:
            enough.set()

    lag = LoopLag(clock)
    async with Resources() as resources:
        turns = Turns({SHARED: 128, **concurrency}, clock=clock.monotonic)
        runner = Runner(probes, take=take, clock=clock, resources=resources, lag=lag, turns=turns)
        task = asyncio.create_task(runner.run())
        await asyncio.wait_for(enough.wait(), 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return runner, results


async def test_a_probe_runs_again_and_again() -> None:
    """Results come in the rhythm of the interval."""

    async def check(_watch: Watch) -> None:
        return None

    runner, results = await run_until(5, [probe("quick", check)], {})

    due = [result.started - result.late for result in results]
    assert min(b - a for a, b in itertools.pairwise(due)) > 0.08
    assert runner.under_way == 0


async def test_a_run_that_is_not_over_is_not_started_twice() -> None:
    """Moments that pass while a run is under way are skipped and counted."""
    at_once = 0
    most = 0

    async def check(_watch: Watch) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.35)
        at_once -= 1

    runner, _ = await run_until(2, [probe("slow", check)], {})

    assert most == 1
    assert runner.skipped["slow"] >= 2


async def test_a_kind_has_its_own_cap_and_waiting_is_delay() -> None:
    """Two journeys with room for one: the second waits, and its wait is told, not charged to the target."""
    at_once = 0
    most = 0

    async def check(_watch: Watch) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.5)
        at_once -= 1

    probes = [probe(f"journey-{n}", check, every=1.0, kind="journey") for n in range(3)]
    _, results = await run_until(6, probes, {"journey": 1})

    assert most == 1
    assert max(result.late for result in results) > 0.1
    assert max(result.queued for result in results) > 0.1
    assert all(result.queued <= result.late + 0.01 for result in results)
    assert max(result.seconds for result in results) < 1.0


async def test_a_blocked_loop_is_told_with_the_result() -> None:
    """A run during which somebody blocked the loop carries the lag."""
    clock = SystemClock()
    lag = LoopLag(clock)
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0.06)
    began = clock.monotonic()
    time.sleep(0.2)

    assert 0.1 <= lag.worst(began) < 10
    await asyncio.sleep(0.06)
    assert lag.worst(began) >= 0.1
    watching.cancel()
