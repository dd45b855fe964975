"""What objectives came to in a month or a quarter: kept or not, by how much, on which days, and who was called."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any, Protocol

from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.alert import AlertState, Severity, Transition
from stormwatch.slo.objective import Objective
from stormwatch.slo.period import Period

HOUR = 3600


class Hour(Protocol):
    """What an objective counted in an hour."""

    @property
    def objective(self) -> str:
        """Its name."""
        ...

    @property
    def hour(self) -> int:
        """Unix time in seconds at which it begins."""
        ...

    @property
    def good(self) -> int:
        """Good results."""
        ...

    @property
    def bad(self) -> int:
        """Bad results."""
        ...


@dataclass(frozen=True, slots=True)
class Day:
    """One day of an objective."""

    day: date
    good: int = 0
    bad: int = 0

    @property
    def ratio(self) -> Fraction | None:
        """Share of good results; None without any."""
        return _ratio(self.good, self.bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """An alert that fired in the period. Unix times; `until` is None while it still fires."""

    name: str
    severity: Severity
    subject: str
    """The objective or the probe that it is about."""
    since: float
    until: float | None
    reason: str = ""
    message: str = ""

    def seconds(self, end: float) -> float:
        """How long it fired until `end`."""
        return max(0.0, (end if self.until is None else min(self.until, end)) - self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How one objective came out."""

    objective: str
    target: Fraction
    slower_than: float | None
    asks: str = ""
    """What a run had to be besides up, for people; empty for nothing."""
    days: tuple[Day, ...]
    hours_watched: int
    """Hours in which there were results."""
    hours_blind: int
    """Hours without any, between the first of the period that had some (or its start) and its end or now."""
    firings: tuple[Firing, ...] = ()

    @property
    def good(self) -> int:
        """Good results of the period."""
        return sum(day.good for day in self.days)

    @property
    def bad(self) -> int:
        """Bad results of the period."""
        return sum(day.bad for day in self.days)

    @property
    def ratio(self) -> Fraction | None:
        """Share of good results; None without any."""
        return _ratio(self.good, self.bad)

    @property
    def met(self) -> bool | None:
        """Whether the promise was kept; None: nobody knows, there were no results."""
        return None if self.ratio is None else self.ratio >= self.target

    @property
    def used(self) -> Fraction | None:
        """Share of the period's error budget that was used: above 1 is overspent. None without results or budget."""
        allowed = (1 - self.target) * (self.good + self.bad)
        return Fraction(self.bad) / allowed if allowed else None

    @property
    def bad_seconds(self) -> float:
        """Seconds of a full outage that the bad results come to."""
        return 0.0 if self.ratio is None else float((1 - self.ratio) * self.hours_watched * HOUR)

    @property
    def worst(self) -> Day | None:
        """The day with the smallest share of good results; None when no result was bad."""
        bad = [day for day in self.days if day.bad]
        return min(bad, key=lambda day: (day.ratio, day.day), default=None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "objective": self.objective,
            "target": show_ratio(self.target),
            "slower_than": None if self.slower_than is None else show_duration(self.slower_than),
            "asks": self.asks,
            "met": self.met,
            "ratio": _float(self.ratio),
            "good": self.good,
            "bad": self.bad,
            "budget_used": _float(self.used),
            "bad_seconds": self.bad_seconds,
            "hours_watched": self.hours_watched,
            "hours_blind": self.hours_blind,
            "worst_day": self.worst.day.isoformat() if self.worst else None,
            "days": [
                {"day": day.day.isoformat(), "good": day.good, "bad": day.bad, "ratio": _float(day.ratio)}
                for day in self.days
            ],
            "alerts": [
                {
                    "alertname": each.name,
                    "severity": each.severity.value,
                    "since": each.since,
                    "until": each.until,
                    "reason": each.reason,
                    "message": each.message,
                }
                for each in self.firings
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """All objectives over one period."""

    period: Period
    now: float
    """Unix time at which it was written: a period that is not over counts until then."""
    kept: tuple[Kept, ...]
    location: str = ""
    others: tuple[Firing, ...] = field(default=())
    """Alerts that were about no objective."""

    @property
    def until(self) -> float:
        """Unix time up to which it counts."""
        return min(self.period.end, self.now)

    @property
    def over(self) -> bool:
        """Whether the period has ended."""
        return self.now >= self.period.end

    @property
    def verdict(self) -> str:
        """One sentence for whoever has one second."""
        counts = {met: sum(each.met is met for each in self.kept) for met in (True, False, None)}
        if not self.kept:
            return "There are no objectives."
        parts = [f"{counts[True]} of {len(self.kept)} objectives {'were' if self.over else 'are'} kept"]
        broken = [each.objective for each in self.kept if each.met is False]
        if broken:
            parts.append(f"not {', '.join(broken)}")
        if counts[None]:
            parts.append(f"{counts[None]} had no results")
        return f"{'; '.join(parts)}."

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "period": {
                "name": self.period.name,
                "first": self.period.first.isoformat(),
                "after": self.period.after.isoformat(),
                "timezone": self.period.zone,
                "over": self.over,
            },
            "written": self.now,
            "location": self.location,
            "verdict": self.verdict,
            "objectives": [each.as_json() for each in self.kept],
        }


def report(
    objectives: Sequence[Objective],
    hours: Iterable[Hour],
    transitions: Iterable[Transition],
    period: Period,
    *,
    now: float,
    location: str = "",
) -> PeriodReport:
    """Count a period. `hours` and `transitions` may reach beyond it; an hour belongs to the day in which it begins."""
    counted: dict[str, dict[int, Hour]] = {}
    for hour in hours:
        if period.start <= hour.hour < period.end:
            counted.setdefault(hour.objective, {})[hour.hour] = hour
    fired = firings(transitions, period.start, min(period.end, now))
    names = {objective.name for objective in objectives}
    return PeriodReport(
        period=period,
        now=now,
        kept=tuple(
            _kept(objective, counted.get(objective.name, {}), fired, period, min(period.end, now))
            for objective in objectives
        ),
        location=location,
        others=tuple(each for each in fired if each.subject not in names),
    )


def firings(transitions: Iterable[Transition], start: float, end: float) -> tuple[Firing, ...]:
    """Every time that an alert fired between two Unix times, in the order in which they began."""
    open_ones: dict[Any, Transition] = {}
    found: list[Firing] = []
    for transition in sorted(transitions, key=lambda each: each.at):
        key = transition.alert.key
        if transition.after is AlertState.FIRING:
            open_ones.setdefault(key, transition)
        elif key in open_ones:
            found.append(_firing(open_ones.pop(key), transition.at))
    found += [_firing(began, None) for began in open_ones.values()]
    touching = [each for each in found if each.since < end and (each.until is None or each.until > start)]
    return tuple(sorted(touching, key=lambda each: each.since))


def _firing(began: Transition, until: float | None) -> Firing:
    labels = began.alert.labels
    return Firing(
        name=began.alert.name,
        severity=began.alert.severity,
        subject=labels.get("objective") or labels.get("probe", ""),
        since=began.at,
        until=until,
        reason=began.reason,
        message=began.message,
    )


def _kept(objective: Objective, hours: Mapping[int, Hour], fired: Sequence[Firing], period: Period, end: float) -> Kept:
    days = {day: [0, 0] for day in period.days if day <= period.day_of(max(period.start, end - 1))}
    for hour in hours.values():
        tally = days.setdefault(period.day_of(hour.hour), [0, 0])
        tally[0] += hour.good
        tally[1] += hour.bad
    first = min(hours, default=None)
    expected = 0 if first is None else -int((first - end) // HOUR)
    return Kept(
        objective=objective.name,
        target=objective.target,
        slower_than=objective.slower_than,
        asks=objective.asks,
        days=tuple(Day(day, good, bad) for day, (good, bad) in sorted(days.items())),
        hours_watched=len(hours),
        hours_blind=max(0, expected - len(hours)),
        firings=tuple(each for each in fired if each.subject == objective.name),
    )


def _ratio(good: int, bad: int) -> Fraction | None:
    return Fraction(good, good + bad) if good + bad else None


def _float(number: Fraction | None) -> float | None:
    return None if number is None else float(number)
