"""A stretch of the calendar that a report is about: a month, a quarter, a year, or from one day to another."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_QUARTER = re.compile(r"(\d{4})-?[Qq]([1-4])")
_YEAR = re.compile(r"(\d{4})")
_DAYS = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.\.(\d{4}-\d{2}-\d{2}))?")


@dataclass(frozen=True, slots=True)
class Period:
    """From the first midnight to the last, by the clock of a time zone."""

    name: str
    """As people say it: `October 2026`."""
    first: date
    after: date
    """The day after the last one."""
    zone: str

    @property
    def start(self) -> float:
        """Unix time in seconds."""
        return midnight(self.first, self.zone)

    @property
    def end(self) -> float:
        """Unix time in seconds; it is not in the period any more."""
        return midnight(self.after, self.zone)

    @property
    def days(self) -> tuple[date, ...]:
        """Every day of it."""
        return tuple(self.first + timedelta(days=number) for number in range((self.after - self.first).days))

    def day_of(self, at: float) -> date:
        """The day on the calendar of a Unix time."""
        return datetime.fromtimestamp(at, zone_of(self.zone)).date()


def parse_period(text: str, zone: str = "UTC") -> Period:
    """Read `2026-10`, `2026-Q3`, `2026`, `2026-10-05` or `2026-10-05..2026-10-11` (both days in it).

    Raises ValueError for anything else, and for a time zone that is not in the IANA database.
    """
    zone_of(zone)
    try:
        if match := _MONTH.fullmatch(text):
            first = date(int(match[1]), int(match[2]), 1)
            return Period(f"{first:%B %Y}", first, months_later(first, 1), zone)
        if match := _QUARTER.fullmatch(text):
            first = date(int(match[1]), 3 * int(match[2]) - 2, 1)
            return Period(f"quarter {match[2]} of {match[1]}", first, months_later(first, 3), zone)
        if match := _YEAR.fullmatch(text):
            first = date(int(text), 1, 1)
            return Period(text, first, months_later(first, 12), zone)
        if match := _DAYS.fullmatch(text):
            first, last = date.fromisoformat(match[1]), date.fromisoformat(match[2] or match[1])
            name = match[1] if last == first else f"{match[1]} to {match[2]}"
            if last >= first:
                return Period(name, first, last + timedelta(days=1), zone)
    except ValueError as error:
        raise ValueError(f"{text!r} is no period: {error}") from None
    raise ValueError(
        f"a period is written like 2026-10, 2026-Q3, 2026 or 2026-10-05..2026-10-11 (the later day behind), not {text!r}"
    )


def last_month(now: float, zone: str = "UTC") -> Period:
    """The last month that is over. Raises ValueError for a time zone that is not there."""
    today = datetime.fromtimestamp(now, zone_of(zone)).date()
    return parse_period(f"{months_later(today.replace(day=1), -1):%Y-%m}", zone)


def zone_of(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises ValueError for a name that is not in it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone like Europe/Berlin or UTC") from None


def midnight(day: date, zone: str) -> float:
    """Unix time at which a day begins by the clocks of a time zone."""
    return datetime(day.year, day.month, day.day, tzinfo=zone_of(zone)).timestamp()


def months_later(first: date, months: int) -> date:
    """The first of another month, from the first of one."""
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
