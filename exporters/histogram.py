"""A cumulative histogram as Prometheus reads it, for values that arrive one by one."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from stormwatch.exporters.exposition import Sample, number

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds for how long probes take: from a lookup on loopback to a long browser journey."""

SHORT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds for our own delays, which should be milliseconds."""


class Histogram:
    """Counts values at or below each bound. `+Inf` is added by itself."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0
        """Sum of all values."""

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[int]:
        """How many values were at or below each bound; the last one is the count of all."""
        result: list[int] = []
        running = 0
        for count in self._counts:
            running += count
            result.append(running)
        return result

    def samples(self, labels: Mapping[str, str]) -> list[Sample]:
        """The samples of a histogram family."""
        counts = self.cumulative()
        buckets = [
            Sample(count, {**labels, "le": number(bound)}, "_bucket")
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True)
        ]
        return [*buckets, Sample(self.total, labels, "_sum"), Sample(counts[-1], labels, "_count")]
