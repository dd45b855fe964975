"""What a worker says about one run: the values that cross from the worker to the pool as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stormwatch.journeys.page_view import PageView
from stormwatch.journeys.traffic import TrafficReport
from stormwatch.probes.result import Outcome, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """One step: seconds, and when it began after the beginning of the run."""

    name: str
    seconds: float
    offset: float
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftFailure:
    """A soft step that failed while the journey went on."""

    step: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of one journey, decided."""

    outcome: Outcome
    reason: Reason = Reason.NONE
    sentence: str = ""
    seconds: float = 0.0
    """How long the test's own body took: without collection, the start of the browser, fixtures and artifacts."""
    steps: tuple[StepTimes, ...] = ()
    step: str = ""
    """The step that failed. `setup` and `teardown` where a fixture did."""
    soft_failures: tuple[SoftFailure, ...] = ()
    where: str = ""
    """`file:line` of the journey where it failed."""
    text: str = ""
    """What was raised, in full: Playwright's call log and what the page looked like."""
    url: str = ""
    console_errors: tuple[str, ...] = ()
    console_error_count: int = 0
    traffic: TrafficReport = field(default_factory=TrafficReport)
    pages: tuple[PageView, ...] = ()
    """The documents that were shown, and how fast."""
    artifacts: tuple[str, ...] = ()
    """File names inside the directory that the run was given."""
    no_video: str = ""
    """Why there is no video among them, where one was to be kept."""
    retire: str = ""
    """Why this worker must not run again; empty if it may."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Report":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        values: dict[str, Any] = dict(document)
        values["outcome"] = Outcome(document["outcome"])
        values["reason"] = Reason(document["reason"])
        values["steps"] = tuple(StepTimes(**step) for step in document["steps"])
        values["soft_failures"] = tuple(SoftFailure(**each) for each in document["soft_failures"])
        values["console_errors"] = tuple(document["console_errors"])
        values["traffic"] = TrafficReport.from_json(document["traffic"])
        values["pages"] = tuple(PageView(**page) for page in document["pages"])
        values["artifacts"] = tuple(document["artifacts"])
        return cls(**values)
