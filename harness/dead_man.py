"""Whether we are well: what the dead man's switch outside is told by requests that come or stay out."""

from collections.abc import Callable
from dataclasses import dataclass

from stormwatch.probes.units import show_duration

BEHIND = 60.0
"""Seconds that a run may be due and not begun."""
SILENT = 60.0
"""Seconds that no probe may give a result, at the least: what runs every second may be late."""
EVALUATION = 60.0
"""Seconds that may pass between two evaluations of the rules: a second is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is looked at. Each may be asked at any moment."""

    behind: Callable[[], float]
    """Seconds for which the next run of the schedule has been due."""
    evaluated: Callable[[], float]
    """Seconds since the rules were evaluated."""
    silent: Callable[[], float]
    """Seconds since the last result of any probe."""
    patience: float
    """Seconds after which there must have been one."""
    history: Callable[[], str]
    """Why the history could not be written the last time. Empty: it was."""
    outbox: Callable[[], str]
    """Why notifications could not be written the last time. Empty: they were."""


def trouble(signs: Signs) -> str:
    """Why we are not well, in one sentence; empty when we are. What is worst comes first.

    The sentence stays the same as long as the trouble does.
    """
    if signs.behind() > BEHIND:
        return f"the schedule stands still: a run has been due for more than {show_duration(BEHIND)}"
    if signs.silent() > signs.patience:
        return f"no probe gave a result for more than {show_duration(signs.patience)}"
    if signs.evaluated() > EVALUATION:
        return f"the rules have not been evaluated for more than {show_duration(EVALUATION)}"
    if said := signs.history():
        return f"the history cannot be written: {said}"
    if said := signs.outbox():
        return f"notifications cannot be written to disk: {said}"
    return ""
