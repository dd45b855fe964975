"""Makes bad bytes of good ones, the same ones for the same number: what a broken or hostile peer might send."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

LARGEST: Final = 2**14
"""Bytes of the largest input: beyond what a reader looks at, length is for the tests of limits."""

_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)
_WORDS: Final = (
    *("0", "-1", "1e999", "NaN", "Infinity", "9" * 400, "0x10", "1" + "0" * 5000, "-9223372036854775809"),
    *("null", "true", "{}", "[]", '""', '"\\ud800"', '{"a":{"a":1}}', "{" * 40, "}" * 40),
    *("\r\n", "\n", "\r", "\0", " ", "\t", "\r\n\r\n", ":", ";", ",", "=", '"', "'", "|", "%", "\\"),
    *("\u00e4", "\U0001f329", "\u202e", "\u0130", "xn--", ".", "..", "*", "NIL", "~{3}\r\n", "{99999999}\r\n"),
    *("Thu, 99 Foo 0000 99:99:99", "9999-12-31T23:59:59Z", "0000-00-00", "10000-01-01T00:00:00Z"),
)
_TEXTS: Final = (
    *(word.encode() for word in _WORDS),
    *(b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80" * 12),
)
"""What readers of texts stumble over. Not all of it is UTF-8."""
_NESTS: Final = ((b"[", b"]"), (b"(", b")"), (b"{", b"}"), (b'{"a":', b"}"), (b"\x30\x80", b"\0\0"), (b"*1\r\n", b""))


class Mutator:
    """Inputs for one reader, from some that are good. The n-th input of a number is always the same."""

    def __init__(self, seeds: Sequence[bytes], number: int) -> None:
        self._seeds = tuple(seeds)
        self._random = random.Random(number)
        self._ways: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._flip,
            self._replace,
            self._truncate,
            self._insert,
            self._insert_text,
            self._double,
            self._delete,
            self._splice,
            self._lie,
            self._nest,
        )

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """A seed that one to four things were done to; now and then bytes that are no seed's."""
        if self._random.random() < 0.02:
            return self._random.randbytes(self._random.randrange(300))
        return self.spoil(self._random.choice(self._seeds))

    def spoil(self, good: bytes) -> bytes:
        """Do one to four things to some bytes."""
        data = bytearray(good)
        for _ in range(self._random.choice((1, 1, 1, 2, 2, 3, 4))):
            self._random.choice(self._ways)(data)
        return bytes(data[:LARGEST])

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _span(self, data: bytearray) -> slice:
        start = self._at(data)
        return slice(start, min(len(data), start + self._random.choice((1, 2, 4, 8, 32, 256))))

    def _flip(self, data: bytearray) -> None:
        """One bit."""
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _replace(self, data: bytearray) -> None:
        """One byte, often by one of those that mean something."""
        if data:
            data[self._random.randrange(len(data))] = self._random.choice(
                (0, 0x7F, 0x80, 0xFF, self._random.randrange(256))
            )

    def _truncate(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._random.randbytes(self._random.choice((1, 2, 4, 16)))

    def _insert_text(self, data: bytearray) -> None:
        """Something that readers of texts stumble over, instead of what was there or between."""
        span = self._span(data) if self._random.random() < 0.5 else slice(at := self._at(data), at)
        data[span] = self._random.choice(_TEXTS)

    def _double(self, data: bytearray) -> None:
        """A part once more, or many times."""
        span = self._span(data)
        at = self._at(data)
        data[at:at] = bytes(data[span]) * self._random.choice((1, 1, 2, 60))

    def _delete(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _splice(self, data: bytearray) -> None:
        """The beginning, and the end of a seed."""
        other = self._random.choice(self._seeds)
        data[self._at(data) :] = other[self._random.randrange(len(other) + 1) :]

    def _lie(self, data: bytearray) -> None:
        """What may be a length is another: too large, too small, negative."""
        size = self._random.choice((1, 2, 3, 4, 8))
        if len(data) >= size:
            at = self._random.randrange(len(data) - size + 1)
            number = self._random.choice((*_NUMBERS, len(data), len(data) - at, len(data) - at - size + 1))
            data[at : at + size] = (number & (256**size - 1)).to_bytes(size, self._random.choice(("big", "little")))

    def _nest(self, data: bytearray) -> None:
        """Something within itself, some hundred or thousand times."""
        opening, closing = self._random.choice(_NESTS)
        depth = self._random.choice((3, 40, 300, 1200))
        span = self._span(data)
        data[span] = opening * depth + bytes(data[span]) + (closing * depth if self._random.random() < 0.7 else b"")
