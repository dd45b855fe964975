"""What faults do to the bytes of one direction of one connection: later, slower, in pieces, cut off, changed, gone. No I/O.

Each is fed chunk by chunk with the moment at which the chunk would leave, and says what becomes of it; an empty chunk is the
end of the direction.
"""

import math
import random

from stormwatch.chaos.behaviour import Passage, Piece

SLICE = 0.05
"""Seconds of traffic that a limited rate lets go at once: small enough to look like a slow line, large enough to be cheap."""


class Later:
    """Each chunk waits for a delay of its own, drawn evenly from `delay` ± `jitter`; infinite: while the fault lasts."""

    def __init__(self, delay: float, jitter: float, draw: random.Random) -> None:
        self._delay = delay
        self._jitter = jitter
        self._draw = draw

    def meet(self, at: float, data: bytes) -> Passage:
        """All of it, later."""
        later = self._delay + self._draw.uniform(-self._jitter, self._jitter)
        return Passage((Piece(data, later),), len(data))


class Slower:
    """A line of so many bytes a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = -math.inf
        """When the line has carried all that came before."""

    def meet(self, at: float, data: bytes) -> Passage:
        """In slices, each when the line has carried those before it."""
        if at == math.inf:
            # It waits for the end of another fault; how long the line will be busy then is not known.
            return Passage((Piece(data),), len(data))
        if not data:
            return Passage((Piece(b"", max(0.0, self._free - at)),))
        size = max(1, int(self._rate * SLICE))
        pieces: list[Piece] = []
        for start in range(0, len(data), size):
            part = data[start : start + size]
            self._free = max(at, self._free) + len(part) / self._rate
            pieces.append(Piece(part, self._free - at))
        return Passage(pieces, len(data))


class Sliced:
    """In pieces of `average` ± `variation` bytes, with a pause after each."""

    def __init__(self, average: int, variation: int, pause: float, draw: random.Random) -> None:
        self._average = average
        self._variation = variation
        self._pause = pause
        self._draw = draw
        self._free = -math.inf

    def meet(self, at: float, data: bytes) -> Passage:
        """The pieces, the first at once, unless an earlier one still has its pause."""
        if at == math.inf:
            return Passage((Piece(data),), len(data))
        if not data:
            return Passage((Piece(b"", max(0.0, self._free - at)),))
        pieces: list[Piece] = []
        start = 0
        while start < len(data):
            size = max(1, self._average + self._draw.randint(-self._variation, self._variation))
            leaves = max(at, self._free)
            pieces.append(Piece(data[start : start + size], leaves - at))
            self._free = leaves + self._pause
            start += size
        return Passage(pieces, len(data))


class LateEnd:
    """What passes is left alone; its end comes later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def meet(self, at: float, data: bytes) -> Passage:
        """Only the end waits."""
        return Passage((Piece(data),)) if data else Passage((Piece(b"", self._delay),), met=True)


class CutOff:
    """After so many bytes the connection ends."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._cut = False

    def meet(self, at: float, data: bytes) -> Passage:
        """What still fits, and nothing after it."""
        if self._cut:
            return Passage((), len(data))
        if len(data) < self._left or not data:
            self._left -= len(data)
            return Passage((Piece(data),))
        self._cut = True
        return Passage((Piece(data[: self._left], last=True),), len(data) - self._left, met=True)


class Flipped:
    """In a share of the bytes one bit is turned over."""

    def __init__(self, share: float, draw: random.Random) -> None:
        # Of its own for each direction: how the chunks of several connections interleave changes nothing.
        self._draw = random.Random(draw.getrandbits(64))  # noqa: S311 - reproducible on purpose
        self._share = share
        self._skip = self._gap()

    def meet(self, at: float, data: bytes) -> Passage:
        """As long as before."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return Passage((Piece(data),))
        changed, flipped = bytearray(data), 0
        while self._skip < len(data):
            changed[self._skip] ^= 1 << self._draw.randrange(8)
            flipped += 1
            self._skip += 1 + self._gap()
        self._skip -= len(data)
        return Passage((Piece(bytes(changed)),), flipped)

    def _gap(self) -> int:
        """How many bytes are left alone before the next: drawing a distance costs less than drawing for every byte."""
        if self._share >= 1:
            return 0
        return int(math.log(1.0 - self._draw.random()) / math.log1p(-self._share))


class Swallowed:
    """Nothing passes; the end waits for the end of the fault."""

    def meet(self, at: float, data: bytes) -> Passage:
        """Gone."""
        return Passage((), len(data)) if data else Passage((Piece(b"", math.inf),))
