"""Budgeting by time slices: a slice of time is good when enough of its results are, and only slices count.

    results   ++-+++  |  +--+-+  |          |  ++++++
    slices     good   |   bad    | nothing  |   good

A short outage at a busy time then weighs no more than one in the night. A slice without evidence is no evidence.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from stormwatch.slo.objective import Judgement, Slices

LATE = 1.0
"""Seconds after its end at which a slice is decided: a result is told as soon as it is known, give or take our own lag."""


class Decided(NamedTuple):
    """A slice that is over."""

    end: float
    """Unix time in seconds."""
    judgement: Judgement


@dataclass(slots=True)
class _Open:
    good: int = 0
    bad: int = 0


class Slicer:
    """Takes judged results, gives slices. A result belongs to the slice (k - 1, k] of its end, in multiples of its length."""

    def __init__(self, slices: Slices) -> None:
        self._length = slices.length
        self._target = slices.target
        self._open: dict[int, _Open] = {}
        self._decided = -math.inf
        self.late = 0
        """Results that came after their slice was decided: they count nowhere."""

    def add(self, at: float, judgement: Judgement) -> None:
        """Count a result that ended at a Unix time."""
        if judgement is Judgement.NO_EVIDENCE:
            return
        number = math.ceil(at / self._length)
        if number <= self._decided:
            self.late += 1
            return
        slice_ = self._open.setdefault(number, _Open())
        if judgement is Judgement.GOOD:
            slice_.good += 1
        else:
            slice_.bad += 1

    def decide(self, now: float) -> Iterator[Decided]:
        """Every slice that is over at `now`, in the order of time."""
        over = math.floor((now - LATE) / self._length)
        if over <= self._decided:
            return
        self._decided = over
        for number in sorted(number for number in self._open if number <= over):
            slice_ = self._open.pop(number)
            good = slice_.good >= self._target * (slice_.good + slice_.bad)
            yield Decided(number * self._length, Judgement.GOOD if good else Judgement.BAD)
