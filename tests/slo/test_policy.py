"""Policies give the windows and factors that their sources give, and sensible ones for other periods and slow probes."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.probes.probe import Confirm
from stormwatch.slo.alert import Severity
from stormwatch.slo.identity import labels_of
from stormwatch.slo.policy import PERIOD, POLICIES, evidence_due, rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, NoEvidence
from tests.slo.story import DAY, HOUR, MINUTE, objective, probe

Row = tuple[str, float, float, str]
"""Severity, long window, short window, factor."""


def table(period: float, policy: str = "workbook", every: float = 15.0) -> list[Row]:
    """The burn-rate rules of a policy as rows."""
    rules = rules_for_objective(objective(window=period), [probe(every=every)], policy=policy)
    return [
        (rule.severity.value, pair.long, pair.short, str(pair.factor))
        for rule in rules
        if isinstance(rule, BurnRate)
        for pair in rule.pairs
    ]


def test_thirty_days_are_the_table_of_the_workbook() -> None:
    """Chapter 5: 2 % of the budget in an hour, 5 % in six, 10 % in a day and in three."""
    assert table(30 * DAY) == [
        ("page", 1 * HOUR, 5 * MINUTE, "72/5"),
        ("page", 6 * HOUR, 30 * MINUTE, "6"),
        ("ticket", 1 * DAY, 2 * HOUR, "3"),
        ("ticket", 3 * DAY, 6 * HOUR, "1"),
    ]


def test_twenty_eight_days_keep_the_windows_and_change_the_factors() -> None:
    """As sloth has them: 13.44, 5.6, 2.8 and 0.933…, here exact."""
    assert table(28 * DAY) == [
        ("page", 1 * HOUR, 5 * MINUTE, "336/25"),
        ("page", 6 * HOUR, 30 * MINUTE, "28/5"),
        ("ticket", 1 * DAY, 2 * HOUR, "14/5"),
        ("ticket", 3 * DAY, 6 * HOUR, "14/15"),
    ]


def test_a_week_has_shorter_windows() -> None:
    """Each long window is 7/30 of the month's, rounded up; the factor is share x period / long window."""
    assert table(7 * DAY) == [
        ("page", 15 * MINUTE, 1.5 * MINUTE, "336/25"),
        ("page", 1.5 * HOUR, 8 * MINUTE, "28/5"),
        ("ticket", 6 * HOUR, 30 * MINUTE, "14/5"),
        ("ticket", 18 * HOUR, 1.5 * HOUR, "14/15"),
    ]


def test_a_quarter_keeps_the_windows_of_a_month() -> None:
    """An hour is still an hour to the one who is woken; 2 % of a larger budget go at a higher rate."""
    assert table(90 * DAY)[0] == ("page", 1 * HOUR, 5 * MINUTE, "216/5")


def test_fast_and_slow_are_what_the_first_users_run() -> None:
    """Above 10x pages at once, above 2x for an hour makes a ticket, below 10 % freezes deployments."""
    page, ticket, low = rules_for_objective(objective(), [probe()], policy="fast-slow")

    assert isinstance(page, BurnRate)
    assert isinstance(ticket, BurnRate)
    assert isinstance(low, BudgetLeft)
    assert (page.severity, page.lasting) == (Severity.PAGE, 0.0)
    assert (ticket.severity, ticket.lasting) == (Severity.TICKET, 1.0 * HOUR)
    assert table(30 * DAY, "fast-slow") == [
        ("page", 1 * HOUR, 5 * MINUTE, "10"),
        ("ticket", 1 * HOUR, 1 * HOUR, "2"),
    ]
    assert (Severity.INFO, Fraction(1, 10)) == (low.severity, low.below)


def test_a_slow_probe_gets_windows_that_it_can_fill() -> None:
    """At one run in 10 minutes the short window of 5 minutes would be empty half of the time: it holds two results."""
    assert table(30 * DAY, every=600)[0] == ("page", 1 * HOUR, 20 * MINUTE, "72/5")


def test_a_very_slow_probe_gets_long_windows_with_their_own_factor() -> None:
    """2 % of the budget in 3 h instead of 1 h is a third of the rate."""
    assert table(30 * DAY, every=1800)[0] == ("page", 3 * HOUR, 1 * HOUR, "24/5")


def test_several_probes_fill_a_window_together() -> None:
    """Four probes every 10 minutes are a result every 2.5 minutes."""
    probes = [probe(name, every=600) for name in "abcd"]
    rules = rules_for_objective(objective(probes=tuple("abcd")), probes)

    assert isinstance(rules[0], BurnRate)
    assert rules[0].pairs[0].short == 5 * MINUTE


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    period=st.integers(600, 120 * DAY),
    every=st.integers(1, 2 * HOUR),
    target=st.fractions(Fraction(1, 2), Fraction(99999, 100000)),
)
def test_every_policy_keeps_its_promises(policy: str, period: int, every: int, target: Fraction) -> None:
    """Windows are whole seconds, in order, within the period, and full; a factor is a share of the budget or fixed."""
    given_objective = objective(window=float(period), target=target)
    for rule in rules_for_objective(given_objective, [probe(every=float(every))], policy=policy):
        if not isinstance(rule, BurnRate):
            continue
        assert len({(pair.long, pair.short) for pair in rule.pairs}) == len(rule.pairs)
        for pair in rule.pairs:
            assert 0 < pair.short <= pair.long <= period
            assert pair.long.is_integer()
            assert pair.short.is_integer()
            assert pair.short >= min(period, max(60, 2 * every))
            assert isinstance(pair.factor, Fraction)
            assert pair.factor > 0
            if period <= PERIOD and policy == "workbook" and pair.long * 20 < period:
                assert pair.factor < 15


def test_an_unknown_policy_names_those_that_exist() -> None:
    """The message is the remedy."""
    with pytest.raises(ValueError, match=r"no policy 'sloth'; there are fast-slow, workbook"):
        rules_for_objective(objective(), [probe()], policy="sloth")


def test_rules_of_an_objective_carry_its_labels_and_its_runbook() -> None:
    """Whoever is paged finds the team and the way out."""
    given_objective = objective(labels={"team": "web"}, runbook="https://runbooks.example/front")
    page, *_ = rules_for_objective(given_objective, [probe()])

    assert labels_of(page) == {
        "alertname": "ErrorBudgetBurn",
        "severity": "page",
        "objective": "front-availability",
        "team": "web",
    }
    assert page.annotations["runbook"] == "https://runbooks.example/front"
    assert page.annotations["description"] == (
        "99.9% of the runs of front are to be good over 30d; "
        "this burns the budget faster than 14.4x over 1h and 5m or 6x over 6h and 30m"
    )


def test_budget_rules_are_not_muted_by_dependencies() -> None:
    """The budget burns whoever is to blame; a mute would only move the page to the end of the outage."""
    rules = rules_for_objective(objective(), [probe(depends_on=("dns",))])

    assert {rule.muted_by for rule in rules} == {()}


def test_a_probe_is_reported_down_and_blind() -> None:
    """Both rules are muted by what it depends on, and carry its labels and links."""
    down, blind = rules_for_probe(
        probe(labels={"service": "shop"}, depends_on=("dns",), runbook="https://r/1", dashboard="https://g/1"),
        severity=Severity.HIGH,
        lasting=30,
    )

    assert isinstance(down, Down)
    assert isinstance(blind, NoEvidence)
    assert labels_of(down) == {"alertname": "ProbeDown", "severity": "high", "probe": "front", "service": "shop"}
    assert labels_of(blind) == {
        "alertname": "ProbeNoEvidence",
        "severity": "ticket",
        "probe": "front",
        "service": "shop",
    }
    assert (down.lasting, down.muted_by, blind.muted_by) == (30, ("dns",), ("dns",))
    for rule in (down, blind):
        assert (rule.annotations["runbook"], rule.annotations["dashboard"]) == ("https://r/1", "https://g/1")


def test_a_probe_without_an_alert_is_still_missed_when_it_gives_no_evidence() -> None:
    """Severity none silences ProbeDown, not our own blindness."""
    assert [rule.alertname for rule in rules_for_probe(probe(), severity=None)] == ["ProbeNoEvidence"]


@pytest.mark.parametrize(
    ("every", "confirm", "seconds"),
    [
        pytest.param(15, Confirm(attempts=1, after=0), 3 * 15 + 5, id="one attempt"),
        pytest.param(15, Confirm(attempts=2, after=1), 3 * 15 + 5 + 1 + 5, id="two attempts and a pause"),
        pytest.param(120, Confirm(attempts=3, after=2), 3 * 120 + 5 + 2 + 5 + 2 + 5, id="three attempts"),
    ],
)
def test_evidence_is_due_after_three_intervals_and_a_long_run(every: float, confirm: Confirm, seconds: float) -> None:
    """Two lost runs are forgiven."""
    assert seconds == evidence_due(probe(every=every, confirm=confirm))


def test_labels_have_names_that_prometheus_accepts() -> None:
    """What a person writes becomes what the exporter exports; an empty label is none; settled labels win."""
    down, _ = rules_for_probe(
        probe(labels={"cost-centre": "7", "2nd": "x", "__meta": "m", "empty": "", "severity": "mine", "probe": "other"})
    )

    assert labels_of(down) == {
        "cost_centre": "7",
        "_2nd": "x",
        "_meta": "m",
        "alertname": "ProbeDown",
        "severity": "page",
        "probe": "front",
    }
