"""Which runs wait at this moment before they begin, and for what: what is held back must be seen."""

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

Why = Literal["turn", "worker", "memory"]
REASONS: Final[Mapping[Why, str]] = {
    "turn": "others of its kind are under way, as many as may be",
    "worker": "all workers of the pool of journeys are busy",
    "memory": "the machine has too little of it for another browser",
}
"""What runs wait for, each with what it means."""


class Waiting:
    """Runs that wait, by probe and reason."""

    def __init__(self) -> None:
        self._now: Counter[tuple[str, Why]] = Counter()

    @contextmanager
    def noted(self, probe: str, why: Why) -> Generator[None]:
        """Within, a run of this probe waits."""
        self._now[probe, why] += 1
        try:
            yield
        finally:
            self._now[probe, why] -= 1
            if not self._now[probe, why]:
                del self._now[probe, why]

    @property
    def now(self) -> Mapping[tuple[str, Why], int]:
        """How many runs of a probe wait for what; nothing that does not wait."""
        return dict(self._now)
