"""What a rule says of a made-up history, from its definition alone: the other half of a unit test of its PromQL.

A scenario is a handful of series, step by step. `firing` tells at which steps an alert fires. It is computed from the rule
and not from its expression, so that an expression that was broken by hand disagrees with it.

Prometheus 2 counts the sample on the left edge of a window, Prometheus 3 does not. Where that, or the last digit of a
number, decides, the answer is None, and nothing is tested there: a test holds for every Prometheus.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from stormwatch.slo.objective import EXPIRY, Objective
from stormwatch.slo.policy import STANDS
from stormwatch.slo.prometheus import LOOK_BACK, PERIOD_EVENTS, PERIOD_EXPECTED
from stormwatch.slo.rule import (
    BudgetLeft,
    BurnRate,
    Common,
    Down,
    Expiring,
    LocationDown,
    NoEvidence,
    PeerSilent,
    QuorumDegraded,
    Rule,
    Windows,
)

Number = int | Fraction
Values = Sequence[Number | None]
"""The samples of a series, one a step; None where it is gone."""
Known = bool | None
"""None: it depends on what we do not want to depend on."""

SUCCESS = "probe_success"
MAINTENANCE = "stormwatch_maintenance"
EVIDENCE = "stormwatch_probe_evidence_timestamp_seconds"
EVENTS = "stormwatch_objective_events_total"
ROUNDING = Fraction(1, 10**6)
"""Numbers that are closer to each other than this share are not compared: Prometheus computes with doubles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One time series."""

    metric: str
    labels: Mapping[str, str]
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Series of one length, `step` milliseconds between two samples and between two evaluations."""

    name: str
    """A sentence: what happens in it."""
    step: int
    series: tuple[Series, ...]

    @property
    def steps(self) -> int:
        """How many there are."""
        return max((len(each.values) for each in self.series), default=1)

    def seconds(self, at: int) -> Fraction:
        """The time of a step."""
        return Fraction(at * self.step, 1000)

    def values(self, metric: str, **labels: str) -> list[Values]:
        """The series of a metric that have these labels."""
        return [each.values for each in self.series if each.metric == metric and labels.items() <= each.labels.items()]

    def now(self, at: int, metric: str, **labels: str) -> list[Number]:
        """What there is of a metric at a step."""
        found = (values[at] for values in self.values(metric, **labels) if at < len(values))
        return [value for value in found if value is not None]

    def reaches_back(self, seconds: float) -> tuple[int, int]:
        """How many steps of a window Prometheus 2 sees, and how many Prometheus 3 does."""
        held = Fraction(str(seconds)) * 1000 / self.step
        return math.floor(held), math.ceil(held) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Knows the objectives, and how many results a full window of each holds."""

    objectives: Mapping[str, Objective]
    expected: Mapping[str, Fraction]
    quorums: Mapping[str, Down] = field(default_factory=dict[str, Down])
    """The rules about probes that several locations decide on, by the probe."""
    stands: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds for which what was seen down stands when nothing is seen any more, by the probe."""

    def firing(self, rule: Rule, scenario: Scenario) -> list[Known]:
        """At which steps the alert of a rule fires, its `for` and `keep_firing_for` included."""
        met = [self.met(rule, scenario, at) for at in range(scenario.steps)]
        # Whatever makes the condition hold longer makes the alert fire longer, so both extremes bound the truth.
        least = _life([each is True for each in met], rule, scenario.step)
        most = _life([each is not False for each in met], rule, scenario.step)
        return [low if low == high else None for low, high in zip(least, most, strict=True)]

    def met(self, rule: Rule, scenario: Scenario, at: int) -> Known:
        """Whether the condition of a rule is met at a step."""
        if isinstance(rule, BurnRate):
            if self._muted(rule, scenario, at):
                return False
            return _any([self.burns(pair, rule.objective, scenario, at) for pair in rule.pairs])
        if isinstance(rule, BudgetLeft):
            return self._budget_low(rule, scenario, at)
        assert not isinstance(rule, PeerSilent)
        if self._muted(rule, scenario, at) or scenario.now(at, MAINTENANCE, probe=rule.probe) == [1]:
            return False
        if isinstance(rule, Down):
            return self._is_down(rule.probe, scenario, at)
        if isinstance(rule, QuorumDegraded):
            return 0 < len(_votes(rule, scenario, at)) < rule.quorum
        if isinstance(rule, LocationDown):
            alone = _votes(rule, scenario, at).get(rule.location) == 0
            return alone and not _decided(rule, scenario, at)
        now = scenario.seconds(at)
        if isinstance(rule, Expiring):
            expiries = scenario.now(at, EXPIRY, probe=rule.probe)
            return bool(expiries) and min(expiries) - now < Fraction(str(rule.within))
        assert isinstance(rule, NoEvidence)
        look_back = max(LOOK_BACK, 2 * rule.after)
        return _agree(
            [
                bool(seen) and now - max(seen) > Fraction(str(rule.after))
                for steps in scenario.reaches_back(look_back)
                for seen in [
                    [
                        value
                        for values in scenario.values(EVIDENCE, probe=rule.probe)
                        for value in values[max(0, at - steps) : at + 1]
                        if value is not None
                    ]
                ]
            ]
        )

    def _muted(self, rule: Common, scenario: Scenario, at: int) -> bool:
        if isinstance(rule, LocationDown):
            return any(self._stands_down(probe, scenario, at, location=rule.location) for probe in rule.muted_by)
        return any(self._is_down(probe, scenario, at) for probe in rule.muted_by)

    def _is_down(self, probe: str, scenario: Scenario, at: int) -> Known:
        """Seen down by the quorum; of a probe without one, from every location."""
        if probe in self.quorums:
            return _decided(self.quorums[probe], scenario, at)
        return self._stands_down(probe, scenario, at)

    def _stands_down(self, probe: str, scenario: Scenario, at: int, **labels: str) -> Known:
        """Seen down at the step, or, where nothing is seen, when something was seen last."""
        window = self.stands.get(probe, STANDS)
        return _agree(
            [
                bool(seen) and max(seen) == 0
                for steps in scenario.reaches_back(window)
                for seen in [_last_seen(scenario, at, steps, probe=probe, **labels)]
            ]
        )

    def burns(self, pair: Windows, objective: str, scenario: Scenario, at: int) -> Known:
        """Whether both windows of a pair burn faster than its factor at a step."""
        threshold = pair.factor * self.objectives[objective].budget
        return _all(
            [
                _agree([_above(share, threshold) for share in _shares(objective, window, scenario, at)])
                for window in dict.fromkeys((pair.long, pair.short))
            ]
        )

    def _budget_low(self, rule: BudgetLeft, scenario: Scenario, at: int) -> Known:
        objective = self.objectives[rule.objective]
        if objective.calendar is not None:
            return self._period_low(rule, objective, scenario, at)
        answers: list[Known] = []
        for bad, total in _increases(rule.objective, objective.window, scenario, at):
            allowed = objective.budget * max(Fraction(total), self.expected[rule.objective])
            left = 1 - bad / allowed
            answers.append(_above(rule.below - left, Fraction(0)) if total else False)
        return _agree(answers)

    def _period_low(self, rule: BudgetLeft, objective: Objective, scenario: Scenario, at: int) -> Known:
        named = {"objective": rule.objective}
        bad = sum(scenario.now(at, PERIOD_EVENTS, judgement="bad", **named), Fraction(0))
        total = sum(scenario.now(at, PERIOD_EVENTS, **named), Fraction(0))
        full = sum(scenario.now(at, PERIOD_EXPECTED, **named), Fraction(0))
        if not total or not full:
            return False
        return _above(rule.below - (1 - bad / (objective.budget * max(total, full))), Fraction(0))


def _increases(objective: str, window: float, scenario: Scenario, at: int) -> list[tuple[Number, Number]]:
    """Bad and all results of a window, as Prometheus 2 and 3 count them; nothing when a window has less than two samples.

    Counters do not begin anew in these histories, and both are scraped at the same moments.
    """
    found: list[tuple[Number, Number]] = []
    for steps in scenario.reaches_back(window):
        grown: dict[str, Number] = {"good": 0, "bad": 0}
        for judgement in grown:
            for values in scenario.values(EVENTS, objective=objective, judgement=judgement):
                begin = next((value for value in values[max(0, at - steps) : at + 1] if value is not None), 0)
                end = next((value for value in values[at : max(0, at - steps) : -1] if value is not None), begin)
                grown[judgement] += end - begin
        found.append((grown["bad"], grown["bad"] + grown["good"]))
    return found


def _shares(objective: str, window: float, scenario: Scenario, at: int) -> list[Fraction | None]:
    return [Fraction(bad) / total if total else None for bad, total in _increases(objective, window, scenario, at)]


def _above(number: Fraction | None, threshold: Fraction) -> Known:
    if number is None:
        return False
    near = abs(number - threshold) <= ROUNDING * max(abs(number), abs(threshold), ROUNDING)
    return None if near else number > threshold


def _last_seen(scenario: Scenario, at: int, steps: int, **labels: str) -> list[Number]:
    """`probe_success` of the series that have a sample at the step, or else the last one of each within the window."""
    if now := scenario.now(at, SUCCESS, **labels):
        return now
    windows = ([value for value in values[max(0, at - steps) : at + 1] if value is not None]
               for values in scenario.values(SUCCESS, **labels))  # fmt: skip
    return [window[-1] for window in windows if window]


def _decided(rule: Down | LocationDown, scenario: Scenario, at: int) -> bool:
    votes = _votes(rule, scenario, at).values()
    red = sum(vote == 0 for vote in votes)
    return red >= rule.quorum or 0 < red == len(votes)


def _votes(rule: Down | LocationDown | QuorumDegraded, scenario: Scenario, at: int) -> dict[str, Number]:
    """What each location sees that looked lately."""
    now = scenario.seconds(at)
    votes: dict[str, Number] = {}
    for location in {each.labels.get("location", "") for each in scenario.series}:
        # Evidence is older than the last sample that was taken of it, so that no window's edge decides here.
        steps, _ = scenario.reaches_back(rule.due)
        named = {"probe": rule.probe, "location": location}
        seen = scenario.now(at, SUCCESS, **named) or [0] * (
            max(_last_seen(scenario, at, steps, **named), default=1) == 0
        )
        evidence = scenario.now(at, EVIDENCE, probe=rule.probe, location=location)
        if seen and evidence and now - max(evidence) <= Fraction(str(rule.due)):
            votes[location] = max(seen)
    return votes


def _life(met: Sequence[bool], rule: Common, step: int) -> list[bool]:
    """Prometheus' life of an alert: pending for `for`, and kept for `keep_firing_for`."""
    lasting, keep = round(rule.lasting * 1000), round(rule.keep * 1000)
    since: int | None = None
    unmet: int | None = None
    firing = False
    life: list[bool] = []
    for at, holds in enumerate(met):
        now = at * step
        if holds:
            since, unmet = now if since is None else since, None
            firing = firing or now - since >= lasting
        else:
            unmet = now if unmet is None else unmet
            if not (firing and now - unmet < keep):
                since, firing = None, False
        life.append(firing)
    return life


def _all(answers: Sequence[Known]) -> Known:
    return False if False in answers else None if None in answers else True


def _any(answers: Sequence[Known]) -> Known:
    return True if True in answers else None if None in answers else False


def _agree(answers: Sequence[Known]) -> Known:
    first, *others = answers
    return first if all(each is first for each in others) else None
