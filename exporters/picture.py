"""Geometry of the pictures on the status page: where bars and lines of an SVG lie. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from stormwatch.exporters.history import Latency
from stormwatch.probes.result import Phase


@dataclass(frozen=True, slots=True)
class Line:
    """A line with gaps, in a box of `width` by `height` units, zero at the bottom."""

    path: str
    """For the attribute `d`: a part for each stretch without a gap."""
    area: str
    """The same, closed down to the bottom."""
    dots: tuple[tuple[float, float], ...]
    """Points with a gap on both sides, which no line shows."""
    end: tuple[float, float] | None
    """The last point."""
    top: float
    """The value at the upper edge."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase of a waterfall, in percent of its width."""

    phase: Phase
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Stair:
    """A bar on one of the lanes of a run, so that the steps of many runs can be compared from row to row."""

    bar: Bar
    lane: int


def line_of(latencies: Sequence[Latency], *, width: float, height: float) -> Line:
    """The mean latencies as a line. The upper edge is a tenth above the highest."""
    values = [each.mean for each in latencies]
    top = max((value for value in values if value is not None), default=0.0) * 1.1 or 1.0
    step = width / max(1, len(values) - 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((round(place * step, 2), round(height * (1 - value / top), 2)))
    runs = [run for run in runs if run]
    return Line(
        path=" ".join(_through(run) for run in runs if len(run) > 1),
        area=" ".join(f"{_through(run)} V{height:g} H{run[0][0]:g} Z" for run in runs if len(run) > 1),
        dots=tuple(run[0] for run in runs if len(run) == 1),
        end=runs[-1][-1] if runs else None,
        top=top,
    )


def bars_of(phases: Sequence[Phase], seconds: float) -> tuple[Bar, ...]:
    """Phases as bars of a waterfall that is as long as the run, or as its last phase if that ends later."""
    whole = max([seconds, *(phase.offset + phase.seconds for phase in phases)], default=0.0) or 1.0
    return tuple(_bar(phase, whole) for phase in phases)


def stairs_of(phases: Sequence[Phase], order: Sequence[str], seconds: float) -> tuple[Stair, ...]:
    """Phases of one of several runs: all in the scale of `seconds`, each step on a lane of its own, by its place in `order`."""
    whole = seconds or 1.0
    return tuple(
        Stair(bar=_bar(phase, whole), lane=order.index(phase.name) if phase.name in order else len(order))
        for phase in phases
    )


def _bar(phase: Phase, whole: float) -> Bar:
    return Bar(phase, left=round(100 * phase.offset / whole, 3), width=round(100 * phase.seconds / whole, 3))


def _through(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
