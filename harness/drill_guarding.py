"""Whether drills may run here and now: the guard is asked with the time, and with what is left of the error budgets."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from stormwatch.chaos.audit import myself
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.drill_lock import DrillLock, DrillRunning
from stormwatch.chaos.guard import Budgets, Guard, refusals, touched
from stormwatch.exporters.history import HistoryUnavailable, Recorded
from stormwatch.harness.config import Config
from stormwatch.harness.problem import Problem
from stormwatch.harness.standings import Origin, standings
from stormwatch.probes.clock import Clock
from stormwatch.slo.budget import allowed_bad, expected_results, share_left
from stormwatch.slo.objective import Objective

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """The guard of a configuration, and where it learns what is left of the budgets."""

    guard: Guard
    config: Config
    data: Path
    """Where a `stormwatch run` keeps its history."""
    watch: str = ""
    """The address of a running stormwatch, which is asked instead."""

    async def permit(self, drills: Sequence[Drill], clock: Clock) -> None:
        """Raises Problem, exit code 2, with every reason why these drills may not run now."""
        now = clock.now()
        found = refusals(self.guard, drills, now=now, budgets=await self._budgets(drills, now))
        if found:
            raise Problem(*(f"the guard refuses: {one}" for one in found), "nothing was injected")

    async def _budgets(self, drills: Sequence[Drill], now: float) -> Budgets:
        names = {name for drill in drills for name in touched(drill, self.config.objectives)}
        if self.guard.budget_floor is None or not names:
            return {}
        if self.watch:
            left = {one.objective: one.left for one in await standings(Origin(self.watch))}
            return {name: left.get(name) for name in sorted(names)}
        wanted = [one for one in self.config.objectives if one.name in names]
        return await asyncio.to_thread(budgets_of, self.config, wanted, self.data, now)


def guarding(config: Config, *, environment: str, data: Path, watch: str) -> Guarding:
    """The guard, with the environment that was given on the command line. Raises Problem when the file says another one."""
    said = config.guard.environment
    if environment and said and environment != said:
        raise Problem(
            f"--environment {environment}: {config.path} says that this is {said} (guard: environment:); leave one of them out"
        )
    guard = replace(config.guard, environment=environment or said)
    return Guarding(guard=guard, config=config, data=data, watch=watch)


def budgets_of(config: Config, objectives: Sequence[Objective], data: Path, now: float) -> Budgets:
    """What is left of each budget by the history in `data`; None where nothing is counted. Blocks.

    Of whole hours, the one included in which a window that rolls began: a floor is no matter of minutes.
    """
    file = data / "history.sqlite"
    every = {probe.name: probe.every for probe in config.probes}
    found: dict[str, Fraction | None] = {}
    for objective in objectives:
        since, until = objective.calendar.around(now) if objective.calendar else (now - objective.window, now)
        try:
            counted = Recorded(file).judged(since - HOUR, now) if file.is_file() else ()
        except HistoryUnavailable as error:
            raise Problem(f"the guard has a budget_floor, and the history cannot be read: {error}") from error
        hours = [one for one in counted if one.objective == objective.name and one.hour + HOUR > since]
        bad, total = sum(one.bad for one in hours), sum(one.good + one.bad for one in hours)
        expected = expected_results(objective, every, seconds=until - since if objective.calendar else None)
        found[objective.name] = share_left(bad, allowed_bad(objective, total, expected)) if total else None
    return found


@contextmanager
def exclusive(state: Path, drills: Sequence[str], *, clock: Clock) -> Generator[None]:
    """Let nobody else run drills with this state meanwhile. Raises Problem when somebody does."""
    what = f"drill {drills[0]}" if len(drills) == 1 else f"{len(drills)} drills ({', '.join(drills)})"
    lock = DrillLock(state / "drill.lock", owner=myself(), what=what, now=clock.now())
    try:
        lock.__enter__()
    except DrillRunning as running:
        raise Problem(str(running), "nothing was injected") from running
    except OSError as error:
        raise Problem(f"cannot lock {state / 'drill.lock'}: {error.strerror}; nothing was injected") from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
