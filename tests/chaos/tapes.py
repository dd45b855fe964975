"""Recordings as short as they can be told, judged by the real evaluator. Times are seconds after the injection."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.feed import Delivered
from stormwatch.chaos.playback import Monitoring, replay
from stormwatch.chaos.recording import Earlier, Recorded
from stormwatch.chaos.report import Report
from stormwatch.chaos.tcp_options import TcpBlackhole
from stormwatch.chaos.verdict import judge
from stormwatch.probes.probe import Confirm, Probe
from stormwatch.probes.result import Attempt, Measure, Outcome, Reason, Result
from stormwatch.probes.watch import Watch
from stormwatch.slo.alert import AlertState
from stormwatch.slo.objective import EXPIRY, Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BudgetLeft, BurnRate, Rule, Windows

ZERO = 1_700_000_000.0
DAY = 86400.0
EVERY = 10.0
REVERTED = 35.0
ENDED = 60.0
PAGE = {"alertname": "ProbeDown", "probe": "shop", "severity": "page"}
BURN = {"alertname": "ErrorBudgetBurn", "objective": "shop-up", "severity": "page"}


async def _unused(_watch: Watch) -> None:
    """These probes are not run."""


def probe(name: str = "shop", **more: Any) -> Probe:
    """A probe that runs every ten seconds and looks twice."""
    given: dict[str, Any] = {"every": EVERY, "timeout": 2.0, "confirm": Confirm(2, 0.5)}
    return Probe(**{"name": name, "kind": "http", "target": "", "check": _unused, **given, **more})


def run(at: float, reason: str = "", *, name: str = "shop", message: str = "", **more: Any) -> Result:
    """A run that began at this second and took a tenth of one; with a reason, both of its attempts failed."""
    seconds = more.pop("seconds", 0.1)
    outcome, why = (Outcome.DOWN, Reason(reason)) if reason else (Outcome.UP, Reason.NONE)
    told = message or (f"{reason} seen" if reason else "")
    attempts = tuple(
        Attempt(started=ZERO + at + late, seconds=seconds, outcome=outcome, reason=why, message=told)
        for late in ((0.0, 0.6) if reason else (0.0,))
    )
    measures = (Measure(EXPIRY, ZERO + more.pop("expires")),) if "expires" in more else ()
    return Result(
        probe=name,
        kind="http",
        target="",
        location="",
        started=ZERO + at,
        seconds=seconds,
        outcome=outcome,
        reason=why,
        message=told,
        attempts=attempts,
        measures=measures,
        **more,
    )


def runs(*, name: str = "shop", reason: str = "timeout", **more: Any) -> tuple[Result, ...]:
    """Two runs that are up, then three that fail while the fault is in place, then two that are up."""
    return (
        *(run(at, name=name, **{key: value for key, value in more.items() if key != "message"}) for at in (-15, -5)),
        *(run(at, reason, name=name, **more) for at in (5, 15, 25)),
        *(run(at, name=name, **{key: value for key, value in more.items() if key != "message"}) for at in (36, 46)),
    )


def healthy(*, name: str = "shop", **more: Any) -> tuple[Result, ...]:
    """Runs that are all up."""
    return tuple(run(at, name=name, **more) for at in (-15, -5, 5, 15, 25, 36, 46))


def earlier(good: int, bad: int = 0, *, name: str = "shop") -> tuple[Earlier, ...]:
    """What the windows held already: a run every second until twenty seconds before, the bad ones at last."""
    return tuple(
        Earlier(name, ZERO - 20 - number, 0.1, Outcome.DOWN if number < bad else Outcome.UP)
        for number in reversed(range(good + bad))
    )


def drill(alert: ExpectedAlert | Mapping[str, str] | None = PAGE, *, within: float = 60, **more: Any) -> Drill:
    """The probe is red and the alert fires within a minute; all is well a minute after."""
    given: dict[str, Any] = {
        "name": "hangs",
        "fault": FaultSpec(kind="tcp-blackhole", target="payments", options=TcpBlackhole()),
        "probe": ExpectedProbe(name="shop", within=60),
        "alert": ExpectedAlert(labels=alert, within=within) if isinstance(alert, Mapping) else alert,
        "resolves_within": 60,
        "allow": ("shop-up",),
    }
    return Drill(**{**given, **more})


def objective(**more: Any) -> Objective:
    """99 % of its runs."""
    given: dict[str, Any] = {"name": "shop-up", "probes": ("shop",), "target": Fraction(99, 100), "window": 30 * DAY}
    return Objective(**{**given, **more})


def burning(*pairs: tuple[float, float, float], promise: Objective | None = None) -> tuple[Rule, ...]:
    """The page of an objective with these windows (long, short, factor), and that its budget is low."""
    judged = promise or objective()
    rules = rules_for_objective(judged, [probe(name) for name in judged.probes])
    page = next(rule for rule in rules if isinstance(rule, BurnRate))
    low = next(rule for rule in rules if isinstance(rule, BudgetLeft))
    windows = tuple(Windows(long, short, Fraction(factor)) for long, short, factor in pairs)
    return (replace(page, pairs=windows), low) if pairs else (low,)


def monitoring(*rules: Rule, probes: Iterable[Probe] = (probe(),), **more: Any) -> Monitoring:
    """These probes with their own rules, and these rules."""
    known = tuple(probes)
    own = tuple(rule for each in known for rule in rules_for_probe(each))
    return Monitoring(probes=known, rules=(*own, *rules), **more)


def control(results: Iterable[Result], *, name: str = "quiet", ended: float = ENDED, **more: Any) -> Recorded:
    """A run of the monitoring in which nothing was broken."""
    ordered = tuple(sorted(results, key=lambda one: one.finished))
    return Recorded(name=name, began=ZERO - 20, ended=ZERO + ended, results=ordered, **more)


def tape(
    watched: Monitoring,
    asked: Drill,
    results: Iterable[Result],
    *,
    reverted: float = REVERTED,
    ended: float = ENDED,
    **more: Any,
) -> Recorded:
    """A drill with the fault in place for 35 s, or for longer if it waits for its alert, as these rules make it."""
    seen = Observation(
        started=ZERO - 20,
        ended=ZERO + ended,
        injected=ZERO,
        watched_until=ZERO + reverted,
        reverted=ZERO + reverted,
        evidence=Evidence(connections=3, bytes=900, first=ZERO + 0.5, last=ZERO + reverted - 1),
    )
    unjudged = replace(control(results, name=asked.name, ended=ended, **more), report=report(asked, seen))
    played = replay(watched, unjudged)
    assert played.observation is not None
    return replace(
        unjudged,
        ended=played.observation.ended,
        results=tuple(step.result for step in played.steps if step.result),
        transitions=played.transitions,
        report=report(asked, played.observation),
    )


def heard(recorded: Recorded, *receivers: str, after: float = 3.0) -> Recorded:
    """The same, with the alert that it expects told to the watched receiver, so many seconds after it fired."""
    assert recorded.report is not None
    asked, seen = recorded.report.drill, recorded.report.detection.observed
    deliveries = tuple(
        Delivered(one.alert.labels, one.at + after, one.since, receiver=receiver)
        for one in seen.transitions
        if one.after is AlertState.FIRING and asked.expects(one.alert.labels)
        for receiver in receivers
    )
    return replace(recorded, report=report(asked, replace(seen, deliveries=deliveries)))


def report(asked: Drill, seen: Observation) -> Report:
    """What is to be said of it."""
    detection = detect(asked, seen)
    return Report(drill=asked, detection=detection, judgement=judge(asked, detection))
