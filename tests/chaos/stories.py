"""Drills and what was seen of them, as short as they can be told. Times are seconds after the injection."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stormwatch.chaos.detection import Observation, Sighting
from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.feed import Notified
from stormwatch.chaos.tcp_options import TcpBlackhole
from stormwatch.probes.result import Outcome, Reason
from stormwatch.slo.alert import Alert, AlertState, Transition

ZERO = 1_700_000_000.0
"""When the fault was injected, in every story."""

PAGE = {"alertname": "ErrorBudgetBurn", "objective": "checkout-availability", "severity": "page"}

DRILL = Drill(
    name="payment-blackhole",
    fault=FaultSpec(kind="tcp-blackhole", target="payments", options=TcpBlackhole()),
    probe=ExpectedProbe(name="checkout", reason=Reason.TIMEOUT, within=60),
    alert=ExpectedAlert(labels=PAGE, within=90),
    resolves_within=300,
    allow=("front-fast",),
)


def result(
    at: float, outcome: str = "up", reason: str = "none", *, probe: str = "checkout", message: str = ""
) -> Sighting:
    """A run that was decided at this second."""
    return Sighting(ZERO + at, probe, Outcome(outcome), Reason(reason), message)


def red(at: float, reason: str = "timeout", *, probe: str = "checkout") -> Sighting:
    """A run that was down."""
    return result(at, "down", reason, probe=probe, message=f"{reason} seen")


def alert(
    at: float, after: str = "firing", labels: Mapping[str, str] = PAGE, *, since: float | None = None
) -> Transition:
    """An alert that changed its state; `since` its condition holds, by default since then."""
    before = {"pending": "inactive", "firing": "pending", "resolved": "firing", "inactive": "pending"}[after]
    return Transition(
        alert=Alert(labels=labels),
        before=AlertState(before),
        after=AlertState(after),
        at=ZERO + at,
        since=ZERO + (at if since is None else since),
        value=20.0,
    )


def other(name: str, severity: str = "page", **labels: str) -> dict[str, str]:
    """Labels of another alert."""
    return {"alertname": name, "severity": severity, **labels}


GOOD_RESULTS = (result(-10), red(12), red(27), result(45))
GOOD_TRANSITIONS = (alert(13, "pending"), alert(20), alert(52, "resolved"))


def observed(
    results: Iterable[Sighting] = GOOD_RESULTS, transitions: Iterable[Transition] = GOOD_TRANSITIONS, **more: Any
) -> Observation:
    """All went well, but for what is given: touched at 0.5, undone at 30, watched until 60 (400 if it did not recover)."""
    story = Observation(
        started=ZERO - 2,
        ended=ZERO + 60,
        injected=ZERO,
        watched_until=ZERO + 30,
        reverted=ZERO + 30,
        evidence=Evidence(connections=3, bytes=900, first=ZERO + 0.5, last=ZERO + 29),
        sightings=tuple(results),
        transitions=tuple(transitions),
        notifications=(Notified(PAGE, ZERO + 20.5),),
    )
    moments = {name: ZERO + more.pop(name) for name in ("ended", "watched_until", "reverted") if name in more}
    return replace(story, **moments, **more)
