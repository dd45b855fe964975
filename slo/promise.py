"""A promise that another tool's file makes, in our terms, before it is known which probes there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from stormwatch.slo.indicator import Indicator
from stormwatch.slo.policy import Burn

Place = tuple[str | int, ...]
"""Keys and indices that lead from the top of a document to a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What one of our objectives would have to keep."""

    name: str
    or_name: str = ""
    """Another name for it where that one is taken; empty when there is none."""
    place: Place
    """Where it stands in its document."""
    indicator: Indicator
    target: Fraction
    window: float
    """Seconds; of a calendar window its usual length."""
    calendar: str = ""
    """`week`, `month` or `quarter` when the window begins with one; empty for a rolling window."""
    timezone: str = ""
    """Whose days the calendar counts; empty for a rolling window."""
    slice_seconds: float | None = None
    """Length of the time slices that it counts instead of runs."""
    slice_target: Fraction | None = None
    """Share of the runs of a slice that make it good."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    runbook: str = ""
    policy: str = ""
    """Name of one of our policies that guards it; empty when the file does not say."""
    burns: tuple[Burn, ...] | None = None
    """Its own burn-rate alerts; None when the file does not say, so that the default policy guards it."""
    notes: tuple[str, ...] = ()
    """What is different from the file, or is not carried over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A promise that cannot be one of ours, and why."""

    name: str
    place: Place
    sentence: str


class NotCarried(Exception):
    """Something cannot be carried over. Caught where the promise is known that it belongs to."""

    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(sentence)
        self.place = place
        self.sentence = sentence
