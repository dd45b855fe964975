"""The guard: what it refuses, each with what was asked, what was seen and the remedy."""

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe, Side
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.guard import Guard, refusals, touched
from stormwatch.chaos.http_options import HttpStatus
from stormwatch.exporters.hours import Hours
from stormwatch.slo.alert import Severity
from stormwatch.slo.objective import Objective
from tests.chaos.stories import DRILL, PAGE

NOON = datetime(2026, 11, 18, 12, 0, tzinfo=UTC).timestamp()
"""A Wednesday."""
OFFICE = Hours(
    days=frozenset({"monday", "tuesday", "wednesday", "thursday"}), begin=9 * 60, end=17 * 60, timezone="Europe/Berlin"
)


def on(target: str, share: str = "1") -> Drill:
    """A drill that answers a share of a route's requests with an error."""
    options = HttpStatus(share=Fraction(share))
    return replace(DRILL, name=f"{target}-503", fault=FaultSpec(kind="http-status", target=target, options=options))


def refused(guard: Guard, *drills: Drill, now: float = NOON, **more: Any) -> tuple[str, ...]:
    """What is said."""
    return refusals(guard, drills or (DRILL,), now=now, **more)


def test_a_guard_that_says_nothing_forbids_nothing() -> None:
    """Whoever writes no guard has the drills that they had."""
    assert refused(Guard(), DRILL, on("shop"), budgets={"a": None}) == ()


def test_drills_run_in_named_environments_only() -> None:
    """An environment that nobody named is none of them."""
    guard = Guard(environments=("staging", "test"))
    (nobody,) = refused(guard)
    assert nobody == (
        "drills may run in staging, test, and nobody says which environment this is; "
        "write `environment:` under `guard:`, or give --environment"
    )
    (production,) = refused(replace(guard, environment="production"))
    assert production == "this is production, and drills may run in staging, test only; run them there"
    assert refused(replace(guard, environment="test")) == ()


def test_only_targets_that_fit_a_pattern_are_broken() -> None:
    """Each drill that has another one is named."""
    guard = Guard(targets=("pay*", "shop"))
    (said,) = refused(guard, DRILL, on("shop"), on("accounts"))
    assert said == (
        "accounts-503: accounts is none of the targets that may be broken (pay*, shop); "
        "choose another one, or add it under `guard: targets:`"
    )
    assert refused(Guard(targets=()), DRILL) != ()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-11-18T08:00", None),
        ("2026-11-18T07:59", ("Wednesday 08:59", "Wednesday 09:00")),
        ("2026-11-18T15:59", None),
        ("2026-11-18T16:00", ("Wednesday 17:00", "Thursday 09:00")),
        ("2026-11-20T12:00", ("Friday 13:00", "Monday 09:00")),
    ],
)
def test_drills_begin_in_their_hours(at: str, said: tuple[str, str] | None) -> None:
    """By the clocks of the place, to the minute; told is when they begin again."""
    found = refused(Guard(hours=OFFICE), now=datetime.fromisoformat(f"{at}+00:00").timestamp())
    if said:
        now, then = said
        text = f"it is {now} (Europe/Berlin), outside the hours of drills; they begin again on {then}"
    assert found == ((text,) if said else ())


def test_the_blast_radius_counts_targets_and_the_share_of_their_traffic() -> None:
    """A fault without the option `share` is meant for everything."""
    guard = Guard(most_targets=1, most_traffic=Fraction(1, 2))
    assert refused(guard, on("shop", "0.5"), on("shop", "0.1")) == ()
    both = refused(guard, on("shop", "0.5"), on("hotel", "0.5"))
    assert both == ("these drills break 2 targets (shop, hotel), and the blast radius allows 1; name fewer drills",)
    (much,) = refused(guard, on("shop", "0.6"))
    assert much == (
        "shop-503: http-status is meant for 60% of the traffic of shop, and the blast radius allows 50%; give it `share: 50%`"
    )
    (whole,) = refused(guard, replace(DRILL, fault=replace(DRILL.fault, kind="process-kill", options=OFFICE)))
    assert whole == (
        "payment-blackhole: process-kill is meant for 100% of the traffic of payments, and the blast radius allows 50%; "
        "choose a fault with an option `share`"
    )


def test_every_fault_of_a_drill_is_looked_at() -> None:
    """One beside counts as the first does: where it is put, among the targets, and by its share."""
    both = replace(on("shop", "0.5"), beside=(on("hotel", "0.6").fault,))
    assert refused(Guard(targets=("shop", "hotel"), most_targets=2, most_traffic=Fraction(3, 5)), both) == ()
    (elsewhere,) = refused(Guard(targets=("shop",)), both)
    assert elsewhere.startswith("shop-503: hotel is none of the targets that may be broken")
    (many,) = refused(Guard(most_targets=1), both)
    assert many.startswith("these drills break 2 targets (shop, hotel)")
    (much,) = refused(Guard(most_traffic=Fraction(1, 2)), both)
    assert much.startswith("shop-503: http-status is meant for 60% of the traffic of hotel")


def test_what_breaks_nothing_for_others_has_no_blast_radius() -> None:
    """On the prober's side the target is a probe; environment and hours count all the same."""
    bent = replace(DRILL, side=Side.PROBER, fault=replace(DRILL.fault, target="checkout"))
    assert refused(Guard(targets=("shop",), most_targets=1, most_traffic=Fraction(1, 2)), bent, DRILL)[0].startswith(
        "payment-blackhole: payments is none"
    )
    assert refused(Guard(targets=("shop",), most_traffic=Fraction(1, 2)), bent) == ()
    assert len(refused(Guard(environments=("test",)), bent)) == 1


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (Fraction(1, 4), ""),
        (
            Fraction(249, 1000),
            "budgeted has 24.9% of its budget left, and drills want 25%; wait until it has recovered",
        ),
        (
            Fraction(-1, 2),
            "budgeted has overspent its budget by 50.0%, and drills want 25%; wait until it has recovered",
        ),
        (
            None,
            (
                "budgeted has no results in its window, so it is not known whether 25% of its budget is left; "
                "let `stormwatch run` watch it first"
            ),
        ),
    ],
)
def test_a_budget_below_the_floor_is_left_alone(left: Fraction | None, said: str) -> None:
    """Exactly at the floor is enough; nothing counted is no permission; a plan does not ask."""
    guard = Guard(budget_floor=Fraction(1, 4))
    assert refused(guard, budgets={"budgeted": left}) == ((said,) if said else ())
    assert refused(guard) == ()


def test_a_protected_probe_is_not_expected_to_fail() -> None:
    """The two contradict each other."""
    (said,) = refused(Guard(protect=("check*",)))
    assert said.startswith("payment-blackhole: it wants checkout to turn red, which `guard: protect:` forbids; ")


@pytest.mark.parametrize(
    ("limit", "aborting"),
    [
        (None, []),
        (Severity.PAGE, ["page", None, "sev1"]),
        (Severity.TICKET, ["page", "high", "ticket", None, "sev1"]),
        (Severity.INFO, ["page", "high", "ticket", "info", None, "sev1"]),
    ],
)
def test_a_severity_and_everything_graver_aborts(limit: Severity | None, aborting: list[str | None]) -> None:
    """One that is not known may be as bad as any."""
    told = ["page", "high", "ticket", "info", None, "sev1"]
    assert [one for one in told if Guard(abort_on=limit).aborts_on(one)] == aborting


def test_a_drill_touches_what_it_expects_and_what_it_allows() -> None:
    """By the objective's own name, and by the probes that it judges."""

    def objective(name: str, *probes: str) -> Objective:
        return Objective(name=name, probes=probes, target=Fraction(99, 100), window=86400.0)

    objectives = [
        objective("checkout-availability", "elsewhere"),
        objective("of-the-probe", "front", "checkout"),
        objective("front-fast", "front"),
        objective("untouched", "hotel"),
    ]
    assert touched(DRILL, objectives) == ("checkout-availability", "of-the-probe", "front-fast")
    alone = Drill(
        name="d", fault=DRILL.fault, alert=ExpectedAlert(labels={"alertname": "ProbeDown", "probe": "hotel"}), allow=()
    )
    assert touched(alone, objectives) == ("untouched",)
    assert touched(replace(alone, alert=None, probe=ExpectedProbe(name="nobody")), objectives) == ()
    assert PAGE["objective"] in touched(DRILL, objectives)
