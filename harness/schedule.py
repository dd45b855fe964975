"""When a probe is due: pure arithmetic on the monotonic clock.

    start          first              place            place + every
      |-- spread --|--- < every --------|------ every ------|

The place in the interval is a hash of the probe's name, so that it is the same after every restart and thousands of
probes do not start together. The first run does not wait for it: it comes within `spread_of(count)` seconds of the start.
"""

import hashlib
import math
from dataclasses import dataclass

SPREAD = 3.0
"""Seconds over which the first runs after a start are spread, if they are few."""
FIRST_RUNS = 400
"""First runs a second, if they are many: a start is not to be the heaviest load that the prober ever has."""


def spread_of(count: int) -> float:
    """Seconds over which the first runs of so many probes are spread."""
    return max(SPREAD, count / FIRST_RUNS)


def place_of(name: str) -> float:
    """A number from 0 (inclusive) to 1 (exclusive) that depends on nothing but the name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments at which one probe is due, in seconds of the monotonic clock."""

    every: float
    place: float
    """Share of the interval, 0 to 1, after which its runs stand."""
    start: float
    """When the service started."""
    spread: float = SPREAD
    """Seconds over which first runs are spread."""

    def first(self) -> float:
        """The moment of the first run."""
        return self.start + self.place * min(self.every, self.spread)

    def after(self, moment: float) -> float:
        """The first regular moment that is later than `moment`."""
        zero = self.start + self.place * self.every
        return zero + (math.floor((moment - zero) / self.every) + 1) * self.every

    def missed(self, due: float, now: float) -> int:
        """How many regular moments after `due` have gone by at `now`: they are skipped and counted, never bunched."""
        following = self.after(due)
        return 0 if now < following else math.floor((now - following) / self.every) + 1
