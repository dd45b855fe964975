"""A UDP socket that talks to one address: what comes from it, when the system had it, and what routers say of what was sent.

The socket is not connected, so that answers from another address than the one that was asked are seen too, and can be told of.
"""

import asyncio
import os
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from stormwatch.probes.connect import bind
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain

# Numbers that Python's socket module does not have: linux/in.h, linux/in6.h, asm-generic/socket.h
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_SO_TIMESTAMPNS: Final = 35

LONGEST: Final = 2**16
"""Bytes of the longest datagram that is read."""
KEPT: Final = 64
"""Datagrams that are kept until somebody asks for them; whoever sends more than he was asked for loses the rest."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One that came."""

    data: bytes = field(repr=False)
    arrived: float
    """Unix time at which the system had it, in seconds."""
    seconds: float
    """Since the first datagram was sent, without our own queue."""


class DatagramSocket:
    """Talks to one place. Made for one exchange and closed after it: late answers to another one do not come here."""

    def __init__(self, place: Endpoint, *, source: str = "") -> None:
        """Raises OSError, and ProbeBroken for a `source` that is not ours."""
        self._place = place
        self._is_v6 = ":" in place.host
        self._socket = socket.socket(socket.AF_INET6 if self._is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._loop = asyncio.get_running_loop()
        self._came: deque[Datagram] = deque(maxlen=KEPT)
        self._error: OSError | None = None
        self._news = asyncio.Event()
        self._began = 0.0
        self._began_ns = 0
        self.strays: set[str] = set()
        """Who else sent something here, a few of them."""
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if self._is_v6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            if source:
                bind(self._socket, source)
            self._target = socket.getaddrinfo(
                place.host, place.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )[0][4]
            self._loop.add_reader(self._socket, self._readable)
        except BaseException:
            self._socket.close()
            raise

    def send(self, data: bytes) -> float:
        """Send it now, and return the Unix time of that. Raises ProbeFailed or ProbeBroken for what our own system says."""
        now_ns = time.time_ns()
        if not self._began_ns:
            self._began, self._began_ns = time.monotonic(), now_ns
        try:
            self._socket.sendto(data, self._target)
        except BlockingIOError:  # no room for it: as good as lost on the way
            pass
        except OSError as error:
            raise self._explain(error) from error
        return now_ns / 1e9

    async def receive(self) -> Datagram:
        """The next datagram from there. Raises ProbeFailed when a router, or the host, says that nothing gets there."""
        while not self._came:
            if self._error is not None:
                raise self._explain(self._error) from self._error
            self._news.clear()
            await self._news.wait()
        return self._came.popleft()

    def close(self) -> None:
        """Hear nothing more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(KEPT):
            try:
                data, control, _, origin = self._socket.recvmsg(LONGEST, 256)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._error = self._error or error
                self._forget_errors()
                self._news.set()
                return
            if self._is_ours(origin):
                self._came.append(self._datagram(data, control))
                self._news.set()
            elif len(self.strays) < 4:
                self.strays.add(str(Endpoint(str(origin[0]).partition("%")[0], int(origin[1]))))

    def _explain(self, error: OSError) -> ProbeFailed | ProbeBroken:
        failure = explain(OSError(error.errno, os.strerror(error.errno or 0)))
        message = f"nothing gets to {self._place}: {failure.message}"
        if isinstance(failure, ProbeBroken):
            return ProbeBroken(failure.reason, message)
        return ProbeFailed(failure.reason, message)

    def _forget_errors(self) -> None:
        """The queue of errors would wake us again and again; the first error was read from the socket itself."""
        try:
            while True:
                self._socket.recvmsg(1, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return

    def _is_ours(self, origin: tuple[Any, ...]) -> bool:
        return tuple(origin[:2]) == tuple(self._target[:2]) or (
            self._is_v6 and origin[1] == self._target[1] and _packed(str(origin[0])) == _packed(str(self._target[0]))
        )

    def _datagram(self, data: bytes, control: list[tuple[int, int, bytes]]) -> Datagram:
        seen = time.monotonic() - self._began
        arrived_ns = stamp(control) or time.time_ns()
        stamped = (arrived_ns - self._began_ns) / 1e9
        # Somebody may have set the clock meanwhile: then only ours is right, with our queue in it.
        return Datagram(data, arrived_ns / 1e9, stamped if 0 <= stamped <= seen + 0.001 else seen)


def stamp(control: list[tuple[int, int, bytes]]) -> int:
    """When the system had a message, in nanoseconds of Unix time; 0 when it does not say."""
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= 16:
            seconds, nanoseconds = struct.unpack("@ll", value[:16])
            return seconds * 10**9 + nanoseconds
    return 0


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
