"""An objective: which runs it judges, how good they must be, over which window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from stormwatch.probes.result import Outcome, Phase, Reason, Result
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.calendar import Calendar

EXPIRY = "probe_ssl_earliest_cert_expiry"
"""The measure by which a run tells when the first certificate of the chain that it was shown expires, in Unix seconds."""


class Judgement(StrEnum):
    """What one result means to one objective."""

    GOOD = "good"
    BAD = "bad"
    NO_EVIDENCE = "no-evidence"


@dataclass(frozen=True, slots=True)
class Slices:
    """Time is judged instead of runs: a slice is good when at least `target` of its results are."""

    length: float
    """Seconds."""
    target: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A promise about probes. The target is exact: 99.9 % is Fraction(999, 1000), never a binary float."""

    name: str
    probes: tuple[str, ...]
    """Names of the probes whose results it judges."""
    target: Fraction
    window: float
    """Seconds of the rolling window; of a calendar window, what burn rates take it for."""
    calendar: Calendar | None = None
    """The part of the calendar that the budget is for. None: it is for the rolling window."""
    slices: Slices | None = None
    """Slices of time are counted instead of results. None: each result counts."""
    slower_than: float | None = None
    """Seconds: an up result, or a step that passed, that took longer is bad. None: availability only."""
    step: str = ""
    """The step (of a journey or an API probe) or phase that it judges instead of the whole run."""
    expires_within: float | None = None
    """Seconds: it judges the certificate that a run was shown instead of the run. Bad: it expires sooner."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    runbook: str = ""

    @property
    def budget(self) -> Fraction:
        """The share of results that may be bad."""
        return 1 - self.target

    @property
    def window_name(self) -> str:
        """The window for people: `30d`, or `month`."""
        return self.calendar.unit if self.calendar else show_duration(self.window)

    @property
    def asks(self) -> str:
        """What it asks of a run besides being up, for people: `step pay within 2s, slices of 1m with 95%`; empty for nothing."""
        parts = [f"step {self.step}"] if self.step else []
        if self.slower_than is not None:
            parts.append(f"within {show_duration(self.slower_than)}")
        if self.expires_within is not None:
            parts.append(f"certificate for {show_duration(self.expires_within)} more")
        asked = " ".join(parts)
        if self.slices is None:
            return asked
        sliced = f"slices of {show_duration(self.slices.length)} with {show_ratio(self.slices.target)}"
        return f"{asked}, {sliced}" if asked else sliced

    def events_in(self, seconds: float, every: Mapping[str, float]) -> Fraction:
        """What a stretch of time holds of what is counted: results, or slices. `every`: seconds between runs, by probe."""
        if self.slices is not None:
            return Fraction(seconds) / Fraction(self.slices.length)
        return sum((Fraction(seconds) / Fraction(every[name]) for name in self.probes if name in every), Fraction(0))

    @property
    def looks_inside(self) -> bool:
        """Whether it needs more of a result than how it ended and how long it took: its phases or its measures."""
        return bool(self.step) or self.expires_within is not None

    def judges(self, result: Result) -> Judgement:
        """Good, bad, or no evidence: a broken run, one of a probe that the objective is not about, or one that did not come to it."""
        if result.probe not in self.probes or result.outcome is Outcome.BROKEN:
            return Judgement.NO_EVIDENCE
        if self.expires_within is not None:
            expires = expiry_of(result)
            if expires is None:
                return Judgement.NO_EVIDENCE
            return Judgement.BAD if expires - result.finished < self.expires_within else Judgement.GOOD
        if self.step:
            step = step_of(result, self.step)
            if step is None:
                return Judgement.NO_EVIDENCE
            return Judgement.BAD if step.failed or self._is_slow(step.seconds) else Judgement.GOOD
        if result.outcome is Outcome.DOWN or self._is_slow(result.seconds):
            return Judgement.BAD
        return Judgement.GOOD

    def _is_slow(self, seconds: float) -> bool:
        return self.slower_than is not None and seconds > self.slower_than


def step_of(result: Result, name: str) -> Phase | None:
    """The step or phase of a run, failed if the run failed in it; None: the run did not come to it.

    A run that is too slow as a whole names its slowest phase: that is no failure of the phase.
    """
    found = [phase for phase in result.phases if phase.name == name]
    failed = result.outcome is Outcome.DOWN and result.reason is not Reason.TOO_SLOW and result.failed_phase == name
    if not found:
        return Phase(name, 0.0, failed=True) if failed else None
    failed = failed or any(phase.failed for phase in found)
    return Phase(name, sum(phase.seconds for phase in found), found[0].offset, failed)


def expiry_of(result: Result) -> float | None:
    """Unix time at which the first certificate expires that a run was shown; None: it saw none."""
    return min((measure.value for measure in result.measures if measure.name == EXPIRY), default=None)
