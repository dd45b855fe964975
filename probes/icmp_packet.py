"""ICMP packets, read and written: RFC 792 and RFC 4443. Pure: bytes in, values out."""

import struct
from dataclasses import dataclass
from typing import Final

ECHO_REPLY: Final = {4: 0, 6: 129}
ECHO_REQUEST: Final = {4: 8, 6: 128}
_HEADER: Final = struct.Struct("!BBHHH")

_UNREACHABLE_4: Final = (
    *("network unreachable", "host unreachable", "protocol unreachable", "port unreachable"),
    *("fragmentation needed", "source route failed", "network unknown", "host unknown", "source host isolated"),
    *("network administratively prohibited", "host administratively prohibited"),
    *("network unreachable for this type of service", "host unreachable for this type of service"),
    *("communication administratively prohibited", "host precedence violation", "precedence cutoff in effect"),
)
_UNREACHABLE_6: Final = (
    *("no route to destination", "communication administratively prohibited", "beyond the scope of the source"),
    *(
        "address unreachable",
        "port unreachable",
        "source address failed ingress policy",
        "route to destination rejected",
    ),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An echo reply."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error about an echo request of ours."""

    sequence: int
    identifier: int
    said: str
    """What the sender says: `time exceeded in transit`, `host unreachable` …"""


def echo_request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request. The checksum is that of IPv4; the kernel writes that of IPv6, which covers addresses too."""
    kind = ECHO_REQUEST[version]
    checksum = 0
    if version == 4:
        checksum = internet_checksum(_HEADER.pack(kind, 0, 0, identifier, sequence) + payload)
    return _HEADER.pack(kind, 0, checksum, identifier, sequence) + payload


def internet_checksum(data: bytes) -> int:
    """RFC 1071: the complement of the sum of 16-bit words."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_packet(version: int, packet: bytes) -> Reply | Refusal | None:
    """An ICMP message without its IP header; None for what is neither a reply nor an error about an echo request."""
    if len(packet) < _HEADER.size:
        return None
    kind, code, _, high, sequence = _HEADER.unpack_from(packet)
    if kind == ECHO_REPLY[version] and code == 0:
        return Reply(sequence, packet[_HEADER.size :])
    said = describe(version, kind, code, high << 16 | sequence)
    if not said:
        return None
    inner = _inner(version, packet[_HEADER.size :])
    if inner is None or len(inner) < _HEADER.size:
        return None
    asked, _, _, identifier, sequence = _HEADER.unpack_from(inner)
    return Refusal(sequence, identifier, said) if asked == ECHO_REQUEST[version] else None


def describe(version: int, kind: int, code: int, rest: int) -> str:
    """What an error message says; empty for other messages. `rest` are the four bytes behind the checksum."""
    if version == 4:
        if kind == 3:
            said = _UNREACHABLE_4[code] if code < len(_UNREACHABLE_4) else f"unreachable, code {code}"
            return f"{said}, the path's MTU is {rest & 0xFFFF}" if code == 4 and rest & 0xFFFF else said
        return {11: "time exceeded in transit" if code == 0 else "time exceeded in reassembly", 12: "bad header"}.get(
            kind, ""
        )
    if kind == 1:
        return _UNREACHABLE_6[code] if code < len(_UNREACHABLE_6) else f"unreachable, code {code}"
    if kind == 2:
        return f"packet too big, the path's MTU is {rest}"
    return {3: "time exceeded in transit" if code == 0 else "time exceeded in reassembly", 4: "bad header"}.get(
        kind, ""
    )


def without_ip_header(packet: bytes) -> bytes:
    """What an IPv4 packet carries: raw sockets give the header too. Empty for what is no such packet."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return b""
    return packet[(packet[0] & 0x0F) * 4 :]


def _inner(version: int, quoted: bytes) -> bytes | None:
    """The ICMP message in the packet that an error quotes."""
    if version == 4:
        carried = without_ip_header(quoted)
        return carried if carried and quoted[9] == 1 else None
    if len(quoted) < 40 or quoted[0] >> 4 != 6 or quoted[6] != 58:
        return None
    return quoted[40:]
