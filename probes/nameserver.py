"""One question to one name server over UDP, TCP or TLS, with the clock of each stretch. Messages by dnspython."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

import dns.exception
import dns.flags
import dns.message

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

Transport = Literal["udp", "tcp", "tls"]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that belongs to the question, and how long it took, in seconds."""

    message: dns.message.Message
    connect: float
    """For the connection (TCP, TLS included); of UDP only the socket."""
    request: float
    """From sending the question to having the whole answer."""
    truncated: bool = False
    """The answer over UDP was cut off, so this one was fetched over TCP."""


async def ask(
    query: dns.message.Message,
    address: str,
    port: int,
    *,
    transport: Transport = "udp",
    context: ssl.SSLContext | None = None,
    server_name: str = "",
    again: float | None = None,
    clock: Callable[[], float],
) -> Answered:
    """Send a question and wait for its answer, without a limit of its own: the caller's deadline cancels it.

    A truncated answer over UDP is fetched again over TCP (RFC 7766 §5). With `again`, a question over UDP is sent anew
    every so many seconds. Raises OSError for what the network says, ProbeFailed for what is not a DNS answer.
    """
    if transport != "udp":
        return await _ask_stream(query, address, port, context=context, server_name=server_name, clock=clock)
    answered = await _ask_datagram(query, address, port, again=again, clock=clock)
    if not answered.message.flags & dns.flags.TC:
        return answered
    whole = await _ask_stream(query, address, port, context=None, server_name="", clock=clock)
    return Answered(
        message=whole.message,
        connect=answered.connect + whole.connect,
        request=answered.request + whole.request,
        truncated=True,
    )


class _Datagrams(asyncio.DatagramProtocol):
    """Keeps the first datagram that answers the question; a connected socket also hears that a port is closed."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self.answer: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        try:
            message = _read(data)
        except ProbeFailed as failure:
            self.answer.set_exception(failure)
            return
        # Another id or question is a late or forged answer: the real one may still come.
        if self._query.is_response(message):
            self.answer.set_result(message)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_datagram(
    query: dns.message.Message, address: str, port: int, *, again: float | None, clock: Callable[[], float]
) -> Answered:
    began = clock()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(query), remote_addr=(address, port))
    try:
        connected = clock()
        wire = query.to_wire()
        transport.sendto(wire)
        while again is not None:
            done, _ = await asyncio.wait([protocol.answer], timeout=again)
            if done:
                break
            transport.sendto(wire)
        message = await protocol.answer
        return Answered(message=message, connect=connected - began, request=clock() - connected)
    finally:
        protocol.answer.cancel()
        transport.close()


async def _ask_stream(
    query: dns.message.Message,
    address: str,
    port: int,
    *,
    context: ssl.SSLContext | None,
    server_name: str,
    clock: Callable[[], float],
) -> Answered:
    began = clock()
    reader, writer = await asyncio.open_connection(
        address, port, ssl=context, server_hostname=server_name if context else None
    )
    try:
        connected = clock()
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
        size = int.from_bytes(await reader.readexactly(2))
        message = _read(await reader.readexactly(size))
        if not query.is_response(message):
            raise ProbeFailed(Reason.PROTOCOL, "the answer belongs to another question")
        return Answered(message=message, connect=connected - began, request=clock() - connected)
    except asyncio.IncompleteReadError as error:
        raise ProbeFailed(
            Reason.RESET, f"the connection was closed {len(error.partial)} bytes into the answer"
        ) from error
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def _read(data: bytes) -> dns.message.Message:
    try:
        return dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        raise ProbeFailed(
            Reason.PROTOCOL, f"{len(data)} bytes came back that are not a DNS message: {error or type(error).__name__}"
        ) from error


def rdata_of(message: dns.message.Message, kind: int) -> list[Any]:
    """The records of one type in the answer section, whatever their owner: also those behind a CNAME."""
    return [item for rrset in message.answer if rrset.rdtype == kind for item in cast("list[Any]", list(rrset))]
