"""A route for names: passes everything on as it is, and each fault as our probes see it, before, meanwhile and after."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest

from stormwatch.chaos import dns_gate
from stormwatch.chaos.route import Route
from stormwatch.probes.dns import KIND as DNS
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers.nameserver import Behaviour, NameServer, answer_from, mute, naming, truncated_over_udp, zone
from tests.servers.probing import run
from tests.servers.process import free_port
from tests.servers.proxied import Proxied, proxied, until
from tests.servers.upstream import keeping_alive

ZONE: Mapping[tuple[str, str], Sequence[str]] = {
    ("shop.test.", "A"): ["192.0.2.10"],
    ("shop.test.", "SOA"): ["ns.shop.test. admin.shop.test. 2026112101 3600 600 86400 60"],
    ("api.shop.test.", "A"): ["127.0.0.1"],
    ("pay.test.", "A"): ["192.0.2.20"],
}

PATIENCE = 30.0
"""Seconds against a hang, on a machine with other work."""


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On both loops: tests run on asyncio's, `stormwatch proxy` on uvloop."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@contextlib.asynccontextmanager
async def between(behaviour: Behaviour) -> AsyncGenerator[tuple[Proxied, NameServer, str]]:
    """A name server, a route before it, and the route's address."""
    async with naming(behaviour) as server, proxied(route_to(server.port)) as proxy:
        yield proxy, server, proxy.routes["shop"]


def route_to(port: int) -> Route:
    """The route `shop` to a name server."""
    return Route(name="shop", listen="127.0.0.1:0", upstream=f"127.0.0.1:{port}", dns=True)


async def ask(name: str, server: str, *, timeout: float = PATIENCE, **options: Any) -> Result:
    """One run of a probe of kind `dns`."""
    return await run(DNS, name, {"server": server, **options}, timeout=timeout)


def once(transport: str) -> dict[str, Any]:
    """Options of a probe that asks once."""
    return {"transport": transport} | ({"resend": "0s"} if transport == "udp" else {})


class Client(asyncio.DatagramProtocol):
    """Sends datagrams and keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.put_nowait(data)


@contextlib.asynccontextmanager
async def client_of(address: str) -> AsyncGenerator[tuple[asyncio.DatagramTransport, Client]]:
    """A client's socket."""
    host, _, port = address.rpartition(":")
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=(host, int(port)))
    yield transport, client
    transport.close()


async def over_tcp(address: str, *questions: bytes) -> list[bytes]:
    """The answers to questions that are sent at once over one connection."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"".join(len(one).to_bytes(2) + one for one in questions))
    answers = [await reader.readexactly(int.from_bytes(await reader.readexactly(2))) for _ in questions]
    writer.close()
    await writer.wait_closed()
    return answers


def query(name: str, kind: str = "A", **options: Any) -> bytes:
    """A question."""
    return dns.message.make_query(name, kind, **options).to_wire()


# Without a fault.


async def test_datagrams_pass_unchanged_both_ways_whatever_they_are() -> None:
    """Big ones, rubbish, several answers to one question, each from the socket that was asked."""
    said = [b"not a DNS message", bytes(range(256)) * 200]
    seen: list[bytes] = []

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(data)
            for one in said:
                self.transport.sendto(one, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    async with proxied(route_to(port)) as proxy, client_of(proxy.routes["shop"]) as (sender, client):
        for data in (b"\x00", b"\xff" * 11, query("shop.test"), b"x" * 20_000):
            sender.sendto(data)
            assert said == [await asyncio.wait_for(client.received.get(), PATIENCE) for _ in said]
            assert seen[-1] == data
    transport.close()


async def test_messages_over_tcp_pass_unchanged_and_a_stream_that_ends_within_one_too() -> None:
    """Message by message, in both directions; what is cut off is cut off on the other side as well."""
    seen = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.extend(data)
        ended.set()
        writer.write(b"\x00\x03abc" + b"\xff\xffcut")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sent = b"\x00\x05hello" + b"\xff\xff" + b"y" * 65535 + b"\x00\x00" + b"\x01\x00cut off"
    async with server, proxied(route_to(server.sockets[0].getsockname()[1])) as proxy:
        reader, writer = await proxy.open()
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"\x00\x03abc\xff\xffcut"
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert bytes(seen) == sent


async def test_a_probe_behind_the_route_sees_what_it_sees_without() -> None:
    """Over UDP, over TCP, and over both when an answer is cut off."""
    async with between(truncated_over_udp(ZONE)) as (_, server, route):
        for options in ({}, {"transport": "tcp"}):
            result = await ask("shop.test", route, expect={"answers": ["192.0.2.10"]}, **options)
            assert (result.outcome, result.message) == (Outcome.UP, "")
        assert server.asked == ["udp shop.test. A", "tcp shop.test. A", "tcp shop.test. A"]


async def test_a_server_that_nobody_listens_for_is_silent_over_udp_and_a_reset_over_tcp() -> None:
    """The route is there, so only silence can tell; and it serves again when the server does."""
    port = free_port()
    async with proxied(route_to(port)) as proxy:
        assert (await ask("shop.test", proxy.routes["shop"], timeout=0.5)).reason is Reason.TIMEOUT
        assert (await ask("shop.test", proxy.routes["shop"], transport="tcp")).reason is Reason.RESET


async def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood against a silent server holds so many sockets and no more; the newest question is not the one given up."""
    monkeypatch.setattr(dns_gate, "QUESTIONS", 8)
    async with between(mute) as (proxy, server, route), client_of(route) as (sender, _):
        for number in range(40):
            sender.sendto(query(f"n{number}.test"))
        await until(lambda: len(server.asked) == 40, what="all questions to arrive")
        answer = await proxy.api.get("/routes/shop")
        assert answer.json()["connections"] == {"open": 8, "accepted": 40}


async def test_connections_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is closed for the newest, which is served."""
    monkeypatch.setattr(dns_gate, "STREAMS", 2)
    async with between(zone(ZONE)) as (proxy, _, route):
        first, *_ = [await proxy.open() for _ in range(3)]
        assert await asyncio.wait_for(first[0].read(), PATIENCE) == b""
        (answer,) = await over_tcp(route, query("shop.test"))
        assert dns.message.from_wire(answer).rcode() == dns.rcode.NOERROR


# With each fault.

SEEN: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("dns-nxdomain", {}, Reason.DNS, "NXDOMAIN"),
    ("dns-servfail", {}, Reason.DNS, "SERVFAIL"),
    ("dns-refused", {}, Reason.DNS, "REFUSED"),
    ("dns-empty", {}, Reason.DNS, "the name has no record of this type"),
    ("dns-cname-loop", {}, Reason.DNS, ""),
    ("dns-wrong-address", {"ipv4": "192.0.2.66"}, Reason.ASSERTION, "192.0.2.66"),
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("kind", "options", "reason", "said"), SEEN)
async def test_a_fault_is_seen_for_its_reason_and_the_undo_heals(
    kind: str, options: dict[str, Any], reason: Reason, said: str, transport: str
) -> None:
    """By a dns probe; the question does not reach the server; other names do not notice."""
    async with between(zone(ZONE)) as (proxy, server, route):
        wants = {"expect": {"answers": ["192.0.2.10"]}} if reason is Reason.ASSERTION else {}
        asked: dict[str, Any] = {"transport": transport, **wants}
        assert (await ask("shop.test", route, **asked)).outcome is Outcome.UP
        await proxy.put(kind, name="*shop.test", **options)
        result = await ask("shop.test", route, **asked)
        assert (result.outcome, result.reason) == (Outcome.DOWN, reason), result.message
        assert said in result.message
        assert (await ask("pay.test", route, transport=transport)).outcome is Outcome.UP
        evidence = await proxy.delete()
        assert evidence["requests"] == 1
        assert evidence["first"] == evidence["last"] is not None
        assert (await ask("shop.test", route, **asked)).outcome is Outcome.UP
        assert server.asked == [f"{transport} {name}. A" for name in ("shop.test", "pay.test", "shop.test")]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_question_without_an_answer_is_a_timeout(transport: str) -> None:
    """Also after the undo: what was swallowed does not come back, the next question is answered."""
    async with between(zone(ZONE)) as (proxy, server, route):
        await proxy.put("dns-timeout")
        result = await ask("shop.test", route, timeout=0.5, transport=transport)
        assert result.reason is Reason.TIMEOUT
        assert (await proxy.delete())["requests"] >= 1
        assert server.asked == []
        assert (await ask("shop.test", route, transport=transport)).outcome is Outcome.UP


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_slow_answers_are_too_slow_below_the_timeout_and_a_timeout_above(transport: str) -> None:
    """The seconds that were asked for, and not less."""
    async with between(zone(ZONE)) as (proxy, _, route):
        await proxy.put("dns-slow", delay="300ms", jitter="50ms")
        slow = await ask("shop.test", route, **once(transport), expect={"slower_than": "200ms"})
        assert (slow.reason, slow.seconds >= 0.25) == (Reason.TOO_SLOW, True)
        late = await ask("shop.test", route, transport=transport, timeout=0.2)
        assert late.reason is Reason.TIMEOUT


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_held_answer_is_sent_when_the_fault_is_removed(transport: str) -> None:
    """And not when it would have been: nothing is left of the fault."""
    async with between(zone(ZONE)) as (proxy, server, route):
        await proxy.put("dns-slow", delay="1h")
        asking = asyncio.ensure_future(ask("shop.test", route, timeout=20, **once(transport)))
        await until(lambda: len(server.asked) == 1, what="the question to arrive")
        async with asyncio.timeout(PATIENCE):
            while not (await proxy.evidence())["requests"]:
                await asyncio.sleep(0.01)
        assert not asking.done()
        await proxy.delete()
        assert (await asyncio.wait_for(asking, PATIENCE)).outcome is Outcome.UP


async def test_an_answer_that_is_under_way_when_the_fault_is_removed_comes_as_it_is() -> None:
    """Its question met the fault; but nothing is to be seen of it after the undo."""
    asked: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    class Server(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            asked.put_nowait((data, addr))

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    async with (
        proxied(route_to(transport.get_extra_info("sockname")[1])) as proxy,
        client_of(proxy.routes["shop"]) as (sender, client),
    ):
        for removed in (False, True):
            await proxy.put("dns-stale-soa")
            sender.sendto(query("shop.test", "SOA"))
            data, addr = await asyncio.wait_for(asked.get(), PATIENCE)
            if removed:
                await proxy.delete()
            answer = answer_from(dns.message.from_wire(data), ZONE).to_wire()
            transport.sendto(answer, addr)
            assert (await asyncio.wait_for(client.received.get(), PATIENCE) == answer) is removed
    transport.close()


@pytest.mark.parametrize(
    ("tcp", "reason"), [("works", Reason.NONE), ("resets", Reason.RESET), ("is-silent", Reason.TIMEOUT)]
)
async def test_a_cut_off_answer_leads_to_tcp(tcp: str, reason: Reason) -> None:
    """Which works, resets or is silent; a client that does not come back sees the cut-off answer."""
    async with between(zone(ZONE)) as (proxy, server, route):
        await proxy.put("dns-truncated", tcp=tcp)
        most = 1.0 if reason is Reason.TIMEOUT else PATIENCE
        result = await ask("shop.test", route, timeout=most, resend="0s")
        assert result.reason is reason, result.message
        assert server.asked == (["tcp shop.test. A"] if tcp == "works" else [])
        assert (await ask("shop.test", route, retry_truncated=False)).reason is Reason.DNS


async def test_an_older_serial_is_an_assertion() -> None:
    """Seen with `min_serial`; by nothing else of the answer."""
    async with between(zone(ZONE)) as (proxy, _, route):
        await proxy.put("dns-stale-soa", behind=3)
        result = await ask("shop.test", route, type="SOA", expect={"min_serial": 2026112100})
        assert result.reason is Reason.ASSERTION
        assert "2026112098" in result.message
        assert (await ask("shop.test", route)).outcome is Outcome.UP
        assert (await proxy.delete())["requests"] == 1


async def test_another_probe_that_resolves_there_sees_what_is_at_the_wrong_address() -> None:
    """Nobody listens there; and a name that does not exist is `dns`."""
    async with between(zone(ZONE)) as (proxy, _, route), keeping_alive() as web:
        options = {"resolver": route}
        target = f"http://api.shop.test:{web.port}/"
        assert (await run(HTTP, target, options)).outcome is Outcome.UP
        await proxy.put("dns-wrong-address", ipv4="127.0.0.9", ipv6="::1", name="api.*")
        assert (await run(HTTP, target, options)).reason is Reason.REFUSED
        await proxy.delete()
        await proxy.put("dns-nxdomain")
        assert (await run(HTTP, target, options)).reason is Reason.DNS
        await proxy.delete()
        assert (await run(HTTP, target, options)).outcome is Outcome.UP


async def test_only_the_types_that_are_meant_are_met() -> None:
    """As one is that is written in small letters."""
    async with between(zone(ZONE)) as (proxy, _, route):
        await proxy.put("dns-servfail", type="soa,MX")
        assert (await ask("shop.test", route)).outcome is Outcome.UP
        assert (await ask("SHOP.test", route, type="SOA")).reason is Reason.DNS


async def test_a_share_is_drawn_by_its_seed() -> None:
    """The same questions again, with the same seed; others with another."""

    async def drawn(seed: int) -> list[str]:
        async with between(zone(ZONE)) as (proxy, _, route):
            await proxy.put("dns-refused", share="50%", seed=seed)
            return [(await ask("shop.test", route)).outcome.value for _ in range(24)]

    first = await drawn(1)
    assert {"up", "down"} == set(first)
    assert first == await drawn(1)
    assert first != await drawn(2)


async def test_a_client_that_speaks_edns_is_told_and_nobody_may_keep_the_answer() -> None:
    """An extended error; no SOA in a negative answer; what is none of EDNS stays without."""
    async with between(zone(ZONE)) as (proxy, _, route), client_of(route) as (sender, client):
        await proxy.put("dns-nxdomain")
        for edns in (0, -1):
            sender.sendto(query("shop.test", use_edns=edns))
            answer = dns.message.from_wire(await asyncio.wait_for(client.received.get(), PATIENCE))
            assert (answer.rcode(), answer.authority, answer.edns) == (dns.rcode.NXDOMAIN, [], edns)
            errors = [one for one in answer.options if isinstance(one, dns.edns.EDEOption)]
            assert [one.text for one in errors] == (["a fault of stormwatch"] if edns == 0 else [])


async def test_what_is_no_plain_question_passes_while_there_is_a_fault() -> None:
    """An update and rubbish reach the server; the route lives on."""
    seen: list[bytes] = []
    done = asyncio.Event()

    class Server(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            seen.append(data)
            if data == b"last":
                done.set()

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    update = bytearray(query("shop.test"))
    update[2] |= 5 << 3
    twice = bytearray(query("shop.test"))
    twice[4:6] = b"\x00\x02"
    sent = [bytes(update), bytes(twice), query("shop.test")[:20], b"\xc0" * 40, b"last"]
    async with (
        proxied(route_to(transport.get_extra_info("sockname")[1])) as proxy,
        client_of(proxy.routes["shop"]) as (sender, _),
    ):
        await proxy.put("dns-timeout")
        for data in sent:
            sender.sendto(data)
        await asyncio.wait_for(done.wait(), PATIENCE)
        assert seen == sent
        assert (await proxy.evidence())["first"] is None
    transport.close()


async def test_the_lease_heals_names() -> None:
    """Without anybody who renews it."""
    async with between(zone(ZONE)) as (proxy, _, route):
        await proxy.put("dns-nxdomain", lease=0.3)
        assert (await ask("shop.test", route)).reason is Reason.DNS
        async with asyncio.timeout(PATIENCE):
            while (await ask("shop.test", route)).outcome is not Outcome.UP:
                await asyncio.sleep(0.02)
        ended = (await proxy.api.get("/routes/shop/faults/f")).json()["ended"]
        assert ended["ended"] == "lease ran out"
        assert ended["evidence"]["requests"] >= 1


async def test_faults_of_names_and_of_connections_are_not_put_on_each_others_routes() -> None:
    """With the remedy."""
    async with naming(zone(ZONE)) as server:
        names = route_to(server.port)
        plain = Route(name="plain", listen="127.0.0.1:0", upstream=f"127.0.0.1:{server.port}")
        async with proxied(names, plain) as proxy:
            for route, kind, said in (
                ("shop", "tcp-reset", "tcp-reset is about connections, and the route shop passes on DNS"),
                ("plain", "dns-nxdomain", "the route plain is not one for them; give it `dns: true`"),
            ):
                answer = await proxy.api.put(f"/routes/{route}/faults/f", json={"kind": kind, "lease": 5})
                assert answer.status_code == 409
                assert said in answer.json()["error"]


def test_a_route_for_names_leads_to_an_address_and_is_nothing_else() -> None:
    """A name would be looked up by what is about to be broken."""
    with pytest.raises(ValueError, match=r"the upstream of a dns route is an address like 127\.0\.0\.1:53, not 'ns1'"):
        Route(name="x", listen="127.0.0.1:0", upstream="ns1:53", dns=True)
    with pytest.raises(ValueError, match="leave `tls`, `issuer` and `http` out"):
        Route(name="x", listen="127.0.0.1:0", upstream="127.0.0.1:53", dns=True, http=True)


async def test_a_port_that_is_taken_for_datagrams_is_named() -> None:
    """Both transports, or none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            dns_gate.both_bound(address)
