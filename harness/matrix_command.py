"""`stormwatch drill --matrix`: every fitting fault on every dependency, and the score of the monitoring that should notice."""

import asyncio
import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.drill import Drill, ExpectedAlert, Side
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.guard import Guard, refusals
from stormwatch.chaos.matrix import Control, Matrix, Outcome, catcher_name, explain, merge
from stormwatch.chaos.matrix_cell import Cell, State
from stormwatch.chaos.matrix_journal import MatrixJournal
from stormwatch.chaos.matrix_junit import junit_of
from stormwatch.chaos.matrix_plan import MatrixPlan, Skipped, dependencies_of, plan_matrix, tells_of_faults
from stormwatch.chaos.matrix_report import html_of, markdown_of, plan_json, plan_lines, text_of
from stormwatch.chaos.matrix_run import AT_ONCE, SETTLE, Chamber, run_matrix
from stormwatch.chaos.matrix_scale import Scaling, read_factor, scaled, unscaled_checks
from stormwatch.chaos.threshold import SIZES, Bisection, Size, Trial
from stormwatch.chaos.undo import state_directory
from stormwatch.harness import drilling
from stormwatch.harness.alerts_section import Alerts
from stormwatch.harness.config import Config
from stormwatch.harness.drill_guarding import Guarding, exclusive
from stormwatch.harness.evaluation import EVALUATION
from stormwatch.harness.injecting import fault_of
from stormwatch.harness.live_chain import may_make
from stormwatch.harness.matrix_last_mile import LastMile, last_mile_of
from stormwatch.harness.matrix_watching import OURS, Outside, OutsideEvaluator, judged_elsewhere, outside_evaluator_of
from stormwatch.harness.polling import polled_feed
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.publishing import Form, print_markdown
from stormwatch.harness.remedy import did_you_mean
from stormwatch.harness.service import Service
from stormwatch.harness.stop import cancelled_by_signals
from stormwatch.probes.clock import Clock, SystemClock
from stormwatch.probes.units import show_duration
from stormwatch.slo.identity import labels_of

NOT_SENT = (
    "the last mile is not watched: what this matrix evaluates by itself is sent to nobody; "
    "name a running stormwatch with --watch URL, or Prometheus under `watch:`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRequest:
    """What was asked on the command line."""

    only: tuple[str, ...] = ()
    """Names of cells, as patterns (`payments/*`, `*/tls-*`); nothing: all."""
    every_fault: bool = False
    scale: str = "1"
    check_scale: bool = False
    repeat: int = 1
    resume: bool = False
    to_the_end: bool = False
    at_once: int = AT_ONCE
    watch: str = ""
    plan: bool = False
    form: Form = Form.TEXT
    html: Path | None = None
    markdown: Path | None = None
    last_mile: bool = True
    """Whether an alert has to come to where `watch:` looks last; else it is enough that it fires."""


async def command(config: Config, asked: MatrixRequest, guard: Guarding) -> int:
    """Run the matrix and print its report. The exit code is that of `Matrix.exit_code`."""
    clock = SystemClock()
    scaling = _scaling(config, asked)
    if asked.check_scale and not scaling.changed:
        raise Problem("--check-scale: nothing is scaled, so there is nothing to check; give --scale 1/60")
    whole, config = config, replace(config, rules=scaling.rules)
    outside = Outside(evaluator=await outside_evaluator_of(config), last_mile=await _last_mile(config, asked))
    planned = _guarded(_planned(config, asked, outside), guard.guard, clock.now())
    if asked.plan:
        document = plan_json(planned, scale=str(scaling.factor), held=scaling.held)
        _say(json.dumps(document, indent=2) if asked.form is Form.JSON else "\n".join(plan_lines(document)))
        return Exit.GOOD
    if not planned.cells:
        raise Problem(*_nothing_to_run(config, asked, planned))
    state = state_directory(os.environ)
    with exclusive(state, [f"the matrix of {len(planned.cells)} cells"], clock=clock):
        await guard.permit([_as_drill(cell) for cell in planned.cells], clock)
        await drilling.heal()
        matrix = await _run(config, planned, asked, clock, outside=outside)
        # After a fault that may still be in place nothing more is broken.
        if asked.check_scale and not matrix.states[State.UNSAFE]:
            matrix = await _checked(whole, matrix, asked, clock)
    _write(matrix, asked)
    return matrix.exit_code


async def find_threshold(config: Config, name: str, asked: MatrixRequest, guard: Guarding) -> int:
    """From which size on the fault of a cell is noticed. Exit code 0 when that is known, 1 when not even the worst is."""
    if config.watch.prometheus:
        raise Problem(
            "--threshold: each of its ten trials would wait until the alert of Prometheus is over; "
            "leave `watch: prometheus` out of the configuration, and our own evaluator decides in seconds"
        )
    clock = SystemClock()
    planned = _guarded(_planned(config, replace(asked, only=(), every_fault=True)), guard.guard, clock.now())
    cell = _of_size(planned, name)
    size = SIZES[cell.fault.kind]
    search = Bisection(size, mildest=size.mildest, worst=size.worst)
    screen = Console(stderr=True)

    async def take(outcome: Outcome) -> None:
        seen.append(outcome)

    seen: list[Outcome] = []
    state = state_directory(os.environ)
    with exclusive(state, [f"the threshold of {name}"], clock=clock):
        await guard.permit([_as_drill(cell)], clock)
        await drilling.heal()
        async with cancelled_by_signals(), _watched(config, asked.watch, clock) as feed:
            shared = chamber(config, feed, clock)
            while (value := search.next()) is not None:
                seen.clear()
                await run_matrix(
                    [_resized(cell, size, value)], shared, take=take, take_control=_no_control, controls_every=0
                )
                outcome = seen[0]
                if outcome.state in {State.INCONCLUSIVE, State.UNSAFE, State.EQUIVALENT}:
                    raise Problem(
                        f"{name} with {size.option} {size.shown(value)}: {explain(outcome)['what']}",
                        code=Exit.UNSAFE if outcome.state is State.UNSAFE else Exit.NO_VERDICT,
                    )
                by = (
                    f"{catcher_name(outcome.caught[0].labels)} after {outcome.caught[0].after:.1f} s"
                    if outcome.caught
                    else ""
                )
                trial = Trial(size=value, noticed=bool(outcome.caught), by=by)
                search.tell(trial)
                screen.print(f"  {size.shown(value):>10}  {f'noticed: {by}' if by else 'not noticed'}", highlight=False)
    answer = search.answer()
    promises = [
        f"{one.name} promises {show_duration(one.slower_than)}"
        for one in config.objectives
        if one.slower_than is not None and size.unit == "s" and one.name in cell.subjects
    ]
    if asked.form is Form.JSON:
        _say(json.dumps({"cell": name, "option": size.option, **answer.as_json(), "promises": promises}, indent=2))
    else:
        _say("; ".join([f"{cell.fault.kind} on {cell.dependency}: {answer.sentence()}", *promises]))
    return Exit.GOOD if answer.noticed is not None and answer.consistent else Exit.NOT_GOOD


def _of_size(planned: MatrixPlan, name: str) -> Cell:
    sized = {cell.name: cell for cell in planned.cells if cell.fault.kind in SIZES}
    if name not in sized:
        known = [cell.name for cell in planned.cells]
        why = "its fault has no size" if name in known else "there is no such cell"
        raise Problem(f"--threshold {name}: {why}; {did_you_mean(name, list(sized)) if sized else 'no fault has one'}")
    cell = sized[name]
    # An alert that fires on after one trial can say nothing in the next.
    return replace(cell, catchers=tuple(one for one in cell.catchers if one.recovers <= cell.recovers))


def _resized(cell: Cell, size: Size, value: float) -> Cell:
    document = {**cell.fault.as_json(), size.option: size.written(value)}
    return replace(cell, fault=FaultSpec.from_json(document))


class _Keeper:
    """What is known so far, in memory and on disk."""

    def __init__(self, journal: MatrixJournal, *, resume: bool) -> None:
        self._journal = journal
        before = journal.read() if resume else None
        if resume and before is None and journal.path.exists():
            raise Problem(
                f"--resume: what is kept in {journal.path} is of another matrix: give the same cells, --scale and --repeat, "
                "with the same configuration, or leave --resume out, and that is forgotten"
            )
        self.outcomes, self.controls = (list(before[0]), list(before[1])) if before else ([], [])
        if before is None:
            try:
                journal.begin()
            except OSError as error:
                raise Problem(f"cannot keep what the matrix finds in {journal.path}: {error.strerror}") from error
        self.earlier = max((one.sight.started + one.sight.took for one in self.outcomes), default=0.0) - min(
            (one.sight.started for one in self.outcomes), default=0.0
        )
        """Seconds that the interrupted part took."""

    async def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        await asyncio.to_thread(self._journal.outcome, outcome)

    async def control(self, control: Control) -> None:
        self.controls.append(control)
        await asyncio.to_thread(self._journal.control, control)


async def _run(config: Config, planned: MatrixPlan, asked: MatrixRequest, clock: Clock, *, outside: Outside) -> Matrix:
    factor = str(read_factor(asked.scale))
    path = state_directory(os.environ) / "matrix.jsonl"
    keeper = _Keeper(MatrixJournal(path, planned.cells, scale=factor, repeat=asked.repeat), resume=asked.resume)
    alerts = _alerts(config, planned, outside.evaluator)
    began = clock.monotonic()

    def matrix() -> Matrix:
        return Matrix(
            outcomes=merge(keeper.outcomes),
            controls=tuple(keeper.controls),
            alerts=alerts,
            skipped=planned.skipped,
            untimed=planned.untimed,
            scale=factor,
            planned=len(planned.cells),
            repeat=asked.repeat,
            seconds=clock.monotonic() - began + keeper.earlier,
        )

    screen = _Screen(len(planned.cells) * asked.repeat, len(keeper.outcomes))

    async def take(outcome: Outcome) -> None:
        await keeper.outcome(outcome)
        screen.ended(outcome)

    try:
        async with (
            cancelled_by_signals(),
            _watched(config, asked.watch, clock) as own,
            _judged(outside, own, clock, alerts) as feed,
        ):
            with screen:
                await run_matrix(
                    _left(planned.cells, keeper.outcomes, asked.repeat),
                    chamber(config, feed, clock, to_the_end=asked.to_the_end, outside=outside),
                    take=take,
                    take_control=keeper.control,
                    at_once=asked.at_once,
                    news=screen.news,
                )
    except OSError as error:
        raise _not_kept(error) from error
    except asyncio.CancelledError:
        if keeper.outcomes:
            _write(matrix(), asked)
        Console(stderr=True).print(
            f"interrupted after {len(keeper.outcomes)} of {screen.total} cells; every fault is taken back; "
            "go on with --resume",
            highlight=False,
        )
        raise
    return matrix()


async def _checked(whole: Config, matrix: Matrix, asked: MatrixRequest, clock: Clock) -> Matrix:
    """With one cell at full scale for each alert that told of something in the scaled run: it takes as long as it takes."""
    told = [(one.cell, [alarm.labels for alarm in one.caught]) for one in matrix.outcomes]
    cells = unscaled_checks(_planned(whole, asked).cells, told)
    found: list[Outcome] = []
    screen = _Screen(len(cells), 0)

    async def take(outcome: Outcome) -> None:
        found.append(outcome)
        screen.ended(outcome)

    try:
        async with cancelled_by_signals(), _watched(whole, asked.watch, clock) as feed:
            with screen:
                shared = chamber(whole, feed, clock)
                await run_matrix(cells, shared, take=take, take_control=_no_control, controls_every=0, news=screen.news)
    except OSError as error:
        _write(replace(matrix, checks=tuple(found)), asked)
        raise _not_kept(error) from error
    except asyncio.CancelledError:
        # It may have taken hours: what is known is told, and the scaled run is kept.
        _write(replace(matrix, checks=tuple(found)), asked)
        Console(stderr=True).print(
            f"interrupted after {len(found)} of {len(cells)} checks at full scale; every fault is taken back; "
            "go on with --resume, which checks all of them",
            highlight=False,
            soft_wrap=True,
        )
        raise
    return replace(matrix, checks=tuple(found))


def _not_kept(error: OSError) -> Problem:
    return Problem(
        f"what the matrix finds cannot be kept: {error}; every fault is taken back; mend this, then go on with --resume",
        code=Exit.NO_VERDICT,
    )


async def _no_control(_control: Control) -> None:
    raise AssertionError("no controls were asked for")


def _alerts(config: Config, planned: MatrixPlan, there: OutsideEvaluator | None) -> tuple[Mapping[str, str], ...]:
    """The labels of every alert that a person would hear of, where they are evaluated."""
    ours = [labels_of(rule) for rule in config.rules if tells_of_faults(rule)]
    if there is None:
        return tuple(ours)
    theirs = {one.key: one.labels for cell in planned.cells for one in cell.catchers if one.labels not in ours}
    return (*(one for one in ours if may_make(one, there.live)), *theirs.values())


@asynccontextmanager
async def _judged(
    outside: Outside, own: Feed, clock: Clock, alerts: Sequence[Mapping[str, str]]
) -> AsyncGenerator[Feed]:
    """What cells are judged by: our own alerts, or those of Prometheus; and who was told, where that is watched."""
    if not outside.watch:
        yield own
    else:
        async with judged_elsewhere(outside.watch, own, clock, known=alerts) as feed:
            yield feed


def chamber(config: Config, feed: Feed, clock: Clock, *, to_the_end: bool = False, outside: Outside = OURS) -> Chamber:
    """What the cells of one run share: each fault has an undo record, and lines in the audit journal."""
    state = state_directory(os.environ)
    all_clear = outside.last_mile.all_clear if outside.last_mile else 0.0
    return Chamber(
        feed=feed,
        clock=clock,
        fault_of=lambda cell: fault_of(config, cell.fault, state=state, drill=f"matrix: {cell.name}", clock=clock),
        journal=AuditJournal(state / "audit.jsonl", clock=clock),
        objectives={one.name: one for one in config.objectives},
        settle=math.inf if to_the_end else SETTLE,
        lag=outside.evaluator.lag if outside.evaluator else 0.0,
        all_clear=all_clear,
        told_before=outside.last_mile.told_before if outside.last_mile else (),
        told_until=clock.now() + all_clear,
    )


@asynccontextmanager
async def _watched(config: Config, url: str, clock: Clock) -> AsyncGenerator[Feed]:
    """Who watches: a running service, or one of our own that tells nobody and remembers nothing.

    A matrix breaks everything once: whoever is on call would be woken for each cell, by our own service for nothing. And alerts
    that an earlier matrix left behind in its windows would be taken for those of this one.
    """
    if url:
        async with polled_feed(url, clock) as feed:
            yield feed
        return
    data = state_directory(os.environ) / "matrix"
    await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)
    async with Service(replace(config, alerts=Alerts()), data=data, clock=clock) as service:
        yield service.feed


def _planned(config: Config, asked: MatrixRequest, outside: Outside = OURS) -> MatrixPlan:
    drills = [drill for drill in config.drills if drill.side is Side.TARGET]
    planned = plan_matrix(
        dependencies_of(config.proxies.routes, config.targets.values(), config.probes, config.objectives, drills),
        probes=config.probes,
        objectives=config.objectives,
        rules=config.rules,
        evaluation=EVALUATION,
        drills=drills,
        every_fault=asked.every_fault,
        elsewhere=outside.evaluator,
        way_of=outside.last_mile,
    )
    if not asked.only:
        return planned
    cells = tuple(cell for cell in planned.cells if any(fnmatchcase(cell.name, each) for each in asked.only))
    skipped = tuple(one for one in planned.skipped if any(fnmatchcase(one.name, each) for each in asked.only))
    return replace(planned, cells=cells, skipped=skipped)


def _guarded(planned: MatrixPlan, guard: Guard, now: float) -> MatrixPlan:
    """Without the cells that the guard refuses for themselves; what it refuses as a whole ends the command later."""
    anyway = refusals(guard, [], now=now)
    refused = {
        cell.name: why[0]
        for cell in planned.cells
        if (why := [one for one in refusals(guard, [_as_drill(cell)], now=now) if one not in anyway])
    }
    return replace(
        planned,
        cells=tuple(cell for cell in planned.cells if cell.name not in refused),
        skipped=(
            *planned.skipped,
            *(Skipped(name=name, why=f"the guard refuses: {why}") for name, why in refused.items()),
        ),
    )


def _as_drill(cell: Cell) -> Drill:
    """The cell as the guard knows it: what is broken, and whose budgets that touches."""
    labels = dict(cell.catchers[0].labels) if cell.catchers else {}
    return Drill(
        name=cell.name, fault=cell.fault, alert=ExpectedAlert(labels=labels, within=cell.limit), allow=cell.subjects
    )


async def _last_mile(config: Config, asked: MatrixRequest) -> LastMile | None:
    if not asked.last_mile:
        return None
    if not (config.watch.prometheus or asked.watch):
        if config.watch:
            Console(stderr=True).print(NOT_SENT, highlight=False, soft_wrap=True)
        return None
    return await last_mile_of(config)


def _left(cells: Sequence[Cell], outcomes: Sequence[Outcome], repeat: int) -> list[Cell]:
    """What is still to be run, round by round."""
    done = Counter(one.cell.name for one in outcomes)
    return [cell for turn in range(repeat) for cell in cells if done[cell.name] <= turn]


def _scaling(config: Config, asked: MatrixRequest) -> Scaling:
    try:
        factor = read_factor(asked.scale)
    except ValueError as error:
        raise Problem(f"--scale: {error}") from error
    if factor != 1 and asked.watch:
        raise Problem("--scale: a running stormwatch has its own rules; leave --watch out, or --scale")
    if factor != 1 and config.watch.prometheus:
        raise Problem(
            "--scale: Prometheus has its own rules; leave --scale out, or `watch: prometheus` out of the configuration"
        )
    return scaled(config.rules, factor, probes=config.probes, objectives=config.objectives)


def _nothing_to_run(config: Config, asked: MatrixRequest, planned: MatrixPlan) -> list[str]:
    if asked.only:
        return [
            f"no cell of the matrix is called {' or '.join(asked.only)}; `stormwatch drill --matrix --plan` lists them"
        ]
    if planned.skipped:
        return [f"{one.name}: {one.why}" for one in planned.skipped]
    why = "there is nothing to break in it; put routes under `proxies:` in front of what your services need, or name `targets:`"
    return [f"{config.path}: {why}"]


def _write(matrix: Matrix, asked: MatrixRequest) -> None:
    # First what cannot fail: a file that cannot be written must not take the report with it.
    if asked.form is Form.JSON:
        _say(json.dumps(matrix.as_json(), indent=2))
    elif asked.form is Form.JUNIT:
        _say(junit_of(matrix))
    elif asked.form is Form.MARKDOWN:
        print_markdown(markdown_of(matrix).rstrip())
    else:
        Console().print(text_of(matrix), soft_wrap=True, highlight=False)
    for path, text in ((asked.html, html_of), (asked.markdown, markdown_of)):
        if path:
            try:
                path.write_text(text(matrix), encoding="utf-8")
            except OSError as error:
                raise Problem(f"cannot write the report to {path}: {error.strerror}") from error


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


class _Screen:
    """A bar on a terminal; one line a cell everywhere else."""

    def __init__(self, total: int, done: int) -> None:
        self.total = total
        self._done = done
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("matrix", total=total, completed=done, now="waiting until all is well")
        self._under_way: dict[str, str] = {}

    def news(self, cell: str, line: str) -> None:
        """What happens in a cell."""
        self._under_way[cell] = line
        shown = "; ".join(f"{name}: {state}" for name, state in self._under_way.items())
        self._progress.update(self._task, now=shown)

    def ended(self, outcome: Outcome) -> None:
        """A cell is over."""
        self._under_way.pop(outcome.cell.name, None)
        self._done += 1
        self._progress.update(self._task, completed=self._done)
        told = f"{catcher_name(outcome.told_by[0].labels)} after {outcome.told_after:.1f} s" if outcome.told_by else ""
        style = "green" if outcome.state is State.KILLED else "bold red" if outcome.state.counts else "yellow"
        self._console.print(
            f"[dim]{self._done:3}/{self.total}[/dim]  [{style}]{outcome.state.value:<14}[/{style}] "
            f"{outcome.cell.name:<32} {told}  [dim]{outcome.sight.took:.1f} s[/dim]",
            highlight=False,
            soft_wrap=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
