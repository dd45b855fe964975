"""The plan of a drill: what is asked against what the configuration can give, before anything is broken."""

import json
import math
from dataclasses import replace

from stormwatch.chaos.drill import ExpectedAlert, ExpectedProbe
from stormwatch.chaos.plan import Span, plan
from stormwatch.probes.result import Reason
from tests.chaos.stories import DRILL, PAGE


def test_a_plan_that_can_be_met_has_neither_refusals_nor_warnings() -> None:
    """What is asked is not less than the worst case."""
    found = plan(DRILL, probe=Span(5, 40), alert=Span(6, 80), recovery=Span(1, 60))
    assert (found.refusals, found.warnings) == ((), ())
    assert found.lines() == [
        "payment-blackhole: tcp-blackhole on payments",
        "  checkout turns red (timeout): asked within 1m, can be 5.0 s to 40.0 s",
        "  ErrorBudgetBurn{objective=checkout-availability, severity=page} fires: asked within 1m30s, can be 6.0 s to 80.0 s",
        "  all is well again after the undo: asked within 5m, can be 1.0 s to 60.0 s",
    ]


def test_what_cannot_be_is_refused() -> None:
    """Asked 5 s, cannot be better than 12.0 s; each with its remedy."""
    drill = replace(DRILL, alert=ExpectedAlert(labels=PAGE, within=5))
    (refusal,) = plan(drill, alert=Span(12, 95)).refusals
    assert refusal == (
        "ErrorBudgetBurn{objective=checkout-availability, severity=page}: asked 5s, cannot be better than 12.0 s: "
        "ask for 95.0 s, or make the configuration faster"
    )


def test_what_may_not_be_is_a_warning() -> None:
    """Between the best and the worst case it is luck; a reason that the fault does not show as is said too."""
    drill = replace(DRILL, probe=ExpectedProbe(name="checkout", reason=Reason.CERTIFICATE, within=60))
    assert plan(drill, probe=Span(5, 61)).warnings == (
        "checkout red: asked 1m, may take 61.0 s although all works",
        "reason certificate is unusual for tcp-blackhole, which normally shows as timeout",
    )


def test_an_alert_that_the_fault_never_makes_fire_is_refused() -> None:
    """One that may never is a warning; in JSON never is null."""
    found = plan(DRILL, alert=Span(math.inf, math.inf))
    (refusal,) = found.refusals
    assert refusal == (
        "ErrorBudgetBurn{objective=checkout-availability, severity=page}: tcp-blackhole does not make it fire: "
        "expect another alert, or leave it out"
    )
    assert "asked within 1m30s, can be never to never" in found.lines()[2]
    (warning,) = plan(DRILL, alert=Span(6, math.inf)).warnings
    assert "may take never" not in warning
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["alert"] == {"best": None, "worst": None}


def test_an_unknown_span_is_neither_refused_nor_promised() -> None:
    """It is shown without one."""
    found = plan(DRILL)
    assert (found.refusals, found.warnings) == ((), ())
    assert found.as_json()["probe"] is None
