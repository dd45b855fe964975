"""Good and bad results in order of time, with cheap sums over any window that ends now.

    event at t belongs to cell ceil(t / size)        ...](k-1, k](k, k+1]...
    a window (now - w, now] counts the cells after   ceil((now - w) / size)

Thirty days of a probe that runs every 5 s are 518,400 results. Kept one by one they would fill the memory; kept in coarse
cells they would make a 5-minute window wrong. So each window has the cells that it needs (`cell_of`), and equal cells at
equal distances, which is what a probe that runs on a schedule leaves behind, are stored as one run: first, step, count.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from stormwatch.slo.objective import Judgement

CELLS = ((6 * 3600, 1), (7 * 86400, 60), (math.inf, 900))
"""Windows up to the first number of seconds are summed in cells of the second: never coarser than 1/360 of the window."""

RUN_BYTES = 8 + 4 * 4 + 2 * 8
"""Memory of one stored run: its first cell, step, count and counts for each, and the sums before it."""


class Counts(NamedTuple):
    """How many results were good, and how many bad."""

    good: int
    bad: int

    @property
    def total(self) -> int:
        """All that is evidence."""
        return self.good + self.bad


def cell_of(window: float) -> int:
    """Seconds of the cells in which a window is summed. Its old end is exact to one cell, its new end always."""
    for longest, size in CELLS:
        if window <= longest:
            return size
    raise ValueError(f"a window lasts for seconds, and not for {window!r}")


class Ledger:
    """The results that one objective judged, for the windows that its rules and its budget look at."""

    def __init__(self, windows: Iterable[float]) -> None:
        longest: dict[int, float] = {}
        for window in windows:
            size = cell_of(window)
            longest[size] = max(longest.get(size, 0.0), window)
        self._longest = longest
        self._tallies: dict[int, dict[str, Tally]] = {size: {} for size in longest}

    def add(self, probe: str, at: float, judgement: Judgement) -> None:
        """Count a result that was decided at `at` (unix time in seconds). No evidence counts nothing."""
        if judgement is Judgement.NO_EVIDENCE:
            return
        good = int(judgement is Judgement.GOOD)
        for size, tallies in self._tallies.items():
            tally = tallies.get(probe)
            if tally is None:
                # One tally for each probe: the results of several probes together are no longer evenly spaced.
                tally = tallies[probe] = Tally(size, keep=self._longest[size])
            tally.add(at, good=good, bad=1 - good)

    def counts(self, window: float, now: float) -> Counts:
        """The results of the last `window` seconds. Raises KeyError for a window longer than any that was announced."""
        tallies = self._tallies[cell_of(window)].values()
        if len(tallies) == 1:
            return next(iter(tallies)).between(now - window, now)
        counts = [tally.between(now - window, now) for tally in tallies]
        return Counts(sum(each.good for each in counts), sum(each.bad for each in counts))

    def since(self, after: float, now: float) -> Counts:
        """What was counted later than `after`, in the coarsest cells that there are: midnights are ends of them everywhere."""
        counts = [tally.between(after, now) for tally in self._tallies[max(self._tallies)].values()]
        return Counts(sum(each.good for each in counts), sum(each.bad for each in counts))

    def add_hour(self, hour: float, *, good: int, bad: int) -> None:
        """Count what is only known by the hour: all of it at the hour's end."""
        for size, tallies in self._tallies.items():
            tally = tallies.get("")
            if tally is None:
                tally = tallies[""] = Tally(size, keep=self._longest[size])
            tally.add(hour + 3600, good=good, bad=bad)

    @property
    def runs(self) -> int:
        """How many stored runs there are: what the memory grows with."""
        return sum(len(tally) for tallies in self._tallies.values() for tally in tallies.values())


class Tally:
    """Counts of one probe in cells of `size` seconds, for at least the last `keep` seconds.

    The newest cell is open and stands apart; older ones are sealed into runs. Cumulative counts before each run make
    the sum over any stretch two binary searches.
    """

    __slots__ = (
        "_bad",
        "_bad_before",
        "_count",
        "_first",
        "_good",
        "_good_before",
        "_keep",
        "_open_bad",
        "_open_good",
        "_open_tick",
        "_size",
        "_step",
    )

    def __init__(self, size: int, *, keep: float) -> None:
        self._size = size
        self._keep = math.ceil(keep / size) + 1
        self._first = array("q")
        self._step = array("I")
        self._count = array("I")
        self._good = array("I")
        self._bad = array("I")
        self._good_before = array("Q")
        self._bad_before = array("Q")
        self._open_tick: int | None = None
        self._open_good = 0
        self._open_bad = 0

    def __len__(self) -> int:
        return len(self._first) + (self._open_tick is not None)

    def add(self, at: float, *, good: int, bad: int) -> None:
        """Count at a moment. It may be earlier than others that were counted; one before all windows is dropped."""
        tick = math.ceil(at / self._size)
        if self._open_tick is None or tick > self._open_tick:
            self._seal()
            self._open_tick, self._open_good, self._open_bad = tick, good, bad
            self._forget(tick - self._keep)
        elif tick == self._open_tick:
            self._open_good += good
            self._open_bad += bad
        elif tick > self._open_tick - self._keep:
            self._insert(tick, good, bad)

    def between(self, after: float, until: float) -> Counts:
        """What was counted later than `after` and not later than `until`, exact to a cell at both ends."""
        good, bad = self._up_to(math.ceil(until / self._size))
        old_good, old_bad = self._up_to(math.ceil(after / self._size))
        return Counts(good - old_good, bad - old_bad)

    def _up_to(self, tick: int) -> tuple[int, int]:
        """Everything in cells up to `tick`, since the first that is remembered."""
        if self._open_tick is not None and tick >= self._open_tick:
            good, bad = self._sealed()
            return good + self._open_good, bad + self._open_bad
        index = bisect_right(self._first, tick) - 1
        if index < 0:
            return (self._good_before[0], self._bad_before[0]) if self._first else (0, 0)
        cells = min(self._count[index], (tick - self._first[index]) // self._step[index] + 1)
        return (
            self._good_before[index] + cells * self._good[index],
            self._bad_before[index] + cells * self._bad[index],
        )

    def _sealed(self) -> tuple[int, int]:
        if not self._first:
            return 0, 0
        return (
            self._good_before[-1] + self._count[-1] * self._good[-1],
            self._bad_before[-1] + self._count[-1] * self._bad[-1],
        )

    def _seal(self) -> None:
        """Move the open cell into the last run if it continues it, else into a run of its own."""
        if self._open_tick is None:
            return
        tick, good, bad = self._open_tick, self._open_good, self._open_bad
        if self._first and (self._good[-1], self._bad[-1]) == (good, bad):
            gap = tick - self._first[-1]
            if self._count[-1] == 1:
                self._step[-1] = gap
            if gap == self._count[-1] * self._step[-1]:
                self._count[-1] += 1
                return
        self._append(tick, 1, 1, good, bad)

    def _append(self, first: int, step: int, count: int, good: int, bad: int) -> None:
        before = self._sealed()
        self._first.append(first)
        self._step.append(step)
        self._count.append(count)
        self._good.append(good)
        self._bad.append(bad)
        self._good_before.append(before[0])
        self._bad_before.append(before[1])

    def _insert(self, tick: int, good: int, bad: int) -> None:
        """A late result: take the runs from there on away, split the one it falls into, and put them back."""
        index = max(0, bisect_right(self._first, tick) - 1)
        tail = list(
            zip(
                self._first[index:],
                self._step[index:],
                self._count[index:],
                self._good[index:],
                self._bad[index:],
                strict=True,
            )
        )
        self._cut(slice(index, None))
        for first, step, count, each_good, each_bad in _with_cell(tail, tick, good, bad):
            self._append(first, step, count, each_good, each_bad)

    def _forget(self, tick: int) -> None:
        """Drop runs that no window can reach, when they are worth the copying."""
        if len(self._first) < 64:
            return
        old = bisect_right(self._first, tick) - 1
        if old > len(self._first) // 4:
            self._cut(slice(0, old))

    def _cut(self, where: slice) -> None:
        for column in (
            self._first,
            self._step,
            self._count,
            self._good,
            self._bad,
            self._good_before,
            self._bad_before,
        ):
            del column[where]


Run = tuple[int, int, int, int, int]


def _with_cell(runs: list[Run], tick: int, good: int, bad: int) -> list[Run]:
    """Runs in order of time, with `good` and `bad` added to the cell `tick`, which splits the run that has it inside."""
    if not runs or tick < runs[0][0]:
        return [(tick, 1, 1, good, bad), *runs]
    (first, step, count, each_good, each_bad), *rest = runs
    before = min(count, (tick - first + step - 1) // step)
    same = before < count and first + before * step == tick
    after = count - before - same
    parts: list[Run] = []
    if before:
        parts.append((first, step, before, each_good, each_bad))
    parts.append((tick, 1, 1, good + each_good * same, bad + each_bad * same))
    if after:
        parts.append((first + (before + same) * step, step, after, each_good, each_bad))
    return parts + rest
