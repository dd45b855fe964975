"""What a load says about objectives. Pure: from counts to a judgement, and from judgements to an exit code."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from stormwatch.harness.problem import Exit
from stormwatch.journeys.load_job import Bound
from stormwatch.journeys.load_summary import LoadSummary
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.objective import Objective


class Held(StrEnum):
    """How an objective fared."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
    """There is no evidence, or it says more about us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One objective under this load."""

    objective: str
    held: Held
    good: int
    bad: int
    asked: str
    """What is wanted, for people: `95% step pay within 2s`."""
    percentile: float | None = None
    """Seconds that the wanted part of the runs took no longer than, where locust tells that percentile."""
    why: str = ""
    """Why it is unknown."""

    @property
    def share(self) -> Fraction | None:
        """The part that was good."""
        total = self.good + self.bad
        return Fraction(self.good, total) if total else None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        share = self.share
        return {**asdict(self), "share": None if share is None else float(share)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadVerdict:
    """All that is judged of one load."""

    judged: tuple[Judged, ...]
    code: Exit
    why: str = ""
    """Why the exit code is not 0, where no objective says it."""


def bounds_for(objectives: Sequence[Objective], probe: str) -> tuple[Bound, ...]:
    """What has to be counted of a journey, so that these objectives can be judged. What failed is always counted on its own too."""
    wanted = [each for each in objectives if probe in each.probes and each.expires_within is None]
    return tuple(dict.fromkeys(Bound(each.step, seconds) for each in wanted for seconds in (each.slower_than, None)))


def judge(objectives: Sequence[Objective], summary: LoadSummary, *, ended_early: str = "") -> LoadVerdict:
    """Judge every objective that is about journeys of this load. `ended_early`: why not all was done that was asked."""
    names = {entry.journey for entry in summary.entries} | {tally.journey for tally in summary.tallies}
    about = [each for each in objectives if names.intersection(each.probes) and each.expires_within is None]
    judged = tuple(_judged(each, summary) for each in about)
    runs = sum(entry.runs for entry in summary.entries if not entry.step)
    failures = sum(entry.failures for entry in summary.entries if not entry.step)
    if not runs:
        because = f": {summary.broken_why}" if summary.broken_why else ""
        return LoadVerdict(judged=judged, code=Exit.NO_VERDICT, why=f"no run came to an end{because}")
    if any(each.held is Held.FAILS for each in judged):
        return LoadVerdict(judged=judged, code=Exit.NOT_GOOD)
    if not about and failures:
        why = f"{failures} of {runs} runs failed, and no objective says how many may"
        return LoadVerdict(judged=judged, code=Exit.NOT_GOOD, why=why)
    if ended_early:
        return LoadVerdict(judged=judged, code=Exit.NO_VERDICT, why=ended_early)
    if any(each.held is Held.UNKNOWN for each in judged):
        return LoadVerdict(judged=judged, code=Exit.NO_VERDICT)
    if summary.broken:
        why = f"{summary.broken} runs were broken: {summary.broken_why}"
        return LoadVerdict(judged=judged, code=Exit.NO_VERDICT, why=why)
    return LoadVerdict(judged=judged, code=Exit.GOOD)


def _judged(objective: Objective, summary: LoadSummary) -> Judged:
    good, bad = _counted(objective, objective.slower_than, summary)
    share = Fraction(good, good + bad) if good + bad else None
    held, why = Held.HOLDS, ""
    if share is None:
        held, why = Held.UNKNOWN, "no run came to it"
    elif share < objective.target:
        held = Held.FAILS
        passed, failed = _counted(objective, None, summary)
        if summary.saturated and Fraction(passed, passed + failed) >= objective.target:
            held = Held.UNKNOWN
            why = "the processes that made the load had no time to spare, so the durations may be theirs; use more workers"
    asked = f"step {objective.step} " if objective.step else ""
    within = f" within {show_duration(objective.slower_than)}" if objective.slower_than is not None else ""
    return Judged(
        objective=objective.name,
        held=held,
        good=good,
        bad=bad,
        asked=f"{asked}{show_ratio(objective.target)} good{within}",
        percentile=_percentile(objective, summary),
        why=why,
    )


def _counted(objective: Objective, seconds: float | None, summary: LoadSummary) -> tuple[int, int]:
    fitting = [
        tally
        for tally in summary.tallies
        if tally.journey in objective.probes and tally.step == objective.step and tally.seconds == seconds
    ]
    return sum(tally.good for tally in fitting), sum(tally.bad for tally in fitting)


def _percentile(objective: Objective, summary: LoadSummary) -> float | None:
    """Only of one journey: percentiles of several cannot be added up."""
    if objective.slower_than is None or len(objective.probes) != 1:
        return None
    percentiles: Mapping[str, float] = next(
        (
            entry.percentiles
            for entry in summary.entries
            if entry.journey == objective.probes[0] and entry.step == objective.step
        ),
        {},
    )
    return next((each for part, each in percentiles.items() if Fraction(part) == objective.target), None)
