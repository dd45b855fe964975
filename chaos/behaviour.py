"""What a fault of the proxy can do to the connections of its route: a protocol for each. A fault's options implement those they need.

So a new fault is a class of options and a row in the catalogue; whoever carries it out asks what it implements, never what
it is. An options class without any of these is carried out elsewhere (a family with a module of its own).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Protocol, runtime_checkable

from stormwatch.chaos.http_treatment import Treatment


class Way(StrEnum):
    """A direction through the proxy, by the names that Toxiproxy gave them."""

    UPSTREAM = "upstream"
    """From the client to the service: requests."""
    DOWNSTREAM = "downstream"
    """From the service to the client: answers."""
    BOTH = "both"

    def includes(self, way: "Way") -> bool:
        """Whether a direction is meant."""
        return self in (way, Way.BOTH)


@runtime_checkable
class Drawn(Protocol):
    """Acts on a share of what it meets, drawn by a seed. What does not implement this acts on all."""

    @property
    def share(self) -> Fraction:
        """Of connections, or of requests for a fault that acts on requests."""
        ...

    @property
    def seed(self) -> int:
        """The same seed draws the same ones again, in the same order."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes of (a part of) a chunk."""

    data: bytes
    """Empty: the end of this direction."""
    later: float = 0.0
    """Seconds that it waits; infinite: until the fault is removed."""
    last: bool = False
    """The connection is closed, both ways, after it."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What becomes of one chunk: its pieces in order, none to swallow it."""

    pieces: Sequence[Piece]
    touched: int = 0
    """Bytes that met the fault: the proof that it reached traffic."""
    met: bool = False
    """Whether the fault did something although no byte of data was there (an end that is held back)."""


class Effect(Protocol):
    """A fault at work on one direction of one connection; it may remember what passed before."""

    def meet(self, at: float, data: bytes) -> Passage:
        """A chunk (or, empty, the end) that would leave at this moment of the monotonic clock."""
        ...


@runtime_checkable
class ActsOnChunks(Protocol):
    """Delays, cuts, changes or swallows what passes."""

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """A new effect for one direction of one connection; None: it leaves this direction alone."""
        ...


@runtime_checkable
class StallsNewConnections(Protocol):
    """A new connection reaches neither its TLS handshake nor the service, for as long as the fault lasts."""

    def stalls(self) -> bool:
        """Whether it does."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a fault ends connections, standing ones and new ones."""

    reset: bool
    """With RST, on both sides; otherwise with an end of stream."""
    after: float = 0.0
    """Seconds after the fault met the connection; infinite: not by time."""
    when_removed: bool = False
    """Also when the fault is removed: what it swallowed is missing, and the connection of no more use."""


@runtime_checkable
class EndsConnections(Protocol):
    """Ends connections that it met."""

    def ending(self) -> Ending | None:
        """How, and when; None: as it is asked now, it does not."""
        ...


@runtime_checkable
class RefusesConnections(Protocol):
    """Closes the port of the route, for as long as the fault lasts."""

    def refuses(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class ActsOnRequests(Protocol):
    """Acts on HTTP requests, each drawn for itself; on a route that is looked into."""

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        ...

    def treatment(self, draw: random.Random) -> Treatment:
        """What happens to it and to its answer."""
        ...


@runtime_checkable
class ActsOnHandshakes(Protocol):
    """About the handshakes of TLS of new connections: their first bytes are left to the fault."""

    def acts_on_handshakes(self) -> bool:
        """Whether it is."""
        ...
