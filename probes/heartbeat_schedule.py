"""When a job's next sign of life is due: after an interval, or by a cron expression in a time zone. Pure arithmetic.

Cron's own rules for the days when clocks change are Debian's, and `cronsim` keeps them: a job whose hour is skipped runs right after
the gap, one whose hour comes twice runs once, and one that runs every so many minutes runs in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from stormwatch.probes.units import show_duration

EARLY = 60.0
"""Seconds that a sign may come before its moment and still be the one for it: two clocks are never quite the same."""
EARLY_SHARE = 0.1
"""Share of the time between two moments that this may be at most."""
LOOKED = 3600.0
"""Seconds before the end of an interval in which its sign is looked for, half of the interval at most."""


class Schedule(Protocol):
    """When signs of life are due."""

    def after(self, moment: float) -> float:
        """The Unix time at which the next one is due when the last one came at `moment`."""
        ...

    def opens(self, due: float) -> float:
        """The Unix time from which on the one that is due may come: whoever was away then may have missed it."""
        ...

    def __str__(self) -> str:
        """As it is told to people: `every 1h`."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """At the latest so many seconds after the one before."""

    seconds: float

    def after(self, moment: float) -> float:
        """One interval later."""
        return moment + self.seconds

    def opens(self, due: float) -> float:
        """Jobs drift, and may be early by nature."""
        return due - min(LOOKED, self.seconds / 2)

    def __str__(self) -> str:
        """As written."""
        return f"every {show_duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Cron:
    """At the moments of a cron expression."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, zone: str) -> "Cron":
        """Raises ValueError, one sentence that begins with the option, for what is no schedule."""
        try:
            known = ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"timezone: {zone!r} is not a time zone like Europe/Berlin") from None
        try:
            CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"cron: {expression!r} is not a cron expression: {error}") from None
        cron = cls(expression, known)
        if next(cron._moments(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), None) is None:
            raise ValueError(f"cron: {expression!r} never comes")
        return cron

    def after(self, moment: float) -> float:
        """The next moment; the one after it for a sign that came shortly before it, and so was for it."""
        moments = self._moments(moment)
        first = next(moments)
        second = next(moments)
        return second if first - moment <= self._early(first, second) else first

    def opens(self, due: float) -> float:
        """A little before."""
        return due - self._early(due, next(self._moments(due)))

    @staticmethod
    def _early(first: float, second: float) -> float:
        return min(EARLY, (second - first) * EARLY_SHARE)

    def _moments(self, after: float) -> Iterator[float]:
        begin = datetime.fromtimestamp(after, UTC).astimezone(self.zone)
        for moment in CronSim(self.expression, begin):
            if moment.timestamp() > after:
                yield moment.timestamp()

    def __str__(self) -> str:
        """As written."""
        return f"cron {self.expression} {self.zone.key}"
