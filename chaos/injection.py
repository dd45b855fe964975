"""One fault in place on one route of the proxy: until when, on whom it acts, and what it has touched."""

import math
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from stormwatch.chaos.behaviour import (
    ActsOnChunks,
    ActsOnHandshakes,
    ActsOnRequests,
    Drawn,
    Effect,
    Ending,
    EndsConnections,
    RefusesConnections,
    StallsNewConnections,
    Way,
)
from stormwatch.chaos.catalog import FAULTS, write_options
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.http_treatment import Treatment
from stormwatch.chaos.option import Options


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
        seed = self.options.seed if isinstance(self.options, Drawn) else 0
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def draw(self) -> bool:
        """Whether the next connection (or request) is one that the fault acts on."""
        share = self.options.share if isinstance(self.options, Drawn) else 1
        return share >= 1 or self._random.random() < share

    # What the fault can do, by what its options implement.

    @property
    def acts_on_requests(self) -> bool:
        """Whether it is drawn for each request, and not for each connection."""
        return isinstance(self.options, ActsOnRequests)

    @property
    def stalls(self) -> bool:
        """Whether new connections wait for its end."""
        return isinstance(self.options, StallsNewConnections) and self.options.stalls()

    @property
    def refuses(self) -> bool:
        """Whether nobody may listen while it lasts."""
        return isinstance(self.options, RefusesConnections) and self.options.refuses()

    @property
    def ending(self) -> Ending | None:
        """How it ends connections."""
        return self.options.ending() if isinstance(self.options, EndsConnections) else None

    @property
    def acts_on_handshakes(self) -> bool:
        """Whether it is about the handshake of TLS: standing connections do not notice."""
        return isinstance(self.options, ActsOnHandshakes)

    def effect(self, way: Way) -> Effect | None:
        """What it does to one direction of one connection."""
        return self.options.effect(way, self._random) if isinstance(self.options, ActsOnChunks) else None

    def treatment(self, method: str, target: str) -> Treatment | None:
        """What it does to a request; None: it leaves it alone."""
        options = self.options
        if isinstance(options, ActsOnRequests) and options.matches(method, target) and self.draw():
            return options.treatment(self._random)
        return None

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
            # A toxic of Toxiproxy has numbers of its own, which no catalogue of ours can read back.
            "options": write_options(self.kind, self.options) if self.kind in FAULTS else asdict(self.options),
            "owner": self.owner,
            "since": self.since,
            "expires_in": max(0.0, self.expires - monotonic) if self.expires < math.inf else None,
            "evidence": self.evidence().as_json(),
        }
