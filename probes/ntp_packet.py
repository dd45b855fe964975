"""NTP packets of a client and its server (RFC 5905 §7.3): a question as bytes, an answer as a value. Pure."""

import math
import struct
from dataclasses import dataclass
from typing import Final

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

SIZE: Final = 48
"""Bytes of a packet without extensions."""
UNSYNCHRONIZED: Final = 3
"""The leap indicator of a clock that does not know the time."""

_FORMAT: Final = struct.Struct("!BBbbII4s8s8s8s8s")
_CLIENT, _SERVER = 3, 4
_VERSION: Final = 4
_EPOCH: Final = 2_208_988_800
"""Seconds from 1900, where NTP counts from, to 1970."""
_ERA: Final = 2**32

KISSES: Final = {
    "DENY": "it denies access",
    "RSTR": "it denies access by a rule",
    "RATE": "it wants to be asked less often",
    "AUTH": "it wants to be asked with authentication",
    "INIT": "it has only just begun",
}
"""Codes of the kiss-o'-death, RFC 5905 §7.4."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says. Times are Unix times in seconds."""

    leap: int
    """0 none, 1 a second more today, 2 one less, 3 the clock is not synchronized."""
    version: int
    stratum: int
    """1 for a server with a clock of its own; 0 is a kiss-o'-death."""
    reference: str
    """Where its time comes from: `GPS`, or an address of the server above; the code of a kiss."""
    precision: float
    root_delay: float
    root_dispersion: float
    referenced: float | None
    """When its clock was set last; None: never."""
    received: float
    sent: float
    nonce: bytes
    """What we asked with."""


def question(nonce: bytes) -> bytes:
    """A packet of a client. It says nothing of our clock: eight random bytes are where its time could be."""
    return _FORMAT.pack(_VERSION << 3 | _CLIENT, 0, 0, 0, 0, 0, bytes(4), bytes(8), bytes(8), bytes(8), nonce)


def read(data: bytes, now: float) -> Answer:
    """An answer. `now` says which era of 136 years its times are of. Raises ProbeFailed for what is none."""
    if len(data) < SIZE:
        raise ProbeFailed(Reason.PROTOCOL, f"{len(data)} bytes came back, an NTP packet has {SIZE}")
    head, stratum, _, precision, delay, dispersion, reference, referenced, nonce, received, sent = _FORMAT.unpack(
        data[:SIZE]
    )
    if head & 7 != _SERVER:
        raise ProbeFailed(Reason.PROTOCOL, f"an NTP packet of mode {head & 7} came back, a server's has mode {_SERVER}")
    return Answer(
        leap=head >> 6,
        version=head >> 3 & 7,
        stratum=stratum,
        reference=_reference(reference, stratum),
        precision=math.ldexp(1, precision),
        root_delay=delay / 2**16,
        root_dispersion=dispersion / 2**16,
        referenced=unix_time(referenced, now) if any(referenced) else None,
        received=unix_time(received, now),
        sent=unix_time(sent, now),
        nonce=nonce,
    )


def unix_time(stamp: bytes, now: float) -> float:
    """64 bits of NTP time, of the era that is nearest to `now` (RFC 5905 §6)."""
    seconds = int.from_bytes(stamp[:4]) - _EPOCH
    seconds += round((now - seconds) / _ERA) * _ERA
    return seconds + int.from_bytes(stamp[4:]) / _ERA


def ntp_time(moment: float) -> bytes:
    """A Unix time in 64 bits, as servers write it."""
    return (round((moment + _EPOCH) * _ERA) % 2**64).to_bytes(8)


def _reference(data: bytes, stratum: int) -> str:
    if stratum > 1:
        return ".".join(str(byte) for byte in data)  # or four bytes of a hash, for an IPv6 address
    return "".join(chr(byte) if 32 < byte < 127 else "" for byte in data)
