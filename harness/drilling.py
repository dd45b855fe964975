"""`stormwatch drill`: drills of a configuration, watched in this process or by a running service."""

import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.drill import Drill, Side
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.plan import Plan, Span
from stormwatch.chaos.plan import plan as plan_drill
from stormwatch.chaos.report import Progress, Report, html_of
from stormwatch.chaos.run import Baseline, run_drill
from stormwatch.chaos.tls_options import shows_expiry
from stormwatch.chaos.undo import UndoJournal, UndoState, state_directory
from stormwatch.chaos.verdict import exit_code
from stormwatch.harness import detour
from stormwatch.harness.config import Config
from stormwatch.harness.injecting import fault_of
from stormwatch.harness.polling import polled_feed
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.service import EVALUATION, Service
from stormwatch.harness.stop import cancelled_by_signals
from stormwatch.probes.clock import Clock, SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.slo.identity import labels_of
from stormwatch.slo.latency import Bounds, first_failure, time_to_fire, time_to_resolve
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import longest_run
from stormwatch.slo.rule import BudgetLeft, BurnRate, Expiring, PeerSilent, Rule


async def command(
    config: Config, drills: Sequence[Drill], *, plan: bool, watch: str, as_json: bool, html: Path | None
) -> int:
    """Run the drills one after the other and print each report. Exit code 0 only when every verdict is `proved`."""
    plans = [plan_of(config, drill) for drill in drills]
    if plan:
        print_plans(plans, as_json=as_json)
        return Exit.NOT_GOOD if any(one.refusals for one in plans) else Exit.GOOD
    refusals = [f"{one.drill.name}: {refusal}" for one in plans for refusal in one.refusals]
    if watch:
        refusals += [
            f"{drill.name}: --watch {watch} probes by itself, and its probes cannot be bent from here: leave --watch out"
            for drill in drills
            if drill.side is Side.PROBER
        ]
    if refusals:
        raise Problem(*refusals, "nothing was injected; `stormwatch drill --plan` shows the time budget")
    await heal()
    screen = Console(stderr=True)
    clock = SystemClock()
    async with cancelled_by_signals(), _shared(config, drills, watch, clock) as feed:
        reports: list[Report] = []
        for drill in drills:
            reports.append(await run(config, drill, feed, clock, on_progress=_teller(screen)))
            if not as_json:
                # At once: an interruption of the next drill must not take the verdict of this one with it.
                show(reports[-1])
    if as_json:
        print(json.dumps([report.as_json() for report in reports], indent=2))
    if html:
        write_page(reports, html)
    return exit_code([report.verdict for report in reports])


async def run(
    config: Config, drill: Drill, feed: Feed, clock: Clock, *, on_progress: Callable[[Progress], None]
) -> Report:
    """One drill of a configuration. One on the prober's side has a feed of its own."""
    if drill.side is Side.PROBER:
        async with detour.detoured(config, drill, clock) as around, detour.watching(around, clock) as bent:
            return await _run(around, drill, bent, clock, on_progress=on_progress)
    return await _run(config, drill, feed, clock, on_progress=on_progress)


async def _run(
    config: Config, drill: Drill, feed: Feed, clock: Clock, *, on_progress: Callable[[Progress], None]
) -> Report:
    state = state_directory(os.environ)
    return await run_drill(
        drill,
        fault_of(config, drill.fault, state=state, drill=drill.name, clock=clock),
        feed,
        clock=clock,
        journal=AuditJournal(state / "audit.jsonl", clock=clock),
        on_progress=on_progress,
        baseline=_baseline(config, drill),
    )


def _shared(config: Config, drills: Sequence[Drill], url: str, clock: Clock) -> AbstractAsyncContextManager[Feed]:
    """What the drills watch that break something for everybody; of no others is anything probed."""
    if all(drill.side is Side.PROBER for drill in drills):
        return nullcontext(Feed())
    return watched(config, url, clock)


@asynccontextmanager
async def watched(config: Config, url: str, clock: Clock) -> AsyncGenerator[Feed]:
    """The feed of a running service, or of one that watches in this process for as long as the block lasts."""
    if url:
        async with polled_feed(url, clock) as feed:
            yield feed
    else:
        async with Service(config, data=state_directory(os.environ) / "drill", clock=clock) as service:
            yield service.feed


async def heal() -> None:
    """Take back what dead drills left behind. Raises Problem, exit code 4, when something may still be in place."""
    outcomes = await UndoJournal(state_directory(os.environ) / "undo").undo_all()
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


def write_page(reports: Sequence[Report], path: Path) -> None:
    """Write the reports as one HTML page."""
    try:
        path.write_text(html_of(reports), encoding="utf-8")
    except OSError as error:
        raise Problem(f"cannot write the report to {path}: {error.strerror}") from error


def print_plans(plans: Sequence[Plan], *, as_json: bool) -> None:
    """The time budgets."""
    if as_json:
        print(json.dumps([dict(one.as_json()) for one in plans], indent=2))
    else:
        print("\n\n".join("\n".join(one.lines()) for one in plans))


def plan_of(config: Config, drill: Drill) -> Plan:
    """The time budget of a drill: what the configuration can give at best and at worst."""
    probes = {probe.name: probe for probe in config.probes}
    objectives = {objective.name: objective for objective in config.objectives}
    expected = probes[drill.probe.name] if drill.probe else None
    rules = [rule for rule in config.rules if drill.alert and drill.alert.matches(labels_of(rule))]
    alerts = [span for rule in rules if (span := _alert_span(rule, probes, objectives, drill))]
    planned = plan_drill(
        drill,
        probe=Span(*first_failure(expected)) if expected else None,
        alert=min(alerts, key=lambda span: span.worst) if alerts else None,
        recovery=_recovery(drill, expected, rules, probes, objectives),
    )
    why = detour.why_not(config, drill) if drill.side is Side.PROBER else ""
    return replace(planned, refusals=(*planned.refusals, why)) if why else planned


def _subject(rule: Rule, probes: dict[str, Probe], objectives: dict[str, Objective]) -> Probe:
    """The probe whose failures a rule is about; of an objective over several, the slowest."""
    if isinstance(rule, BurnRate | BudgetLeft):
        return max((probes[name] for name in objectives[rule.objective].probes), key=lambda probe: probe.every)
    # An expected alert names a probe or an objective, and PeerSilent has neither.
    assert not isinstance(rule, PeerSilent)
    return probes[rule.probe]


def _alert_span(rule: Rule, probes: dict[str, Probe], objectives: dict[str, Objective], drill: Drill) -> Span | None:
    if isinstance(rule, Expiring) and shows_expiry(drill.fault.options, within=rule.within):
        # The first run that begins after the injection sees the date; whether it passes does not matter.
        probe = probes[rule.probe]
        return Span(rule.lasting, probe.every + longest_run(probe) + EVALUATION + rule.lasting)
    objective = objectives[rule.objective] if isinstance(rule, BurnRate | BudgetLeft) else None
    bounds = time_to_fire(rule, _subject(rule, probes, objectives), EVALUATION, objective=objective)
    return Span(bounds.best, bounds.worst)


def _recovery(
    drill: Drill,
    expected: Probe | None,
    rules: Sequence[Rule],
    probes: dict[str, Probe],
    objectives: dict[str, Objective],
) -> Span | None:
    """From the undo to green and resolved. A run that began under the fault may still fail after it."""
    failing = max(one.within for one in (drill.probe, drill.alert) if one)
    spans = [Bounds(0.0, expected.every + 2 * longest_run(expected))] if expected else []
    for rule in rules:
        objective = objectives[rule.objective] if isinstance(rule, BurnRate | BudgetLeft) else None
        probe = _subject(rule, probes, objectives)
        spans.append(time_to_resolve(rule, probe, EVALUATION, failing=failing, objective=objective))
    return Span(max(span.best for span in spans), max(span.worst for span in spans)) if spans else None


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
