"""Maintenance windows repeat as RFC 5545 says, in UTC, and are about the probes that they match."""

from datetime import UTC, datetime

import pytest

from stormwatch.slo.maintenance import Maintenance, labels_of_probe
from tests.slo.story import HOUR, probe

SUNDAYS = "FREQ=WEEKLY;BYDAY=SU;BYHOUR=3;BYMINUTE=0;BYSECOND=0"


def at(text: str) -> float:
    """Unix time of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("rrule", "moment", "inside"),
    [
        pytest.param(SUNDAYS, "2026-11-22T02:59:59.999", False, id="a moment before it begins"),
        pytest.param(SUNDAYS, "2026-11-22T03:00:00", True, id="its first moment"),
        pytest.param(SUNDAYS, "2026-11-22T03:59:59.999", True, id="its last moment"),
        pytest.param(SUNDAYS, "2026-11-22T04:00:00", False, id="its end is over"),
        pytest.param(SUNDAYS, "2026-11-21T03:30:00", False, id="another day"),
        pytest.param(SUNDAYS, "2026-03-29T03:30:00", True, id="the night in which Europe loses an hour"),
        pytest.param(
            "FREQ=WEEKLY;BYDAY=SU;BYHOUR=3", "2026-11-22T03:30:00", True, id="without minutes: at the full hour"
        ),
        pytest.param("FREQ=DAILY;BYHOUR=23;BYMINUTE=30", "2026-11-23T00:15:00", True, id="over midnight"),
        pytest.param("RRULE:FREQ=MONTHLY;BYDAY=1TU", "2026-12-01T00:30:00", True, id="first Tuesday of the month"),
        pytest.param("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "2024-01-15T00:30:00", True, id="every other Monday"),
        pytest.param("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "2024-01-08T00:30:00", False, id="and not the ones between"),
        pytest.param(
            "DTSTART:20260101T100000Z\nRRULE:FREQ=DAILY;COUNT=2", "2026-01-02T10:30:00", True, id="the second of two"
        ),
        pytest.param(
            "DTSTART:20260101T100000Z\nRRULE:FREQ=DAILY;COUNT=2", "2026-01-03T10:30:00", False, id="no third of two"
        ),
        pytest.param("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "2026-02-28T00:30:00", False, id="a day that never comes"),
    ],
)
def test_windows_of_an_hour(rrule: str, moment: str, inside: bool) -> None:
    """Each row is a rule and a moment."""
    maintenance = Maintenance(match={}, rrule=rrule, duration=1.0 * HOUR)

    assert inside is maintenance.covers({}, at(moment))


def test_the_past_can_be_asked_after_the_future() -> None:
    """Replaying a history asks about moments in any order."""
    maintenance = Maintenance(match={}, rrule=SUNDAYS, duration=1.0 * HOUR)

    assert maintenance.covers({}, at("2027-11-21T03:30:00"))
    assert maintenance.covers({}, at("2025-11-23T03:30:00"))
    assert not maintenance.covers({}, at("1999-11-23T03:30:00"))


def test_it_is_about_probes_that_have_all_its_labels() -> None:
    """A probe's name, kind and location count as labels."""
    labels = labels_of_probe(probe(labels={"service": "shop", "probe": "other"}, location="fra1"))
    sunday = at("2026-11-22T03:30:00")

    def covers(**match: str) -> bool:
        return Maintenance(match=match, rrule=SUNDAYS, duration=1.0 * HOUR).covers(labels, sunday)

    assert covers()
    assert covers(service="shop", location="fra1")
    assert covers(probe="front", kind="http")
    assert not covers(service="shop", location="lon1")
    assert not covers(probe="other")


@pytest.mark.parametrize(
    ("rrule", "says"),
    [
        ("", "'' is no recurrence rule"),
        ("every sunday", "'every sunday' is no recurrence rule"),
        ("FREQ=WEEKLY;BYDAY=XX", "is no recurrence rule"),
        ("FREQ=MINUTELY", "must repeat HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY"),
        ("DTSTART:20260101T100000\nRRULE:FREQ=DAILY", "ends with Z"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_with_an_example(rrule: str, says: str) -> None:
    """The message shows what was written."""
    with pytest.raises(ValueError, match=says):
        Maintenance(match={}, rrule=rrule, duration=60)


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_a_window_lasts_for_a_while(duration: float) -> None:
    """Nothing, less than nothing and forever are no durations."""
    with pytest.raises(ValueError, match="give a duration like 1h"):
        Maintenance(match={}, rrule=SUNDAYS, duration=duration)
