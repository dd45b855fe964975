"""What the running service says about itself and its objectives, as families for `/metrics`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from stormwatch.chaos.undo import UndoRecord, Unreadable
from stormwatch.exporters.exposition import Family, Sample
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.runner import Runner
from stormwatch.probes.clock import Clock
from stormwatch.probes.probe import Probe
from stormwatch.probes.waiting import REASONS, Waiting, Why
from stormwatch.slo.alert import AlertState, Transition
from stormwatch.slo.objective import Objective
from stormwatch.slo.prometheus import PERIOD_EVENTS, PERIOD_EXPECTED
from stormwatch.slo.window import Counts

LAG_WINDOW = 15.0
"""Seconds back from a scrape over which the worst loop lag is told: the usual scrape interval."""


def schedule(runner: Runner) -> Iterable[Family]:
    """Start delays, and runs that were let go."""
    yield Family(
        "stormwatch_schedule_delay_seconds",
        "Seconds between the moment that a run was due and its start.",
        "histogram",
        runner.delays.samples({}),
    )
    yield Family(
        "stormwatch_queue_wait_seconds",
        "Seconds that a run which was due waited for other runs to end.",
        "histogram",
        runner.waits.samples({}),
    )
    yield Family(
        "stormwatch_schedule_skipped_total",
        "Due moments of a probe that were let go: its last run was not over, or the prober was late.",
        "counter",
        [Sample(count, {"probe": probe}) for probe, count in runner.skipped.items()],
    )
    yield Family(
        "stormwatch_runs_under_way", "Runs that have begun or wait for their turn.", "gauge", [Sample(runner.under_way)]
    )


def waiting(*rooms: Waiting) -> Iterable[Family]:
    """What waits at this moment before it begins, and why: the guards on concurrency and memory, seen from outside."""
    runs: Counter[tuple[str, Why]] = Counter()
    for room in rooms:
        runs.update(room.now)
    yield Family(
        "stormwatch_runs_waiting",
        "Runs that wait before they begin, by what they wait for.",
        "gauge",
        [Sample(sum(count for (_, why), count in runs.items() if why == each), {"reason": each}) for each in REASONS],
    )
    yield Family(
        "stormwatch_run_waiting",
        "Runs of a probe that wait before they begin; no series for a probe that does not.",
        "gauge",
        [Sample(count, {"probe": probe, "reason": why}) for (probe, why), count in runs.items()],
    )


def loop(lag: LoopLag, clock: Clock) -> Iterable[Family]:
    """How late the event loop ran, and what time it takes it to be."""
    # As node_time_seconds of node_exporter: whoever scrapes it can tell whether the clocks agree.
    yield Family(
        "stormwatch_time_seconds", "The prober's clock: Unix time of this scrape.", "gauge", [Sample(clock.now())]
    )
    yield Family(
        "stormwatch_loop_lag_seconds",
        f"Worst lag of the event loop in the last {LAG_WINDOW:g} s: how far timings can be off through the prober.",
        "gauge",
        [Sample(lag.worst(clock.monotonic() - LAG_WINDOW))],
    )


def sinks(errors: Counter[str]) -> Iterable[Family]:
    """Sinks that did not take a result."""
    yield Family(
        "stormwatch_sink_errors_total",
        "How often a sink did not take a result.",
        "counter",
        [Sample(count, {"sink": sink}) for sink, count in errors.items()],
    )


def objectives(all_of_them: Sequence[Objective], events: Mapping[str, Counts]) -> Iterable[Family]:
    """Judged results since the start, and the targets. `events` counts by objective."""
    yield Family(
        "stormwatch_objective_events_total",
        "Results that an objective judged. Broken runs and maintenance are no evidence and not counted.",
        "counter",
        [
            Sample(count, {"objective": name, "judgement": judgement})
            for name, (good, bad) in events.items()
            for judgement, count in (("good", good), ("bad", bad))
        ],
    )
    yield Family(
        "stormwatch_objective_target_ratio",
        "Share of results that must be good.",
        "gauge",
        [Sample(float(objective.target), {"objective": objective.name}) for objective in all_of_them],
    )


def periods(counted: Mapping[str, tuple[Counts, Fraction]]) -> Iterable[Family]:
    """What objectives with a calendar window counted in the present part of the calendar, and how much it holds when it is full."""
    yield Family(
        PERIOD_EVENTS,
        "What an objective with a calendar window counted since its present period began.",
        "gauge",
        [
            Sample(count, {"objective": name, "judgement": judgement})
            for name, ((good, bad), _) in counted.items()
            for judgement, count in (("good", good), ("bad", bad))
        ],
    )
    yield Family(
        PERIOD_EXPECTED,
        "How much an objective with a calendar window counts in its present period when that is full.",
        "gauge",
        [Sample(float(expected), {"objective": name}) for name, (_, expected) in counted.items()],
    )


def maintenance(probes: Sequence[Probe], under: Callable[[str], bool]) -> Iterable[Family]:
    """Which probes are under maintenance now."""
    yield Family(
        "stormwatch_maintenance",
        "Whether a probe is under maintenance: measured, not judged, its alerts muted.",
        "gauge",
        [Sample(int(under(probe.name)), {"probe": probe.name}) for probe in probes],
    )


def alerts(active: Sequence[Transition]) -> Iterable[Family]:
    """Alerts that are pending or firing in process."""
    yield Family(
        "stormwatch_alert_state",
        "Alerts that are pending (1) or firing (2) by the evaluation in this process.",
        "gauge",
        [Sample(2 if one.after is AlertState.FIRING else 1, dict(one.alert.labels)) for one in active],
    )


def faults(records: Iterable[UndoRecord | Unreadable]) -> Iterable[Family]:
    """Faults of which an undo record is on disk."""
    counted: Counter[tuple[str, str]] = Counter()
    for record in records:
        kind, _, target = record.what.partition(" on ") if isinstance(record, UndoRecord) else ("unknown", "", "")
        counted[kind, target] += 1
    yield Family(
        "stormwatch_fault_active",
        "Faults that a drill has injected on this machine and not yet taken back.",
        "gauge",
        [Sample(count, {"kind": kind, "target": target}) for (kind, target), count in counted.items()],
    )
