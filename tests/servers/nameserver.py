"""A name server that does exactly what a test says, right or wrong, over UDP and TCP on one port."""

import asyncio
import contextlib
import errno
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = Mapping[tuple[str, str], Sequence[str]]
"""Records as text by name and type; a name without any record does not exist."""
Behaviour = Callable[[dns.message.Message, str], "bytes | Sequence[bytes] | None"]
"""From a question and its transport (`udp` or `tcp`) to the bytes of the answer, or of several; None for no answer."""


@dataclass
class NameServer:
    """What is known of a running name server."""

    port: int
    asked: list[str] = field(default_factory=list)
    """Transport, name and type of every question, like `udp shop.test. A`."""

    @property
    def address(self) -> str:
        """As options give it."""
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def naming(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[NameServer]:
    """A name server on a free port of loopback. With `tls`, its TCP side speaks DNS over TLS."""
    known: NameServer

    def behave(wire: bytes, transport: str) -> Sequence[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        known.asked.append(f"{transport} {question.name} {dns.rdatatype.to_text(question.rdtype)}")
        said = behaviour(query, transport)
        return () if said is None else (said,) if isinstance(said, bytes) else said

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            for said in behave(data, "udp"):
                cast("asyncio.DatagramTransport", self.transport).sendto(said, addr)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2))
            for said in behave(await reader.readexactly(size), "tcp"):
                writer.write(len(said).to_bytes(2) + said)
            await writer.drain()
            await reader.read()  # until the client hangs up
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    loop = asyncio.get_running_loop()
    while True:
        stream = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
        port = stream.sockets[0].getsockname()[1]
        try:
            datagrams, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", port))
            break
        except OSError as error:  # a number that is free for TCP may be taken for UDP
            stream.close()
            if error.errno != errno.EADDRINUSE:
                raise
    known = NameServer(port=port)
    try:
        yield known
    finally:
        stream.close()
        datagrams.close()
        await asyncio.sleep(0)


def zone(records: Zone, *, ttl: int = 60, authoritative: bool = True) -> Behaviour:
    """Answer from a zone: NXDOMAIN for names it does not have."""

    def behave(query: dns.message.Message, _transport: str) -> bytes:
        return answer_from(query, records, ttl=ttl, authoritative=authoritative).to_wire()

    return behave


def answer_from(
    query: dns.message.Message, records: Zone, *, ttl: int = 60, authoritative: bool = True
) -> dns.message.Message:
    """The whole answer that a zone gives to a question."""
    response = dns.message.make_response(query)
    if authoritative:
        response.flags |= dns.flags.AA
    question = query.question[0]
    name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
    if not any(known == name for known, _ in records):
        response.set_rcode(dns.rcode.NXDOMAIN)
    found = records.get((name, kind), ())
    if found:
        response.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, list(found)))
    return response


def only(rcode: str) -> Behaviour:
    """Nothing but a response code."""

    def behave(query: dns.message.Message, _transport: str) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.from_text(rcode))
        return response.to_wire()

    return behave


def truncated_over_udp(records: Zone) -> Behaviour:
    """Over UDP an answer that is cut off, over TCP the whole one (RFC 7766)."""

    def behave(query: dns.message.Message, transport: str) -> bytes:
        if transport == "tcp":
            return answer_from(query, records).to_wire(max_size=65535)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.TC
        return response.to_wire()

    return behave


def mute(_query: dns.message.Message, _transport: str) -> None:
    """No answer at all."""


def garbled(_query: dns.message.Message, _transport: str) -> bytes:
    """Bytes that are no DNS message."""
    return b"not a DNS message"
