"""A drill from end to end: look, break, watch, mend, watch, judge. The fault is taken back whatever happens."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.detection import Detection, Observation, Sighting, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected, FaultNotReverted
from stormwatch.chaos.feed import LAST_WORD, Feed, Recording
from stormwatch.chaos.guard import Guard
from stormwatch.chaos.record import growth
from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.shield import to_the_end
from stormwatch.chaos.together import Together
from stormwatch.chaos.verdict import judge, show_labels, unexpected
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import Severity

TICK = 1.0
"""Seconds between two looks at what the fault has touched."""
OTHERS = 1000
"""How many failed results of other probes are kept: they are for readers, and a verdict is not made of them."""
STEP = 2.0
"""Seconds that the wall clock may go ahead of the monotonic one, or fall behind, before it counts as set. Slewing is slower."""
MARGIN = 0.25
"""Seconds that are watched beyond a limit, so that what came at the last moment is still seen."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What must hold before anything is broken."""

    fresh: float = 120.0
    """Seconds: the expected probe's last result must not be older. Twice its interval is a good choice."""
    patience: float = 30.0
    """Seconds to wait until all is well."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the failure in place although all was seen: people are not done with it yet."""

    until: Callable[[], bool]
    """Asked once a tick."""
    at_most: float
    """Seconds after the injection."""


@dataclass(slots=True)
class _Notes:
    """What has been seen so far, while it is being seen."""

    started: float
    evidence: list[Evidence]
    """Of each fault."""
    injected: float | None = None
    watched_until: float | None = None
    reverted: float | None = None
    gone: bool = True
    in_place: bool = False
    """Whether a fault is, or may be, in place now."""
    baseline: str = ""
    trouble: str = ""
    clock_step: float = 0.0
    fired_before: tuple[Mapping[str, str], ...] = ()


def late_look(within: float) -> float:
    """Seconds that are watched beyond a limit, so that what comes late is told from what never comes."""
    return min(60.0, max(5.0, within / 2))


async def run_drill(
    drill: Drill,
    fault: Fault,
    feed: Feed,
    *,
    clock: Clock,
    beside: Sequence[Fault] = (),
    journal: AuditJournal | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    baseline: Baseline | None = None,
    settle: float = 2.0,
    late: Callable[[float], float] = late_look,
    guard: Guard | None = None,
    hold: Hold | None = None,
) -> Report:
    """Run one drill: what comes back is judged, and whatever is raised is raised after the fault is gone.

    Raised are being cancelled, and OSError when the journal cannot be written. `beside` are the faults of `drill.beside`. `settle` is for how many seconds noise is
    looked for after everything expected was seen, `late(within)` for how many seconds beyond a limit what did not come
    in time is waited for. `guard` says what ends the drill at once; whether it may begin was asked before. When the fault cannot be proved to be gone, the verdict is `unsafe`, also if the drill was
    cancelled meanwhile.
    """
    with feed.recording(wants=_Wanted(drill)) as seen:
        run = _Run(
            drill,
            (fault, *beside),
            feed,
            seen,
            clock=clock,
            journal=journal,
            on_progress=on_progress,
            guard=guard,
            hold=hold,
        )
        return await run.whole(baseline or Baseline(), settle, late)


async def look_before(
    drill: Drill, feed: Feed, *, clock: Clock, baseline: Baseline | None = None, guard: Guard | None = None
) -> str:
    """Why a drill would inject nothing now, after as much patience as it would have; empty: it would."""
    wanted = baseline or Baseline()
    with feed.recording() as seen:
        deadline = clock.monotonic() + wanted.patience
        await seen.until(lambda: not _not_well(drill, feed, clock, wanted, guard), clock=clock, deadline=deadline)
        return _not_well(drill, feed, clock, wanted, guard)


class _Run:
    def __init__(
        self,
        drill: Drill,
        faults: Sequence[Fault],
        feed: Feed,
        seen: Recording,
        *,
        clock: Clock,
        journal: AuditJournal | None,
        on_progress: Callable[[Progress], None],
        guard: Guard | None,
        hold: Hold | None,
    ) -> None:
        self._drill = drill
        self._faults = faults
        self._feed = feed
        self._seen = seen
        self._clock = clock
        self._journal = journal
        self._on_progress = on_progress
        self._guard = guard or Guard()
        self._hold = hold
        self._run = ""
        self._ahead = 0.0
        """By how much the wall clock was ahead of the monotonic one when the injection began."""
        self._written: Mapping[str, Any] = {}
        self._steps: list[Progress] = []
        self._told: set[str] = set()
        self._notes = _Notes(started=clock.now(), evidence=[Evidence() for _ in faults])

    async def whole(self, baseline: Baseline, settle: float, late: Callable[[float], float]) -> Report:
        await self._step("baseline", f"drill {self._drill.name}: is all well?", spec=self._drill.as_json())
        try:
            self._notes.baseline = await self._not_well(baseline)
            if self._notes.baseline:
                await self._step("baseline", f"nothing is injected: {self._notes.baseline}")
            else:
                await self._broken_and_mended(settle, late)
            return await self._judged()
        except asyncio.CancelledError:
            self._note("interrupted", "the drill was interrupted; no fault of it is in place")
            raise

    async def _broken_and_mended(self, settle: float, late: Callable[[float], float]) -> None:
        specs = [fault.spec for fault in self._faults]
        first, *beside = (spec.as_json() for spec in specs)
        self._notes.fired_before = tuple(one.alert.labels for one in self._feed.firing.values())
        self._notes.in_place = True  # from here on it cannot be ruled out, by whoever reads the journal of a dead drill
        await self._step(
            "injecting", " beside ".join(map(str, specs)), fault=first, beside=beside, guard=self._guard.as_json()
        )
        began = self._clock.now()
        self._ahead = began - self._clock.monotonic()
        try:
            async with Together(self._faults):
                self._notes.injected = began
                await self._step("injected", ", ".join(f"{one.kind} is in place on {one.target}" for one in specs))
                await self._watch(settle, late)
                self._notes.reverted = self._clock.now()
                await self._step(
                    "reverting", ", ".join(f"taking {one.kind} back from {one.target}" for one in reversed(specs))
                )
        except FaultNotInjected as error:
            self._notes.in_place = False
            self._notes.trouble = str(error)
            await self._step("not injected", str(error))
            return
        except FaultNotReverted as error:
            self._notes.gone, self._notes.trouble = False, str(error)
            self._notes.reverted = None
            await self._step("unsafe", str(error))
            return
        except BaseException:
            # The block has taken the fault back before it let anything else out.
            self._notes.in_place = False
            raise
        self._notes.in_place = False
        await self._touched()
        evidence, *others = (seen.as_json() for seen in self._notes.evidence)
        gone = "all faults are gone" if others else "the fault is gone"
        await self._step("reverted", gone, evidence=evidence, beside=others)
        await self._recover()

    async def _not_well(self, baseline: Baseline) -> str:
        def why() -> str:
            return _not_well(self._drill, self._feed, self._clock, baseline, self._guard)

        deadline = self._clock.monotonic() + baseline.patience
        await self._seen.until(lambda: not why(), clock=self._clock, deadline=deadline)
        return why()

    async def _watch(self, settle: float, late: Callable[[float], float]) -> None:
        """Until everything expected came and traffic met the fault, or the time for it, and for being late, is over."""
        limits = [one.within for one in (self._drill.probe, self._drill.alert) if one]
        limits += [self._drill.alert.delivered_within or 0.0] if self._drill.alert else []
        end = self._clock.monotonic() + max(within + late(within) for within in limits)
        held_until = self._clock.monotonic() + (self._hold.at_most if self._hold else 0.0)
        settling = False
        # Beyond the end only as long as it is not known whether a source that does not answer is gone.
        while (held := self._is_held(held_until)) or self._clock.monotonic() < end + self._overtime():
            tick = self._clock.monotonic() + TICK
            tick = tick if held or self._clock.monotonic() >= end else min(end, tick)
            # What has come already is not waited for again: from then on only time passes.
            awaited = self._must_abort if self._complete() else self._complete_or_abort
            await self._seen.until(awaited, clock=self._clock, deadline=tick)
            # What must not go on is not looked at first: it is ended.
            if why := self._clock_was_set():
                self._notes.trouble = why
                break
            if why := self._why_to_abort():
                self._notes.trouble = f"ended early, because {why}"
                break
            await self._touched()
            await self._tell()
            await self._keep()
            if self._seen.failure:
                self._notes.trouble = f"the monitoring could not be watched: {self._seen.failure}"
            elif not self._notes.trouble and not self._feed.overdue:
                self._notes.watched_until = self._clock.now()
            if self._notes.trouble:
                break
            if not settling and not held and self._complete() and all(one.touched for one in self._notes.evidence):
                settling = True
                end = min(end, self._clock.monotonic() + settle)

    async def _recover(self) -> None:
        end = self._clock.monotonic() + self._drill.resolves_within + MARGIN
        while self._clock.monotonic() < end and not self._recovered() and not self._seen.failure:
            if self._clock_was_set():
                break
            tick = min(end, self._clock.monotonic() + TICK)
            await self._seen.until(self._recovered, clock=self._clock, deadline=tick)
            await self._tell()
            await self._keep()
        await self._tell()
        why = await self._feed.last_word(self._seen, clock=self._clock)
        await self._tell()
        if why and not self._notes.trouble:
            self._notes.trouble = f"the monitoring could not be watched: {why}"

    async def _touched(self) -> None:
        for number, fault in enumerate(self._faults):
            try:
                self._notes.evidence[number] = await fault.evidence()
            except FaultLost as lost:
                self._notes.evidence[number] = lost.evidence or self._notes.evidence[number]
                self._notes.trouble = self._notes.trouble or str(lost)

    def _complete(self) -> bool:
        now = self._detection()
        expected = self._drill.probe
        red = expected is None or any(
            expected.reason in (None, one.reason)
            for one in now.observed.sightings
            if one.probe == expected.name and one.outcome is Outcome.DOWN and one.at >= (now.injected or 0.0)
        )
        if self._drill.alert is None:
            return red
        told = not self._asks_for_delivery() or now.delivered is not None
        return red and told and now.firing is not None

    def _recovered(self) -> bool:
        now = self._detection()
        green = self._drill.probe is None or now.first_red is None or now.green is not None
        # Who asked for the delivery is told when the all-clear came too: it is waited for, and not judged.
        cleared = now.delivered is None or now.cleared is not None or not self._asks_for_delivery()
        return green and cleared and (now.firing is None or now.resolved is not None)

    def _asks_for_delivery(self) -> bool:
        return self._drill.alert is not None and self._drill.alert.delivered_within is not None

    def _is_held(self, until: float) -> bool:
        return self._hold is not None and self._clock.monotonic() < until and not self._hold.until()

    def _overtime(self) -> float:
        """Seconds beyond its end that the watching may go on."""
        return LAST_WORD if self._feed.overdue else 0.0

    def _clock_was_set(self) -> str:
        """That the wall clock, by which everything is told, was set since the injection; empty: it was not."""
        step = self._clock.now() - self._clock.monotonic() - self._ahead
        if abs(step) > STEP and not self._notes.clock_step:
            self._notes.clock_step = round(step, 3)
        return f"the clock was set by {self._notes.clock_step:+.0f} s" if self._notes.clock_step else ""

    def _must_abort(self) -> bool:
        return bool(self._why_to_abort())

    def _complete_or_abort(self) -> bool:
        return self._complete() or self._must_abort()

    def _why_to_abort(self) -> str:
        """What the drill or the guard does not let go on; empty: nothing of it has come."""
        injected = self._notes.injected or 0.0
        red = [one for one in self._seen.results if one.outcome is Outcome.DOWN and one.finished >= injected]
        harmed = dict.fromkeys(one.probe for one in red if self._guard.protects(one.probe))
        if harmed:
            return f"{', '.join(harmed)} turned red, which the guard protects"
        noise = unexpected(self._drill, self._detection())
        alerts = [one.alert.labels for one in noise if self._aborts_on(one.alert.labels.get("severity"))]
        return f"{', '.join(show_labels(labels) for labels in alerts)} fired" if alerts else ""

    def _aborts_on(self, severity: str | None) -> bool:
        return (self._drill.abort_on_unexpected and severity == Severity.PAGE) or self._guard.aborts_on(severity)

    def _detection(self) -> Detection:
        notes = self._notes
        return detect(
            self._drill,
            Observation(
                started=notes.started,
                ended=self._clock.now(),
                injected=notes.injected,
                watched_until=notes.watched_until,
                reverted=notes.reverted,
                gone=notes.gone,
                evidence=notes.evidence[0],
                beside=tuple(notes.evidence[1:]),
                baseline=notes.baseline,
                trouble=notes.trouble,
                clock_step=notes.clock_step,
                fired_before=notes.fired_before,
                sightings=tuple(Sighting.of(result) for result in self._seen.results),
                transitions=tuple(self._seen.transitions),
                notifications=tuple(self._seen.notifications),
                deliveries=tuple(self._seen.deliveries),
            ),
        )

    async def _judged(self) -> Report:
        if self._notes.injected is not None:
            self._clock_was_set()
        detection = self._detection()
        judgement = judge(self._drill, detection)
        await self._step("verdict", judgement.verdict.value, seen=detection.observed, judgement=judgement.as_json())
        return Report(drill=self._drill, detection=detection, judgement=judgement, steps=tuple(self._steps))

    async def _tell(self) -> None:
        """Say what has been seen since the last time."""
        now = self._detection()
        for moment, text in (
            ("touched", "traffic meets the fault"),
            ("first_red", "the probe turned red"),
            ("pending", "the alert is pending"),
            ("firing", "the alert fires"),
            ("notified", "a receiver was told"),
            ("delivered", "it arrived at the receiver"),
            ("green", "the probe is green again"),
            ("resolved", "the alert is resolved"),
            ("cleared", "the receiver was told that it is over"),
        ):
            at: float | None = getattr(now, moment)
            if at is not None and moment not in self._told:
                self._told.add(moment)
                await self._step(moment, text, at=at)

    async def _step(
        self, step: str, text: str, *, at: float | None = None, seen: Observation | None = None, **data: Any
    ) -> None:
        progress = self._progress(step, text, at)
        await self._write(step, {"text": progress.text, **data}, at=progress.at, seen=seen)

    async def _keep(self) -> None:
        """Write down what has come since the last line, when anything has: a drill that dies here leaves it behind."""
        if not self._journal:
            return
        seen = self._detection().observed
        lengths = [len(value) if isinstance(value, list) else 0 for value in seen.as_json().values()]
        if lengths != [len(value) if isinstance(value, list) else 0 for value in self._written.values()]:
            await self._write("seen", {}, at=seen.ended, seen=seen)

    def _note(self, step: str, text: str) -> None:
        """A step, without letting go of the loop, for when we are being cancelled."""
        progress = self._progress(step, text, None)
        with contextlib.suppress(OSError):
            self._append(step, {"text": progress.text}, progress.at, self._detection().observed)

    async def _write(self, event: str, data: Mapping[str, Any], *, at: float, seen: Observation | None) -> None:
        # Not to be cut short: lines of a thread that is left behind could stand in another order.
        await to_the_end(asyncio.to_thread(self._append, event, data, at, seen or self._detection().observed))

    def _append(self, event: str, data: Mapping[str, Any], at: float, seen: Observation) -> None:
        if not self._journal:
            return
        document = seen.as_json()
        *parts, last = list(growth(self._written, document)) or [{}]
        about = {"drill": self._drill.name, "at": at, "in_place": self._notes.in_place}
        for part in parts:
            self._journal.append("seen", {**about, "run": self._run, "record": part})
        line = self._journal.append(event, {**about, "run": self._run, **data, "record": last})
        self._run = self._run or line
        self._written = document

    def _progress(self, step: str, text: str, at: float | None) -> Progress:
        progress = Progress(at=self._clock.now() if at is None else at, step=step, text=text)
        self._steps.append(progress)
        self._on_progress(progress)
        return progress


class _Wanted:
    """The expected probe's results, and whatever else failed, as long as there is room for it."""

    def __init__(self, drill: Drill) -> None:
        self._expected = drill.probe.name if drill.probe else None
        self._room = OTHERS

    def __call__(self, result: Result) -> bool:
        if result.probe == self._expected:
            return True
        if result.outcome is Outcome.UP or self._room == 0:
            return False
        self._room -= 1
        return True


def _not_well(drill: Drill, feed: Feed, clock: Clock, baseline: Baseline, guard: Guard | None) -> str:
    """Why nothing may be broken now; empty: all is well."""
    if feed.failure:
        return f"the monitoring cannot be watched: {feed.failure}"
    for active in (*feed.firing.values(), *feed.pending.values()):
        if drill.expects(active.alert.labels):
            return f"{show_labels(active.alert.labels)} is {active.after.value} already"
    for result in feed.latest.values():
        if guard and guard.protects(result.probe) and result.outcome is Outcome.DOWN:
            return f"{result.probe}, which the guard protects, is down: {result.reason.value}: {result.message}"
    if drill.probe is None:
        return ""
    latest = feed.latest.get(drill.probe.name)
    if latest is None:
        return f"no result of {drill.probe.name} has come yet"
    age = clock.now() - latest.finished
    if latest.outcome is not Outcome.UP:
        return f"{latest.probe} is {latest.outcome.value}: {latest.reason.value}: {latest.message}"
    return f"the last result of {latest.probe} is {age:.0f} s old" if age > baseline.fresh else ""
