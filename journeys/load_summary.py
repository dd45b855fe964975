"""What a load came to: locust's statistics of each journey and step, and how many were good by each bound that was asked about."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

JOURNEY: Final = "journey"
STEP: Final = "step"
"""locust's request types, as they stand in its statistics, its page and its CSV files."""


def entry_name(journey: str, step: str) -> str:
    """What a journey or a step of it is called in locust's statistics."""
    return f"{journey}/{step}" if step else journey


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of locust's statistics."""

    journey: str
    step: str
    """Empty: the journey as a whole."""
    runs: int
    failures: int
    per_second: float
    mean: float
    shortest: float
    longest: float
    """Seconds, as the other two."""
    percentiles: Mapping[str, float]
    """Seconds by the part of the runs that took no longer, as in `0.95`. As locust counts them: rounded to two digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Exact counts for one bound."""

    journey: str
    step: str
    seconds: float | None
    good: int
    bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """What runs failed of."""

    journey: str
    step: str
    sentence: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSummary:
    """What a load came to."""

    seconds: float
    """How long it was made, from the first user's beginning until all were told to stop."""
    users: int
    """The most users that were there at once."""
    workers: int
    """How many processes made it."""
    entries: tuple[Entry, ...] = ()
    tallies: tuple[Tally, ...] = ()
    failing: tuple[Failing, ...] = ()
    broken: int = 0
    """Runs that failed through us: no evidence, and in no other count."""
    broken_why: str = ""
    """Of the first of them."""
    saturated: bool = False
    """Whether a process that made it had no processor time to spare, so that durations may be its own and not the target's."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LoadSummary":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        values: dict[str, Any] = dict(document)
        values["entries"] = tuple(Entry(**each) for each in document["entries"])
        values["tallies"] = tuple(Tally(**each) for each in document["tallies"])
        values["failing"] = tuple(Failing(**each) for each in document["failing"])
        return cls(**values)
