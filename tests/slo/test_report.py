"""A month is counted by its own midnights, a promise is kept or not exactly, and what nobody saw is not called good."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.alert import Alert, AlertState, Transition
from stormwatch.slo.objective import Objective
from stormwatch.slo.period import last_month, parse_period
from stormwatch.slo.report import Kept, firings, report

OBJECTIVE = Objective(name="checkout", probes=("checkout",), target=Fraction(99, 100), window=30 * 86400.0)
OCTOBER = parse_period("2026-10")
HOUR = 3600


@dataclass(frozen=True)
class Hour:
    """What the history says of one hour."""

    objective: str
    hour: int
    good: int
    bad: int


def at(text: str) -> float:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def kept(*hours: Hour, now: str = "2026-11-02T00:00", period: str = "2026-10", zone: str = "UTC") -> Kept:
    """The one objective of a report."""
    (found,) = report([OBJECTIVE], hours, [], parse_period(period, zone), now=at(now)).kept
    return found


def hour(when: str, good: int, bad: int = 0) -> Hour:
    """An hour of the objective."""
    return Hour("checkout", int(at(when)), good, bad)


@pytest.mark.parametrize(
    ("text", "name", "first", "after"),
    [
        ("2026-10", "October 2026", date(2026, 10, 1), date(2026, 11, 1)),
        ("2026-12", "December 2026", date(2026, 12, 1), date(2027, 1, 1)),
        ("2026-Q3", "quarter 3 of 2026", date(2026, 7, 1), date(2026, 10, 1)),
        ("2026q4", "quarter 4 of 2026", date(2026, 10, 1), date(2027, 1, 1)),
        ("2026", "2026", date(2026, 1, 1), date(2027, 1, 1)),
        ("2026-10-05..2026-10-11", "2026-10-05 to 2026-10-11", date(2026, 10, 5), date(2026, 10, 12)),
        ("2026-10-05", "2026-10-05", date(2026, 10, 5), date(2026, 10, 6)),
    ],
)
def test_periods_are_written_as_people_write_them(text: str, name: str, first: date, after: date) -> None:
    """The day after the last one is not in it."""
    period = parse_period(text)
    assert (period.name, period.first, period.after) == (name, first, after)


@pytest.mark.parametrize("text", ["", "october", "2026-13", "2026-02-30", "2026-Q5", "2026-10-11..2026-10-05", "26-10"])
def test_what_is_no_period_is_told(text: str) -> None:
    """With what one looks like."""
    with pytest.raises(ValueError, match="period"):
        parse_period(text)


def test_midnight_is_that_of_the_time_zone_also_when_the_clocks_change() -> None:
    """October has 745 hours in Berlin: summer time ends on the 25th."""
    berlin = parse_period("2026-10", "Europe/Berlin")
    assert berlin.start == at("2026-09-30T22:00")
    assert berlin.end == at("2026-10-31T23:00")
    assert (berlin.end - berlin.start) / HOUR == 745
    with pytest.raises(ValueError, match="'Berlin' is no time zone like Europe/Berlin or UTC"):
        parse_period("2026-10", "Berlin")


def test_the_last_month_is_the_one_that_is_over() -> None:
    """Also in January, and by the clock of the time zone."""
    assert last_month(at("2026-11-01T00:30")).name == "October 2026"
    assert last_month(at("2026-11-01T00:30"), "America/New_York").name == "September 2026"
    assert last_month(at("2027-01-15T12:00")).name == "December 2026"


def test_a_promise_is_kept_to_the_last_result() -> None:
    """1 of 100 bad is 99 %, and 99 % was promised."""
    exactly = kept(hour("2026-10-05T10:00", 99, 1))
    assert (exactly.met, exactly.used, exactly.ratio) == (True, 1, Fraction(99, 100))
    one_more = kept(hour("2026-10-05T10:00", 98, 2))
    assert (one_more.met, one_more.used) == (False, 2)
    assert one_more.bad_seconds == pytest.approx(72)


def test_a_month_without_results_is_neither_kept_nor_broken() -> None:
    """Nobody knows; and the sentence says so."""
    nothing = report([OBJECTIVE], [], [], OCTOBER, now=at("2026-11-02T00:00"))
    assert nothing.kept[0].met is None
    assert nothing.verdict == "0 of 1 objectives were kept; 1 had no results."


def test_hours_outside_of_the_period_do_not_count() -> None:
    """Not the last one before it, nor the first one after it."""
    found = kept(
        hour("2026-09-30T23:00", 0, 50),
        hour("2026-10-01T00:00", 10),
        hour("2026-10-31T23:00", 10),
        hour("2026-11-01T00:00", 0, 50),
    )
    assert (found.good, found.bad) == (20, 0)


def test_hours_in_which_nobody_looked_are_counted() -> None:
    """From the first hour that had results: a young monitoring is not blind before it began."""
    found = kept(hour("2026-10-30T00:00", 10), hour("2026-10-31T23:00", 10))
    assert (found.hours_watched, found.hours_blind) == (2, 46)
    running = kept(hour("2026-10-30T00:00", 10), hour("2026-10-30T01:00", 10), now="2026-10-30T01:30")
    assert running.hours_blind == 0
    assert [day.day for day in running.days][-1] == date(2026, 10, 30)


def test_an_hour_belongs_to_the_day_of_the_time_zone() -> None:
    """23:00 UTC is the next day in Berlin."""
    found = kept(hour("2026-10-05T23:00", 5, 5), zone="Europe/Berlin")
    assert found.worst is not None
    assert found.worst.day == date(2026, 10, 6)


@given(
    st.lists(
        st.tuples(st.integers(0, 30 * 24), st.integers(0, 50), st.integers(0, 50)),
        max_size=60,
        unique_by=lambda h: h[0],
    )
)
def test_days_add_up_to_the_month(counts: list[tuple[int, int, int]]) -> None:
    """Whatever the hours are."""
    hours = [Hour("checkout", int(OCTOBER.start) + number * HOUR, good, bad) for number, good, bad in counts]
    found = kept(*hours)
    inside = [each for each in hours if OCTOBER.start <= each.hour < OCTOBER.end]
    assert found.good == sum(each.good for each in inside) == sum(day.good for day in found.days)
    assert found.bad == sum(each.bad for each in inside)
    assert len(found.days) == 31


def transition(when: str, after: AlertState, **labels: str) -> Transition:
    """Of the alert about the objective."""
    return Transition(
        alert=Alert(labels={"alertname": "ErrorBudgetBurn", "severity": "page", "objective": "checkout", **labels}),
        before=AlertState.FIRING if after is AlertState.RESOLVED else AlertState.PENDING,
        after=after,
        at=at(when),
        since=at(when),
        value=20.0,
        reason="timeout",
    )


def test_alerts_are_those_that_fired_in_the_period() -> None:
    """One that began before it and one that goes on count; pending is nothing; each is told once."""
    story = [
        transition("2026-09-30T23:00", AlertState.FIRING),
        transition("2026-10-01T01:00", AlertState.RESOLVED),
        transition("2026-10-07T00:00", AlertState.PENDING),
        transition("2026-10-09T00:00", AlertState.FIRING, severity="ticket"),
        transition("2026-09-03T00:00", AlertState.FIRING, severity="high"),
        transition("2026-09-04T00:00", AlertState.RESOLVED, severity="high"),
    ]
    found = firings(story, OCTOBER.start, OCTOBER.end)
    assert [(each.severity.value, each.until) for each in found] == [("page", at("2026-10-01T01:00")), ("ticket", None)]
    assert found[1].seconds(OCTOBER.end) == 23 * 86400
    whole = report([OBJECTIVE, replace(OBJECTIVE, name="other")], [], story, OCTOBER, now=at("2026-11-02T00:00"))
    assert [len(each.firings) for each in whole.kept] == [2, 0]
