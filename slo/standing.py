"""An objective at one moment, as people and gates ask of it: what is left, how fast it goes, and what is firing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from stormwatch.probes.units import parse_duration, parse_ratio, show_duration, show_ratio
from stormwatch.slo.alert import AlertState, Severity, Transition
from stormwatch.slo.budget import Budget
from stormwatch.slo.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of one objective. Shares are exact where they were computed in this process."""

    objective: str
    target: Fraction
    window: float
    """Seconds; of a calendar window, those of the present one."""
    calendar: str = ""
    """`week`, `month` or `quarter` for a window of the calendar; empty: it rolls."""
    until: float | None = None
    """Unix time at which a window of the calendar ends, and a new budget begins."""
    now: float | None = None
    """Unix time of this standing, where there is an end to count from it."""
    left: Fraction | None
    """Share of the budget that is left: 1 is untouched, below 0 overspent. None: nobody has counted anything yet."""
    burn: Mapping[float, Fraction | None] = field(default_factory=dict[float, Fraction | None])
    """How fast it goes, over the last so many seconds: 1 uses it up exactly in the window. None: no results there."""
    good: int | None = None
    bad: int | None = None
    """Results in the window. None where the source does not count them."""
    firing: tuple[Severity, ...] = ()
    """Severities of its burn-rate alerts that fire."""
    blind: tuple[str, ...] = ()
    """Probes of it that give no evidence."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def budget(self) -> float:
        """Seconds of a full outage that the whole window allows."""
        return float((1 - self.target) * Fraction(self.window))

    @property
    def seconds_left(self) -> float | None:
        """Seconds of a full outage that are left."""
        return None if self.left is None else float(self.left) * self.budget

    @property
    def pace(self) -> tuple[float, Fraction] | None:
        """The longest window that has a burn rate, and that rate: an hour's blip should not look like the end."""
        known = {window: rate for window, rate in self.burn.items() if rate is not None and window < self.window}
        return max(known.items()) if known else None

    @property
    def gone_in(self) -> float | None:
        """Seconds until nothing is left at this pace; 0 when it is gone already.

        None when it does not end, or not before a window of the calendar does.
        """
        if self.left is None:
            return None
        if self.left <= 0:
            return 0.0
        pace = self.pace
        gone = float(self.left * Fraction(self.window) / pace[1]) if pace and pace[1] > 0 else None
        ends_first = gone is not None and self.renewed_in is not None and self.renewed_in <= gone
        return None if ends_first else gone

    @property
    def renewed_in(self) -> float | None:
        """Seconds until a window of the calendar ends, and a new budget begins. None: the window rolls."""
        return None if self.until is None or self.now is None else self.until - self.now

    @property
    def window_name(self) -> str:
        """The window for people: `30d`, or `month`."""
        return self.calendar or show_duration(self.window)

    def as_json(self) -> dict[str, Any]:
        """A JSON object: seconds, shares and rates as numbers."""
        pace = self.pace
        return {
            "objective": self.objective,
            "target": show_ratio(self.target),
            "window": show_duration(self.window),
            "calendar": self.calendar or None,
            "until": self.until,
            "now": self.now,
            "left": None if self.left is None else float(self.left),
            "seconds_left": self.seconds_left,
            "budget_seconds": self.budget,
            "burn": {show_duration(w): None if rate is None else float(rate) for w, rate in self.burn.items()},
            "pace": None if pace is None else {"window": show_duration(pace[0]), "burn": float(pace[1])},
            "gone_in_seconds": self.gone_in,
            "good": self.good,
            "bad": self.bad,
            "firing": [severity.value for severity in self.firing],
            "blind": list(self.blind),
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Standing":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            objective=str(document["objective"]),
            target=parse_ratio(document["target"]),
            window=parse_duration(document["window"]),
            calendar=document.get("calendar") or "",
            until=document.get("until"),
            now=document.get("now"),
            left=_exact(document["left"]),
            burn={parse_duration(window): _exact(rate) for window, rate in document["burn"].items()},
            good=document["good"],
            bad=document["bad"],
            firing=tuple(Severity(each) for each in document["firing"]),
            blind=tuple(document["blind"]),
            labels=document["labels"],
        )


def standing_of(objective: Objective, budget: Budget, active: Sequence[Transition], *, now: float) -> Standing:
    """From what an evaluator knows at `now`: the budget of the objective, and all alerts that are pending or firing."""
    begin, until = budget.period or (0.0, None)
    firing = [each.alert for each in active if each.after is AlertState.FIRING]
    burning = {
        alert.severity
        for alert in firing
        if alert.name == "ErrorBudgetBurn" and alert.labels.get("objective") == objective.name
    }
    blind = {alert.labels.get("probe") for alert in firing if alert.name == "ProbeNoEvidence"}
    return Standing(
        objective=objective.name,
        target=objective.target,
        window=objective.window if until is None else until - begin,
        calendar=objective.calendar.unit if objective.calendar else "",
        until=until,
        now=None if until is None else now,
        left=budget.left if budget.total else None,
        burn=budget.burn,
        good=budget.total - budget.bad,
        bad=budget.bad,
        firing=tuple(severity for severity in Severity if severity in burning),
        blind=tuple(probe for probe in objective.probes if probe in blind),
        labels=objective.labels,
    )


def _exact(number: float | None) -> Fraction | None:
    return None if number is None else Fraction(str(number))
