"""Whether a step took longer than its noise explains: this run against the last runs. Pure: no file, no clock.

A step is slower when its seconds are above

    median + max(k · 1.4826 · MAD, 20 % of the median, 50 ms)

of the runs before, MAD being the median of their distances from the median. Both medians stay where they are when fewer than half
of the runs were odd ones, so one hiccup in the past hides nothing; 1.4826 · MAD is the standard deviation where noise is normal
(https://en.wikipedia.org/wiki/Median_absolute_deviation). k is larger for few runs, of which the MAD is a poor estimate. The rate of
false alarms that this gives is measured in tests/journeys/test_step_comparison.py, and stated in docs/how-to/journeys-in-ci.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any, Final

RUNS_NEEDED: Final = 5
"""Fewer runs than this say nothing of noise: then a step is not judged."""
LEAST_SHARE: Final = 0.2
"""Of the median: what nobody wants to be told of, however steady the step is."""
LEAST_SECONDS: Final = 0.05
_NORMAL: Final = 1.4826

StepSeconds = Mapping[str, Mapping[str, float]]
"""One run of a suite: for each journey, the seconds of each step that passed."""


class Standing(StrEnum):
    """What is said of a step."""

    AS_BEFORE = "as-before"
    SLOWER = "slower"
    NOT_JUDGED = "not-judged"
    """There are too few runs to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepComparison:
    """One step of one journey against the runs before. `usual` and `limit` are 0 where it is not judged."""

    journey: str
    step: str
    seconds: float
    runs: int
    """How many runs before had this step."""
    usual: float = 0.0
    """Their median, in seconds."""
    limit: float = 0.0
    """Seconds above which it is slower."""
    standing: Standing = Standing.NOT_JUDGED

    @property
    def sentence(self) -> str:
        """What is known of it, for people."""
        if self.standing is Standing.NOT_JUDGED:
            return f"not judged: {self.runs} of the {RUNS_NEEDED} runs that are needed have it"
        more = f", {self.seconds / self.usual - 1:+.0%}" if self.usual else ""
        return (
            f"took {self.seconds:.3f} s{more}; the median of {self.runs} runs is {self.usual:.3f} s, "
            f"and noise explains up to {self.limit:.3f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "journey": self.journey,
            "step": self.step,
            "standing": self.standing.value,
            "seconds": self.seconds,
            "runs": self.runs,
            "usual": self.usual,
            "limit": self.limit,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every step of this run against the runs before."""

    steps: tuple[StepComparison, ...]

    @property
    def slower(self) -> tuple[StepComparison, ...]:
        """The steps that are slower beyond noise."""
        return tuple(each for each in self.steps if each.standing is Standing.SLOWER)

    def of(self, journey: str) -> dict[str, StepComparison]:
        """The steps of one journey, by name."""
        return {each.step: each for each in self.steps if each.journey == journey}

    def lines(self) -> list[str]:
        """What a terminal shows: each step that is slower, then one sentence about all."""
        counts = {standing: sum(each.standing is standing for each in self.steps) for standing in Standing}
        parts = [f"{counts[Standing.SLOWER]} slower", f"{counts[Standing.AS_BEFORE]} as before"]
        if counts[Standing.NOT_JUDGED]:
            parts.append(f"{counts[Standing.NOT_JUDGED]} not judged (fewer than {RUNS_NEEDED} runs to compare with)")
        said = [f'slower: {each.journey}, step "{each.step}" {each.sentence}' for each in self.slower]
        return [*said, f"steps: {', '.join(parts)}"]

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"steps": [each.as_json() for each in self.steps]}


def compare(now: StepSeconds, before: Sequence[StepSeconds]) -> Comparison:
    """Every step of `now` against the same step of the same journey in the runs before."""
    return Comparison(
        tuple(
            judge(journey, step, seconds, [run[journey][step] for run in before if step in run.get(journey, {})])
            for journey, steps in now.items()
            for step, seconds in steps.items()
        )
    )


def judge(journey: str, step: str, seconds: float, before: Sequence[float]) -> StepComparison:
    """One step against its seconds in the runs before."""
    if len(before) < RUNS_NEEDED:
        return StepComparison(journey=journey, step=step, seconds=seconds, runs=len(before))
    usual = median(before)
    noise = _NORMAL * median(abs(value - usual) for value in before)
    limit = usual + max(_deviations(len(before)) * noise, LEAST_SHARE * usual, LEAST_SECONDS)
    return StepComparison(
        journey=journey,
        step=step,
        seconds=seconds,
        runs=len(before),
        usual=usual,
        limit=limit,
        standing=Standing.SLOWER if seconds > limit else Standing.AS_BEFORE,
    )


def _deviations(runs: int) -> float:
    # 6 of five runs, 5 of ten, 4.5 of twenty: about the same rate of false alarms from each.
    return 4 + 10 / runs
