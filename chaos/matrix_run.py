"""The cells of a matrix, carried out: look, break, listen, mend, look again. Every fault is taken back whatever happens.

Cells overlap only where nobody depends on both of what they break, so that it is certain of which one an alert speaks. Where an
alert speaks of neither, both are run again, alone.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected, FaultNotReverted
from stormwatch.chaos.feed import Feed, Recording
from stormwatch.chaos.matrix import Control, Outcome
from stormwatch.chaos.matrix_cell import Alarm, Catcher, Cell, Red, Sight, still_on_the_way, told_after
from stormwatch.chaos.matrix_last_mile import arrival_of, still_told
from stormwatch.chaos.verdict import show_labels
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Outcome as RunOutcome
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Transition
from stormwatch.slo.objective import Judgement, Objective

AT_ONCE = 3
"""Cells that are under way at the same time, at the most."""
TICK = 1.0
"""Seconds between two looks at what a fault has touched."""
CLOSE_ENOUGH = 0.001
"""Seconds by which an alert may be older than the result that it tells of: clocks have a resolution."""
SETTLE = 1.0
"""Seconds that are listened on after the first alert, for those that should have stayed silent."""

News = Callable[[str, str], None]
"""Takes what happens: the name of the cell, and one line."""


@dataclass(slots=True, kw_only=True)
class Chamber:
    """What the cells of one run share."""

    feed: Feed
    clock: Clock
    fault_of: Callable[[Cell], Fault]
    """Makes the fault of a cell; nothing happens until it is entered."""
    journal: AuditJournal | None = None
    objectives: Mapping[str, Objective] = field(default_factory=dict[str, Objective])
    settle: float = SETTLE
    """Seconds that are listened on after the first alert that tells; infinite: for all the time that a cell has."""
    patience: float = 120.0
    """Seconds in which all has to be well before a cell."""
    all_clear: float = 0.0
    """Seconds after the end of an alert in which the receiver at the end of the way is told of it, where that is watched."""
    told_before: Sequence[Mapping[str, str]] = ()
    """Alerts that ended so shortly before the first cell that the receiver may not have been told of it."""
    told_until: float = 0.0
    """Until when that may be so, in unix time."""
    lag: float = 0.0
    """Seconds after the undo of a fault in which an alert of it may still begin: where others evaluate what they read of us."""
    mended: dict[str, float] = field(default_factory=dict[str, float])
    """When the last fault that a probe depends on was taken back, in unix time: a run that began before tells of that one."""


async def run_matrix(
    cells: Iterable[Cell],
    chamber: Chamber,
    *,
    take: Callable[[Outcome], Awaitable[None]],
    take_control: Callable[[Control], Awaitable[None]],
    controls_every: int = 20,
    at_once: int = AT_ONCE,
    news: News = lambda _cell, _line: None,
) -> None:
    """Run all cells; `take` gets each outcome as soon as it is known, and may write it to disk.

    Before the first, after every `controls_every` and at the end comes a control: nothing is broken, and whatever fires is a false
    alarm. Cancelling takes every fault back before it is let out. After a fault that is not known to be gone nothing more is broken.
    """
    run = _Matrix(
        list(cells),
        chamber,
        take=take,
        take_control=take_control,
        controls_every=controls_every,
        at_once=max(1, at_once),
        news=news,
    )
    await run.whole()


class _Matrix:
    def __init__(
        self,
        cells: list[Cell],
        chamber: Chamber,
        *,
        take: Callable[[Outcome], Awaitable[None]],
        take_control: Callable[[Control], Awaitable[None]],
        controls_every: int,
        at_once: int,
        news: News,
    ) -> None:
        self._waiting = cells
        self._chamber = chamber
        self._take = take
        self._take_control = take_control
        self._controls_every = controls_every
        self._at_once = at_once
        self._news = news
        self._running: dict[asyncio.Task[Sight], Cell] = {}
        self._again: set[str] = set()
        """Cells that run once more, alone: what was seen of them was not certain."""
        self._company: dict[str, dict[str, Cell]] = {}
        """With whom each cell that is under way overlapped, by name."""
        self._control_seconds = sum(cell.limit for cell in cells) / len(cells) / 2 if cells else 0.0
        self._done = 0
        self._unsafe = False

    async def whole(self) -> None:
        if self._controls_every and self._waiting:
            await self._control()
        try:
            while self._waiting or self._running:
                self._start_what_can()
                if not self._running:
                    break
                ended, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    await self._end(self._running.pop(task), task.result())
                if self._controls_every and self._done >= self._controls_every and not self._running:
                    self._done = 0
                    await self._control()
        finally:
            # Each takes its own fault back before it ends.
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)
        if self._controls_every and self._done and not self._unsafe:
            await self._control()

    def _start_what_can(self) -> None:
        due = self._controls_every and self._done >= self._controls_every
        if due or self._unsafe:
            return
        for cell in list(self._waiting):
            if len(self._running) >= self._at_once:
                return
            alone = cell.name in self._again
            others = self._running.values()
            if any(cell.disturbs(other) or other.name in self._again for other in others) or (alone and others):
                continue
            self._waiting.remove(cell)
            self._company[cell.name] = {other.name: other for other in others}
            for other in others:
                self._company[other.name][cell.name] = cell
            self._news(cell.name, "is all well?")
            self._running[asyncio.create_task(self._cell(cell), name=cell.name)] = cell

    async def _cell(self, cell: Cell) -> Sight:
        feed = self._chamber.feed
        # Also of others: an alert of theirs may be the late end of what an earlier cell broke.
        with feed.recording() as seen:
            return await _CellRun(cell, self._chamber, seen, self._news, strict=cell.name in self._again).whole()

    async def _end(self, cell: Cell, sight: Sight) -> None:
        company = self._company.pop(cell.name)
        # What another cell broke at the same time has its own alerts: those are of that one, and no noise here.
        alarms = (one for one in sight.alarms if cell.may_tell(one.labels) or not _told_by(company.values(), one))
        sight = replace(sight, alarms=tuple(alarms), company=tuple(sorted(company)))
        outcome = Outcome(cell=cell, sight=sight)
        strangers = [one for one in sight.alarms if not one.stale and not cell.may_tell(one.labels)]
        unsure = strangers and company
        blurred = sight.busy or any(one.stale for one in sight.alarms)
        if (unsure or (blurred and not outcome.state.told)) and cell.name not in self._again and not self._unsafe:
            self._again.add(cell.name)
            self._waiting.append(cell)
            self._news(cell.name, "is run again, alone: it is not certain of what an alert spoke")
            return
        self._unsafe |= not sight.gone
        self._done += 1
        self._news(cell.name, outcome.state.value)
        await self._take(outcome)

    async def _control(self) -> None:
        """Nothing is broken for as long as a cell takes on average, once everybody is well who was hurt before."""
        clock, feed = self._chamber.clock, self._chamber.feed
        hurt = self._chamber.mended
        with feed.recording() as seen:
            self._news("control", "nothing is broken: what fires now is a false alarm")
            await _lagging(seen, max(hurt.values(), default=-math.inf), self._chamber)
            await seen.until(
                lambda: all(_well_since(feed, *one) for one in hurt.items()),
                clock=clock,
                deadline=clock.monotonic() + self._chamber.patience,
            )
            began = clock.now()
            await seen.until(lambda: False, clock=clock, deadline=clock.monotonic() + self._control_seconds)
            trouble = await feed.last_word(seen, clock=clock)
            alarms = tuple(
                Alarm(labels=one.alert.labels, after=one.at - began)
                for one in seen.transitions
                if one.after is AlertState.FIRING and one.since >= began and not _told_late(one, seen, hurt)
            )
            seconds = clock.now() - began
        await self._take_control(Control(started=began, seconds=seconds, alarms=alarms, trouble=trouble))


async def _lagging(seen: Recording, mended: float, chamber: Chamber) -> None:
    """Wait until no alert can begin any more about what was taken back at this unix time."""
    left = mended + chamber.lag - chamber.clock.now()
    if chamber.lag and left > 0:
        await seen.until(_never, clock=chamber.clock, deadline=chamber.clock.monotonic() + left)


def _well_since(feed: Feed, probe: str, mended: float) -> bool:
    """Whether the last run of a probe began after the last fault was taken back that it felt, and was good."""
    latest = feed.latest.get(probe)
    return latest is not None and latest.outcome is RunOutcome.UP and latest.started >= mended


def _told_late(transition: Transition, seen: Recording, mended: Mapping[str, float]) -> bool:
    """Whether an alert tells of a run that began before the last fault was taken back that its probe felt."""
    told = [
        one for one in seen.results if one.probe == transition.probe and one.finished <= transition.at + CLOSE_ENOUGH
    ]
    return bool(told) and told[-1].started < mended.get(transition.probe, 0.0)


def _told_by(cells: Iterable[Cell], alarm: Alarm) -> bool:
    return any(cell.may_tell(alarm.labels) for cell in cells)


class _CellRun:
    """One cell from end to end."""

    def __init__(self, cell: Cell, chamber: Chamber, seen: Recording, news: News, *, strict: bool) -> None:
        """`strict` waits for everybody to be well, also for those who take long."""
        self._cell = cell
        self._strict = strict
        self._feed = chamber.feed
        self._clock = chamber.clock
        self._chamber = chamber
        self._seen = seen
        self._news = news
        self._started = chamber.clock.now()
        self._fault = chamber.fault_of(cell)
        self._evidence = Evidence()
        self._trouble = ""
        self._injected: float | None = None
        self._reverted: float | None = None
        self._watched: float | None = None
        self._recovered: float | None = None
        self._gone = True
        self._before: set[tuple[tuple[str, str], ...]] = set()
        self._mended: Mapping[str, float] = {}
        """When faults were taken back before this one began."""
        self._clean = max((chamber.mended.get(one, 0.0) for one in cell.probes), default=0.0)

    async def whole(self) -> Sight:
        why = await self._not_well()
        if why:
            self._trouble = f"nothing was injected: {why}"
            return self._sight()
        self._before = set(self._feed.firing)
        self._mended = dict(self._chamber.mended)
        self._clean = max((self._chamber.mended.get(one, 0.0) for one in self._cell.probes), default=0.0)
        await self._audit("injecting", fault=self._cell.fault.as_json())
        began = self._clock.now()
        try:
            async with self._fault:
                self._injected = began
                self._news(self._cell.name, "injected")
                await self._listen()
                self._reverted = self._clock.now()
        except FaultNotInjected as error:
            self._trouble = str(error)
            return self._sight()
        except FaultNotReverted as error:
            self._gone, self._trouble, self._reverted = False, str(error), None
            await self._audit("unsafe", why=str(error))
            return self._sight()
        finally:
            self._chamber.mended |= dict.fromkeys(self._cell.probes, self._clock.now())
        await self._touched()
        await self._audit("reverted", evidence=self._evidence.as_json())
        self._news(self._cell.name, "reverted")
        await self._recover()
        return self._sight()

    async def _audit(self, step: str, **data: Any) -> None:
        if self._chamber.journal:
            line = {"drill": f"matrix: {self._cell.name}", "at": self._clock.now(), **data}
            await asyncio.to_thread(self._chamber.journal.append, step, line)

    async def _not_well(self) -> str:
        mended = (self._chamber.mended.get(name, -math.inf) for name in self._cell.probes)
        await _lagging(self._seen, max(mended, default=-math.inf), self._chamber)
        end = self._clock.monotonic() + self._chamber.patience + self._chamber.all_clear
        await self._seen.until(lambda: not self._why_not_ready(), clock=self._clock, deadline=end)
        return self._why_not_ready()

    def _why_not_ready(self) -> str:
        if why := self._why_not_well():
            return why
        silent = [one.labels for one in self._cell.catchers if one.key not in self._feed.firing]
        before = self._chamber.told_before if self._clock.now() < self._chamber.told_until else ()
        told = still_told(silent, [*(one.labels for one in self._feed.told.values()), *before])
        return f"the receiver was not told that {show_labels(told)} is over" if told else ""

    def _why_not_well(self) -> str:
        if self._feed.failure:
            return f"the monitoring cannot be watched: {self._feed.failure}"
        for name in self._cell.probes:
            if name in self._cell.slow and not self._strict:
                continue
            latest = self._feed.latest.get(name)
            if latest is None:
                return f"no result of {name} has come yet"
            if latest.outcome is not RunOutcome.UP:
                return f"{name} is {latest.outcome.value}: {latest.reason.value}: {latest.message}"
        for active in (*self._feed.firing.values(), *self._feed.pending.values()):
            if active.alert.key in self._quick():
                return f"{show_labels(active.alert.labels)} is {active.after.value}"
        return ""

    def _quick(self) -> set[tuple[tuple[str, str], ...]]:
        """Catchers that are silent again soon. Others fire on for as long as their windows remember, or a journey takes."""
        most = self._cell.recovers
        slow = self._cell.slow if not self._strict else ()
        return {
            one.key for one in self._cell.catchers if one.recovers <= most and one.labels.get("probe", "") not in slow
        }

    async def _listen(self) -> None:
        """Until somebody is told of it, or the time for that is over: also for what has fired and is on its way."""
        end = self._clock.monotonic() + self._cell.limit
        settling = False
        while (
            self._clock.monotonic() < (until := end if settling else max(end, self._arriving())) and not self._trouble
        ):
            tick = min(until, self._clock.monotonic() + TICK)
            await self._seen.until(_never if settling else self._caught, clock=self._clock, deadline=tick)
            await self._touched()
            if self._seen.failure:
                self._trouble = f"the monitoring could not be watched: {self._seen.failure}"
                return
            if not self._feed.overdue:
                self._watched = self._clock.now() - (self._injected or 0.0)
            if self._caught() and not settling:
                settling = True
                end = min(end, self._clock.monotonic() + self._chamber.settle)
        if not self._trouble:
            await self._last_word()
            self._watched = self._clock.now() - (self._injected or 0.0)

    async def _last_word(self) -> None:
        """What somebody who does not answer would have told is not known: nobody survived him."""
        if why := await self._feed.last_word(self._seen, clock=self._clock):
            self._trouble = self._trouble or f"the monitoring could not be watched: {why}"

    async def _recover(self) -> None:
        # Whoever told of it has to be silent again, however long that takes him.
        self._strict |= bool(self._told() & {one.key for one in self._cell.catchers} - self._quick())
        end = self._clock.monotonic() + self._cell.recovers
        await self._seen.until(lambda: not self._why_not_well(), clock=self._clock, deadline=end)
        if not self._why_not_well():
            self._recovered = self._clock.now() - (self._reverted or 0.0)
        await self._last_word()

    async def _touched(self) -> None:
        try:
            self._evidence = await self._fault.evidence()
        except FaultLost as lost:
            self._evidence = lost.evidence or self._evidence
            self._trouble = self._trouble or str(lost)

    def _arriving(self) -> float:
        """Until when, by the monotonic clock, what has fired may still come to people."""
        late = max((still_on_the_way(self._cell, one) for one in self._fired()), default=0.0)
        return self._clock.monotonic() + late - (self._clock.now() - (self._injected or 0.0))

    def _caught(self) -> bool:
        return any(told_after(self._cell, one) is not None for one in self._fired())

    def _told(self) -> set[tuple[tuple[str, str], ...]]:
        return {one.key for one in self._fired()}

    def _fired(self) -> list[Alarm]:
        """The alerts that say what is broken, on their way to people or there."""
        catchers = {one.key for one in self._cell.catchers}
        return [one for one in self._alarms() if one.key in catchers and not one.stale]

    def _alarms(self) -> tuple[Alarm, ...]:
        injected = self._injected
        if injected is None:
            return ()
        return tuple(
            Alarm(
                labels=one.alert.labels,
                after=one.at - injected,
                stale=self._stale(one),
                arrival=arrival_of(
                    one.alert.labels,
                    one.since,
                    injected=injected,
                    notifications=self._seen.notifications,
                    deliveries=self._seen.deliveries,
                ),
            )
            for one in self._seen.transitions
            if one.after is AlertState.FIRING and one.at >= injected and one.since >= injected
        )

    def _stale(self, transition: Transition) -> bool:
        return _told_late(transition, self._seen, {**self._mended, **dict.fromkeys(self._cell.probes, self._clean)})

    def _sight(self) -> Sight:
        now, injected, reverted = self._clock.now(), self._injected, self._reverted
        return Sight(
            started=self._started,
            took=now - self._started,
            watched=self._watched,
            held=None if injected is None or reverted is None else reverted - injected,
            recovered=self._recovered,
            gone=self._gone,
            evidence=self._evidence,
            alarms=self._alarms(),
            reds=() if injected is None else tuple(self._reds(injected)),
            busy=() if injected is None else tuple(self._busy(injected)),
            trouble=self._trouble,
        )

    def _reds(self, injected: float) -> Iterable[Red]:
        told: set[str] = set()
        for one in self._fresh(injected):
            if one.outcome is RunOutcome.DOWN and one.probe not in told:
                told.add(one.probe)
                yield Red.of(one, injected)

    def _busy(self, injected: float) -> Iterable[Mapping[str, str]]:
        """Catchers that fired before, and whose objective counted something bad in this cell."""
        for catcher in self._cell.catchers:
            if catcher.key in self._before and any(self._bad(catcher, one) for one in self._fresh(injected)):
                yield catcher.labels

    def _bad(self, catcher: Catcher, result: Result) -> bool:
        objective = self._chamber.objectives.get(catcher.labels.get("objective", ""))
        if objective:
            return objective.judges(result) is Judgement.BAD
        return catcher.labels.get("probe") == result.probe and result.outcome is RunOutcome.DOWN

    def _fresh(self, injected: float) -> Iterable[Result]:
        until = self._reverted or self._clock.now()
        return (
            one
            for one in self._seen.results
            if one.probe in self._cell.probes
            and one.started >= self._clean
            and one.finished >= injected
            and one.started <= until
        )


def _never() -> bool:
    return False
