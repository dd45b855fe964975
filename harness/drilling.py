"""`stormwatch drill`: drills of a configuration, watched in this process or by a running service."""

import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.drill import Drill, Side
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.plan import Plan, Span
from stormwatch.chaos.plan import plan as plan_drill
from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.run import Baseline, Hold, look_before, run_drill
from stormwatch.chaos.undo import UndoJournal, UndoState, state_directory
from stormwatch.harness import detour, publishing, undoing
from stormwatch.harness.config import Config
from stormwatch.harness.drill_guarding import Guarding, exclusive, guarding
from stormwatch.harness.drill_recording import drill_recorded, record_control
from stormwatch.harness.evaluation import EVALUATION
from stormwatch.harness.injecting import fault_of, why_none
from stormwatch.harness.live_budget import LiveBudget, ask, live_budget
from stormwatch.harness.live_chain import Live, anyhow, latest, soonest
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.publishing import Form
from stormwatch.harness.rule_span import Subjects
from stormwatch.harness.stop import cancelled_by_signals
from stormwatch.harness.watching import judged_beside, outside_feed, watched
from stormwatch.probes.clock import Clock, SystemClock
from stormwatch.probes.units import show_duration
from stormwatch.slo.identity import labels_of
from stormwatch.slo.latency import first_failure
from stormwatch.slo.policy import longest_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of `stormwatch drill`."""

    plan: bool = False
    dry_run: bool = False
    watch: str = ""
    form: Form = Form.TEXT
    html: Path | None = None
    compare: Path | None = None
    environment: str = ""
    data: Path | None = None
    record: Path | None = None
    control: float = 0.0
    """Seconds of a control run, which is recorded before the drills."""


async def command(config: Config, drills: Sequence[Drill], wanted: Wanted) -> int:
    """Run the drills one after the other and print each report. Exit code 0 only when every verdict is `proved`."""
    plans = await plans_of(config, drills)
    if wanted.plan:
        print_plans(plans, as_json=wanted.form is Form.JSON)
        return Exit.NOT_GOOD if any(one.refusals for one in plans) else Exit.GOOD
    refusals = [f"{one.drill.name}: {refusal}" for one in plans for refusal in one.refusals]
    if wanted.watch:
        refusals += [
            f"{drill.name}: --watch {wanted.watch} probes by itself, and its probes cannot be bent from here: "
            "leave --watch out"
            for drill in drills
            if drill.side is Side.PROBER
        ]
    if refusals:
        raise Problem(*refusals, "nothing was injected; `stormwatch drill --plan` shows the time budget")
    last = publishing.verdicts_in(wanted.compare) if wanted.compare else None
    state, clock = state_directory(os.environ), SystemClock()
    guard = guarding(config, environment=wanted.environment, data=wanted.data or state / "data", watch=wanted.watch)
    if wanted.dry_run:
        await guard.permit(drills, clock)
        return await rehearse(config, drills, plans, wanted, clock)
    with exclusive(state, [drill.name for drill in drills], clock=clock):
        await guard.permit(drills, clock)
        await heal()
        reports: list[Report] = []
        try:
            await _run_all(drills, wanted, guard, clock, reports=reports)
        except BaseException:
            # An interruption must not take the verdicts with it that are there already.
            if reports:
                publishing.publish(reports, form=wanted.form, html=wanted.html)
            raise
        return publishing.publish(reports, form=wanted.form, html=wanted.html, last=last)


async def _run_all(
    drills: Sequence[Drill], wanted: Wanted, guard: Guarding, clock: Clock, *, reports: list[Report]
) -> None:
    config = guard.config
    screen = Console(stderr=True)
    async with cancelled_by_signals(), shared(config, drills, wanted.watch, clock) as feed:
        if wanted.record and wanted.control:
            screen.print(f"control run: nothing is broken for {show_duration(wanted.control)}", highlight=False)
            data = None if wanted.watch else state_directory(os.environ) / "drill"
            await record_control(config, feed, seconds=wanted.control, clock=clock, directory=wanted.record, data=data)
        for number, drill in enumerate(drills):
            if number:
                # Hours end, and budgets are used up, by the drills before this one too.
                await guard.permit(drills[number:], clock)
            reports.append(await _recorded(config, drill, feed, clock, wanted=wanted, tell=_teller(screen)))
            if wanted.form is Form.TEXT:
                show(reports[-1])


async def _recorded(
    config: Config, drill: Drill, feed: Feed, clock: Clock, *, wanted: Wanted, tell: Callable[[Progress], None]
) -> Report:
    """One drill, recorded if that was asked for."""
    async with _feed_of(config, drill, feed, clock) as (around, own):
        if wanted.record is None:
            return await _run(around, drill, own, clock, on_progress=tell)
        kept = drill.side is not Side.PROBER and not wanted.watch
        data = state_directory(os.environ) / "drill" if kept else None
        async with drill_recorded(around, drill, own, clock=clock, directory=wanted.record, data=data) as tape:
            tape.report = await _run(around, drill, own, clock, on_progress=tell)
            return tape.report


async def rehearse(config: Config, drills: Sequence[Drill], plans: Sequence[Plan], wanted: Wanted, clock: Clock) -> int:
    """All but the injection: what the drills would do, and whether all is well for it. 3 when they would inject nothing."""
    found: list[str] = []
    screen = Console(stderr=True)
    async with cancelled_by_signals(), shared(config, drills, wanted.watch, clock) as feed:
        for drill in drills:
            # Where all is not well, the answer comes when its patience is over: minutes, where the probe is a journey.
            screen.print(f"drill {drill.name}: is all well?", highlight=False)
            why = await why_none(config, drill.faults) if drill.side is not Side.PROBER else ""
            if not why:
                async with _feed_of(config, drill, feed, clock) as (around, own):
                    baseline = _baseline(around, drill)
                    why = await look_before(drill, own, clock=clock, baseline=baseline, guard=config.guard)
            found.append(why)
    if wanted.form is Form.JSON:
        documents = [
            {**planned.as_json(), "would_inject": not why, "why_not": why}
            for planned, why in zip(plans, found, strict=True)
        ]
        print(json.dumps(documents, indent=2))
    else:
        for planned, why in zip(plans, found, strict=True):
            faults = planned.drill.faults
            verdict = f"  ? would inject nothing: {why}" if why else "  ✓ all is well: would inject "
            options = "" if why else " beside ".join(json.dumps(fault.as_json()) for fault in faults)
            print("\n".join([*planned.lines(), f"{verdict}{options}", ""]))
        print("dry run: nothing was injected")
    return Exit.NO_VERDICT if any(found) else Exit.GOOD


async def run(
    config: Config,
    drill: Drill,
    feed: Feed,
    clock: Clock,
    *,
    on_progress: Callable[[Progress], None],
    hold: Hold | None = None,
) -> Report:
    """One drill of a configuration. One on the prober's side has a feed of its own."""
    async with _feed_of(config, drill, feed, clock) as (around, own):
        return await _run(around, drill, own, clock, on_progress=on_progress, hold=hold)


@asynccontextmanager
async def _feed_of(config: Config, drill: Drill, feed: Feed, clock: Clock) -> AsyncGenerator[tuple[Config, Feed]]:
    if drill.side is Side.PROBER:
        async with (
            detour.detoured(config, drill, clock) as around,
            detour.watching(around, clock) as bent,
        ):
            with judged_beside(config.watch, bent, feed) as judged:
                yield around, judged
    else:
        yield config, feed


async def _run(
    config: Config,
    drill: Drill,
    feed: Feed,
    clock: Clock,
    *,
    on_progress: Callable[[Progress], None],
    hold: Hold | None = None,
) -> Report:
    state = state_directory(os.environ)
    fault, *beside = (fault_of(config, spec, state=state, drill=drill.name, clock=clock) for spec in drill.faults)
    try:
        return await run_drill(
            drill,
            fault,
            feed,
            clock=clock,
            beside=beside,
            journal=AuditJournal(state / "audit.jsonl", clock=clock),
            on_progress=on_progress,
            baseline=_baseline(config, drill),
            guard=config.guard,
            hold=hold,
        )
    except OSError as error:
        raise Problem(
            f"drill {drill.name} ended, because {error.filename or state} cannot be written: {error.strerror or error}; "
            "no fault of it is in place",
            code=Exit.NO_VERDICT,
        ) from error


def shared(config: Config, drills: Sequence[Drill], url: str, clock: Clock) -> AbstractAsyncContextManager[Feed]:
    """What the drills watch that break something for everybody; of no others is anything probed."""
    if all(drill.side is Side.PROBER for drill in drills):
        return outside_feed(replace(config.watch, prometheus=""), clock)
    return watched(config, url, clock)


async def heal() -> None:
    """Take back what dead drills left behind. Raises Problem, exit code 4, when something may still be in place."""
    state = state_directory(os.environ)
    outcomes = await UndoJournal(state / "undo").undo_all()
    undoing.write_down(outcomes, state)
    failed = [outcome for outcome in outcomes if outcome.state is UndoState.FAILED]
    if failed:
        raise Problem(
            *(f"{outcome.what} of an earlier drill may still be in place: {outcome.why}" for outcome in failed),
            "nothing was injected; mend this, then `stormwatch undo`",
            code=Exit.UNSAFE,
        )


def show(report: Report) -> None:
    """Print a report for people."""
    console = Console()
    console.print(report)
    console.print()


def print_plans(plans: Sequence[Plan], *, as_json: bool) -> None:
    """The time budgets."""
    if as_json:
        print(json.dumps([dict(one.as_json()) for one in plans], indent=2))
    else:
        print("\n\n".join("\n".join(one.lines()) for one in plans))


async def plans_of(config: Config, drills: Sequence[Drill]) -> list[Plan]:
    """The plans of drills; what Prometheus and Alertmanager run is asked once. Raises Problem when one does not answer."""
    live = await ask(config.watch) if config.watch and any(drill.alert for drill in drills) else None
    return [plan_of(config, drill, live) for drill in drills]


def plan_of(config: Config, drill: Drill, live: Live | None = None) -> Plan:
    """The time budget of a drill: what the configuration can give at best and at worst.

    Of a drill whose alerts are watched elsewhere, by what runs there; without `live` nothing is known of those.
    """
    if drill.side is Side.PROBER:  # its alerts are those of the drill's own service, which no Prometheus scrapes
        config = replace(config, watch=replace(config.watch, prometheus=""))
    subjects = Subjects.of(config)
    expected = subjects.probes[drill.probe.name] if drill.probe else None
    # A run that began under the fault may still fail after it.
    recovering = [Span(0.0, expected.every + 2 * longest_run(expected))] if expected else []
    rules = [rule for rule in config.rules if drill.alert and drill.alert.matches(labels_of(rule))]
    spans = [] if config.watch.prometheus else [subjects.firing(rule, drill, EVALUATION) for rule in rules]
    ours = soonest(spans) if spans else None
    budget = LiveBudget(firing=ours) if live is None else live_budget(config, drill, live, ours=ours)
    if rules and not config.watch.prometheus:
        recovering.append(anyhow([subjects.resolving(rule, drill, EVALUATION) for rule in rules]))
    elif budget.resolved:
        recovering.append(budget.resolved)
    planned = plan_drill(
        drill,
        probe=Span(*first_failure(expected)) if expected else None,
        alert=budget.firing,
        notified=budget.notified,
        delivered=budget.delivered,
        recovery=latest(recovering) if recovering else None,
        cleared=budget.cleared,
        links=budget.links,
    )
    bent = detour.why_not(config, drill) if drill.side is Side.PROBER else ""
    refusals = (*planned.refusals, *budget.refusals, *((bent,) if bent else ()))
    return replace(planned, refusals=refusals)


def _baseline(config: Config, drill: Drill) -> Baseline:
    """Fresh is what the expected probe can be: two intervals old and its longest run."""
    probe = next((probe for probe in config.probes if drill.probe and probe.name == drill.probe.name), None)
    if probe is None:
        return Baseline()
    fresh = 2 * probe.every + longest_run(probe)
    return Baseline(fresh=fresh, patience=max(30.0, fresh + longest_run(probe)))


def _teller(screen: Console) -> Callable[[Progress], None]:
    began: float | None = None

    def tell(progress: Progress) -> None:
        nonlocal began
        began = progress.at if began is None else began
        screen.print(f"[dim]{progress.at - began:7.1f} s[/dim]  {progress.step:<12} {progress.text}", highlight=False)

    return tell
