"""An objective: which runs it judges, how good they must be, over which window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from stormwatch.probes.result import Outcome, Result


class Judgement(StrEnum):
    """What one result means to one objective."""

    GOOD = "good"
    BAD = "bad"
    NO_EVIDENCE = "no-evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A promise about probes. The target is exact: 99.9 % is Fraction(999, 1000), never a binary float."""

    name: str
    probes: tuple[str, ...]
    """Names of the probes whose results it judges."""
    target: Fraction
    window: float
    """Seconds of the rolling window."""
    slower_than: float | None = None
    """Seconds: an up result that took longer is bad. None: availability only."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    runbook: str = ""

    @property
    def budget(self) -> Fraction:
        """The share of results that may be bad."""
        return 1 - self.target

    def judges(self, result: Result) -> Judgement:
        """Good, bad, or no evidence: a broken run, or one of a probe that the objective is not about."""
        if result.probe not in self.probes or result.outcome is Outcome.BROKEN:
            return Judgement.NO_EVIDENCE
        if result.outcome is Outcome.DOWN:
            return Judgement.BAD
        if self.slower_than is not None and result.seconds > self.slower_than:
            return Judgement.BAD
        return Judgement.GOOD
