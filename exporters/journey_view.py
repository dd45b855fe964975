"""What the page of a journey shows: its last runs step by step, what each step usually takes, what its pages loaded.

Filled from results alone. The names of measures are those of the kind `journey`; a test holds the two together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from stormwatch.exporters.artifact import Artifact, What, artifacts_of
from stormwatch.probes.result import Phase, Result

RUNS: Final = 30
"""How many runs the page shows."""

REQUESTS: Final = "stormwatch_journey_requests"
RECEIVED: Final = "stormwatch_journey_received_bytes"
FAILED_REQUESTS: Final = "stormwatch_journey_failed_requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A number of a page, and from where on it is no longer good, and poor."""

    label: str
    metric: str
    good: float
    poor: float
    is_seconds: bool = True


RATINGS: Final = (
    Rating(label="Time to first byte", metric="stormwatch_journey_time_to_first_byte_seconds", good=0.8, poor=1.8),
    Rating(
        label="First contentful paint", metric="stormwatch_journey_first_contentful_paint_seconds", good=1.8, poor=3.0
    ),
    Rating(
        label="Largest contentful paint",
        metric="stormwatch_journey_largest_contentful_paint_seconds",
        good=2.5,
        poor=4.0,
    ),
    Rating(
        label="Interaction to next paint",
        metric="stormwatch_journey_interaction_to_next_paint_seconds",
        good=0.2,
        poor=0.5,
    ),
    Rating(
        label="Cumulative layout shift",
        metric="stormwatch_journey_cumulative_layout_shift",
        good=0.1,
        poor=0.25,
        is_seconds=False,
    ),
)
"""The Web Vitals with the thresholds that https://web.dev/articles/vitals gives. Those are about the 75th percentile of many
people's visits; one browser of ours is held to them as a hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """A Web Vital of the last runs."""

    rating: Rating
    last: float
    """Of the last run that has it: its worst page."""
    median: float
    """Of the runs that are shown."""

    @property
    def verdict(self) -> str:
        """`good`, `needs improvement` or `poor`, of the last run."""
        if self.last <= self.rating.good:
            return "good"
        return "poor" if self.last > self.rating.poor else "needs improvement"

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"metric": self.rating.metric, "last": self.last, "median": self.median, "verdict": self.verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the pages of one run loaded of one type of request."""

    type: str
    requests: int
    bytes: int
    """Of the answers that tell their length."""
    failed: int

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"type": self.type, "requests": self.requests, "bytes": self.bytes, "failed": self.failed}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """One step over the runs that are shown."""

    name: str
    offset: float
    """Median of its start, in seconds after the start of the run."""
    runs: int
    """In how many runs it began."""
    failed: int
    """In how many of them it failed."""
    median: float | None
    """Seconds, of the runs in which it came to its end. None: in none."""
    slowest: float | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "name": self.name,
            "offset": self.offset,
            "runs": self.runs,
            "failed": self.failed,
            "median": self.median,
            "slowest": self.slowest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyRun:
    """One run, and what of its artifacts is still there."""

    result: Result
    artifacts: tuple[Artifact, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A JSON object; addresses of artifacts are those on this server."""
        document = self.result.as_json()
        shown = ("started", "seconds", "outcome", "reason", "message", "failed_phase", "trace_id")
        return {
            **{key: document[key] for key in shown},
            "steps": document["phases"],
            "console_errors": list(console_errors_of(self.result)),
            "artifacts": [
                {"what": each.what.value, "name": each.name, "path": f"/artifacts/{each.path}"}
                for each in self.artifacts
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyView:
    """The last runs of a journey."""

    name: str
    runs: tuple[JourneyRun, ...]
    """The newest first."""
    failure: JourneyRun | None
    """The last that was down or broken; it may be older than `runs`."""
    steps: tuple[StepSummary, ...]
    """In the order in which they are taken."""
    traffic: tuple[Share, ...]
    """Of the last run whose requests were measured."""
    vitals: tuple[Vital, ...]
    gone: frozenset[str] = frozenset()
    """Paths of artifacts that evidence names and that are not kept any more."""

    @property
    def has_video(self) -> bool:
        """Whether the last failure is shown with one."""
        return self.failure is not None and any(each.what is What.VIDEO for each in self.failure.artifacts)

    @property
    def longest(self) -> float:
        """Seconds of the longest run, or until the end of its last step: what all runs are drawn to."""
        return max((_end(each.result) for each in self.runs), default=0.0)

    @property
    def typical(self) -> tuple[Phase, ...]:
        """A run in which each step takes what it usually takes; without steps that never came to their end."""
        return tuple(Phase(each.name, each.median, each.offset) for each in self.steps if each.median is not None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "journey": self.name,
            "steps": [each.as_json() for each in self.steps],
            "runs": [each.as_json() for each in self.runs],
            "last_failure": self.failure.as_json() if self.failure else None,
            "traffic": [each.as_json() for each in self.traffic],
            "web_vitals": [each.as_json() for each in self.vitals],
        }


def journey_of(
    name: str, results: Sequence[Result], failure: Result | None, *, gone: frozenset[str] = frozenset()
) -> JourneyView:
    """The view of a journey from its results, the newest first, and its last failure.

    `gone` are the paths of artifacts that are not there any more.
    """
    runs = tuple(_run(result, gone) for result in results)
    return JourneyView(
        name=name,
        runs=runs,
        failure=_run(failure, gone) if failure else None,
        steps=_steps(results),
        traffic=next((found for result in results if (found := _traffic(result))), ()),
        vitals=_vitals(results),
        gone=gone,
    )


def console_errors_of(result: Result) -> tuple[str, ...]:
    """What the console of a run's pages said."""
    said = result.evidence.get("console_errors", ())
    return tuple(map(str, said)) if isinstance(said, list | tuple) else ()


def _run(result: Result, gone: Collection[str]) -> JourneyRun:
    return JourneyRun(result=result, artifacts=tuple(each for each in artifacts_of(result) if each.path not in gone))


def _steps(results: Sequence[Result]) -> tuple[StepSummary, ...]:
    taken: dict[str, list[Phase]] = {}
    for result in results:
        for phase in result.phases:
            taken.setdefault(phase.name, []).append(phase)
    steps = [_step(name, phases) for name, phases in taken.items()]
    # Of two that begin at once the longer one is around the other.
    return tuple(sorted(steps, key=lambda step: (step.offset, -(step.median or 0.0))))


def _step(name: str, phases: Sequence[Phase]) -> StepSummary:
    # A step that failed took as long as somebody was willing to wait: that is no time of the step.
    ended = [phase.seconds for phase in phases if not phase.failed]
    return StepSummary(
        name=name,
        offset=median(phase.offset for phase in phases),
        runs=len(phases),
        failed=len(phases) - len(ended),
        median=median(ended) if ended else None,
        slowest=max(ended, default=None),
    )


def _traffic(result: Result) -> tuple[Share, ...]:
    counts: dict[str, dict[str, float]] = {}
    for measure in result.measures:
        if measure.name in {REQUESTS, RECEIVED, FAILED_REQUESTS}:
            counts.setdefault(measure.labels.get("type", ""), {})[measure.name] = measure.value
    return tuple(
        Share(
            type=type_,
            requests=int(each.get(REQUESTS, 0)),
            bytes=int(each.get(RECEIVED, 0)),
            failed=int(each.get(FAILED_REQUESTS, 0)),
        )
        for type_, each in counts.items()
        if each.get(REQUESTS, 0)
    )


def _vitals(results: Sequence[Result]) -> tuple[Vital, ...]:
    seen: dict[str, list[float]] = {}
    for result in results:
        for measure in result.measures:
            seen.setdefault(measure.name, []).append(measure.value)
    return tuple(
        Vital(rating=rating, last=values[0], median=median(values))
        for rating in RATINGS
        if (values := seen.get(rating.metric))
    )


def _end(result: Result) -> float:
    return max([result.seconds, *(phase.offset + phase.seconds for phase in result.phases)])
