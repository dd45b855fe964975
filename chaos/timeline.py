"""A drill as a picture: lanes of dots and bars over one axis of time, in percent of its width. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from stormwatch.chaos.detection import Detection
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.verdict import show_seconds
from stormwatch.slo.alert import AlertState, Transition


@dataclass(frozen=True, slots=True)
class Dot:
    """One result. `left` in percent."""

    left: float
    tone: str
    """`up`, `down` or `broken`."""
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A state that lasted. Percent."""

    left: float
    width: float
    tone: str
    """`fault`, `pending` or `firing`."""
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One probe, one alert, or the fault."""

    name: str
    detail: str = ""
    dots: tuple[Dot, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the axis: percent, and seconds from the injection."""

    left: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lanes, the marks, and where the fault was in place (percent)."""

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    fault: Bar | None


class _Axis:
    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = max(end, start + 0.001)

    def at(self, moment: float) -> float:
        return round(min(100.0, max(0.0, (moment - self.start) / (self.end - self.start) * 100)), 3)

    def bar(self, start: float, end: float, tone: str, title: str) -> Bar:
        left = self.at(start)
        return Bar(left, max(0.4, round(self.at(end) - left, 3)), tone, title)


def timeline(drill: Drill, detection: Detection) -> Timeline | None:
    """The picture of a drill; None when nothing was injected: there is nothing to see."""
    observed, zero = detection.observed, detection.injected
    if zero is None:
        return None
    lead = max(1.0, (observed.ended - zero) * 0.04)
    axis = _Axis(max(observed.started, zero - lead), observed.ended)
    fault = axis.bar(
        zero,
        detection.reverted if detection.reverted is not None else observed.ended,
        "fault",
        drill.what,
    )
    probes = dict.fromkeys([drill.probe.name] if drill.probe else [], None) | dict.fromkeys(
        one.probe for one in observed.sightings
    )
    alerts: dict[tuple[tuple[str, str], ...], list[Transition]] = {}
    for one in observed.transitions:
        if one.after in (AlertState.FIRING, AlertState.PENDING) or one.alert.key in alerts:
            alerts.setdefault(one.alert.key, []).append(one)
    ordered = sorted(alerts.values(), key=lambda life: not drill.expects(life[0].alert.labels))
    lanes = (
        Lane(drill.what, bars=(fault,)),
        *(
            Lane(
                f"probe {name}",
                dots=tuple(
                    Dot(
                        axis.at(one.at),
                        one.outcome.value,
                        f"{show_seconds(one.at - zero)}: {one.outcome.value}"
                        + (f", {one.reason.value}: {one.message}" if one.message else ""),
                    )
                    for one in observed.sightings
                    if one.probe == name and one.at >= axis.start
                ),
            )
            for name in probes
        ),
        *(_alert_lane(life, axis, zero) for life in ordered),
    )
    return Timeline(lanes=lanes, ticks=_ticks(axis, zero), fault=fault)


def _alert_lane(life: list[Transition], axis: _Axis, zero: float) -> Lane:
    bars: list[Bar] = []
    for one, after in zip(life, [*life[1:], None], strict=True):
        if one.after in (AlertState.PENDING, AlertState.FIRING):
            end = after.at if after else axis.end
            title = f"{one.after.value} {show_seconds(max(0.0, end - one.at))}, from {show_seconds(max(0.0, one.at - zero))}"
            bars.append(axis.bar(one.at, end, one.after.value, title))
    return Lane(life[0].alert.name, _detail(life[0].alert.labels), bars=tuple(bars))


def _detail(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items() if name != "alertname")


def _ticks(axis: _Axis, zero: float) -> tuple[Tick, ...]:
    span = axis.end - zero
    step = next((one for one in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800) if span / one <= 7), 3600)
    return tuple(
        Tick(axis.at(zero + seconds), f"{seconds} s" if step < 60 else f"{seconds // 60} min")
        for seconds in range(0, int(span) + 1, step)
    )
