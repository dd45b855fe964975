"""Windows that begin with the calendar: a week, a month, a quarter, by the clock of a time zone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from stormwatch.slo.period import zone_of

DAY = 86400.0
NOMINAL: Mapping[str, float] = {"week": 7 * DAY, "month": 30 * DAY, "quarter": 90 * DAY}
"""Seconds that burn rates take each for: they look back over rolling windows, whatever day it is."""
LONGEST: Mapping[str, float] = {"week": 8 * DAY, "month": 32 * DAY, "quarter": 93 * DAY}
"""Seconds that none of them is longer than, with an hour of summer time."""
_MONTHS = {"month": 1, "quarter": 3}


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which part of the calendar a budget is for. Weeks begin on Monday (ISO 8601)."""

    unit: str
    """`week`, `month` or `quarter`."""
    zone: str = "UTC"
    """A name of the IANA database."""

    def around(self, now: float) -> tuple[float, float]:
        """When the part began that `now` is in, and when the next one begins: Unix times in seconds."""
        today = datetime.fromtimestamp(now, zone_of(self.zone)).date()
        if self.unit == "week":
            first = today - timedelta(days=today.weekday())
            after = first + timedelta(days=7)
        else:
            months = _MONTHS[self.unit]
            number = (today.year * 12 + today.month - 1) // months * months
            first, after = _first_of(number), _first_of(number + months)
        return self._midnight(first), self._midnight(after)

    def _midnight(self, day: date) -> float:
        return datetime(day.year, day.month, day.day, tzinfo=zone_of(self.zone)).timestamp()


def _first_of(months: int) -> date:
    return date(months // 12, months % 12 + 1, 1)
