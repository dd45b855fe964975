"""Windows that begin with the calendar: a week, a month, a quarter, by the clock of a time zone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from stormwatch.slo.period import midnight, months_later, zone_of

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
            first = months_later(today.replace(day=1), -((today.month - 1) % months))
            after = months_later(first, months)
        return midnight(first, self.zone), midnight(after, self.zone)
