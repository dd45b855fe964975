"""Business hours: when they are open, and when next."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from stormwatch.exporters.hours import DAYS, Hours

WEEK = frozenset(DAYS[:5])
BERLIN = "Europe/Berlin"


def at(text: str, zone: str = BERLIN) -> float:
    """A moment by the clocks of a place."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


OFFICE = Hours(days=WEEK, begin=9 * 60, end=17 * 60 + 30, timezone=BERLIN)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-20T08:59:59", False),  # a Friday
        ("2026-11-20T09:00:00", True),
        ("2026-11-20T17:29:59", True),
        ("2026-11-20T17:30:00", False),
        ("2026-11-21T12:00:00", False),
        ("2026-11-23T12:00:00", True),
    ],
)
def test_they_begin_with_their_first_minute_and_end_before_their_last(moment: str, *, is_open: bool) -> None:
    """By the clocks of their place."""
    assert OFFICE.open_at(at(moment)) is is_open


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-20T03:00:00", "2026-11-20T09:00:00"),
        ("2026-11-20T12:00:00", "2026-11-20T12:00:00"),
        ("2026-11-20T17:30:00", "2026-11-23T09:00:00"),
        ("2026-03-28T12:00:00", "2026-03-30T09:00:00"),  # clocks are put forward in between
        ("2026-10-23T18:00:00", "2026-10-26T09:00:00"),  # and back
    ],
)
def test_the_next_time_is_the_next_morning_of_a_working_day(moment: str, opens: str) -> None:
    """By the clocks of their place, also when these are changed."""
    assert OFFICE.next_open(at(moment)) == at(opens)


def test_a_beginning_that_clocks_jump_over_is_when_they_have_jumped() -> None:
    """02:30 does not exist on that Sunday; 03:30 is the same moment by summer time."""
    night = Hours(days=frozenset({"sunday"}), begin=150, end=6 * 60, timezone=BERLIN)

    opens = night.next_open(at("2026-03-29T01:00:00"))

    assert datetime.fromtimestamp(opens, UTC) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert night.open_at(opens)


def test_one_day_a_week_comes_again_after_a_week() -> None:
    """Though it is that day now."""
    monday = Hours(days=frozenset({"monday"}), begin=540, end=600, timezone="UTC")

    assert monday.next_open(at("2026-11-23T10:00:00", "UTC")) == at("2026-11-30T09:00:00", "UTC")


def test_the_whole_day_is_always_open() -> None:
    """Until midnight, which is the next one's beginning."""
    always = Hours(days=frozenset(DAYS), begin=0, end=24 * 60, timezone="Asia/Kathmandu")

    assert all(always.open_at(at("2026-11-20T00:00:00") + minutes * 60) for minutes in range(0, 24 * 60, 7))
    assert always.as_interval() == {
        "times": [{"start_time": "00:00", "end_time": "24:00"}],
        "weekdays": list(DAYS),
        "location": "Asia/Kathmandu",
    }
