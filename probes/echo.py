"""One ICMP socket for each family and process, and many flows of echo requests over it.

    flow.send() ──▶ packet with a sequence number and a token of its own
    socket readable ──▶ read_packet ──▶ the flow that the sequence number belongs to

Unprivileged datagram sockets are used where the system allows them, raw ones otherwise. The kernel stamps what arrives, so
a loop that is busy does not make the round trip longer.
"""

import asyncio
import errno
import os
import secrets
import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.icmp_packet import Refusal, Reply, describe, echo_request, read_packet, without_ip_header
from stormwatch.probes.result import Reason

TOKEN: Final = 16
"""Bytes of a packet by which its answer is known."""
LARGEST: Final = 1 << 16
BURST: Final = 64
"""Packets that are read before others on the loop have their turn."""

# Numbers of Linux that Python's socket module has no names for: <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>.
_SO_TIMESTAMPNS: Final = 35
_IP_RECVERR: Final = 11
_IP_RECVTTL: Final = 12
_IP_TTL: Final = 2
_IP_MTU_DISCOVER: Final = 10
_IP_PKTINFO: Final = 8
_IPV6_RECVERR: Final = 25
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DO: Final = 2
_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_TIMESPEC: Final = struct.Struct("@qq")
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")
_FROM_LOCAL: Final = 1
"""SO_EE_ORIGIN_LOCAL: our own kernel says so, and no router."""

_HINT: Final = (
    "give the group a place in the sysctl net.ipv4.ping_group_range, or the program the capability CAP_NET_RAW"
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What came in the place of an answer."""

    said: str
    who: str = ""
    """Address of the router or host that says so; empty when it is our own kernel."""
    ours: bool = False
    """Whether it is about our own machine."""

    def __str__(self) -> str:
        return f"{self.said}, says {self.who}" if self.who else self.said


class Flow:
    """The echo requests of one run to one address. `with flow:` forgets them at the end."""

    def __init__(self, line: "_Line", address: str, *, size: int, ttl: int, source: str) -> None:
        self.address = address
        self.sent = 0
        self.hop_limit = 0
        """Of the last answer."""
        self.duplicates = 0
        self.reordered = 0
        """Answers that came after one to a later packet."""
        self.troubles: list[Trouble] = []
        self._line = line
        self._filling = bytes(number % 256 for number in range(size - TOKEN))
        self._ancillary = _ancillary(line.version, ttl, source)
        self._asked: dict[int, tuple[bytes, int, float, int]] = {}
        """By sequence number: token, wall clock in ns and monotonic clock at sending, place among the packets."""
        self._answered: dict[int, float] = {}
        self._latest = -1
        self._refused: set[int] = set()
        self._news = asyncio.Event()

    @property
    def trips(self) -> list[float]:
        """Seconds of each round trip, in the order in which the packets were sent."""
        return [self._answered[sequence] for sequence in self._asked if sequence in self._answered]

    @property
    def waiting(self) -> bool:
        """Whether a packet is neither answered nor refused."""
        return len(self._answered) + len(self._refused - self._answered.keys()) < len(self._asked)

    async def news(self) -> None:
        """Wait for an answer, or for an error."""
        self._news.clear()
        await self._news.wait()

    def send(self) -> None:
        """Send one more. What the system says against it is a trouble, and no exception."""
        sequence = self._line.claim(self)
        token = secrets.token_bytes(TOKEN)
        packet = echo_request(self._line.version, self._line.identifier, sequence, token + self._filling)
        self._asked[sequence] = (token, time.time_ns(), time.monotonic(), self.sent)
        self.sent += 1
        refused = 0
        for _ in range(2):  # an error that waits at a socket is told to whoever sends next, and may be another flow's
            try:
                self._line.socket.sendmsg([packet], self._ancillary, 0, (self.address, 0))
            except OSError as error:
                refused = error.errno or 0
            else:
                return
        self.refuse(sequence, Trouble(os.strerror(refused), ours=refused not in _THEIRS))

    def answer(self, reply: Reply, hop_limit: int, stamped: int) -> None:
        """An echo reply came; `stamped` is the kernel's wall clock in nanoseconds, 0 for none."""
        token, wall, monotonic, place = self._asked[reply.sequence]
        if reply.payload[:TOKEN] != token:
            return  # an answer to somebody else's packet with the same number
        if reply.sequence in self._answered:
            self.duplicates += 1
            return
        seconds = (stamped - wall) / 1e9 if stamped else -1.0
        passed = time.monotonic() - monotonic
        # The wall clock may have been set meanwhile; then our own clock has to do.
        self._answered[reply.sequence] = seconds if 0 <= seconds <= passed + 0.001 else passed
        self.reordered += place < self._latest
        self._latest = max(self._latest, place)
        self.hop_limit = hop_limit
        self._news.set()

    def refuse(self, sequence: int, trouble: Trouble) -> None:
        """Somebody says that a packet cannot arrive."""
        if sequence in self._asked and sequence not in self._refused:
            self._refused.add(sequence)
            self.troubles.append(trouble)
            self._news.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sequence in self._asked:
            self._line.release(sequence)


_THEIRS: Final = frozenset({errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EMSGSIZE})
"""Errors of sending that are about the way to the target, and not about us."""


class Echoes:
    """All flows of one loop. Open it with `watch.resources.get(Echoes)`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # An error waiting at a socket would make some loops stop watching it: they watch an epoll set instead.
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._read)
        self._lines: dict[tuple[int, bool], _Line] = {}
        self._by_descriptor: dict[int, _Line] = {}

    def flow(
        self, address: str, *, size: int = 56, ttl: int = 64, dont_fragment: bool = False, source: str = ""
    ) -> Flow:
        """A flow to an address. Raises ProbeBroken when the system gives us no ICMP socket."""
        version = ip_address(address.partition("%")[0]).version
        line = self._lines.get((version, dont_fragment))
        if line is None:
            line = self._lines[version, dont_fragment] = _Line(version, dont_fragment=dont_fragment)
            self._by_descriptor[line.socket.fileno()] = line
            self._epoll.register(line.socket.fileno(), select.EPOLLIN)
        return Flow(line, address, size=size, ttl=ttl, source=source)

    def _read(self) -> None:
        for descriptor, events in self._epoll.poll(0):
            line = self._by_descriptor[descriptor]
            if events & select.EPOLLERR:
                line.read_errors()
            if events & select.EPOLLIN:
                line.read()

    async def aclose(self) -> None:
        """Close the sockets."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        for line in self._lines.values():
            line.socket.close()
        self._lines.clear()


class _Line:
    """One socket."""

    def __init__(self, version: int, *, dont_fragment: bool) -> None:
        self.version = version
        self.socket, self.raw = _open(version)
        self.identifier = secrets.randbelow(1 << 16)
        self._next = secrets.randbelow(1 << 16)
        self._flows: dict[int, Flow] = {}
        try:
            _prepare(self.socket, version, raw=self.raw, dont_fragment=dont_fragment)
        except BaseException:
            self.socket.close()
            raise

    def claim(self, flow: Flow) -> int:
        """A sequence number that nobody waits for."""
        for _ in range(1 << 16):
            self._next = (self._next + 1) % (1 << 16)
            if self._next not in self._flows:
                self._flows[self._next] = flow
                return self._next
        raise ProbeBroken(Reason.RESOURCES, "65536 ICMP packets wait for an answer: send fewer at once")

    def release(self, sequence: int) -> None:
        """Nobody waits for it any more."""
        self._flows.pop(sequence, None)

    def read(self) -> None:
        """Everything that has arrived, at most `BURST` packets."""
        for _ in range(BURST):
            try:
                data, ancillary, _, source = self.socket.recvmsg(LARGEST, 256)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # an error that stands in the queue of errors too
            packet = without_ip_header(data) if self.raw and self.version == 4 else data
            message = read_packet(self.version, packet)
            if message is None:
                continue
            flow = self._flows.get(message.sequence)
            if flow is None:
                continue
            if isinstance(message, Refusal):
                if message.identifier == self.identifier:
                    flow.refuse(message.sequence, Trouble(message.said, who=str(source[0])))
            else:
                hop_limit, stamped = _told(ancillary)
                flow.answer(message, hop_limit or (data[8] if self.raw and self.version == 4 else 0), stamped)

    def read_errors(self) -> None:
        """What routers and our kernel said to a datagram socket."""
        for _ in range(BURST):
            try:
                data, ancillary, _, _ = self.socket.recvmsg(LARGEST, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            if len(data) < 8:
                continue
            sequence = int.from_bytes(data[6:8], "big")
            flow = self._flows.get(sequence)
            trouble = _trouble(self.version, ancillary)
            if flow is not None and trouble is not None:
                flow.refuse(sequence, trouble)


def _open(version: int) -> tuple[socket.socket, bool]:
    """A socket, and whether it is a raw one."""
    kind, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    refused: OSError | None = None
    for style in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return socket.socket(kind, style | socket.SOCK_NONBLOCK, protocol), style == socket.SOCK_RAW
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            refused = error
    assert refused is not None
    raise ProbeBroken(Reason.RESOURCES, f"this process may not send ICMP: {_HINT}", phase="setup") from refused


def _prepare(line: socket.socket, version: int, *, raw: bool, dont_fragment: bool) -> None:
    line.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    with suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if version == 4:
        line.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        if raw:  # a bit for each type that we do not want: all but replies, unreachable, exceeded, bad header
            wanted = sum(1 << kind for kind in (0, 3, 11, 12))
            line.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~wanted & 0xFFFFFFFF))
        else:
            line.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        line.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO if dont_fragment else 0)
    else:
        line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        if not raw:
            line.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        if dont_fragment:
            line.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)


def _ancillary(version: int, ttl: int, source: str) -> list[tuple[int, int, bytes]]:
    """What goes with each packet: flows share a socket, so its options cannot say it."""
    told = (
        [(socket.IPPROTO_IP, _IP_TTL, struct.pack("=i", ttl))]
        if version == 4
        else [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", ttl))]
    )
    if source:
        address = ip_address(source).packed
        if version == 4:
            told.append((socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, address, bytes(4))))
        else:
            told.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address + struct.pack("=I", 0)))
    return told


def _told(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Hop limit and the kernel's time stamp in nanoseconds; 0 for what was not told."""
    hop_limit = stamped = 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            stamped = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in _HOP_LIMITS and len(data) >= 4:
            hop_limit = int.from_bytes(data[:4], "little" if _LITTLE else "big")
    return hop_limit, stamped


_LITTLE: Final = struct.pack("=H", 1) == b"\x01\x00"
_HOP_LIMITS: Final = frozenset({(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)})


def _trouble(version: int, ancillary: list[tuple[int, int, bytes]]) -> Trouble | None:
    """From `struct sock_extended_err` and the address behind it: ip(7), "IP_RECVERR"."""
    for level, kind, data in ancillary:
        known = (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
        if not known or len(data) < _EXTENDED_ERROR.size:
            continue
        number, origin, icmp_kind, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
        if origin == _FROM_LOCAL:
            limit = f", the path's MTU is {info}" if number == errno.EMSGSIZE else ""
            return Trouble(f"{os.strerror(number)}{limit}", ours=number != errno.EMSGSIZE)
        said = describe(version, icmp_kind, code, info) or os.strerror(number)
        return Trouble(said, who=_offender(version, data[_EXTENDED_ERROR.size :]))
    return None


def _offender(version: int, address: bytes) -> str:
    """Of `struct sockaddr_in` or `sockaddr_in6`."""
    if version == 4 and len(address) >= 8:
        return socket.inet_ntop(socket.AF_INET, address[4:8])
    if version == 6 and len(address) >= 24:
        return socket.inet_ntop(socket.AF_INET6, address[8:24])
    return ""
