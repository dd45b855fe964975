"""What an objective's alerts can and cannot do is said before anything runs, in one sentence each."""

from fractions import Fraction

import pytest

from stormwatch.probes.probe import Confirm, Probe
from stormwatch.slo.alert import Severity
from stormwatch.slo.feasibility import Finding, Weight, findings, findings_of_probe
from stormwatch.slo.latency import Bounds
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BurnRate, Windows
from tests.slo.story import HOUR, MINUTE, objective, probe


def of(asked: Objective, watched: Probe, policy: str = "workbook") -> tuple[Finding, ...]:
    """The findings of an objective with one probe."""
    return findings(asked, [watched], rules_for_objective(asked, [watched], policy=policy))


def test_each_pair_says_after_how_many_failures_and_when_it_fires() -> None:
    """99.9 % at a run every 15 s: nothing to complain about."""
    found = of(objective(), probe())

    assert {each.severity for each in found} == {Weight.INFO}
    assert [each.text for each in found] == [
        (
            "front-availability: page at 14.4x over 1h and 5m after 4 failed of 240 runs; "
            "when every run fails between 1s and 1m12s"
        ),
        (
            "front-availability: page at 6x over 6h and 30m after 9 failed of 1440 runs; "
            "when every run fails between 1s and 2m27s"
        ),
        (
            "front-availability: ticket at 3x over 1d and 2h after 18 failed of 5760 runs; "
            "when every run fails between 1s and 4m42s"
        ),
        (
            "front-availability: ticket at 1x over 3d and 6h after 18 failed of 17280 runs; "
            "when every run fails between 1s and 4m42s"
        ),
        "front-availability: the budget of 30d is 172.8 failed runs; info when less than 10% of it is left",
    ]
    assert [each.failures for each in found] == [4, 9, 18, 18, None]
    assert found[0].detection == Bounds(1.0, 72.0)
    assert found[0].alert is Severity.PAGE


def test_a_page_on_one_unconfirmed_run_is_an_error() -> None:
    """A run a minute at 99.9 %: every peer's default pages on a single packet that was lost."""
    found = of(objective(), probe(every=60.0, confirm=Confirm(attempts=1, after=0)))

    assert [each.text for each in found if each.severity is Weight.ERROR] == [
        (
            "front-availability: one unconfirmed failed run pages at 14.4x over 1h and 5m; give the probe "
            "confirm: {attempts: 2}, run it more often, or lower the target"
        )
    ]


def test_a_page_on_one_confirmed_run_is_a_warning() -> None:
    """It was seen twice; it is still one run."""
    found = of(objective(), probe(every=60.0))

    assert [(each.severity, each.failures) for each in found if each.severity is not Weight.INFO] == [
        (Weight.WARNING, 1)
    ]


def test_a_ticket_on_one_run_is_no_mistake() -> None:
    """Nobody is woken by it."""
    only_tickets = [
        rule
        for rule in rules_for_objective(objective(), [probe(every=600.0)])
        if not (isinstance(rule, BurnRate) and rule.severity is Severity.PAGE)
    ]

    assert Weight.ERROR not in {each.severity for each in findings(objective(), [probe(every=600.0)], only_tickets)}


def test_a_pair_that_can_never_fire_is_an_error_with_the_target_that_it_needs() -> None:
    """14.4 times 7 % is more than everything; from 93.06 % on it can fire."""
    found = of(objective(target=Fraction(93, 100)), probe())

    (error,) = [each for each in found if each.severity is Weight.ERROR]
    assert error.text == (
        "front-availability: the page at 14.4x over 1h and 5m can never fire, since it needs more than 100.8% bad runs; "
        "set a target above 93.06% or another policy"
    )
    better = of(objective(target=Fraction(9306, 10000)), probe())
    assert Weight.ERROR not in {each.severity for each in better}


def test_a_pair_that_needs_exactly_all_runs_to_be_bad_never_fires_either() -> None:
    """Above ten times 10 % is above everything."""
    found = of(objective(target=Fraction(9, 10)), probe(), policy="fast-slow")

    (error,) = [each for each in found if each.severity is Weight.ERROR]
    assert "the page at 10x over 1h and 5m can never fire, since it needs more than 100% bad runs" in error.text


def test_a_window_that_the_probe_cannot_fill_is_a_warning() -> None:
    """The policies never make one; a rule that was written by hand can."""
    rule = BurnRate(
        alertname="B",
        severity=Severity.TICKET,
        objective="front-availability",
        pairs=(Windows(1.0 * HOUR, 5.0 * MINUTE, Fraction(2)),),
    )
    found = findings(objective(), [probe(every=600.0)], [rule])

    assert [each.text for each in found if each.severity is Weight.WARNING] == [
        (
            "front-availability: the window of 5m is shorter than the 10m between two runs, so its alert comes and goes; "
            "run the probe more often"
        )
    ]


def test_a_budget_of_less_than_one_run_is_a_warning() -> None:
    """99.9 % of a day of a run every five minutes: 0.29 failed runs."""
    found = of(objective(window=24.0 * HOUR), probe(every=300.0))

    assert "front-availability: 1d allow 0.29 failed runs, so the first one overspends the budget" in [
        each.text.split(";")[0] for each in found if each.severity is Weight.WARNING
    ]


def test_an_objective_without_probes_is_an_error() -> None:
    """It would be good forever."""
    (error,) = findings(objective(probes=("nobody",)), [probe()], [])

    assert (error.severity, error.text) == (
        Weight.ERROR,
        "front-availability judges nobody, and there is no such probe; name one that exists",
    )


def test_a_ticket_with_a_for_says_so() -> None:
    """Its best time is the `for`."""
    found = of(objective(), probe(), policy="fast-slow")

    assert found[1].text == (
        "front-availability: ticket at 2x over 1h for 1h after 1 failed of 240 runs; "
        "when every run fails between 1h1s and 1h27s"
    )


@pytest.mark.parametrize(
    ("watched", "lasting", "expected"),
    [
        pytest.param(
            probe(),
            0,
            [(Weight.INFO, "front is reported down (page) between 1s and 27s after it fails")],
            id="confirmed",
        ),
        pytest.param(
            probe(confirm=Confirm(attempts=1, after=0)),
            0,
            [
                (Weight.INFO, "front is reported down (page) between 0s and 21s after it fails"),
                (
                    Weight.WARNING,
                    "front pages on one unconfirmed attempt; give it confirm: {attempts: 2}, or alert: {for: 15s}",
                ),
            ],
            id="unconfirmed",
        ),
        pytest.param(
            probe(depends_on=("dns",)),
            0,
            [
                (Weight.INFO, "front is reported down (page) between 1s and 27s after it fails"),
                (
                    Weight.INFO,
                    (
                        "front may be reported down up to 42s before dns is seen down and mutes it; "
                        "alert: {for: 42s} always waits for it"
                    ),
                ),
            ],
            id="faster than what it depends on",
        ),
        pytest.param(
            probe(depends_on=("dns",)),
            42,
            [(Weight.INFO, "front is reported down (page) between 43s and 1m9s after it fails")],
            id="waits for what it depends on",
        ),
    ],
)
def test_reachability_of_a_probe(watched: Probe, lasting: float, expected: list[tuple[Weight, str]]) -> None:
    """When it is told, and whether that is wise."""
    rules = rules_for_probe(watched, lasting=lasting)
    found = findings_of_probe(watched, [watched, probe("dns", every=30.0)], rules)

    assert expected == [(each.severity, each.text) for each in found]
