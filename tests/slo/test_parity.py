"""One rule, two renderings: the evaluator and Prometheus say the same about the same results, step by step.

Prometheus is the real one: `promtool test rules` loads the rendered file and the series that the real exporter shows at each
scrape, and tells which ALERTS there are after each evaluation.

Tolerance: one evaluation step. A result that is decided between two scrapes is known to the evaluator at once and to
Prometheus at the next scrape; here both look at the same moments, so most histories are compared with no tolerance at
all. It is needed where counters begin anew, since `increase` then extrapolates over a gap, and where a result comes a step
late: the evaluator counts it when it was decided, Prometheus when it was scraped.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stormwatch.probes.probe import Confirm
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.maintenance import Maintenance
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Rule
from tests.slo.parity import STEP, World, compare, live
from tests.slo.story import DAY, HOUR, MINUTE, objective, probe, result

FRONT = probe(labels={"service": "shop"}, depends_on=("dns",))
DNS = probe("dns", every=30.0, confirm=Confirm(attempts=1, after=0))
STRICT = objective(labels={"team": "web"})
"""99.9 % over 30 days by the workbook: its windows hold hundreds of results."""
DAILY = objective("front-daily", target=Fraction(95, 100), window=1.0 * DAY)
HASTY = objective("front-hasty", probes=("front", "dns"), target=Fraction(90, 100), window=1.0 * HOUR)
"""Windows so short that a history of some hours is many of them, and all alerts come and go."""

RULES: tuple[Rule, ...] = (
    *rules_for_objective(DAILY, [FRONT, DNS], policy="fast-slow"),
    *rules_for_objective(HASTY, [FRONT, DNS]),
    *rules_for_probe(FRONT, lasting=30),
    *rules_for_probe(DNS, severity=Severity.TICKET),
)
RULES_OF_A_MONTH = rules_for_objective(STRICT, [FRONT, DNS])
RULES_OF_RESTARTS = tuple(replace(rule, lasting=0.0) if isinstance(rule, Down) else rule for rule in RULES)
"""A `for` goes on in process after a restart, and begins anew in Prometheus, which saw the series go away."""
QUARTER = Maintenance(
    match={"probe": "front"},
    rrule="DTSTART:19700101T001500Z\nRRULE:FREQ=DAILY",
    duration=15.0 * MINUTE,
)
"""A quarter past midnight of the day that promtool's time begins with, and for a quarter of an hour."""


def world(
    front: str,
    dns: str = "",
    *,
    name: str = "",
    delays: Mapping[int, int] | None = None,
    dead: Sequence[range] = (),
    tolerance: int = 0,
    maintenance: Sequence[Maintenance] = (),
    rules: Sequence[Rule] = RULES,
) -> World:
    """Histories of both probes as signs, from the second step on: the first scrape sees the counters at 0.

    `delays` gives the steps by which a run's result is known later than it was decided.
    """
    steps = len(front) + 2
    happened: dict[int, list[Result]] = {}
    dns = dns or "+." * (len(front) // 2 + 1)
    for signs, each in ((front, "front"), (dns, "dns")):
        for number, sign in enumerate(signs[: steps - 2], 1):
            step = number + (delays or {}).get(number, 0)
            if sign != "." and step < steps and not any(step in gone for gone in dead):
                happened.setdefault(step, []).append(result(sign, number * STEP - 4.75, name=each))
    return World(
        probes=(FRONT, DNS),
        objectives=tuple(each for each in (STRICT, DAILY, HASTY) if any(_about(rule, each) for rule in rules)),
        rules=rules,
        happened=happened,
        steps=steps,
        dead=dead,
        tolerance=tolerance,
        maintenance=maintenance,
        name=name,
    )


def _about(rule: Rule, objective: Objective) -> bool:
    return isinstance(rule, BurnRate | BudgetLeft) and rule.objective == objective.name


STORIES = [
    world("+" * 60, name="steady: nothing is ever said"),
    world("-" * 60, name="down from the first run on"),
    world("+" * 60 + "-" + "+" * 140, name="one failed run"),
    world("+" * 60 + "-" * 40 + "+" * 280, name="an outage of ten minutes"),
    world("+" * 20 + ("-" * 3 + "+" * 5) * 12 + "+" * 50, name="flapping"),
    world(("+" * 39 + "-") * 6, name="a slow burn"),
    world("+" * 5 + "-" * 3 + "?" * 70 + "-" * 3 + "?" * 5 + "+" * 9, name="broken for longer than an outage stands"),
    world("+" * 30 + "?" * 20 + "+" * 30 + "-" * 5 + "?" * 10 + "-" * 5 + "+" * 30, name="broken is no evidence"),
    world("+" * 40 + "." * 40 + "+" * 20 + "-" * 4 + "." * 30 + "+" * 30, name="runs that did not take place"),
    world("+" * 40 + "-" * 40 + "+" * 20, "+." * 21 + "-." * 12 + "+." * 30, name="a dependency is down for a while"),
    world("+" * 30 + "-" * 30 + "+" * 30, "+." * 10 + "?." * 20 + "+." * 30, name="a dependency is broken"),
    world(
        "+" * 50 + "-" * 90 + "+" * 40,
        maintenance=(QUARTER,),
        name="an outage that begins before planned work and outlives it",
    ),
    world("+" * 65 + "-" * 75 + "+" * 30, maintenance=(QUARTER,), name="an outage within planned work and after"),
]

MONTH = [
    world("+" * 60 + "-" * 8 + "+" * 150, rules=RULES_OF_A_MONTH, name="a month's windows, an outage"),
    world(("+" * 29 + "-") * 5, rules=RULES_OF_A_MONTH, name="a month's windows, a slow burn"),
]

KEPT = (
    *rules_for_probe(FRONT, lasting=30, keep=60, expiry={Severity.PAGE: 120.0, Severity.TICKET: 600.0}),
    *rules_for_probe(DNS, keep=45),
)
KEEPING = [
    world("+" * 20 + ("-" * 3 + "+" * 3) * 6 + "+" * 20 + "-" * 5 + "+" * 30, rules=KEPT, name="kept over good runs"),
    world("+" * 10 + "-" * 30 + "+" * 40, "+." * 10 + "-+" * 10 + "+." * 30, rules=KEPT, name="kept while muted"),
    world("o" * 120 + "n" * 30, rules=KEPT, name="a certificate expires and is replaced"),
    world(
        "o" * 70 + "-" * 20 + "x" * 20 + "n" * 20, rules=KEPT, name="the server is down while its certificate expires"
    ),
    world("o" * 90 + "+" * 20, rules=KEPT, name="there is no certificate any more"),
    world("o" * 140, rules=KEPT, maintenance=(QUARTER,), name="a certificate expires in planned work"),
]

AGAIN: dict[str, Any] = {"rules": RULES_OF_RESTARTS, "tolerance": 1}
RESTARTS = [
    world("+" * 40 + "-" * 60 + "+" * 60, dead=[range(70, 74)], name="restart in an outage", **AGAIN),
    world("+" * 60 + "-" * 10 + "+" * 80, dead=[range(80, 110)], name="restart while windows remember", **AGAIN),
    world(("+" * 30 + "-" * 3) * 5, dead=[range(70, 73), range(120, 150)], name="two restarts while it burns", **AGAIN),
]


def test_the_stories_come_out_the_same_at_every_step(tmp_path: Path) -> None:
    """No tolerance: scrape, evaluation in process and evaluation in Prometheus are at the same moments."""
    code, said = compare(STORIES, tmp_path)

    assert code == 0, said


def test_the_usual_windows_of_a_month_come_out_the_same_at_every_step(tmp_path: Path) -> None:
    """99.9 % over 30 days by the workbook, as most people will have it."""
    code, said = compare(MONTH, tmp_path)

    assert code == 0, said


def test_alerts_are_kept_and_certificates_expire_alike(tmp_path: Path) -> None:
    """`keep_firing_for`, and rules about dates: a certificate that nobody can see expires all the same."""
    code, said = compare(KEEPING, tmp_path)

    assert code == 0, said
    fired = {dict(key)["alertname"] for story in KEEPING for states in live(story)[1] for key, _ in states}
    assert fired >= {"CertificateExpiring", "ProbeDown"}


def test_the_stories_make_every_alert_fire_and_resolve() -> None:
    """Two renderings that say nothing would agree as well."""
    seen: set[tuple[str, str, str]] = set()
    for story in STORIES:
        _, states = live(story)
        for before, after in itertools.pairwise(states):
            for key, state in after - before:
                seen.add((dict(key)["alertname"], dict(key)["severity"], state))
            for key, state in before - after:
                if state == AlertState.FIRING:
                    seen.add((dict(key)["alertname"], dict(key)["severity"], "resolved"))

    for alertname, severity in (
        ("ErrorBudgetBurn", "page"),
        ("ErrorBudgetBurn", "ticket"),
        ("ErrorBudgetLow", "info"),
        ("ProbeDown", "page"),
        ("ProbeDown", "ticket"),
        ("ProbeNoEvidence", "ticket"),
    ):
        assert (alertname, severity, "firing") in seen
        assert (alertname, severity, "resolved") in seen
    assert ("ProbeDown", "page", "pending") in seen
    assert ("ErrorBudgetBurn", "ticket", "pending") in seen


def test_after_a_restart_both_go_on_alike(tmp_path: Path) -> None:
    """Counters begin at 0 in the new process and windows are replayed; within one step the alerts are the same.

    While nobody is there to be scraped or to evaluate, there is nothing to compare.
    """
    code, said = compare(RESTARTS, tmp_path)

    assert code == 0, said


@pytest.mark.parametrize(
    ("story", "right", "wrong"),
    [
        pytest.param("an outage of ten minutes", "> 0.5", "> 0.9", id="threshold"),
        pytest.param("an outage of ten minutes", "[1m]", "[2m]", id="window"),
        pytest.param("one failed run", 'judgement="bad"', 'judgement="good"', id="label"),
        pytest.param("an outage of ten minutes", "for: 30s", "for: 45s", id="for"),
        pytest.param("kept over good runs", "keep_firing_for: 1m", "keep_firing_for: 15s", id="keep"),
        pytest.param("a certificate expires and is replaced", "< 600", "< 660", id="expiry"),
        pytest.param("an outage of ten minutes", "< 0.1", "< 0.3", id="budget"),
        pytest.param("runs that did not take place", "> 56", "> 86", id="evidence"),
        pytest.param("an outage within planned work and after", " == 1)", " == 2)", id="maintenance"),
        pytest.param("broken for longer than an outage stands", "[15m]", "[8m]", id="how long an outage stands"),
        pytest.param(
            "a dependency is down for a while",
            'unless on() ((max(probe_success{probe="dns"}) or '
            'max(last_over_time(probe_success{probe="dns"}[15m]))) == 0)',
            "",
            id="mute",
        ),
    ],
)
def test_a_rendering_with_a_mistake_is_found(story: str, right: str, wrong: str, tmp_path: Path) -> None:
    """The comparison is worth something: change one thing in the rendered rules, and it turns red."""
    code, said = compare(
        [each for each in (*STORIES, *KEEPING) if each.name == story], tmp_path, mistake=(right, wrong)
    )

    assert (code, "FAILED" in said) == (1, True)
