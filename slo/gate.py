"""The deploy gate: may a change go out now? A pure decision over the standings of objectives."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.alert import Severity
from stormwatch.slo.standing import Standing

FREEZE: Fraction = Fraction(1, 10)
"""Share of the budget below which changes wait: the usual error budget policy."""


class GateState(StrEnum):
    """Whether changes may go out. `unknown`: there is no evidence to decide by, which is no permission."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The decision and why."""

    state: GateState
    reasons: tuple[str, ...]
    """One sentence for each objective that keeps it from being open; with an open gate none."""
    standings: tuple[Standing, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "gate": self.state.value,
            "reasons": list(self.reasons),
            "objectives": [standing.as_json() for standing in self.standings],
        }


def decide(standings: Sequence[Standing], *, least: Fraction = FREEZE, burning_closes: bool = True) -> Gate:
    """Closed when less than `least` of a budget is left, or while a page about one fires; unknown without evidence.

    With `burning_closes=False` only the budgets count: for the change that mends what is burning. What closes the gate beats
    what leaves it unknown: nobody needs more evidence against a deployment.
    """
    closing: list[str] = []
    lacking: list[str] = [] if standings else ["no objective was asked about, so there is nothing to decide by"]
    for standing in standings:
        name = standing.objective
        if standing.left is not None and standing.left < least:
            closing.append(f"{name} {_left(standing)}, less than the {show_ratio(least)} below which changes wait")
        if burning_closes and Severity.PAGE in standing.firing:
            closing.append(f"{name} burns its budget so fast that somebody is being paged")
        if standing.left is None:
            window = (
                f"this {standing.calendar}" if standing.calendar else f"its window of {show_duration(standing.window)}"
            )
            lacking.append(f"{name} has no results in {window}")
        elif standing.blind:
            lacking.append(f"{name} is not watched now: no evidence from {', '.join(standing.blind)}")
    state = GateState.CLOSED if closing else GateState.UNKNOWN if lacking else GateState.OPEN
    return Gate(state=state, reasons=(*closing, *lacking), standings=tuple(standings))


def _left(standing: Standing) -> str:
    assert standing.left is not None
    if standing.left < 0:
        return f"has overspent its budget by {float(-standing.left):.0%}"
    return f"has {float(standing.left):.1%} of its budget left"
