"""The gate is closed for what would hurt, unknown without evidence, and open for nothing else."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.alert import Alert, AlertState, Severity, Transition
from stormwatch.slo.budget import Budget
from stormwatch.slo.calendar import Calendar
from stormwatch.slo.gate import Gate, GateState, decide
from stormwatch.slo.objective import Objective
from stormwatch.slo.standing import Standing, standing_of
from tests.slo.story import START

DAY = 86400.0
GOOD = Standing(
    objective="checkout",
    target=Fraction(999, 1000),
    window=30 * DAY,
    left=Fraction(7, 8),
    burn={300.0: Fraction(0), 3600.0: Fraction(1, 2), 3 * DAY: Fraction(2)},
    good=999,
    bad=1,
    labels={"team": "web"},
)


def asked(standing: Standing) -> Gate:
    """The gate for one objective."""
    return decide([standing])


def test_a_budget_that_is_whole_opens_it() -> None:
    """And there is nothing to explain."""
    assert (asked(GOOD).state, asked(GOOD).reasons) == (GateState.OPEN, ())


@pytest.mark.parametrize(
    ("standing", "state", "reason"),
    [
        (
            replace(GOOD, left=Fraction(99, 1000)),
            GateState.CLOSED,
            "checkout has 9.9% of its budget left, less than the 10% below which changes wait",
        ),
        (
            replace(GOOD, left=Fraction(-1, 2)),
            GateState.CLOSED,
            "checkout has overspent its budget by 50%, less than the 10% below which changes wait",
        ),
        (
            replace(GOOD, firing=(Severity.PAGE,)),
            GateState.CLOSED,
            "checkout burns its budget so fast that somebody is being paged",
        ),
        (replace(GOOD, left=None), GateState.UNKNOWN, "checkout has no results in its window of 30d"),
        (
            replace(GOOD, blind=("cart", "pay")),
            GateState.UNKNOWN,
            "checkout is not watched now: no evidence from cart, pay",
        ),
    ],
)
def test_what_keeps_it_from_being_open(standing: Standing, state: GateState, reason: str) -> None:
    """Each with its sentence."""
    assert (asked(standing).state, asked(standing).reasons) == (state, (reason,))


def test_ten_percent_is_enough_and_a_ticket_does_not_close_it() -> None:
    """The border belongs to the open side; a slow burn is work for the day, not a reason to stop."""
    assert asked(replace(GOOD, left=Fraction(1, 10), firing=(Severity.TICKET,))).state is GateState.OPEN


def test_the_change_that_mends_a_burn_may_pass() -> None:
    """`--budget-only`; an empty budget keeps it closed all the same."""
    burning = replace(GOOD, firing=(Severity.PAGE,))
    assert decide([burning], burning_closes=False).state is GateState.OPEN
    assert decide([replace(burning, left=Fraction(0))], burning_closes=False).state is GateState.CLOSED


def test_what_closes_it_beats_what_is_not_known() -> None:
    """All reasons are told. Nothing to ask about is no permission."""
    both = decide([replace(GOOD, left=None), replace(GOOD, objective="front", left=Fraction(0))])
    assert both.state is GateState.CLOSED
    assert len(both.reasons) == 2
    assert decide([]).state is GateState.UNKNOWN


def test_what_is_left_in_minutes_and_until_when() -> None:
    """99.9 % of 30 days allow 43.2 minutes. At twice the sustainable pace seven eighths last 13.1 days."""
    assert GOOD.budget == pytest.approx(43.2 * 60)
    assert GOOD.seconds_left == pytest.approx(37.8 * 60)
    assert GOOD.pace == (3 * DAY, Fraction(2))
    assert GOOD.gone_in == pytest.approx(30 * DAY * 7 / 16)
    assert replace(GOOD, burn={3600.0: Fraction(0)}).gone_in is None
    assert replace(GOOD, left=Fraction(0)).gone_in == 0


shares = st.fractions(-3, 1, max_denominator=10**6)


@given(
    left=st.none() | shares,
    burn=st.dictionaries(st.sampled_from([300.0, 3600.0, DAY]), st.none() | st.fractions(0, 1000, max_denominator=999)),
    firing=st.lists(st.sampled_from(Severity), unique=True),
)
def test_the_api_carries_it_whole(
    left: Fraction | None, burn: dict[float, Fraction | None], firing: list[Severity]
) -> None:
    """To what a float holds; the decision is the same on both sides."""
    here = replace(GOOD, left=left, burn=burn, firing=tuple(firing))
    there = Standing.from_json(here.as_json())
    told = {"left", "burn", "firing", "good", "bad", "blind", "labels", "target", "window"}
    assert {key: there.as_json()[key] for key in told} == {key: here.as_json()[key] for key in told}
    assert asked(there).state is asked(here).state or left == Fraction(1, 10)


def test_a_standing_is_made_of_the_evaluator_s_knowledge() -> None:
    """Only alerts that fire count, only those of the objective burn it, and only its own probes blind it."""
    objective = Objective(name="checkout", probes=("cart", "pay"), target=Fraction(99, 100), window=DAY)
    budget = Budget(objective="checkout", bad=1, total=50, allowed=Fraction(10), left=Fraction(9, 10), burn={})

    def alert(after: AlertState, **labels: str) -> Transition:
        return Transition(
            alert=Alert(labels={"severity": "page", **labels}),
            before=AlertState.INACTIVE,
            after=after,
            at=0.0,
            since=0.0,
            value=1.0,
        )

    active = [
        alert(AlertState.FIRING, alertname="ErrorBudgetBurn", objective="checkout"),
        alert(AlertState.FIRING, alertname="ErrorBudgetBurn", objective="other", severity="ticket"),
        alert(AlertState.PENDING, alertname="ErrorBudgetBurn", objective="checkout", severity="high"),
        alert(AlertState.FIRING, alertname="ProbeNoEvidence", probe="pay", severity="ticket"),
        alert(AlertState.PENDING, alertname="ProbeNoEvidence", probe="cart", severity="ticket"),
        alert(AlertState.FIRING, alertname="ProbeDown", probe="cart"),
    ]
    standing = standing_of(objective, budget, active, now=START)
    assert (standing.firing, standing.blind) == ((Severity.PAGE,), ("pay",))
    assert (standing.good, standing.bad, standing.left) == (49, 1, Fraction(9, 10))
    assert standing_of(objective, replace(budget, total=0, bad=0), [], now=START).left is None


def test_a_budget_of_the_calendar_begins_anew_before_it_is_gone_or_after() -> None:
    """At 2x over 3 days, 7/8 of 31 days last for 13.6 days: until then a new month may have begun."""
    march = replace(GOOD, window=31.0 * DAY, calendar="month", until=START + 31 * DAY)

    assert replace(march, now=START + 30 * DAY).gone_in is None
    assert replace(march, now=START + 10 * DAY).gone_in == pytest.approx(31 * DAY * 7 / 16)
    assert replace(march, now=START + 30 * DAY).renewed_in == DAY
    assert Standing.from_json(march.as_json()).window_name == "month"
    assert "this month" in decide([replace(march, left=None)]).reasons[0]


def test_the_standing_of_a_calendar_window_is_about_the_whole_of_the_present_one() -> None:
    """A month of 31 days allows 31/30 of the outage that one of 30 days does."""
    objective = Objective(
        name="checkout", probes=("cart",), target=Fraction(99, 100), window=30.0 * DAY, calendar=Calendar("month")
    )
    budget = Budget(
        objective="checkout",
        bad=1,
        total=50,
        allowed=Fraction(10),
        left=Fraction(9, 10),
        burn={},
        period=(START, START + 31 * DAY),
    )
    standing = standing_of(objective, budget, [], now=START + DAY)

    assert (standing.window_name, standing.budget) == ("month", pytest.approx(0.01 * 31 * DAY))
    assert standing.renewed_in == 30 * DAY
