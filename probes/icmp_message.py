"""ICMP and ICMPv6 messages (RFC 792, RFC 4443): echo requests as bytes, and what comes back as values. Pure."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

HEADER: Final = 8
"""Bytes of an echo message before its data."""

_V4_REPLY, _V4_REQUEST, _V4_UNREACHABLE, _V4_EXCEEDED, _V4_PROBLEM = 0, 8, 3, 11, 12
_V6_REPLY, _V6_REQUEST, _V6_UNREACHABLE, _V6_TOO_BIG, _V6_EXCEEDED, _V6_PROBLEM = 129, 128, 1, 2, 3, 4

_V4_ERRORS: Final = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 5): "source route failed",
    (3, 6): "network unknown",
    (3, 7): "host unknown",
    (3, 9): "network prohibited",
    (3, 10): "host prohibited",
    (3, 11): "network unreachable for this type of service",
    (3, 12): "host unreachable for this type of service",
    (3, 13): "prohibited by a filter",
    (11, 0): "time to live exceeded",
    (11, 1): "fragments were not put together in time",
}
_V6_ERRORS: Final = {
    (1, 0): "no route",
    (1, 1): "prohibited by a filter",
    (1, 2): "beyond the scope of the source address",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (1, 5): "source address refused by a filter",
    (1, 6): "route refused",
    (2, 0): "packet too big",
    (3, 0): "hop limit exceeded",
    (3, 1): "fragments were not put together in time",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An echo reply."""

    identifier: int
    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error that a router, or the host, sent about one of our requests."""

    identifier: int
    sequence: int
    what: str
    """In words: `host unreachable`."""
    expired: bool = False
    """The time to live was over: a router on the way, and no fault of it."""
    mtu: int = 0
    """Largest packet that the next hop takes, where that was the trouble."""


Message = Reply | Trouble


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(family: int, identifier: int, sequence: int, data: bytes) -> bytes:
    """An echo request. The system fills in the checksum of ICMPv6, which covers addresses too."""
    kind = _V6_REQUEST if family == socket.AF_INET6 else _V4_REQUEST
    head = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence)
    if family == socket.AF_INET6:
        return head + data
    return struct.pack("!BBHHH", kind, 0, checksum(head + data), identifier, sequence) + data


def without_ip_header(packet: bytes) -> tuple[bytes, int]:
    """The ICMP message in an IPv4 packet, and the time to live that was left. Raises ProbeFailed for what is none."""
    size = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < 20 or packet[0] >> 4 != 4 or size < 20 or len(packet) < size or packet[9] != socket.IPPROTO_ICMP:
        raise _malformed(packet)
    return packet[size:], packet[8]


def read(family: int, message: bytes) -> Message | None:
    """What a message says; None when it is none of ours to hear. Raises ProbeFailed for one that is cut off."""
    if len(message) < HEADER:
        raise _malformed(message)
    kind, code, _, first, second = struct.unpack("!BBHHH", message[:HEADER])
    is_v6 = family == socket.AF_INET6
    if kind == (_V6_REPLY if is_v6 else _V4_REPLY):
        return Reply(first, second, message[HEADER:])
    if kind not in ((1, 2, 3, 4) if is_v6 else (_V4_UNREACHABLE, _V4_EXCEEDED, _V4_PROBLEM)):
        return None
    about = _inner_v6(message[HEADER:]) if is_v6 else _inner_v4(message[HEADER:])
    if about is None:
        return None
    return trouble(family, kind, code, about, (first << 16 | second) if is_v6 else second)


def trouble(family: int, kind: int, code: int, about: tuple[int, int], rest: int = 0) -> Trouble:
    """An error by its type and code, about the request with that identifier and sequence; `rest` may hold an MTU."""
    is_v6 = family == socket.AF_INET6
    known = (_V6_ERRORS if is_v6 else _V4_ERRORS).get((kind, code), f"ICMP type {kind}, code {code}")
    too_big = kind == _V6_TOO_BIG if is_v6 else (kind, code) == (_V4_UNREACHABLE, 4)
    return Trouble(
        identifier=about[0],
        sequence=about[1],
        what=known,
        expired=(kind, code) == (_V6_EXCEEDED if is_v6 else _V4_EXCEEDED, 0),
        mtu=rest if too_big else 0,
    )


def asked(family: int, message: bytes) -> tuple[int, int] | None:
    """Identifier and sequence of a request of ours, of which at least the head is there."""
    if len(message) < HEADER or message[0] != (_V6_REQUEST if family == socket.AF_INET6 else _V4_REQUEST):
        return None
    identifier, sequence = struct.unpack("!HH", message[4:HEADER])
    return identifier, sequence


def _inner_v4(packet: bytes) -> tuple[int, int] | None:
    """An error carries the packet that it is about: its IP header and at least 8 bytes (RFC 792)."""
    size = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < 20 or size < 20 or packet[9] != socket.IPPROTO_ICMP:
        return None
    return asked(socket.AF_INET, packet[size:])


def _inner_v6(packet: bytes) -> tuple[int, int] | None:
    if len(packet) < 40 or packet[6] != socket.IPPROTO_ICMPV6:
        return None
    return asked(socket.AF_INET6, packet[40:])


def _malformed(data: bytes) -> ProbeFailed:
    return ProbeFailed(Reason.PROTOCOL, f"{len(data)} bytes came back that are not an ICMP message")
