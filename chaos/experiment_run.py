"""An experiment from end to end: look, do, look, roll back, look, judge. What was begun is rolled back whatever happens."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.experiment import Activity, Experiment
from stormwatch.chaos.experiment_comparison import compared
from stormwatch.chaos.experiment_label import label_of
from stormwatch.chaos.experiment_played import playing, sweep
from stormwatch.chaos.experiment_provider import Answer, Ending, call
from stormwatch.chaos.experiment_report import ExperimentReport
from stormwatch.chaos.experiment_tolerance import show
from stormwatch.chaos.experiment_undo import METHOD, left_behind, undo_arguments
from stormwatch.chaos.experiment_variables import Variables
from stormwatch.chaos.experiment_verdict import ActivityRun, HypothesisRun, Seen, judge_experiment
from stormwatch.chaos.process import identify
from stormwatch.chaos.reaper import LEASE, ReaperFailed, begin_reaping, renew
from stormwatch.chaos.report import Progress
from stormwatch.chaos.shield import to_the_end
from stormwatch.chaos.undo import UndoJournal, UndoRecord
from stormwatch.chaos.verdict import Answer as Said
from stormwatch.probes.clock import Clock, SystemClock

RECOVERY = 30.0
"""Seconds in which the hypothesis must be met again after the rollbacks."""
_LOOK = 1.0
"""Seconds between two looks for that."""


class NothingBegun(Exception):
    """The experiment could not be begun, and nothing was done. One sentence."""


async def run_experiment(
    experiment: Experiment,
    variables: Variables,
    *,
    path: Path,
    undo: UndoJournal,
    clock: Clock | None = None,
    audit: AuditJournal | None = None,
    mask: Callable[[Any], Any] = lambda value: value,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    on_change: Callable[[ExperimentReport], None] = lambda _report: None,
    recovery: float = RECOVERY,
    lease: float = LEASE,
) -> ExperimentReport:
    """Run it and judge it. Any number may run at once, in any thread that has an event loop.

    `path` is where the experiment stands: its secrets are read from there again when its rollbacks are played from the record.
    `mask` takes secrets out of a JSON value: nothing that leaves here was not masked. `on_change` is given what there is
    after each step, and `recovery` is for how many seconds the hypothesis may need to be met after the rollbacks.

    Being cancelled ends it in good order: what was begun is rolled back, and the report that is returned says so. Raises
    NothingBegun, and OSError when the audit journal cannot be written (after the rollbacks).
    """
    run = _Run(
        experiment,
        variables,
        path=path,
        undo=undo,
        clock=clock or SystemClock(),
        audit=audit,
        mask=mask,
        on_progress=on_progress,
        on_change=on_change,
        recovery=recovery,
        lease=lease,
    )
    return await run.whole()


@dataclass(slots=True)
class _Notes:
    """What has been seen so far."""

    started: float
    injected: bool = False
    before: HypothesisRun | None = None
    during: list[HypothesisRun] = field(default_factory=list[HypothesisRun])
    after: HypothesisRun | None = None
    recovered: HypothesisRun | None = None
    method: list[ActivityRun] = field(default_factory=list[ActivityRun])
    rollbacks: list[ActivityRun] = field(default_factory=list[ActivityRun])
    left: tuple[str, ...] = ()
    trouble: str = ""
    aborted: bool = False


class _Stopped(Exception):
    """A safeguard, fail-fast or a control ends the method. The sentence says which."""


class _Run:
    def __init__(
        self,
        experiment: Experiment,
        variables: Variables,
        *,
        path: Path,
        undo: UndoJournal,
        clock: Clock,
        audit: AuditJournal | None,
        mask: Callable[[Any], Any],
        on_progress: Callable[[Progress], None],
        on_change: Callable[[ExperimentReport], None],
        recovery: float,
        lease: float,
    ) -> None:
        self._experiment = experiment
        self._variables = variables
        self._path = path
        self._undo = undo
        self._clock = clock
        self._audit = audit
        self._mask = mask
        self._on_progress = on_progress
        self._on_change = on_change
        self._recovery = recovery
        self._lease = lease
        self._id = f"{METHOD}-{secrets.token_hex(8)}"
        self._played = undo.directory / f"{self._id}.played"
        self._label = label_of(identify(), self._id)
        self._steps: list[Progress] = []
        self._notes = _Notes(started=clock.now())

    async def whole(self) -> ExperimentReport:
        try:
            await self._carried_out()
        except asyncio.CancelledError:
            # The order to stop is carried out: what follows it is the report, which must not be lost to it.
            if task := asyncio.current_task():
                task.uncancel()
            self._notes.trouble = self._notes.trouble or "it was interrupted"
        report = self._report()
        verdict = report.judgement.verdict
        await self._step("verdict", verdict.value, judgement=report.judgement.as_json())
        return self._report()

    async def _carried_out(self) -> None:
        await self._step("experiment", self._experiment.title)
        for warning in self._experiment.warnings:
            await self._step("not followed", warning)
        await self._find_out()
        if self._experiment.hypothesis and self._experiment.strategy.before:
            self._notes.before = await self._hypothesis("baseline")
            if self._notes.before.answer is not Said.YES:
                return
        async with self._recorded() as lost:
            try:
                await self._injected(lost)
            finally:
                await to_the_end(self._rolled_back())
        if self._notes.before and self._experiment.rollbacks and not self._notes.trouble:
            await self._recover()

    async def _find_out(self) -> None:
        """The configuration that probes find out, in its order: each may use what is known before it."""
        for key, probe in self._experiment.dynamic:
            if key in self._variables.configuration:
                continue
            run = await self._called(probe)
            output = run.output
            if run.ending is Ending.SUCCEEDED and isinstance(output, Mapping):
                if probe.provider == "process":
                    run = run if output["status"] == 0 else replace(run, ending=Ending.FAILED, why=show(output))
                    output = str(output["stdout"]).strip()
                elif probe.provider == "http":
                    output = output["body"]
            if run.ending is not Ending.SUCCEEDED:
                raise NothingBegun(self._mask(f"configuration.{key} could not be found out: {run.sentence()}"))
            self._variables = replace(self._variables, configuration={**self._variables.configuration, key: output})

    @contextlib.asynccontextmanager
    async def _recorded(self) -> AsyncGenerator[asyncio.Task[None]]:
        """The rollbacks on disk, and a process that plays them when this one dies; ends when it has played them."""
        record = UndoRecord(
            id=self._id,
            method=METHOD,
            what=f"experiment {self._mask(self._experiment.title)}",
            arguments=undo_arguments(self._experiment, self._variables, self._path, self._played),
            owner=identify(),
            at=self._clock.now(),
            drill=self._label,
        )
        try:
            await asyncio.to_thread(sweep, self._undo.directory)
            await to_the_end(asyncio.to_thread(self._undo.record, record))
            # Now, because a disk that is full by then must not keep the rollbacks from being played.
            await asyncio.to_thread(self._played.touch, 0o600)
            await to_the_end(asyncio.to_thread(begin_reaping, self._undo.directory, self._id, lease=self._lease))
        except (OSError, ReaperFailed, asyncio.CancelledError) as error:
            await to_the_end(asyncio.to_thread(self._undo.forget, self._id))
            if isinstance(error, asyncio.CancelledError):
                raise
            raise NothingBegun(f"nothing was done, because its rollbacks could not be made safe: {error}") from error
        renewing = asyncio.create_task(self._renew(), name=f"lease of {self._id}")
        try:
            yield renewing
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await to_the_end(self._forgotten(record))

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + self._lease / 3)
            if not await asyncio.to_thread(self._undo.holds, self._id):
                raise _Stopped("its rollbacks were played by another process: its lease was over, or somebody undid it")
            await asyncio.to_thread(renew, self._undo.directory, self._id)

    async def _forgotten(self, record: UndoRecord) -> None:
        """Without its record when all is rolled back; else with one that is nobody's, for the next `stormwatch undo`."""
        played = {id(run.activity) for run in self._notes.rollbacks if _is_well(run)}
        if any(id(one) not in played for one in self._experiment.rollbacks):
            # Under another name, because the reaper of this one would try again for ever; what was played stays known.
            nobody = replace(record.owner, pid=0, started="over")
            await asyncio.to_thread(self._undo.record, replace(record, id=f"{self._id}-left", owner=nobody))
        await asyncio.to_thread(self._undo.forget, self._id)

    async def _injected(self, lost: asyncio.Task[None]) -> None:
        strategy, hypothesis = self._experiment.strategy, self._experiment.hypothesis
        self._notes.injected = True
        tasks: list[asyncio.Task[None]] = []
        try:
            for safeguard in self._experiment.safeguards:
                if safeguard.frequency is None:
                    await self._guard(safeguard.probe)
                else:
                    tasks.append(asyncio.create_task(self._guarded(safeguard.probe, safeguard.frequency)))
            if hypothesis and strategy.during:
                tasks.append(asyncio.create_task(self._watch(), name="hypothesis"))
            method = asyncio.create_task(self._method(), name="method")
            tasks.append(method)
            waiting = {lost, *tasks}
            while method in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
        except _Stopped as stopped:
            self._notes.trouble, self._notes.aborted = str(stopped), True
            await self._step("stopped", str(stopped))
        finally:
            # A probe that hangs is killed with its task: the end of the method does not wait for it.
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if hypothesis and strategy.after and not self._notes.trouble:
            self._notes.after = await self._hypothesis("after")

    async def _method(self) -> None:
        background: list[asyncio.Task[None]] = []
        try:
            for activity in self._experiment.method:
                if activity.background:
                    background.append(asyncio.create_task(self._done(activity), name=activity.name))
                else:
                    await self._done(activity)
            if background:
                await asyncio.gather(*background)
        finally:
            for one in background:
                one.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    async def _done(self, activity: Activity) -> None:
        await self._step("method", f"{activity.kind}: {activity.name}")
        run, interrupts = await self._judged(activity)
        self._notes.method.append(run)
        await self._told("method", run)
        if interrupts:
            raise _Stopped(f"{activity.name} asked for the end of the experiment: {run.why}")

    async def _watch(self) -> None:
        while True:
            look = await self._hypothesis("during")
            self._notes.during.append(look)
            if self._experiment.fail_fast and look.answer is not Said.YES:
                raise _Stopped(f"the hypothesis is not met any more: {look.sentence()}")
            await self._clock.sleep_until(self._clock.monotonic() + self._experiment.frequency)

    async def _guarded(self, probe: Activity, frequency: float) -> None:
        while True:
            await self._guard(probe)
            await self._clock.sleep_until(self._clock.monotonic() + frequency)

    async def _guard(self, probe: Activity) -> None:
        run, _ = await self._judged(probe)
        if run.answer is not Said.YES:
            raise _Stopped(f"the safeguard {run.sentence()}")

    async def _rolled_back(self) -> None:
        async with playing(self._played) as played:
            for number, activity in enumerate(self._experiment.rollbacks):
                await self._safely("rollback", activity.name)
                if number in played.numbers:
                    now = self._clock.now()
                    run = ActivityRun(activity=activity, start=now, end=now, ending=Ending.SUCCEEDED)
                else:
                    run, _ = await self._judged(activity)
                self._notes.rollbacks.append(run)
                if _is_well(run):
                    with contextlib.suppress(OSError):
                        await played.mark(number)
                await self._safely("rollback", f"{activity.name}: done" if _is_well(run) else run.sentence(), run)
        self._notes.left = await left_behind(self._undo, self._label)

    async def _recover(self) -> None:
        end = self._clock.monotonic() + self._recovery
        while True:
            self._notes.recovered = await self._hypothesis("recovered")
            if self._notes.recovered.answer is Said.YES or self._clock.monotonic() >= end:
                return
            await self._clock.sleep_until(min(end, self._clock.monotonic() + _LOOK))

    async def _hypothesis(self, step: str) -> HypothesisRun:
        """Up to the first probe that is not well, as the dialect has it."""
        assert self._experiment.hypothesis is not None
        at, runs = self._clock.now(), list[ActivityRun]()
        for probe in self._experiment.hypothesis.probes:
            run, interrupts = await self._judged(probe)
            runs.append(run)
            if interrupts:
                self._notes.trouble = f"{probe.name} asked for the end of the experiment: {run.why}"
            if run.answer is not Said.YES:
                break
        look = HypothesisRun(at=at, probes=tuple(runs))
        await self._step(step, look.sentence(), probes=[_shown(run) for run in runs])
        return look

    async def _judged(self, activity: Activity) -> tuple[ActivityRun, bool]:
        """Called, with its pauses, and compared with its tolerance."""
        start = self._clock.now()
        before, after = (_seconds(self._variables.fill(one)) for one in (activity.pause_before, activity.pause_after))
        if before:
            await self._clock.sleep_until(self._clock.monotonic() + before)
        if activity.dry:
            return ActivityRun(activity=activity, start=start, end=start, ending=Ending.SUCCEEDED), False
        answer = await call(activity, self._variables, label=self._label)
        run = self._run_of(activity, start, answer)
        if met := await compared(activity, answer, self._variables, label=self._label):
            run = replace(run, met=met.met, asked=self._mask(met.asked), seen=self._mask(met.seen))
        if after:
            await self._clock.sleep_until(self._clock.monotonic() + after)
        return run, answer.interrupts

    async def _called(self, activity: Activity) -> ActivityRun:
        start = self._clock.now()
        return self._run_of(activity, start, await call(activity, self._variables, label=self._label))

    def _run_of(self, activity: Activity, start: float, answer: Answer) -> ActivityRun:
        return ActivityRun(
            activity=activity,
            start=start,
            end=self._clock.now(),
            ending=answer.ending,
            output=answer.output,
            why=self._mask(answer.why),
            trace=tuple(self._mask(list(answer.trace))),
        )

    def _report(self) -> ExperimentReport:
        notes = self._notes
        seen = Seen(
            started=notes.started,
            ended=self._clock.now(),
            injected=notes.injected,
            before=notes.before,
            during=tuple(notes.during),
            after=notes.after,
            recovered=notes.recovered,
            method=tuple(notes.method),
            rollbacks=tuple(notes.rollbacks),
            left=tuple(self._mask(list(notes.left))),
            trouble=self._mask(notes.trouble),
            aborted=notes.aborted,
        )
        return ExperimentReport(
            experiment=self._experiment,
            seen=seen,
            judgement=judge_experiment(self._experiment, seen),
            steps=tuple(self._steps),
            mask=self._mask,
        )

    async def _told(self, step: str, run: ActivityRun) -> None:
        text = (
            run.sentence() if run.ending is not Ending.SUCCEEDED or run.met is False else f"{run.activity.name}: done"
        )
        await self._step(step, text, **_shown(run))

    async def _safely(self, step: str, text: str, run: ActivityRun | None = None) -> None:
        """A disk that is full must not keep what was done in place."""
        with contextlib.suppress(OSError):
            await self._step(step, text, **(_shown(run) if run else {}))

    async def _step(self, step: str, text: str, **data: Any) -> None:
        progress = Progress(at=self._clock.now(), step=step, text=self._mask(text))
        self._steps.append(progress)
        self._on_progress(progress)
        if self._audit:
            entry = {"experiment": self._experiment.title, "at": progress.at, "text": text, **data}
            await asyncio.to_thread(self._audit.append, step, self._mask(entry))
        await asyncio.to_thread(self._on_change, self._report())


def _is_well(run: ActivityRun) -> bool:
    return run.ending is Ending.SUCCEEDED and run.met is not False and not run.activity.dry


def _shown(run: ActivityRun) -> dict[str, Any]:
    return {"activity": run.activity.name, "ending": run.ending.value, "why": run.why, "met": run.met, "seen": run.seen}


def _seconds(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        return 0.0
