"""What an objective may look at besides whole runs, in both renderings: steps, certificates, time slices, the calendar, own burns.

Compared as in `test_parity.py`, step by step with the real Prometheus. Slices are decided a moment after their end, and so
are at the scrape after it, which is the one step of tolerance here.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stormwatch.probes.result import Outcome, Phase, Reason, Result
from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.calendar import Calendar
from stormwatch.slo.objective import Objective, Slices
from stormwatch.slo.policy import Burn, rules_for_objective
from stormwatch.slo.rule import Rule
from tests.slo.parity import STEP, World, compare, live
from tests.slo.story import DAY, HOUR, MINUTE, objective, probe, result

FRONT = probe()
PAY = objective("pay", step="pay", slower_than=1.0, target=Fraction(90, 100), window=1.0 * HOUR)
VALID = objective("valid", expires_within=300.0, target=Fraction(90, 100), window=1.0 * HOUR)
MINUTES = objective("minutes", slices=Slices(60.0, Fraction(3, 4)), target=Fraction(90, 100), window=2.0 * HOUR)
OWN = objective("own", target=Fraction(99, 100), window=30.0 * DAY)
BURNS = (
    Burn(severity=Severity.PAGE, long=600.0, short=60.0, factor=Fraction("14.4"), literal=True),
    Burn(severity=Severity.TICKET, long=1200.0, short=300.0, share=Fraction(1, 10000), lasting=60.0, literal=True),
)
YEAR_ENDS = objective(
    "december", target=Fraction(9999, 10000), window=30.0 * DAY, calendar=Calendar("month", "Etc/GMT+1")
)
"""By a clock one hour behind, the year 1970 begins an hour after the time 0 with which promtool begins."""

STEPS = {
    "+": (Phase("cart", 0.2), Phase("pay", 0.5)),
    "s": (Phase("cart", 0.2), Phase("pay", 1.5)),
    "p": (Phase("cart", 0.2), Phase("pay", 0.1, failed=True)),
    "c": (Phase("cart", 0.2, failed=True),),
}
"""Runs by what became of the step `pay`: it passed, slowly, failed, or the run did not come to it."""


def run(sign: str, at: float) -> Result:
    """A run of a journey: `p` failed at `pay`, `c` before it."""
    made = result("-" if sign in "pc" else "?" if sign == "?" else "+", at)
    if made.outcome is not Outcome.DOWN:
        return replace(made, phases=STEPS.get(sign, ()))
    return replace(made, phases=STEPS[sign], reason=Reason.STEP, failed_phase="pay" if sign == "p" else "cart")


def world(signs: str, about: Objective, rules: Sequence[Rule] | None = None, **fields: Any) -> World:
    """A history as signs, from the second step on."""
    make = run if about.step else result
    happened = {step: [make(sign, step * STEP - 4.75)] for step, sign in enumerate(signs, 1) if sign != "."}
    rules = rules_for_objective(about, [FRONT]) if rules is None else rules
    return World(probes=(FRONT,), objectives=(about,), rules=rules, happened=happened, steps=len(signs) + 2, **fields)


STORIES = {
    "step": world("+" * 40 + "p" * 20 + "+" * 60 + "s" * 20 + "+" * 60 + "c" * 40 + "+" * 20, PAY, name="a step"),
    "certificate": world(
        "n" * 40 + "o" * 60 + "x" * 20 + "-" * 20 + "n" * 80,
        VALID,
        name="a certificate gets old, is refused, is renewed",
    ),
    "slices": world(
        "+" * 80 + "-" * 40 + "+" * 80 + "+++-" * 20 + "." * 30 + "++--" * 8 + "+" * 60,
        MINUTES,
        tolerance=1,
        name="slices: an outage, a good share of bad runs, nothing, a bad share",
    ),
    "burns": world(
        "+" * 90 + "-" * 12 + "+" * 120,
        OWN,
        rules_for_objective(OWN, [FRONT], burns=BURNS),
        name="burns of one's own",
    ),
    "calendar": world("+" * 100 + "-" * 20 + "+" * 160 + "-" * 30 + "+" * 20, YEAR_ENDS, name="a month ends"),
}


@pytest.mark.parametrize("story", STORIES)
def test_both_renderings_say_the_same_at_every_step(story: str, tmp_path: Path) -> None:
    """What is counted is decided in one place, by the objective; both only differ in who counts it up."""
    code, said = compare([STORIES[story]], tmp_path)

    assert code == 0, said


@pytest.mark.parametrize(
    ("story", "right", "wrong"),
    [
        pytest.param("step", 'judgement="bad"', 'judgement="good"', id="step"),
        pytest.param("certificate", 'objective="valid"', 'objective="other"', id="certificate"),
        pytest.param("slices", "[2m]", "[6m]", id="slices"),
        pytest.param("burns", "> 0.144", "> 0.3", id="factor of one's own"),
        pytest.param("burns", "for: 1m", "for: 2m", id="for of one's own"),
        pytest.param("burns", "[10m]", "[20m]", id="window of one's own"),
        pytest.param(
            "calendar", "stormwatch_objective_period_events{", "stormwatch_objective_events_total{", id="period"
        ),
        pytest.param(
            "calendar",
            "stormwatch_objective_period_expected_events{",
            "stormwatch_objective_period_events{",
            id="whole period",
        ),
    ],
)
def test_a_rendering_with_a_mistake_is_found(story: str, right: str, wrong: str, tmp_path: Path) -> None:
    """The comparison is worth something: change one thing in the rendered rules, and it turns red."""
    code, said = compare([STORIES[story]], tmp_path, mistake=(right, wrong))

    assert (code, "FAILED" in said) == (1, True)


@pytest.mark.parametrize(
    ("story", "severity"),
    [(name, severity) for name in STORIES for severity in ("page", "ticket", "info")],
)
def test_the_stories_make_their_alerts_fire_and_resolve(story: str, severity: str) -> None:
    """Two renderings that say nothing would agree as well."""
    _, states = live(STORIES[story])
    began, ended = set[str](), set[str]()
    for before, after in itertools.pairwise(states):
        began |= {dict(key)["severity"] for key, state in after - before if state == AlertState.FIRING}
        ended |= {dict(key)["severity"] for key, state in before - after if state == AlertState.FIRING}

    assert (severity in began) is ((story, severity) != ("burns", "info"))  # ten minutes are not the budget of a month
    assert (severity in ended) is (severity == "page" or (story, severity) in ENDS)


ENDS = {("step", "ticket"), ("certificate", "ticket"), ("slices", "ticket"), ("burns", "ticket"), ("calendar", "info")}
"""What else is over before the story is: budgets of an hour take an hour to come back, and windows of a day a day."""


def test_a_month_begins_with_a_whole_budget(tmp_path: Path) -> None:
    """What December spent is no matter of January's: the alert ends with the year, and the new month looks spent by nothing."""
    _, states = live(STORIES["calendar"])
    low = [
        step for step, alerts in enumerate(states) if any(("alertname", "ErrorBudgetLow") in key for key, _ in alerts)
    ]

    midnight = HOUR // STEP
    assert low[0] < midnight
    assert midnight - 1 in low
    assert midnight not in low
    assert low[-1] > midnight  # until January has its own outage


def test_two_runs_with_a_restart_between_them_are_one_slice(tmp_path: Path) -> None:
    """The process that ends a slice knows what the one that began it saw, by the history."""
    signs = "+" * 80 + "++--" + "+" * 20
    whole = live(world(signs, MINUTES))[1]
    for restart in range(80, 86):
        assert live(world(signs, MINUTES, restarts=[restart]))[1] == whole


def test_a_slice_counts_when_it_is_over_and_not_before() -> None:
    """A minute that begins badly may end well."""
    story = world("+" * 80 + "-" * 8 + "+" * 12, MINUTES)
    events = {
        dict(labels)["judgement"]: values for (name, labels), values in live(story)[0].items() if "events_total" in name
    }

    assert events["bad"][80 + 4] == 0
    assert MINUTE // STEP == 4
    assert max(value for value in events["bad"] if value is not None) == 2
