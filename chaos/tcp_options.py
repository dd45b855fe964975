"""Faults of TCP connections: their options as users write them, and what each does to a connection."""

import math
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pydantic import ConfigDict

from stormwatch.chaos.behaviour import Effect, Ending, Way
from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.chaos.tcp_effects import CutOff, Flipped, LateEnd, Later, Sliced, Slower, Swallowed
from stormwatch.probes.units import Bytes, Ratio, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLatency:
    """Every chunk arrives `delay` later than it would have, plus or minus `jitter`; order and throughput are kept."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How much later."""
    jitter: Seconds = 0.0
    """Each chunk's delay is drawn evenly from delay - jitter to delay + jitter; a chunk never overtakes another."""
    stream: Way = Way.DOWNSTREAM
    """One way, so that one question and its answer take `delay` longer. With `both`, twice the delay."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same connections and delays again, in the same order."""

    def __post_init__(self) -> None:
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        if self.jitter > self.delay:
            raise ValueError(f"jitter ({self.jitter:g} s) must not be more than delay ({self.delay:g} s)")
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Later, by a delay of its own for each chunk."""
        return Later(self.delay, self.jitter, draw) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBlackhole:
    """Connections are accepted and nothing is answered; standing connections stall, both ways."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def stalls(self) -> bool:
        """New connections wait for the end of the fault."""
        return True

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Held for as long as the fault lasts."""
        return Later(math.inf, 0.0, draw)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpReset:
    """Connections end with RST: new ones as soon as they are accepted, standing ones at the injection, or `after` that."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    after: Seconds = 0.0
    """How long a connection still goes on after it met the fault."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def ending(self) -> Ending:
        """On both sides."""
        return Ending(reset=True, after=self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBandwidth:
    """What passes goes through a line of `rate` bytes a second; each connection and direction has a line of its own."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rate: Bytes
    """Bytes a second."""
    stream: Way = Way.DOWNSTREAM
    """Answers, requests, or both."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError("rate must be more than 0B a second; for nothing at all there is tcp-blackhole")
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """A line of its own."""
        return Slower(self.rate) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSlicer:
    """What passes is cut into pieces of about `average_size`, with a pause of `delay` after each."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    average_size: Bytes
    """Bytes of a piece."""
    size_variation: Bytes = 0
    """Each size is drawn evenly from average_size - size_variation to average_size + size_variation."""
    delay: Seconds = 0.001
    """The pause after each piece."""
    stream: Way = Way.DOWNSTREAM
    """Answers, requests, or both."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same connections and sizes again, in the same order."""

    def __post_init__(self) -> None:
        if self.average_size <= 0:
            raise ValueError("average_size must be at least 1B")
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"size_variation ({self.size_variation} B) must be less than average_size ({self.average_size} B)"
            )
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Pieces, drawn."""
        return Sliced(self.average_size, self.size_variation, self.delay, draw) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSlowClose:
    """The end of a connection comes `delay` later than it would have; what was said before it is not delayed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How much later."""
    stream: Way = Way.DOWNSTREAM
    """The end of answers, of requests, or of both."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Only the end is touched."""
        return LateEnd(self.delay) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpTruncate:
    """A connection is closed after `bytes` have passed, counted from the injection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    bytes: Bytes
    """How much still passes."""
    stream: Way = Way.DOWNSTREAM
    """Whether bytes of answers are counted, of requests, or each for itself."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Counts, then cuts."""
        return CutOff(self.bytes) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCorrupt:
    """In a share of the bytes that pass one bit is turned over; their number is kept."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    flipped: Ratio = Fraction(1, 100)
    """The share of bytes."""
    stream: Way = Way.DOWNSTREAM
    """Answers, requests, or both."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same connections and bytes again, in the same order."""

    def __post_init__(self) -> None:
        if self.flipped <= 0:
            raise ValueError("flipped must be more than 0%: a fault that changes nothing proves nothing")
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """The bytes are drawn for each direction of each connection, whatever the chunks in which they come."""
        return Flipped(float(self.flipped), draw) if self.stream.includes(way) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpTimeout:
    """What passes is swallowed, and the connection is closed `after` a while, or when the fault is taken back."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    after: Seconds
    """How long a connection stays silent before it is closed; `0s`: until the fault is taken back."""
    stream: Way = Way.BOTH
    """Whether answers are swallowed, requests, or both."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """Nothing passes."""
        return Swallowed() if self.stream.includes(way) else None

    def ending(self) -> Ending:
        """Closed, not reset; bytes are missing, so it ends with the fault at the latest."""
        return Ending(reset=False, after=self.after or math.inf, when_removed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRefused:
    """Nobody listens: new connections are refused, and those that stand are ended, as when the service's process has died."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    standing: bool = True
    """Also end the connections that stand, with RST. Otherwise they go on, as when a service stops to listen and ends what it has begun."""

    def refuses(self) -> bool:
        """The port is closed for as long as the fault lasts."""
        return True

    def ending(self) -> Ending | None:
        """Only of those that stand; others do not come this far."""
        return Ending(reset=True) if self.standing else None
