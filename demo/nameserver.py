"""The authoritative name server of the sample platform: UDP and TCP, one zone, no recursion.

RFC 1034 and 1035, NXDOMAIN and NODATA with the SOA (RFC 2308), EDNS and truncation (RFC 6891), TCP (RFC 7766).
"""

import asyncio
import contextlib
import struct
from collections.abc import Iterable
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

TTL = 2
"""Seconds. Short, so that a name server that fails is soon felt by everybody who resolves through it."""

_UDP_WITHOUT_EDNS = 512
_UDP_WITH_EDNS = 1232
"""What fits through any path without fragments: the value agreed on at DNS flag day 2020."""
_TCP_IDLE = 10.0


def zone_of(origin: str, hosts: Iterable[str], *, address: str = "127.0.0.1", serial: int = 1) -> dns.zone.Zone:
    """A zone in which the origin, `ns` and every host have one A record.

    `large` has a TXT record of about 2 kB, so that clients can see a truncated answer and ask again over TCP.
    """
    paragraphs = " ".join(f'"{"storm " * 40}"' for _ in range(8))
    lines = [
        f"$TTL {TTL}",
        f"@ SOA ns hostmaster {serial} 3600 600 86400 {TTL}",
        "@ NS ns",
        *(f"{host} A {address}" for host in ("@", "ns", *hosts)),
        f"large TXT {paragraphs}",
    ]
    return dns.zone.from_text("\n".join(lines), origin=origin, relativize=False)


def answer(zone: dns.zone.Zone, wire: bytes, *, limit: int | None = None) -> bytes | None:
    """The answer to one query, both in wire format. `limit` is what fits into a datagram; None: no limit (TCP).

    None when nothing should be sent: what came in was an answer itself, or too short to have an id.
    """
    try:
        query = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        return _format_error(wire)
    if query.flags & dns.flags.QR:
        return None
    response = dns.message.make_response(query, our_payload=_UDP_WITH_EDNS)
    _fill(response, query, zone)
    if limit is not None:
        limit = min(_UDP_WITH_EDNS, max(_UDP_WITHOUT_EDNS, query.payload)) if query.edns >= 0 else _UDP_WITHOUT_EDNS
    try:
        return response.to_wire(max_size=limit or 65535)
    except dns.exception.TooBig:
        for section in (response.answer, response.authority, response.additional):
            section.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=limit or 65535)


def _fill(response: dns.message.Message, query: dns.message.Message, zone: dns.zone.Zone) -> None:
    if query.opcode() is not dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
        return
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return
    question, origin = query.question[0], zone.origin
    assert origin is not None
    transfer = question.rdtype in {dns.rdatatype.AXFR, dns.rdatatype.IXFR}
    if question.rdclass != dns.rdataclass.IN or not question.name.is_subdomain(origin) or transfer:
        response.set_rcode(dns.rcode.REFUSED)
        return
    response.flags |= dns.flags.AA
    node = zone.get_node(question.name)
    found = [
        dns.rrset.from_rdata_list(question.name, rdataset.ttl, list(rdataset))
        for rdataset in (node.rdatasets if node else ())
        if question.rdtype in {rdataset.rdtype, dns.rdatatype.ANY}
    ]
    if found:
        response.answer.extend(found)
        return
    if node is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    soa = zone.find_rdataset(origin, dns.rdatatype.SOA)
    response.authority.append(dns.rrset.from_rdata_list(origin, soa.ttl, list(soa)))


def _format_error(wire: bytes) -> bytes | None:
    if len(wire) < 12:
        return None
    identifier, flags = struct.unpack_from("!HH", wire)
    if flags & dns.flags.QR:
        return None
    kept = dns.flags.QR | (flags & (0x7800 | dns.flags.RD))
    return struct.pack("!6H", identifier, kept | dns.rcode.FORMERR, 0, 0, 0, 0)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: dns.zone.Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = answer(self._zone, data, limit=_UDP_WITHOUT_EDNS)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


async def serve_zone(zone: dns.zone.Zone, host: str, port: int, *, stop: asyncio.Event) -> None:
    """Answer on UDP and TCP until `stop` is set. Raises OSError when the port is taken."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError), contextlib.closing(writer):
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    size = int.from_bytes(await reader.readexactly(2))
                    response = answer(zone, await reader.readexactly(size))
                    if response is None:
                        return
                    writer.write(len(response).to_bytes(2) + response)
                    await writer.drain()

    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(zone), local_addr=(host, port)
    )
    try:
        server = await asyncio.start_server(stream, host, port)
        try:
            await stop.wait()
        finally:
            server.close()
    finally:
        datagrams.close()
