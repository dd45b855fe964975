"""Faults of TCP connections: their options as users write them, and what each does to a connection."""

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pydantic import ConfigDict

from stormwatch.chaos.behaviour import Effect, Ending, Passage, Piece, Way
from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.probes.units import Ratio, Seconds


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
        return _Later(self.delay, self.jitter, draw) if self.stream.includes(way) else None


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
        return _Later(float("inf"), 0.0, draw)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpReset:
    """Connections end with RST: new ones as soon as they are accepted, standing ones at the injection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        share_is_some(self.share)

    def ending(self) -> Ending:
        """At once, on both sides."""
        return Ending(reset=True)


class _Later:
    def __init__(self, delay: float, jitter: float, draw: random.Random) -> None:
        self._delay = delay
        self._jitter = jitter
        self._draw = draw

    def meet(self, at: float, data: bytes) -> Passage:
        """All of it, later."""
        later = self._delay + self._draw.uniform(-self._jitter, self._jitter)
        return Passage((Piece(data, later),), len(data))
