"""A drill from end to end: look, break, watch, mend, watch, judge. The fault is taken back whatever happens."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.detection import Detection, Observation, Sighting, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected, FaultNotReverted
from stormwatch.chaos.feed import Feed, Recording
from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.verdict import judge, show_labels, unexpected
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import Severity

TICK = 1.0
"""Seconds between two looks at what the fault has touched."""
MARGIN = 0.25
"""Seconds that are watched beyond a limit, so that what came at the last moment is still seen."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What must hold before anything is broken."""

    fresh: float = 120.0
    """Seconds: the expected probe's last result must not be older. Twice its interval is a good choice."""
    patience: float = 30.0
    """Seconds to wait until all is well."""


@dataclass(slots=True)
class _Notes:
    """What has been seen so far, while it is being seen."""

    started: float
    injected: float | None = None
    watched_until: float | None = None
    reverted: float | None = None
    gone: bool = True
    evidence: Evidence = field(default_factory=Evidence)
    baseline: str = ""
    trouble: str = ""
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
    journal: AuditJournal | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    baseline: Baseline | None = None,
    settle: float = 2.0,
    late: Callable[[float], float] = late_look,
) -> Report:
    """Run one drill: what comes back is judged, and whatever is raised is raised after the fault is gone.

    Raised are being cancelled, and OSError when the journal cannot be written. `settle` is for how many seconds noise is
    looked for after everything expected was seen, `late(within)` for how many seconds beyond a limit what did not come
    in time is waited for. When the fault cannot be proved to be gone, the verdict is `unsafe`, also if the drill was
    cancelled meanwhile.
    """
    with feed.recording(wants=lambda result: _matters(drill, result)) as seen:
        run = _Run(drill, fault, feed, seen, clock=clock, journal=journal, on_progress=on_progress)
        return await run.whole(baseline or Baseline(), settle, late)


class _Run:
    def __init__(
        self,
        drill: Drill,
        fault: Fault,
        feed: Feed,
        seen: Recording,
        *,
        clock: Clock,
        journal: AuditJournal | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._drill = drill
        self._fault = fault
        self._feed = feed
        self._seen = seen
        self._clock = clock
        self._journal = journal
        self._on_progress = on_progress
        self._steps: list[Progress] = []
        self._told: set[str] = set()
        self._notes = _Notes(started=clock.now())

    async def whole(self, baseline: Baseline, settle: float, late: Callable[[float], float]) -> Report:
        await self._step("baseline", f"drill {self._drill.name}: is all well?", drill=self._drill.as_json())
        self._notes.baseline = await self._not_well(baseline)
        if self._notes.baseline:
            await self._step("baseline", f"nothing is injected: {self._notes.baseline}")
        else:
            await self._broken_and_mended(settle, late)
        return await self._judged()

    async def _broken_and_mended(self, settle: float, late: Callable[[float], float]) -> None:
        spec = self._fault.spec
        self._notes.fired_before = tuple(one.alert.labels for one in self._feed.firing.values())
        await self._step("injecting", f"{spec.kind} on {spec.target}", fault=spec.as_json())
        began = self._clock.now()
        try:
            async with self._fault:
                self._notes.injected = began
                await self._step("injected", f"{spec.kind} is in place on {spec.target}")
                await self._watch(settle, late)
                self._notes.reverted = self._clock.now()
                await self._step("reverting", f"taking {spec.kind} back from {spec.target}")
        except FaultNotInjected as error:
            self._notes.trouble = str(error)
            await self._step("not injected", str(error))
            return
        except FaultNotReverted as error:
            self._notes.gone, self._notes.trouble = False, str(error)
            self._notes.reverted = None
            await self._step("unsafe", str(error))
            return
        except asyncio.CancelledError:
            # The block has taken the fault back before it let the cancellation out.
            self._note("interrupted", "the drill was interrupted; the fault is taken back and proved to be gone")
            raise
        await self._touched()
        await self._step("reverted", "the fault is gone", evidence=self._notes.evidence.as_json())
        await self._recover()

    async def _not_well(self, baseline: Baseline) -> str:
        deadline = self._clock.monotonic() + baseline.patience
        await self._seen.until(lambda: not self._why_not_well(baseline), clock=self._clock, deadline=deadline)
        return self._why_not_well(baseline)

    def _why_not_well(self, baseline: Baseline) -> str:
        if self._feed.failure:
            return f"the monitoring cannot be watched: {self._feed.failure}"
        for active in (*self._feed.firing.values(), *self._feed.pending.values()):
            if self._drill.expects(active.alert.labels):
                return f"{show_labels(active.alert.labels)} is {active.after.value} already"
        if self._drill.probe is None:
            return ""
        latest = self._feed.latest.get(self._drill.probe.name)
        if latest is None:
            return f"no result of {self._drill.probe.name} has come yet"
        age = self._clock.now() - latest.finished
        if latest.outcome is not Outcome.UP:
            return f"{latest.probe} is {latest.outcome.value}: {latest.reason.value}: {latest.message}"
        return f"the last result of {latest.probe} is {age:.0f} s old" if age > baseline.fresh else ""

    async def _watch(self, settle: float, late: Callable[[float], float]) -> None:
        """Until everything expected came and traffic met the fault, or the time for it, and for being late, is over."""
        limits = [one.within for one in (self._drill.probe, self._drill.alert) if one]
        limits += [self._drill.alert.delivered_within or 0.0] if self._drill.alert else []
        end = self._clock.monotonic() + max(within + late(within) for within in limits)
        settling = False
        while self._clock.monotonic() < end and not self._notes.trouble:
            tick = min(end, self._clock.monotonic() + TICK)
            # What has come already is not waited for again: from then on only time passes.
            awaited = _never if self._complete() else self._complete
            await self._seen.until(awaited, clock=self._clock, deadline=tick)
            await self._touched()
            await self._tell()
            if self._seen.failure:
                self._notes.trouble = f"the monitoring could not be watched: {self._seen.failure}"
            elif not self._notes.trouble:
                self._notes.watched_until = self._clock.now()
            if not settling and self._complete() and self._notes.evidence.touched:
                settling = True
                end = min(end, self._clock.monotonic() + settle)
            if self._drill.abort_on_unexpected and (pages := self._unexpected_pages()):
                self._notes.trouble = f"ended early, because {pages} fired"

    async def _recover(self) -> None:
        end = self._clock.monotonic() + self._drill.resolves_within + MARGIN
        while self._clock.monotonic() < end and not self._recovered() and not self._seen.failure:
            tick = min(end, self._clock.monotonic() + TICK)
            await self._seen.until(self._recovered, clock=self._clock, deadline=tick)
            await self._tell()
        await self._tell()
        if self._seen.failure and not self._notes.trouble:
            self._notes.trouble = f"the monitoring could not be watched: {self._seen.failure}"

    async def _touched(self) -> None:
        try:
            self._notes.evidence = await self._fault.evidence()
        except FaultLost as lost:
            self._notes.evidence = lost.evidence or self._notes.evidence
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

    def _unexpected_pages(self) -> str:
        noise = unexpected(self._drill, self._detection())
        pages = [show_labels(one.alert.labels) for one in noise if one.alert.labels.get("severity") == Severity.PAGE]
        return ", ".join(pages)

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
                evidence=notes.evidence,
                baseline=notes.baseline,
                trouble=notes.trouble,
                fired_before=notes.fired_before,
                sightings=tuple(Sighting.of(result) for result in self._seen.results),
                transitions=tuple(self._seen.transitions),
                notifications=tuple(self._seen.notifications),
                deliveries=tuple(self._seen.deliveries),
            ),
        )

    async def _judged(self) -> Report:
        detection = self._detection()
        judgement = judge(self._drill, detection)
        await self._step("verdict", judgement.verdict.value, judgement=judgement.as_json())
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

    async def _step(self, step: str, text: str, *, at: float | None = None, **data: Any) -> None:
        progress = self._progress(step, text, at)
        if self._journal:
            await asyncio.to_thread(self._journal.append, step, self._audited(progress, data))

    def _note(self, step: str, text: str) -> None:
        """The same without letting go of the loop, for when we are being cancelled."""
        progress = self._progress(step, text, None)
        if self._journal:
            with contextlib.suppress(OSError):
                self._journal.append(step, self._audited(progress, {}))

    def _progress(self, step: str, text: str, at: float | None) -> Progress:
        progress = Progress(at=self._clock.now() if at is None else at, step=step, text=text)
        self._steps.append(progress)
        self._on_progress(progress)
        return progress

    def _audited(self, progress: Progress, data: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"drill": self._drill.name, "at": progress.at, "text": progress.text, **data}


def _never() -> bool:
    return False


def _matters(drill: Drill, result: Result) -> bool:
    """The expected probe's results, and whatever else failed: of the rest a drill has nothing to say."""
    return (drill.probe is not None and result.probe == drill.probe.name) or result.outcome is not Outcome.UP
