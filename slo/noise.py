"""How often an alert would page for nothing: expected from the noise that was measured, by an exact sum over the windows.

The model: runs of a healthy target fail independently of each other, each with the measured share. Then the number of failures in
a window is binomial, and a page begins exactly at a run

    that fails ▸ after which both windows are above the threshold ▸ before which they were not

              y │ x │ b …                    │ a …            │ this run
    ────────────┼────────────────────────────┼────────────────┼─────────▶
                └ short window, a run before ┘
    y left the long window with this run, x left the short one; a, b, x and y are independent, so the probability is a finite sum.

Failures that come together are not noise by this model but trouble, small or large: only a failed run between two good ones
is counted as noise. A target that fails in bursts pages more often than this says; and what the model cannot know is whether a
single failure was the target's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.objective import Objective
from stormwatch.slo.rule import BurnRate, Down, Windows

MONTH = 30 * 86400
"""Seconds of the month that is spoken of."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What was measured of one probe. Broken runs are no evidence and not among them."""

    isolated: int
    """Failed runs between two good ones."""
    runs: int

    @property
    def share(self) -> float:
        """Of all runs."""
        return self.isolated / self.runs if self.runs else 0.0


def measure(results: Iterable[Result]) -> dict[str, Noise]:
    """The noise of each probe, from its results in the order of time. The first and the last run of each are not known to be alone."""
    last: dict[str, tuple[bool, bool]] = {}
    counted: dict[str, list[int]] = {}
    for result in results:
        if result.outcome is Outcome.BROKEN:
            continue
        good = result.outcome is Outcome.UP
        counts = counted.setdefault(result.probe, [0, 0])
        counts[1] += 1
        before, between = last.get(result.probe, (False, True))
        counts[0] += before and not between and good
        last[result.probe] = (between if counts[1] > 1 else False, good)
    return {probe: Noise(isolated, runs) for probe, (isolated, runs) in counted.items()}


def false_alerts_a_month(rule: BurnRate, objective: Objective, every: Fraction, share: float) -> float:
    """How often a burn-rate rule is expected to begin in a month of noise: at most, since pairs that fire together count twice.

    `every` is the seconds between results of all its probes together, `share` that of isolated failures among them. A `for` is
    not taken into account, which only makes it less.
    """
    if not 0 < share < 1:
        return 0.0 if share <= 0 else math.inf
    runs = MONTH / float(every)
    return runs * sum(_begins(*_needs(pair, objective, every), share) for pair in rule.pairs)


def false_downs_a_month(rule: Down, every: float, share: float) -> float:
    """How often ProbeDown is expected to begin in a month of noise: as many failed runs in a row as its `for` outlasts.

    Of one location: a quorum makes it less.
    """
    in_a_row = 1 + math.ceil(rule.lasting / every)
    return MONTH / every * (1 - share) * share**in_a_row


def _needs(pair: Windows, objective: Objective, every: Fraction) -> tuple[int, int, int, int]:
    """Runs in the short and in the long window, and the failures that each needs."""
    threshold = pair.factor * objective.budget
    short, long = (max(1, math.floor(Fraction(window) / every)) for window in (pair.short, pair.long))
    return short, long, math.floor(threshold * short) + 1, math.floor(threshold * long) + 1


@lru_cache(maxsize=4096)
def _begins(short: int, long: int, need_short: int, need_long: int, share: float) -> float:
    """The probability that the condition begins to be met at a run."""
    in_short = _binomial(short - 1, share)
    if long == short:
        # One window: it begins where the failure that is needed comes, unless one left at the same time.
        return share * (1 - share) * _at(in_short, max(need_short, need_long) - 1)
    in_rest = _binomial(long - short - 1, share)
    tail = _tails(in_rest)
    total = 0.0
    for a, chance in enumerate(in_short):
        if a + 1 < need_short:
            continue
        for x, chance_of_x in ((0, 1 - share), (1, share)):
            least = max(0, need_long - 1 - a - x)
            met = _from(tail, least)
            # Of those the ones in which it was met a run before: then b and y had enough without this run.
            already = 0.0
            if a + x >= need_short:
                for y, chance_of_y in ((0, 1 - share), (1, share)):
                    already += chance_of_y * _from(tail, max(least, need_long - a - x - y))
            total += chance * chance_of_x * (met - already)
    return share * total


def _binomial(runs: int, share: float) -> list[float]:
    """The probabilities of 0 … `runs` failures, as far as they are not 0 to a double."""
    if runs <= 0:
        return [1.0]
    log_share, log_rest = math.log(share), math.log1p(-share)
    chances: list[float] = []
    for failures in range(runs + 1):
        ways = math.lgamma(runs + 1) - math.lgamma(failures + 1) - math.lgamma(runs - failures + 1)
        chance = math.exp(ways + failures * log_share + (runs - failures) * log_rest)
        if chance == 0.0 and failures > runs * share:
            break
        chances.append(chance)
    return chances


def _tails(chances: list[float]) -> list[float]:
    """The probability of so many or more."""
    tails = [0.0] * (len(chances) + 1)
    for at in range(len(chances) - 1, -1, -1):
        tails[at] = tails[at + 1] + chances[at]
    return tails


def _from(tails: list[float], least: int) -> float:
    return tails[least] if least < len(tails) else 0.0


def _at(chances: list[float], count: int) -> float:
    return chances[count] if 0 <= count < len(chances) else 0.0
