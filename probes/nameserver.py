"""One question to one name server over UDP, TCP or TLS, with the clock of each stretch."""

import asyncio
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import dns.message

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.question import Question, is_cut_off, new_number, read_message
from stormwatch.probes.result import Reason

Transport = Literal["udp", "tcp", "tls", "https", "quic"]

_AT_ONCE: Final = 64
"""Datagrams that are read before others have their turn: a flood must not hold up the loop."""
_LARGEST: Final = 65535
_SO_TIMESTAMPNS: Final = 35
"""Linux, socket(7): the kernel tells with each datagram when it came. Python has no name for it."""
_TIMESPEC: Final = struct.Struct("@ll")
_STAMPED: Final = sys.platform == "linux" and _TIMESPEC.size == 16
_ROOM: Final = 64 if _STAMPED else 0
_LONGEST_WAIT: Final = 10.0
"""Seconds; more than that is a wall clock that was set."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that belongs to the question, and how long it took, in seconds."""

    wire: bytes
    message: dns.message.Message
    connect: float
    """For the connection (TCP, TLS included); of UDP only the socket."""
    request: float
    """From sending the question to having the whole answer."""


@dataclass(slots=True)
class Progress:
    """How far a question came, kept also when it fails or is cancelled."""

    connected: float = 0.0
    """Seconds that the connection took; 0 while there is none."""
    sends: int = 0
    """How often the question was sent."""
    strangers: int = 0
    """Datagrams that were passed over because they do not belong to the question."""
    truncated: bool = False
    """The answer over UDP was cut off, so it was fetched over TCP."""


async def ask(
    question: Question,
    address: str,
    port: int,
    *,
    transport: Literal["udp", "tcp", "tls"] = "udp",
    context: ssl.SSLContext | None = None,
    server_name: str = "",
    source: str = "",
    resend: float | None = None,
    until: float | None = None,
    whole: bool = True,
    progress: Progress | None = None,
    clock: Callable[[], float],
) -> Answered:
    """Send a question and wait for its answer, without a limit of its own: the caller's deadline cancels it.

    A truncated answer over UDP is fetched again over TCP (RFC 7766 §5) if a `whole` one is wanted. Every `resend` seconds
    a question over UDP is sent anew. `until` is the moment by `clock` at which waiting is given up with a reason of
    its own where nothing but foreign datagrams came.

    Raises OSError for what the network says, ProbeFailed for what is not an answer.
    """
    progress = progress or Progress()
    began = clock()
    if transport != "udp":
        return await _ask_stream(
            question,
            (address, port),
            context=context,
            server_name=server_name,
            source=source,
            progress=progress,
            clock=clock,
        )
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        if source:
            link.bind((source, 0))
        link.connect((address, port))
        connected = clock()
        progress.connected = connected - began
        exchange = _Datagrams(question, link, progress, clock)
        wire = await exchange.perform(resend, None if until is None else until - connected)
    if whole and is_cut_off(wire):
        progress.truncated = True
        again = await _ask_stream(question, (address, port), source=source, progress=progress, clock=clock)
        connect = connected - began + again.connect
        return Answered(wire=again.wire, message=again.message, connect=connect, request=clock() - began - connect)
    request = max(0.0, exchange.arrived - connected)
    return Answered(wire=wire, message=read_message(wire), connect=connected - began, request=request)


class _Datagrams:
    """Waits on a connected socket for the datagram that answers. The socket also hears that a port is closed."""

    def __init__(self, question: Question, link: socket.socket, progress: Progress, clock: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._question = question
        self._link = link
        self._number = new_number()
        self._sent = question.numbered(self._number)
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._resend: float | None = None
        self._patience: float | None = None
        self._sender: asyncio.TimerHandle | None = None
        self._giver_up: asyncio.TimerHandle | None = None
        self._progress = progress
        self._clock = clock
        self.arrived = 0.0
        """When the answer came, by the clock: as the kernel saw it, not when the loop had time to read it."""

    async def perform(self, resend: float | None, patience: float | None) -> bytes:
        self._resend = resend
        self._patience = None if patience is None else self._loop.time() + patience
        # Registered before sending: on some loops registering costs as much as a near server takes to answer.
        self._loop.add_reader(self._link.fileno(), self._read)
        try:
            if _STAMPED:
                self._link.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._send()
            return await self._answer
        finally:
            self._loop.remove_reader(self._link.fileno())
            for timer in (self._sender, self._giver_up):
                if timer is not None:
                    timer.cancel()

    def _send(self) -> None:
        try:
            self._link.send(self._sent)
            self._progress.sends += 1
        except OSError as error:
            self._fail(error)
        if self._resend:
            self._sender = self._loop.call_later(self._resend, self._send)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, told, _, _ = self._link.recvmsg(_LARGEST, _ROOM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error)
                return
            if self._question.answered_by(data, self._number):
                if not self._answer.done():
                    self.arrived = self._clock() - _waited(told)
                    self._answer.set_result(data)
                return
            self._pass_over(data)

    def _pass_over(self, data: bytes) -> None:
        """A late or forged answer, or another service: the real one may still come."""
        self._progress.strangers += 1
        if self._progress.strangers == 1 and self._patience is not None:
            self._giver_up = self._loop.call_at(self._patience, self._give_up, len(data))

    def _give_up(self, size: int) -> None:
        strangers = self._progress.strangers
        many = "a datagram" if strangers == 1 else f"{strangers} datagrams"
        self._fail(
            ProbeFailed(
                Reason.PROTOCOL,
                f"nothing came back but {many}, the first of {size} bytes, with no answer to this question: "
                "another number, another question, or no DNS message at all",
                phase="request",
            )
        )

    def _fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def _waited(told: Sequence[tuple[int, int, bytes]]) -> float:
    """Seconds for which a datagram lay in the kernel; 0 where it does not tell, or the wall clock was set in between."""
    for level, kind, data in told:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            waited = time.time() - seconds - nanoseconds / 1e9
            return waited if 0 < waited < _LONGEST_WAIT else 0.0
    return 0.0


async def _ask_stream(
    question: Question,
    place: tuple[str, int],
    *,
    context: ssl.SSLContext | None = None,
    server_name: str = "",
    source: str,
    progress: Progress,
    clock: Callable[[], float],
) -> Answered:
    began = clock()
    reader, writer = await asyncio.open_connection(
        *place,
        ssl=context,
        server_hostname=server_name if context else None,
        local_addr=(source, 0) if source else None,
    )
    try:
        connected = clock()
        progress.connected += connected - began
        progress.sends += 1
        wire = await _converse(question, reader, writer)
        return Answered(wire=wire, message=read_message(wire), connect=connected - began, request=clock() - connected)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _converse(question: Question, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection, two bytes of length before each message (RFC 7766 §8), and return the answer."""
    number = new_number()
    sent = question.numbered(number)
    writer.write(len(sent).to_bytes(2) + sent)
    try:
        wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    except asyncio.IncompleteReadError as error:
        raise ProbeFailed(
            Reason.RESET, f"the connection was closed {len(error.partial)} bytes into the answer", phase="request"
        ) from error
    if not question.answered_by(wire, number):
        read_message(wire)
        raise ProbeFailed(Reason.PROTOCOL, "the answer belongs to another question", phase="request")
    return wire
