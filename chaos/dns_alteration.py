"""Answers of a name server changed in place: not a byte moves, so that all else is as the server said it. No I/O."""

from collections.abc import Iterator
from typing import Final

_SOA, _RRSIG = 6, 46
_NUMBERS: Final = 20
"""Bytes at the end of SOA data: serial number, refresh, retry, expire, minimum (RFC 1035 §3.3.13)."""
_BEFORE_SIGNER: Final = 18
"""Bytes of RRSIG data before the signer's name (RFC 4034 §3.1): what is shorter has no signature."""


def break_signatures(wire: bytes) -> bytes:
    """The last byte of every signature inverted."""
    changed = bytearray(wire)
    for kind, begin, end in _records(wire):
        if kind == _RRSIG and end - begin > _BEFORE_SIGNER + 1:
            changed[end - 1] ^= 0xFF
    return bytes(changed)


def age_serials(wire: bytes, behind: int) -> bytes:
    """The serial number of every SOA record smaller by `behind` (RFC 1982)."""
    changed = bytearray(wire)
    for kind, begin, end in _records(wire):
        if kind == _SOA and end - begin > _NUMBERS:
            at = slice(end - _NUMBERS, end - _NUMBERS + 4)
            changed[at] = ((int.from_bytes(wire[at]) - behind) % 2**32).to_bytes(4)
    return bytes(changed)


def _records(wire: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, beginning and end of the data of each record; it ends where the message cannot be read any further."""
    if len(wire) < 12:
        return
    questions, *records = (int.from_bytes(wire[at : at + 2]) for at in (4, 6, 8, 10))
    at: int | None = 12
    for _ in range(questions):
        at = _after_name(wire, at)
        if at is None:
            return
        at += 4
    for _ in range(sum(records)):
        at = _after_name(wire, at)
        if at is None or at + 10 > len(wire):
            return
        begin = at + 10
        end = begin + int.from_bytes(wire[at + 8 : begin])
        if end > len(wire):
            return
        yield int.from_bytes(wire[at : at + 2]), begin, end
        at = end


def _after_name(wire: bytes, at: int) -> int | None:
    while at < len(wire):
        length = wire[at]
        if length >= 0xC0:
            return at + 2
        if length == 0:
            return at + 1
        if length >= 0x40:
            return None
        at += 1 + length
    return None
