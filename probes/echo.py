"""One socket of each family for the echo requests of all probes of a process, and who each answer is for.

Requests are told apart by their sequence number, and by random bytes at the beginning of their data where there is room for
them. Round trips end by the system's clock at the arrival of an answer, so that our own queue is not in them. A datagram
socket (ping_group_range, icmp(7)) is used where the system lets us have one, a raw socket else.
"""

import asyncio
import errno
import itertools
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stormwatch.probes import icmp_message
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.icmp_message import Message, Reply, Trouble
from stormwatch.probes.result import Reason

# Numbers that Python's socket module does not have: linux/in.h, linux/in6.h, linux/icmp.h, asm-generic/socket.h
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IP_RECVERR: Final = 11
_IP_RECVTTL: Final = 12
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_RECVERR: Final = 25
_SO_TIMESTAMPNS: Final = 35
_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_FRAGMENT, _NEVER_FRAGMENT = 0, 3  # IP_PMTUDISC_DONT, and _PROBE, which does not believe what was learnt of a path

TOKEN: Final = 8
"""Random bytes at the beginning of the data of each request."""
UNDER_WAY: Final = 2**14
"""Requests that may wait for an answer at once, of all probes: a quarter of the numbers that there are."""
AT_ONCE: Final = 64
"""Messages that are read before other work has its turn."""
_QUEUE: Final = 2**20
"""Bytes of answers that the system keeps for us, while something else has its turn."""
_RANGE: Final = "net.ipv4.ping_group_range"


@dataclass(slots=True, eq=False)
class Packet:
    """One request, and what came of it."""

    sequence: int
    address: str
    data: bytes = field(repr=False)
    ttl: int
    told: Callable[[], None] = field(repr=False)
    """Called for every news of it."""
    began: float = 0.0
    """On the monotonic clock."""
    began_ns: int = 0
    """In Unix time, as the system stamps what arrives."""
    seconds: float | None = None
    """The round trip; None: no answer yet."""
    hop_limit: int = 0
    """Time to live that was left of the answer."""
    place: int = 0
    """Which one of all answers this was: for the order in which they came."""
    copies: int = 0
    """Answers beyond the first."""
    damaged: bool = False
    """The answer carried other bytes than the request."""
    trouble: Trouble | None = None
    """What a router said, or our own system."""
    router: str = ""
    """Who said so."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is waited for."""
        return self.seconds is not None or self.damaged or self.trouble is not None


class Echoes:
    """The sockets. Opened at first use, closed once."""

    def __init__(self) -> None:
        self._sockets: dict[int, EchoSocket] = {}

    def of(self, family: int) -> "EchoSocket":
        """The socket of a family. Raises ProbeBroken when the system does not let us have one."""
        known = self._sockets.get(family)
        if known is None:
            known = self._sockets[family] = EchoSocket(family)
        return known

    async def aclose(self) -> None:
        """Close them all."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()


class EchoSocket:
    """All requests of one family."""

    def __init__(self, family: int) -> None:
        self._is_v6 = family == socket.AF_INET6
        self.family = family
        self._socket, self.is_raw = _open(family)
        self._identifier = secrets.randbelow(2**16)
        self._sequence = secrets.randbelow(2**16)
        self._salt = secrets.token_bytes(4)
        self._serial = itertools.count(secrets.randbelow(2**32))
        self._packets: dict[int, Packet] = {}
        self._places = itertools.count()
        self._buffer = bytearray(2**16)
        self._never_fragment: bool | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def send(
        self,
        address: str,
        *,
        size: int,
        filling: bytes = b"",
        ttl: int,
        dont_fragment: bool = False,
        source: str = "",
        told: Callable[[], None],
    ) -> Packet:
        """Send a request now, with `size` bytes of data. What comes of it stands in the packet, until it is forgotten.

        Raises OSError for what our own system says at once, ProbeBroken when too many are under way.
        """
        packet = Packet(sequence=self._free(), address=address, data=self._data(size, filling), ttl=ttl, told=told)
        message = icmp_message.request(self.family, self._identifier, packet.sequence, packet.data)
        self._fragmenting(never=dont_fragment)
        self._packets[packet.sequence] = packet
        packet.began, packet.began_ns = time.monotonic(), time.time_ns()
        try:
            self._socket.sendmsg([message], self._control(ttl, source), 0, _place(address))
        except BaseException:
            self.forget(packet)
            raise
        return packet

    def forget(self, packet: Packet) -> None:
        """Hear nothing more of it."""
        if self._packets.get(packet.sequence) is packet:
            del self._packets[packet.sequence]

    def close(self) -> None:
        """Hear nothing more of anything."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._packets.clear()

    def _free(self) -> int:
        if len(self._packets) >= UNDER_WAY:
            raise ProbeBroken(
                Reason.RESOURCES,
                f"{UNDER_WAY} packets wait for an answer: send fewer, or wait less for each",
                phase="rtt",
            )
        while True:
            self._sequence = (self._sequence + 1) % 2**16
            if self._sequence not in self._packets:
                return self._sequence

    def _data(self, size: int, filling: bytes) -> bytes:
        token = self._salt + (next(self._serial) % 2**32).to_bytes(4)
        rest = max(0, size - TOKEN)
        filling = filling or bytes(range(0x10, 0x38))
        return (token + filling * (rest // len(filling) + 1))[:size]

    def _fragmenting(self, *, never: bool) -> None:
        """An option of the socket: nothing comes between setting it and sending."""
        if never == self._never_fragment:
            return
        how = _NEVER_FRAGMENT if never else _FRAGMENT
        if self._is_v6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, how)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, int(never))
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, how)
        self._never_fragment = never

    def _control(self, ttl: int, source: str) -> list[tuple[int, int, bytes]]:
        """Time to live and source address of one packet (ip(7), ipv6(7))."""
        if self._is_v6:
            control = [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", ttl))]
            if source:
                ours = socket.inet_pton(socket.AF_INET6, source.partition("%")[0])
                control.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, ours + struct.pack("I", 0)))
            return control
        control = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", ttl))]
        if source:
            ours = struct.pack("i4s4s", 0, socket.inet_aton(source), bytes(4))
            control.append((socket.IPPROTO_IP, _IP_PKTINFO, ours))
        return control

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                size, control, _, origin = self._socket.recvmsg_into([self._buffer], 512)
            except (BlockingIOError, InterruptedError):
                if not self._read_error():
                    return
            except OSError:
                self._read_error()  # the error of a packet; its whole story stands in the queue of errors
            else:
                self._hear(bytes(self._buffer[:size]), control, str(origin[0]))

    def _hear(self, data: bytes, control: list[tuple[int, int, bytes]], origin: str) -> None:
        stamp, hop_limit = _stamp(control), _hop_limit(control)
        try:
            if self.is_raw and not self._is_v6:
                data, hop_limit = icmp_message.without_ip_header(data)
            message = icmp_message.read(self.family, data)
        except ProbeFailed:
            return  # whoever sends such things is no target of ours
        if message is not None:
            self._take(message, origin, stamp, hop_limit)

    def _take(self, message: Message, origin: str, stamp: int, hop_limit: int) -> None:
        packet = self._packets.get(message.sequence)
        if packet is None or (self.is_raw and message.identifier != self._identifier):
            return
        if isinstance(message, Trouble):
            packet.trouble, packet.router = packet.trouble or message, packet.router or origin
        elif not _is_from(origin, packet.address) or message.data[:TOKEN] != packet.data[:TOKEN]:
            return  # the answer to a request of long ago, or of somebody else
        else:
            self._answered(packet, message, stamp, hop_limit)
        packet.told()

    def _answered(self, packet: Packet, reply: Reply, stamp: int, hop_limit: int) -> None:
        if packet.seconds is not None:
            packet.copies += 1
        elif reply.data != packet.data:
            packet.damaged = True
        else:
            seen = time.monotonic() - packet.began
            stamped = (stamp - packet.began_ns) / 1e9
            # Somebody may have set the clock meanwhile: then only ours is right, with our queue in it.
            packet.seconds = stamped if stamp and 0 <= stamped <= seen + 0.001 else seen
            packet.hop_limit, packet.place = hop_limit, next(self._places)

    def _read_error(self) -> bool:
        """Take one entry of the queue of errors, which datagram sockets have; false when there is none."""
        with suppress(OSError):
            data, control, _, _ = self._socket.recvmsg(256, 512, socket.MSG_ERRQUEUE)
            for level, kind, value in control:
                if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                    self._take_error(data, value)
            return True
        return False

    def _take_error(self, data: bytes, value: bytes) -> None:
        about = icmp_message.asked(self.family, data)
        if about is None or len(value) < 16:
            return
        number, origin, kind, code, info = struct.unpack("=IBBBxI", value[:12])
        if origin == 1:  # SO_EE_ORIGIN_LOCAL
            said = Trouble(*about, what=os.strerror(number).lower(), mtu=info if number == errno.EMSGSIZE else 0)
            self._take(said, "", 0, 0)
            return
        router = ""
        if self._is_v6 and len(value) >= 40:
            router = socket.inet_ntop(socket.AF_INET6, value[24:40])
        elif len(value) >= 24:
            router = socket.inet_ntop(socket.AF_INET, value[20:24])
        self._take(icmp_message.trouble(self.family, kind, code, about, info), router, 0, 0)


def _open(family: int) -> tuple[socket.socket, bool]:
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    opened: socket.socket | None = None
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            opened = socket.socket(family, kind, protocol)
            break
        except PermissionError:
            continue
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                raise ProbeBroken(Reason.NETWORK, f"the system has no {_version(family)}", phase="setup") from error
            if error.errno != errno.EPROTONOSUPPORT:
                raise
    if opened is None:
        raise ProbeBroken(
            Reason.RESOURCES,
            f"the prober may not send ICMP: let its group in sysctl {_RANGE} (now {_allowed()}), "
            "or give it the capability CAP_NET_RAW",
            phase="setup",
        )
    is_raw = opened.type == socket.SOCK_RAW
    try:
        _prepare(opened, is_raw=is_raw)
    except BaseException:
        opened.close()
        raise
    return opened, is_raw


def _prepare(opened: socket.socket, *, is_raw: bool) -> None:
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        if is_raw:
            heard = (1, 2, 3, 4, 129)
            blocked = [0xFFFFFFFF] * 8  # a bit for each type that is kept away (RFC 3542 §3.2)
            for kind in heard:
                blocked[kind >> 5] &= ~(1 << (kind & 31))
            opened.setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *blocked))
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        if is_raw:
            heard = (0, 3, 11, 12)
            opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~sum(1 << kind for kind in heard) & 0xFFFFFFFF))
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _version(family: int) -> str:
    return "IPv6" if family == socket.AF_INET6 else "IPv4"


def _allowed() -> str:
    with suppress(OSError):
        return " to ".join(Path("/proc/sys/net/ipv4/ping_group_range").read_text(encoding="ascii").split())
    return "unknown"


def _place(address: str) -> tuple[Any, ...]:
    if ":" not in address:
        return (address, 0)
    host, _, zone = address.partition("%")
    return (host, 0, 0, (int(zone) if zone.isdigit() else socket.if_nametoindex(zone)) if zone else 0)


def _is_from(origin: str, address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, origin.partition("%")[0]) == socket.inet_pton(family, address.partition("%")[0])


def _stamp(control: list[tuple[int, int, bytes]]) -> int:
    """When the system had the message, in nanoseconds of Unix time; 0 when it does not say."""
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= 16:
            seconds, nanoseconds = struct.unpack("@ll", value[:16])
            return seconds * 10**9 + nanoseconds
    return 0


def _hop_limit(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in control:
        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            return struct.unpack("i", value[:4])[0]
    return 0
