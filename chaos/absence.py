"""The proof that a fault is gone, or that there is none."""

from dataclasses import dataclass

from stormwatch.chaos.evidence import Evidence


class UndoFailed(Exception):
    """It could not be proved that the fault is gone. One sentence: what was tried, what was seen, the remedy."""


@dataclass(frozen=True, slots=True)
class Absence:
    """The proof that a fault is gone."""

    was_there: bool
    """Whether it was in place until now."""
    why: str
    evidence: Evidence | None = None
    """What it touched, if that is still known."""
