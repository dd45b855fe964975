"""Parts of the calendar: where they begin, and the budget that is for one of them."""

from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from stormwatch.slo.calendar import LONGEST, NOMINAL, Calendar
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.policy import rules_for_objective
from tests.slo.story import HOUR, objective, probe, results


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("calendar", "now", "first", "after"),
    [
        (Calendar("month"), "2026-11-21T10:00", "2026-11-01T00:00", "2026-12-01T00:00"),
        (Calendar("month"), "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        (Calendar("month"), "2027-01-01T00:00", "2027-01-01T00:00", "2027-02-01T00:00"),
        (Calendar("quarter"), "2026-11-21T10:00", "2026-10-01T00:00", "2027-01-01T00:00"),
        (Calendar("quarter"), "2026-03-31T10:00", "2026-01-01T00:00", "2026-04-01T00:00"),
        (Calendar("week"), "2026-11-21T10:00", "2026-11-16T00:00", "2026-11-23T00:00"),
        (Calendar("week"), "2026-11-16T00:00", "2026-11-16T00:00", "2026-11-23T00:00"),
        (Calendar("month", "Europe/Berlin"), "2026-10-31T23:30", "2026-10-01T00:00", "2026-11-01T00:00"),
        (Calendar("week", "Asia/Kathmandu"), "2026-11-22T23:59", "2026-11-16T00:00", "2026-11-23T00:00"),
    ],
)
def test_where_a_part_begins_and_ends(calendar: Calendar, now: str, first: str, after: str) -> None:
    zone = calendar.zone
    assert calendar.around(at(now, zone)) == (at(first, zone), at(after, zone))


def test_summer_time_makes_parts_longer_and_shorter() -> None:
    berlin = Calendar("month", "Europe/Berlin")
    march, october = (berlin.around(at(f"2026-{month}-15T12:00")) for month in ("03", "10"))
    assert march[1] - march[0] == (31 * 24 - 1) * HOUR
    assert october[1] - october[0] == (31 * 24 + 1) * HOUR


@pytest.mark.parametrize("unit", NOMINAL)
def test_no_part_is_longer_than_the_longest(unit: str) -> None:
    calendar = Calendar(unit, "Europe/Berlin")
    for day in range(0, 1500, 5):
        begin, end = calendar.around(at("2024-01-01T12:00") + day * 86400)
        assert end - begin <= LONGEST[unit]


def test_a_budget_is_spent_in_its_month_and_whole_in_the_next() -> None:
    judging = objective(calendar=Calendar("month"), target=Fraction(99, 100))
    watched = probe(every=HOUR)
    evaluator = Evaluator([judging], rules_for_objective(judging, [watched]), [watched])
    # An outage of a quarter of a day on the last day of November, and an hour of it in December.
    evaluator.replay(results("+" * 42 + "-" * 7 + "+" * 40, every=HOUR, first=at("2026-11-29T00:30")))
    last, next_ = at("2026-11-30T23:59"), at("2026-12-02T00:00")
    spent = evaluator.budget(judging.name, last)
    assert (spent.bad, spent.allowed) == (6, Fraction(720, 100))
    assert spent.left == 1 - Fraction(6 * 100, 720)
    assert spent.period == (at("2026-11-01T00:00"), at("2026-12-01T00:00"))
    fresh = evaluator.budget(judging.name, next_)
    assert (fresh.bad, fresh.allowed) == (1, Fraction(744, 100))
    assert evaluator.periods(next_) == {judging.name: ((23, 1), Fraction(744))}


def test_the_end_of_a_month_does_not_burn_a_budget_by_itself() -> None:
    """On the first of a month one bad run among few is not a share of few, but of the whole month."""
    judging = objective(calendar=Calendar("month"), target=Fraction(99, 100))
    watched = probe(every=HOUR)
    evaluator = Evaluator([judging], rules_for_objective(judging, [watched]), [watched])
    evaluator.replay(results("-+", every=HOUR, first=at("2026-12-01T01:00")))
    assert evaluator.budget(judging.name, at("2026-12-01T03:00")).left > Fraction(85, 100)
