"""Planned work: while it lasts, results are no evidence for objectives and reachability alerts are silent."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from dateutil.rrule import rrule, rruleset, rrulestr

from stormwatch.probes.probe import Probe

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
"""Where a rule without DTSTART begins to count: a Monday, so that INTERVAL=2 has a meaning that never moves."""

TOO_OFTEN = ("SECONDLY", "MINUTELY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Windows that repeat by a rule of RFC 5545 (RRULE, with or without a DTSTART line), in UTC.

    Raises ValueError, one sentence, for a rule that cannot be read and for a duration that is not positive.
    """

    match: Mapping[str, str]
    """Labels that a probe must have, all of them; `probe`, `kind` and `location` count as labels. Empty: every probe."""
    rrule: str
    duration: float
    """Seconds that each window lasts; its end is no longer part of it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise ValueError(
                f"maintenance lasts longer than nothing, and not {self.duration:g} s; give a duration like 1h"
            )
        _occurrences(self.rrule)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it is about a probe with these labels."""
        return all(labels.get(name) == value for name, value in self.match.items())

    def covers(self, labels: Mapping[str, str], at: float) -> bool:
        """Whether it is about a probe with these labels and a window is open at `at` (unix time in seconds)."""
        return self.matches(labels) and self.open_at(at)

    def open_at(self, at: float) -> bool:
        """Whether a window is open at `at`, whomever it is about."""
        began = _occurrences(self.rrule).last(at)
        return began is not None and at < began + self.duration


def labels_of_probe(probe: Probe) -> dict[str, str]:
    """What a maintenance window can match: the probe's own labels, its name, its kind and its location."""
    return {**probe.labels, "probe": probe.name, "kind": probe.kind, "location": probe.location}


class _Occurrences:
    """The beginnings of the windows, computed as far as somebody asked, found by binary search."""

    def __init__(self, rule: rrule | rruleset) -> None:
        self._rest: Iterator[datetime] = iter(rule)
        self._known: list[float] = []
        self._exhausted = False

    def last(self, at: float) -> float | None:
        """The latest beginning that is not after `at`."""
        while not self._exhausted and (not self._known or self._known[-1] <= at):
            following = next(self._rest, None)
            if following is None:
                self._exhausted = True
            else:
                self._known.append(following.timestamp())
        index = bisect_right(self._known, at)
        return self._known[index - 1] if index else None


@lru_cache(maxsize=1024)
def _occurrences(text: str) -> _Occurrences:
    if any(f"FREQ={frequency}" in text.upper() for frequency in TOO_OFTEN):
        raise ValueError(
            f"maintenance every minute is none; {text!r} must repeat HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY"
        )
    if re.search(r"INTERVAL=0+(?![0-9])", text.upper()):
        raise ValueError(
            f"{text!r} repeats at an interval of 0, so it never moves on; leave INTERVAL out or give 1 or more"
        )
    how = "write one like FREQ=WEEKLY;BYDAY=SU;BYHOUR=3;BYMINUTE=0;BYSECOND=0"
    try:
        rule = rrulestr(text, dtstart=ANCHOR, tzinfos={"UTC": UTC})
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"{text!r} is no recurrence rule ({error}); {how}") from error
    if (first := next(iter(rule), None)) is not None and first.tzinfo is None:
        raise ValueError(f"{text!r}: DTSTART is in UTC and ends with Z; {how}")
    return _Occurrences(rule)
