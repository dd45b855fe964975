"""The demo's name server: authoritative for one zone, over UDP and TCP."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator

import dns.asyncquery
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from stormwatch.demo.nameserver import answer, serve_zone, zone_of
from tests.servers.process import free_port

ZONE = zone_of("storm.test", ["shop", "payments"])


def asked(name: str, kind: str = "A", *, limit: int | None = None, **more: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)
    wire = answer(ZONE, query.to_wire(), limit=limit)
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert query.is_response(response)
    return response


@pytest.mark.parametrize("name", ["shop.storm.test", "SHOP.Storm.Test", "payments.storm.test", "storm.test"])
def test_every_name_leads_to_loopback(name: str) -> None:
    """Whatever the case of its letters; and the answer is authoritative."""
    response = asked(name)

    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert [record.to_text() for record in response.answer[0]] == ["127.0.0.1"]
    assert 1 <= response.answer[0].ttl <= 5


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nowhere.storm.test", "A", dns.rcode.NXDOMAIN),
        ("shop.storm.test", "AAAA", dns.rcode.NOERROR),
        ("shop.storm.test", "MX", dns.rcode.NOERROR),
    ],
)
def test_what_there_is_not_is_denied_with_the_soa(name: str, kind: str, code: dns.rcode.Rcode) -> None:
    """Both kinds of denial name the zone, so that resolvers know for how long to believe them (RFC 2308)."""
    response = asked(name, kind)

    assert code == response.rcode()
    assert response.answer == []
    assert [rrset.to_text() for rrset in response.authority] == [
        "storm.test. 2 IN SOA ns.storm.test. hostmaster.storm.test. 1 3600 600 86400 2"
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("example.org", "A"), ("test", "A"), ("notstorm.test", "A"), ("storm.test", "AXFR")],
)
def test_other_zones_and_transfers_are_refused(name: str, kind: str) -> None:
    """It knows nothing of others, and hands nobody the whole zone."""
    response = asked(name, kind)

    assert response.rcode() == dns.rcode.REFUSED
    assert not response.flags & dns.flags.AA


@pytest.mark.parametrize(("payload", "size"), [(None, 512), (600, 600), (4096, 1232), (10, 512)])
def test_a_large_answer_is_cut_off_over_udp(payload: int | None, size: int) -> None:
    """Nothing larger than what the client can take, and the TC flag says so; over TCP all of it comes."""
    edns = {} if payload is None else {"use_edns": 0, "payload": payload}
    query = dns.message.make_query("large.storm.test", "TXT", **edns)
    wire = answer(ZONE, query.to_wire(), limit=512)
    assert wire is not None
    cut = dns.message.from_wire(wire)

    assert len(wire) <= size
    assert cut.flags & dns.flags.TC
    assert len(asked("large.storm.test", "TXT").answer[0].to_text()) > 1900


def test_what_is_not_a_question_is_answered_by_its_error_or_not_at_all() -> None:
    """An answer is never answered: two name servers would talk for ever."""
    update = dns.message.make_query("shop.storm.test", "A")
    update.set_opcode(dns.opcode.STATUS)
    wire = answer(ZONE, update.to_wire())
    assert wire is not None
    broken = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0) + b"\xff"
    response = dns.message.make_response(dns.message.make_query("shop.storm.test", "A"))

    assert dns.message.from_wire(wire).rcode() == dns.rcode.NOTIMP
    assert struct.pack("!6H", 4711, 0x8101, 0, 0, 0, 0) == answer(ZONE, broken)
    assert answer(ZONE, response.to_wire()) is None
    assert answer(ZONE, b"\x00\x01\x80") is None


@contextlib.asynccontextmanager
async def serving() -> AsyncGenerator[int]:
    port, stop = free_port(), asyncio.Event()
    task = asyncio.create_task(serve_zone(ZONE, "127.0.0.1", port, stop=stop))
    try:
        yield port
    finally:
        stop.set()
        await task


async def test_a_real_client_asks_again_over_tcp() -> None:
    """UDP, the cut off answer, TCP, in one go; and several questions over one connection."""
    async with serving() as port:
        response, over_tcp = await dns.asyncquery.udp_with_fallback(
            dns.message.make_query("large.storm.test", "TXT"), "127.0.0.1", port=port, timeout=5
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for name in ("shop.storm.test", "payments.storm.test"):
            wire = dns.message.make_query(name, "A").to_wire()
            writer.write(struct.pack("!H", len(wire)) + wire)
            size = int.from_bytes(await reader.readexactly(2))
            assert dns.message.from_wire(await reader.readexactly(size)).answer
        writer.close()

    assert over_tcp
    assert len(response.answer[0][0].strings) == 8
