"""How much of an objective's error budget is used and left: exact, in results and as a share."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from stormwatch.slo.objective import Objective
from stormwatch.slo.window import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The state of an objective at one moment."""

    objective: str
    bad: int
    """Bad results in the window."""
    total: int
    """Good and bad results in the window."""
    allowed: Fraction
    """How many may be bad in a window that is full."""
    left: Fraction
    """Share of the budget that is left: 1 is untouched, 0 used up, below 0 overspent."""
    period: tuple[float, float] | None = None
    """When the calendar's window began that it is for, and when a new budget begins: Unix times. None: the window rolls."""
    burn: Mapping[float, Fraction | None]
    """How fast it burns over the last so many seconds: 1 uses it up exactly in the window. None: no results there."""


def expected_results(objective: Objective, every: Mapping[str, float], *, seconds: float | None = None) -> Fraction:
    """What a full window of the objective (or another stretch of `seconds`) holds of what it counts: results, or slices.

    `every` gives the seconds between runs of each probe.
    """
    return objective.events_in(objective.window if seconds is None else seconds, every)


def allowed_bad(objective: Objective, total: int, expected: Fraction) -> Fraction:
    """How many results may be bad.

    A window that is not full yet, because the monitoring is young, is taken as full: else the first failed run after
    an installation would overspend a budget that is meant for thirty days.
    """
    return objective.budget * max(Fraction(total), expected)


def share_left(bad: int, allowed: Fraction) -> Fraction:
    """1 minus the used share. A target of 100 % has no budget: it is whole until the first bad result, and then gone."""
    if allowed == 0:
        return Fraction(int(bad == 0))
    return 1 - bad / allowed


def burn_rate(counts: Counts, budget: Fraction) -> Fraction | None:
    """The share of bad results, in multiples of what the budget allows. None without results or without a budget."""
    if counts.total == 0 or budget == 0:
        return None
    return Fraction(counts.bad, counts.total) / budget
