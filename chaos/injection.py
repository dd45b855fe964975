"""One fault in place on one route of the proxy: until when, on whom it acts, and what it has touched."""

import random
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.catalog import HttpStatus, Options, TcpBlackhole, TcpLatency, Way, write_options
from stormwatch.chaos.fault import Evidence


@dataclass(slots=True, eq=False)
class Injection:
    """Run-time state of a fault inside the proxy. Seconds of the monotonic clock for the lease, unix time elsewhere."""

    id: str
    route: str
    kind: str
    options: Options
    since: float
    expires: float
    """On the monotonic clock: nobody who may be dead is needed to end it."""
    owner: str = ""
    """Who put it here, for people."""
    connections: int = 0
    requests: int = 0
    bytes: int = 0
    first: float | None = None
    last: float | None = None
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        # Not the id: a drill that is run again with the same seed draws the same connections.
        self._random = random.Random(self.options.seed)  # noqa: S311 - reproducible on purpose

    def draw(self) -> bool:
        """Whether the next connection (or request) is one that the fault acts on."""
        return self.options.share >= 1 or self._random.random() < self.options.share

    def answers(self, method: str, target: str) -> HttpStatus | None:
        """The answer that a request gets instead of the service's; None: it passes."""
        if isinstance(self.options, HttpStatus) and self.options.matches(method, target) and self.draw():
            return self.options
        return None

    def delay(self, way: Way) -> float:
        """Seconds by which a chunk is held back on its way; infinite in a black hole."""
        if isinstance(self.options, TcpBlackhole):
            return float("inf")
        if isinstance(self.options, TcpLatency) and self.options.stream in (way, Way.BOTH):
            return self.options.delay + self._random.uniform(-self.options.jitter, self.options.jitter)
        return 0.0

    def holds(self, way: Way) -> bool:
        """Whether it keeps chunks back on this way."""
        return isinstance(self.options, TcpBlackhole) or (
            isinstance(self.options, TcpLatency) and self.options.stream in (way, Way.BOTH)
        )

    def touch(self, at: float, *, connections: int = 0, requests: int = 0, size: int = 0) -> None:
        """Count what met the fault at this unix time."""
        self.connections += connections
        self.requests += requests
        self.bytes += size
        self.first = at if self.first is None else self.first
        self.last = at

    def evidence(self) -> Evidence:
        """What it has touched until now."""
        return Evidence(
            connections=self.connections, requests=self.requests, bytes=self.bytes, first=self.first, last=self.last
        )

    def as_json(self, monotonic: float) -> dict[str, Any]:
        """For the control API."""
        return {
            "id": self.id,
            "route": self.route,
            "kind": self.kind,
            "options": write_options(self.kind, self.options),
            "owner": self.owner,
            "since": self.since,
            "expires_in": max(0.0, self.expires - monotonic),
            "evidence": self.evidence().as_json(),
        }
