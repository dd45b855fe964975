"""Business hours: when a channel is told of what can wait. The same as a time interval of Alertmanager."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From a time of day to another, on some days of the week, by the clocks of a place."""

    days: frozenset[str]
    """Some of `DAYS`."""
    begin: int
    """Minutes after midnight."""
    end: int
    """Minutes after midnight, at most those of a day; no longer part of it."""
    timezone: str
    """A name of the IANA database."""

    def open_at(self, at: float) -> bool:
        """Whether a Unix time is in these hours."""
        local = datetime.fromtimestamp(at, ZoneInfo(self.timezone))
        return DAYS[local.weekday()] in self.days and self.begin <= local.hour * 60 + local.minute < self.end

    def next_open(self, at: float) -> float:
        """The first Unix time, from `at` on, that is in these hours.

        Where clocks are put forward over the beginning, it is the moment that they are put to.
        """
        if self.open_at(at):
            return at
        zone = ZoneInfo(self.timezone)
        today = datetime.fromtimestamp(at, zone).date()
        for after in range(len(DAYS) + 1):
            day = today + timedelta(days=after)
            moment = datetime(day.year, day.month, day.day, self.begin // 60, self.begin % 60, tzinfo=zone).timestamp()
            if DAYS[day.weekday()] in self.days and moment > at and self.open_at(moment):
                return moment
        raise AssertionError(f"{self} is never, which its making forbids")

    def as_interval(self) -> Mapping[str, Any]:
        """As Alertmanager writes a time interval."""
        return {
            "times": [{"start_time": _clock(self.begin), "end_time": _clock(self.end)}],
            "weekdays": [day for day in DAYS if day in self.days],
            "location": self.timezone,
        }


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
