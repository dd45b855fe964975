"""How long an alert takes, at best and at worst, from the moment at which its probe begins to fail every time.

    failure ──▶ next run starts ──▶ its attempts fail ──▶ … as many runs as the windows need ──▶ evaluation ──▶ `for`
             0 … every          0 … time-outs             × every                            0 … interval

Pure arithmetic, so that a drill which asks for less than the configuration can give is refused before it starts.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from stormwatch.probes.probe import Probe
from stormwatch.slo.budget import share_left
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import longest_run
from stormwatch.slo.rule import (
    BudgetLeft,
    BurnRate,
    Down,
    Expiring,
    LocationDown,
    NoEvidence,
    PeerSilent,
    QuorumDegraded,
    Rule,
    Windows,
)
from stormwatch.slo.timeslice import LATE

HEARD = 3.0
"""Seconds at the most until the result of another location is known here: the peers are asked once a second, and answer."""


class Bounds(NamedTuple):
    """Seconds; infinite when it never fires."""

    best: float
    worst: float


def time_to_fire(
    rule: Rule,
    probe: Probe,
    evaluation_interval: float,
    *,
    objective: Objective | None = None,
    healthy: float | None = None,
) -> Bounds:
    """From the first moment of a total failure of `probe` to the evaluation at which the rule's alert fires.

    Best: a run starts at that moment and fails at once, and `healthy` seconds of good results were there before; not
    given, none were, which makes windows fill with failures at once. Worst: a run has just passed, every attempt of the
    following ones times out, and `healthy` seconds of good results were there before; not given, as many as the windows hold.

    `objective` is that of a burn-rate or budget rule; the probe is taken for the only one that it judges. Raises ValueError
    when it is missing. A NoEvidence rule is about a probe that is broken from that moment on.
    """
    holding = math.ceil(rule.lasting / evaluation_interval) * evaluation_interval if rule.lasting else 0.0
    if isinstance(rule, Down | LocationDown):
        quick, slow = first_failure(probe)
        told = HEARD if isinstance(rule, LocationDown) or rule.quorum > 1 else 0.0
        return Bounds(quick + holding, slow + told + evaluation_interval + holding)
    if isinstance(rule, NoEvidence):
        # The last evidence may be a whole interval and a long run old when the probe breaks, or has just come.
        return Bounds(
            max(0.0, rule.after - probe.every - longest_run(probe)) + holding,
            rule.after + evaluation_interval + holding,
        )
    if isinstance(rule, Expiring | QuorumDegraded | PeerSilent):
        return Bounds(math.inf, math.inf)  # a failing probe says nothing of a certificate, nor of who looks at it
    _check_objective(rule, objective)
    assert objective is not None
    best = _needed(rule, objective, probe, healthy=healthy or 0.0, round_up=False)
    worst = _needed(rule, objective, probe, healthy=math.inf if healthy is None else healthy, round_up=True)
    quick, slow = _first_bad(probe, objective)
    every, failing = _apart(probe, objective)
    return Bounds(
        math.inf if best is None else quick + (best - 1) * float(every) + holding,
        math.inf if worst is None else slow + (worst - 1) * failing + evaluation_interval + holding,
    )


def time_to_fire_at(
    rule: BurnRate, probe: Probe, evaluation_interval: float, *, objective: Objective, every_nth: int
) -> Bounds:
    """From the moment at which every n-th run of `probe` begins to fail to the evaluation at which the rule fires.

    The windows were full of good results before. Best: the next run is one that fails, at once; worst: a run has just passed,
    and those that fail come last in each group of n and time out. Infinite when so small a share of failures never burns fast
    enough. Failures are evenly spread; of random ones some come sooner and some later.

    The probe is taken for the only one that the objective judges. Raises ValueError for the objective of another rule.
    """
    _check_objective(rule, objective)
    holding = math.ceil(rule.lasting / evaluation_interval) * evaluation_interval if rule.lasting else 0.0
    quick, slow = _first_bad(probe, objective)
    every, failing = _apart(probe, objective)
    steady = bool(rule.lasting)
    needed = [
        tuple(_failures_at(pair, objective, every, every_nth, round_up=up, steady=steady) for up in (False, True))
        for pair in rule.pairs
    ]
    best = min((low for low, _ in needed if low is not None), default=None)
    worst = min((high for _, high in needed if high is not None), default=None)
    apart = max(every_nth * float(every), failing)
    return Bounds(
        math.inf if best is None else quick + (best - 1) * every_nth * float(every) + holding,
        math.inf
        if worst is None
        else slow + (every_nth - 1) * float(every) + (worst - 1) * apart + evaluation_interval + holding,
    )


def _failures_at(
    pair: Windows, objective: Objective, every: Fraction, every_nth: int, *, round_up: bool, steady: bool
) -> int | None:
    """How many failures, each `every_nth` run, take both full windows above the threshold; None: they never do.

    `steady`: they must keep them there also between two failures.
    """
    threshold = pair.factor * objective.budget
    most = 0
    for window in (pair.short, pair.long):
        holds = _holds(window, every, round_up=round_up)
        needed = math.floor(threshold * holds) + 1
        if needed > (holds // every_nth if steady else -(-holds // every_nth)):
            return None
        most = max(most, needed)
    return most


def time_to_resolve(
    rule: Rule,
    probe: Probe,
    evaluation_interval: float,
    *,
    failing: float,
    objective: Objective | None = None,
    healthy: float | None = None,
) -> Bounds:
    """From the moment at which every run of `probe` is good again to the evaluation at which its alert is resolved.

    It failed for `failing` seconds before. A burn-rate alert stays until the failures have left a short window of each pair
    or are outweighed in it; a budget gets whole only as they leave the period. Best: after as much healthy history as the
    windows hold, or `healthy` seconds of it. Worst: after none, or `healthy` seconds. Otherwise as `time_to_fire`.
    """
    keeping = math.ceil(rule.keep / evaluation_interval) * evaluation_interval if rule.keep else 0.0
    if not isinstance(rule, BurnRate | BudgetLeft):
        told = HEARD if isinstance(rule, Down) and rule.quorum > 1 else 0.0
        return Bounds(keeping, probe.every + longest_run(probe) + told + evaluation_interval + keeping)
    _check_objective(rule, objective)
    assert objective is not None
    if isinstance(rule, BudgetLeft):
        return Bounds(keeping, objective.window + probe.every + evaluation_interval + keeping)
    every, apart = _apart(probe, objective)
    most, least = math.ceil(failing / every) + 1, max(1, math.floor(failing / apart))
    skips = round(apart / every)
    best = _good_to_resolve(rule, objective, every, least, math.inf if healthy is None else healthy, skips=skips)
    worst = _good_to_resolve(rule, objective, every, most, healthy or 0.0)
    # The run that is under way when the target comes back may still fail, and keep the next one waiting.
    first_good = probe.every + longest_run(probe) + probe.timeout
    if objective.slices is not None:  # and the slice that it ends in has failures
        first_good += 2 * objective.slices.length + LATE
    return Bounds(
        float(max(0, best - 2) * every) + keeping,
        (float((worst - 1) * every) + first_good + evaluation_interval if worst else 0.0) + keeping,
    )


def _good_to_resolve(
    rule: BurnRate, objective: Objective, every: Fraction, failures: int, healthy: float, *, skips: int = 1
) -> int:
    """How many good results after so many bad ones bring every pair below its factor."""

    def resolved(good: int) -> bool:
        return not any(
            all(
                _share_bad(failures, window, every, healthy, good=good, skips=skips, round_up=True)
                > pair.factor * objective.budget
                for window in (pair.short, pair.long)
            )
            for pair in rule.pairs
        )

    if resolved(0):
        return 0
    # One more than the longest short window holds: its results do not stand on its edges.
    limit = max(_holds(pair.short, every, round_up=True) for pair in rule.pairs) + 1
    return _smallest(resolved, limit) or limit


def first_failure(probe: Probe) -> Bounds:
    """Until the first failed run is decided, all its attempts included."""
    confirm = probe.confirm
    pauses = (confirm.attempts - 1) * confirm.after
    return Bounds(pauses, probe.every + longest_run(probe))


def _first_bad(probe: Probe, objective: Objective) -> Bounds:
    """Until the first bad event is counted: a run, or a slice, which is decided when it is over."""
    quick, slow = first_failure(probe)
    if objective.slices is None:
        return Bounds(quick, slow)
    # At best the slice was about to end. At worst so little of it was left that it is still good, and the next one counts.
    return Bounds(quick, slow + 2 * objective.slices.length + LATE)


def _apart(probe: Probe, objective: Objective) -> tuple[Fraction, float]:
    """Seconds between what is counted while all is well, and while every attempt times out."""
    if objective.slices is not None:
        return Fraction(objective.slices.length), objective.slices.length
    return Fraction(probe.every), interval_when_failing(probe)


def interval_when_failing(probe: Probe) -> float:
    """Seconds between runs of which every attempt times out: a run that takes longer than the interval skips ticks."""
    return max(1, math.ceil(longest_run(probe) / probe.every)) * probe.every


def failures_to_fire(
    pair: Windows, objective: Objective, every: Fraction, *, healthy: float = math.inf, round_up: bool = False
) -> int | None:
    """How many bad results in a row, `every` seconds apart, make both windows burn faster than the factor.

    `healthy` seconds of good results, equally far apart, stand before them. None: even bad results alone never do, since
    the factor times the budget is 1 or more. `round_up` counts the result that a window may hold by luck, when it is no
    multiple of the interval.
    """
    threshold = pair.factor * objective.budget
    if threshold >= 1:
        return None

    def burns(failures: int) -> bool:
        return all(
            _share_bad(failures, window, every, healthy, round_up=round_up) > threshold
            for window in (pair.short, pair.long)
        )

    return _smallest(burns, limit=_holds(pair.long, every, round_up=round_up))


def _needed(
    rule: BurnRate | BudgetLeft, objective: Objective, probe: Probe, *, healthy: float, round_up: bool
) -> int | None:
    every, _ = _apart(probe, objective)
    if isinstance(rule, BurnRate):
        needed = [failures_to_fire(pair, objective, every, healthy=healthy, round_up=round_up) for pair in rule.pairs]
        return min((count for count in needed if count is not None), default=None)
    allowed = objective.budget * Fraction(objective.window) / every
    return _smallest(
        lambda failures: share_left(failures, allowed) < rule.below, _holds(objective.window, every, round_up=round_up)
    )


def _holds(window: float, every: Fraction, *, round_up: bool) -> int:
    """How many results a full window holds, at least one."""
    held = Fraction(window) / every
    return max(1, math.ceil(held) if round_up else math.floor(held))


def _share_bad(
    failures: int, window: float, every: Fraction, healthy: float, *, good: int = 0, skips: int = 1, round_up: bool
) -> Fraction:
    """The share of bad results in a window: `healthy` seconds of good ones, the failures, and then `good` good ones.

    The failures are `skips` intervals apart, the others one.
    """
    holds = _holds(window, every, round_up=round_up)
    after = min(good, holds)
    bad = min(failures, (holds - after) // skips)
    room = max(0, holds - after - bad * skips)
    before = room if math.isinf(healthy) else (math.ceil if round_up else math.floor)(Fraction(healthy) / every)
    return Fraction(bad, max(1, after + bad + min(before, room)))


def _check_objective(rule: BurnRate | BudgetLeft, objective: Objective | None) -> None:
    if objective is None or objective.name != rule.objective:
        seen = "none" if objective is None else repr(objective.name)
        raise ValueError(f"rule {rule.alertname} is about the objective {rule.objective!r}; {seen} was given")


def _smallest(enough: Callable[[int], bool], limit: int) -> int | None:
    """The smallest number from 1 to `limit` that is enough, when every larger one is enough too."""
    if not enough(limit):
        return None
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
