"""What a drill can show at best, before anything is broken: what is asked against what the configuration can give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.fault_kind import BEHIND
from stormwatch.chaos.verdict import show_labels, show_seconds
from stormwatch.probes.result import Reason
from stormwatch.probes.units import show_duration


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from the injection: not sooner than `best`, not later than `worst` if the monitoring works."""

    best: float
    worst: float

    def __str__(self) -> str:
        return f"{show_seconds(self.best)} to {show_seconds(self.worst)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One drill on paper."""

    drill: Drill
    probe: Span | None
    alert: Span | None
    recovery: Span | None
    notified: Span | None = None
    """Until somebody who tells people has the alert."""
    delivered: Span | None = None
    """Until the receiver at the end of the way is told."""
    cleared: Span | None = None
    """From the undo until that receiver is told that it is over."""
    links: tuple[tuple[str, Span], ...] = ()
    """What the way to the alert, and to the receiver, is made of, by name."""
    refusals: tuple[str, ...]
    """Why it cannot be proved as it is asked: it must not be run."""
    warnings: tuple[str, ...]
    """Why it may fail although the monitoring works."""

    def lines(self) -> list[str]:
        """For the terminal."""
        drill = self.drill
        lines = [f"{drill.name}: {drill.what}"]
        if drill.probe:
            reason = f" ({drill.probe.reason.value})" if drill.probe.reason else ""
            lines.append(_line(f"{drill.probe.name} turns red{reason}", drill.probe.within, self.probe))
        if drill.alert:
            lines.append(_line(f"{show_labels(drill.alert.labels)} fires", drill.alert.within, self.alert))
            lines += [f"      {name}: {span}" for name, span in self.links]
            if drill.alert.delivered_within is not None:
                lines.append(_line("the receiver is told", drill.alert.delivered_within, self.delivered))
            elif self.delivered:
                lines.append(f"  the receiver is told: can be {self.delivered}")
        lines.append(_line("all is well again after the undo", drill.resolves_within, self.recovery))
        if self.cleared:
            lines.append(f"  the receiver is told that it is over: can be {self.cleared} after the undo")
        lines += [f"  ✗ {refusal}" for refusal in self.refusals]
        lines += [f"  ! {warning}" for warning in self.warnings]
        return lines

    def as_json(self) -> Mapping[str, Any]:
        """A JSON object for readers."""
        return {
            "drill": self.drill.as_json(),
            **{
                name: span and _json(span)
                for name, span in (
                    ("probe", self.probe),
                    ("alert", self.alert),
                    ("notified", self.notified),
                    ("delivered", self.delivered),
                    ("recovery", self.recovery),
                    ("cleared", self.cleared),
                )
            },
            "links": [{"name": name, **_json(span)} for name, span in self.links],
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
        }


def plan(
    drill: Drill,
    *,
    probe: Span | None = None,
    alert: Span | None = None,
    recovery: Span | None = None,
    notified: Span | None = None,
    delivered: Span | None = None,
    cleared: Span | None = None,
    links: tuple[tuple[str, Span], ...] = (),
) -> Plan:
    """Compare what a drill asks with what the configuration can give; a span that is not known is None."""
    asked = [
        (f"{drill.probe.name} red", drill.probe.within, probe) if drill.probe else None,
        (show_labels(drill.alert.labels), drill.alert.within, alert) if drill.alert else None,
        ("the receiver", drill.alert.delivered_within, delivered)
        if drill.alert and drill.alert.delivered_within is not None
        else None,
        ("recovery", drill.resolves_within, recovery),
    ]
    refusals: list[str] = []
    warnings: list[str] = []
    for what, within, span in (one for one in asked if one):
        if span is None:
            continue
        if math.isinf(span.best):
            refusals.append(
                f"{what}: {' and '.join(one.kind for one in drill.faults)} does not make it fire: expect another alert, or leave it out"
            )
        elif within < span.best:
            refusals.append(
                f"{what}: asked {show_duration(within)}, cannot be better than {show_seconds(span.best)}: ask for "
                f"{show_seconds(span.worst)}, or make the configuration faster"
            )
        elif within < span.worst:
            warnings.append(
                f"{what}: asked {show_duration(within)}, may "
                + ("never come" if math.isinf(span.worst) else f"take {show_seconds(span.worst)}")
                + " although all works"
            )
    kinds = [FAULTS[fault.kind] for fault in drill.faults]
    reasons = frozenset[Reason]().union(*(kind.reasons for kind in kinds))
    if drill.probe and drill.probe.reason and drill.probe.reason not in reasons | BEHIND:
        likely = ", ".join(sorted(reason.value for reason in reasons))
        warnings.append(
            f"reason {drill.probe.reason.value} is unusual for {' and '.join(kind.name for kind in kinds)}, which normally shows as {likely}"
        )
    return Plan(
        drill=drill,
        probe=probe,
        alert=alert,
        recovery=recovery,
        notified=notified,
        delivered=delivered,
        cleared=cleared,
        links=links,
        refusals=tuple(refusals),
        warnings=tuple(warnings),
    )


def _json(span: Span) -> dict[str, float | None]:
    return {"best": _finite(span.best), "worst": _finite(span.worst)}


def _finite(seconds: float) -> float | None:
    """JSON has no infinity: null is never."""
    return None if math.isinf(seconds) else seconds


def _line(what: str, within: float, span: Span | None) -> str:
    can = f", can be {span}" if span else ""
    return f"  {what}: asked within {show_duration(within)}{can}"
