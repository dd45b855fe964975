"""The fault proxy, seen from real clients with real servers behind it: without faults, with each, and after each."""

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import httpx
import pytest

from stormwatch.chaos.proxy import Proxy
from stormwatch.chaos.route import Route, RouteTls
from stormwatch.probes.clock import SystemClock
from tests.servers.certificates import Authority
from tests.servers.process import free_port
from tests.servers.proxied import proxied, route_to, until
from tests.servers.upstream import echoing, keeping_alive

PATIENCE = 30.0
"""Seconds against a hang, on a machine with other work."""


class Secure:
    """A CA, a route's TLS and a server's, for `shop.test`."""

    def __init__(self, directory: Path) -> None:
        ca = Authority(directory, "proxy ca")
        mine, theirs = ca.issue("shop.test"), ca.issue("shop.test")
        self.upstream = theirs.server_context()
        self.route = RouteTls(certificate=mine.chain_file, key=mine.key_file, ca=ca.file, server_name="shop.test")
        self.client = ssl.create_default_context(cafile=str(ca.file))
        self.mine = mine


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On both loops: tests run on asyncio's, `stormwatch proxy` on uvloop, whose transports are others."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    return Secure(tmp_path_factory.mktemp("tls"))


def https(secure: Secure, port: int) -> httpx.AsyncClient:
    """A client of `https://shop.test` that is led to a port of loopback."""
    transport = httpx.AsyncHTTPTransport(verify=secure.client)
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        transport=transport,
        timeout=PATIENCE,
        headers={"Host": "shop.test"},
        trust_env=False,
    )


def asked(url: str) -> dict[str, object]:
    """Httpx's extension that asks for the certificate of shop.test."""
    return {"sni_hostname": "shop.test"}


# Without a fault.


async def test_bytes_pass_unchanged_both_ways() -> None:
    """A megabyte of every byte value comes back as it went."""
    payload = bytes(range(256)) * 4096
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        sending = asyncio.ensure_future(_send(writer, payload))
        assert payload == await reader.readexactly(len(payload))
        await sending
        writer.close()
    assert payload == bytes(upstream.received)


async def test_a_half_close_passes_and_the_answer_still_comes() -> None:
    """The client's end of stream reaches the server, whose last words reach the client, then both are closed."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hellobye"
        writer.close()
        await until(lambda: upstream.ended == 1, what="the server to see the end")


async def test_a_server_that_does_not_read_stops_the_client() -> None:
    """Back-pressure passes: the proxy takes only what its buffers hold, and everything arrives once the server reads."""
    payload = b"x" * (32 * 1024 * 1024)
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        upstream.reading.clear()
        reader, writer = await proxy.open()
        sent = asyncio.ensure_future(_send(writer, payload))
        received = asyncio.ensure_future(reader.readexactly(len(payload)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.5)
        upstream.reading.set()
        await asyncio.wait_for(sent, PATIENCE)
        assert len(payload) == len(await asyncio.wait_for(received, PATIENCE))
        writer.close()


async def test_a_reset_by_the_server_is_a_reset_for_the_client() -> None:
    """The proxy does not turn RST into a clean end."""

    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read(1)
        _linger_zero(writer)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server, proxied(route_to(server.sockets[0].getsockname()[1])) as proxy:
        reader, writer = await proxy.open()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()


async def test_a_service_that_refuses_resets_the_client() -> None:
    """Nobody behind the route: the client's connection ends at once, with RST, and the proxy lives on."""
    async with proxied(route_to(free_port())) as proxy:
        reader, writer = await proxy.open()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        await _closed(writer)
        assert (await proxy.api.get("/healthz")).status_code == 200


async def test_tls_is_ended_and_begun_again(secure: Secure) -> None:
    """The client meets the route's certificate, the server is asked by name, and HTTP passes over both."""
    async with (
        keeping_alive(tls=secure.upstream) as upstream,
        proxied(route_to(upstream.port, tls=secure.route)) as proxy,
        https(secure, proxy.port()) as client,
    ):
        answer = await client.post("/pay?x=1", content=b"12345", extensions=asked("/"))
        assert (answer.status_code, answer.text) == (200, "served POST /pay?x=1 5")
        reader, writer = await proxy.open(ssl=secure.client, server_hostname="shop.test")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert secure.mine.certificate == _certificate(shown)
        await _closed(writer)
        del reader


async def test_a_certificate_of_the_service_that_is_not_trusted_ends_the_connection(secure: Secure) -> None:
    """A proxy that looks inside checks whom it talks to: the client gets nothing."""
    wrong = RouteTls(
        certificate=secure.route.certificate, key=secure.route.key, ca=secure.route.ca, server_name="other.test"
    )
    async with keeping_alive(tls=secure.upstream) as upstream, proxied(route_to(upstream.port, tls=wrong)) as proxy:
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await proxy.open(ssl=secure.client, server_hostname="shop.test")
    assert upstream.requests == []


async def test_what_is_not_http_passes_a_route_that_is_looked_into(secure: Secure) -> None:
    """A binary protocol, without and with an HTTP fault on the route."""
    payload = b"\x00\x01GET no such thing\r\n\r\n" + bytes(range(256)) * 64
    async with echoing(tls=secure.upstream) as upstream, proxied(route_to(upstream.port, tls=secure.route)) as proxy:
        for fault in (False, True):
            if fault:
                await proxy.put("http-status")
            reader, writer = await proxy.open(ssl=secure.client, server_hostname="shop.test")
            writer.write(payload)
            assert payload == await asyncio.wait_for(reader.readexactly(len(payload)), 5)
            writer.close()
            await _closed(writer)


async def test_a_server_that_speaks_first_passes_a_route_that_is_looked_into() -> None:
    """A greeting before any request, as mail servers send it, with an HTTP fault on the route."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        writer.write(b"250 " + await reader.readline())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, proxied(route_to(server.sockets[0].getsockname()[1], http=True)) as proxy:
        await proxy.put("http-status")
        reader, writer = await proxy.open()
        assert await asyncio.wait_for(reader.readline(), PATIENCE) == b"220 mail.test ESMTP\r\n"
        writer.write(b"EHLO storm\r\n")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"250 EHLO storm\r\n"
        writer.close()


async def test_an_address_in_use_is_named() -> None:
    """The proxy does not start, and says which address it could not have."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        taken = Route(name="shop", listen=f"127.0.0.1:{port}", upstream="127.0.0.1:1")
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            async with Proxy([taken], SystemClock()):
                pass


# tcp-latency.


async def test_latency_delays_answers_by_its_delay_and_keeps_the_bytes() -> None:
    """300 ms later, in order, and counted; the way there is not delayed."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        await proxy.put("tcp-latency", delay="300ms", jitter="50ms")
        began = time.monotonic()
        for number in range(20):
            writer.write(b"%05d" % number)
            await asyncio.sleep(0.005)
        assert b"".join(b"%05d" % number for number in range(20)) == await reader.readexactly(100)
        took = time.monotonic() - began
        evidence = await proxy.delete()
        writer.close()
    # Twenty delays one after the other would take six seconds.
    assert 0.3 <= took < 4.0
    assert (evidence["connections"], evidence["bytes"]) == (1, 100)
    assert evidence["first"] <= evidence["last"]


@pytest.mark.parametrize(("stream", "least", "touched"), [("upstream", 0.2, 1), ("both", 0.4, 2)])
async def test_latency_acts_on_the_way_that_was_asked(stream: str, least: float, touched: int) -> None:
    """Requests only, or both ways: then a round trip pays twice."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        writer.write(b"warm")
        await reader.readexactly(4)
        await proxy.put("tcp-latency", delay="200ms", stream=stream)
        began = time.monotonic()
        writer.write(b"x")
        await reader.readexactly(1)
        took = time.monotonic() - began
        evidence = await proxy.delete()
    assert least <= took
    assert evidence["bytes"] == touched


async def test_removing_latency_passes_on_what_was_held() -> None:
    """Bytes that would have waited for a minute come at once, in order, and the connection stays."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        await proxy.put("tcp-latency", delay="60s")
        writer.write(b"held")
        await until(lambda: bytes(upstream.received) == b"held", what="the server to have it")
        await _touched(proxy)
        await proxy.delete()
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE) == b"held"
        writer.write(b"more")
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE) == b"more"
        writer.close()


async def test_latency_keeps_only_so_much_in_memory() -> None:
    """A fast server behind a long delay is stopped: back-pressure holds with a fault too."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-latency", delay="60s")
        reader, writer = await proxy.open()
        payload = b"x" * (48 * 1024 * 1024)
        sent = asyncio.ensure_future(_send(writer, payload))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.7)
        deadline = time.monotonic() + PATIENCE
        while (held := (await proxy.evidence())["bytes"]) < 1024 * 1024:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await proxy.delete()
        assert len(payload) == len(await asyncio.wait_for(reader.readexactly(len(payload)), 20))
        await sent
        writer.close()
    assert held <= 2 * 1024 * 1024


# tcp-blackhole.


async def test_a_black_hole_accepts_and_answers_nothing_until_it_is_gone() -> None:
    """A new connection stands and stays silent, the service hears nothing; afterwards what was said arrives."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-blackhole")
        reader, writer = await proxy.open()
        writer.write(b"anyone?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        assert upstream.connections == 0
        evidence = await proxy.delete()
        assert await asyncio.wait_for(reader.readexactly(7), PATIENCE) == b"anyone?"
        writer.close()
    assert evidence["connections"] == 1


async def test_a_black_hole_stalls_standing_connections_and_loses_nothing() -> None:
    """A connection from before the fault stalls, counts as touched when it speaks, and goes on after it."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        reader, writer = await proxy.open()
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        await proxy.put("tcp-blackhole")
        assert (await proxy.evidence())["first"] is None
        writer.write(b"during")
        writer.write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        assert bytes(upstream.received) == b"before"
        evidence = await proxy.delete()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"duringbye"
        writer.close()
    assert (evidence["connections"], evidence["bytes"]) == (1, 6)


async def test_a_black_hole_swallows_the_tls_handshake(secure: Secure) -> None:
    """On a route with TLS a client connects and its handshake hangs; it finishes when the fault is gone."""
    async with (
        keeping_alive(tls=secure.upstream) as upstream,
        proxied(route_to(upstream.port, tls=secure.route)) as proxy,
    ):
        await proxy.put("tcp-blackhole")
        opening = asyncio.ensure_future(proxy.open(ssl=secure.client, server_hostname="shop.test"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(opening), 0.3)
        assert upstream.connections == 0
        evidence = await proxy.delete()
        _, writer = await asyncio.wait_for(opening, PATIENCE)
        await _closed(writer)
    assert evidence["connections"] == 1


async def test_a_request_whose_client_gave_up_in_a_black_hole_is_not_delivered_later(secure: Secure) -> None:
    """Over a standing TLS connection: the client times out and hangs up; the service never hears of the request."""
    async with (
        keeping_alive(tls=secure.upstream) as upstream,
        proxied(route_to(upstream.port, tls=secure.route)) as proxy,
    ):
        reader, writer = await proxy.open(ssl=secure.client, server_hostname="shop.test")
        writer.write(b"GET /before HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await reader.readuntil(b"/before 0")
        await proxy.put("tcp-blackhole")
        writer.write(b"POST /pay HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n")
        await _touched(proxy)
        await _closed(writer)
        await until(lambda: upstream.resets + upstream.ended == 1, what="the service's connection to end")
        await proxy.delete()
    assert [target for _, target, _ in upstream.requests] == ["/before"]


async def test_new_connections_that_were_given_up_in_a_black_hole_are_let_go(secure: Secure) -> None:
    """A client that hangs up before its handshake began costs no descriptor for the rest of the fault."""
    async with (
        keeping_alive(tls=secure.upstream) as upstream,
        proxied(route_to(upstream.port, tls=secure.route)) as proxy,
    ):
        await proxy.put("tcp-blackhole")
        _, writer = await proxy.open()
        writer.write(b"some of a handshake")
        await writer.drain()
        await _closed(writer)
        deadline = time.monotonic() + PATIENCE
        while (await proxy.api.get("/routes/shop")).json()["connections"]["open"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


# tcp-reset.


async def test_a_reset_ends_standing_and_new_connections_with_rst() -> None:
    """Both see ECONNRESET, so does the service; after the fault all is as before."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        standing = await proxy.open()
        standing[1].write(b"hi")
        await standing[0].readexactly(2)
        await proxy.put("tcp-reset")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(standing[0].read(), PATIENCE)
        fresh = await proxy.open()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(fresh[0].read(), PATIENCE)
        await until(lambda: upstream.resets == 1, what="the service to see the reset")
        evidence = await proxy.delete()
        again = await proxy.open()
        again[1].write(b"yo")
        assert await asyncio.wait_for(again[0].readexactly(2), PATIENCE) == b"yo"
        for _, writer in (standing, fresh, again):
            await _closed(writer)
    assert evidence["connections"] == 2


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_share_draws_the_same_connections_for_the_same_seed(seed: int) -> None:
    """Half of the connections, twice: the same ones."""
    drawn: list[list[bool]] = []
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        for fault in ("first", "second"):
            await proxy.put("tcp-reset", fault=fault, share="50%", seed=seed)
            drawn.append([await _is_reset(proxy) for _ in range(20)])
            await proxy.delete(fault=fault)
    assert drawn[0] == drawn[1]
    assert 3 <= sum(drawn[0]) <= 17


# http-status.


async def test_a_status_answers_matching_requests_on_a_standing_connection(secure: Secure) -> None:
    """One keep-alive connection: before, during and after the fault, matched by path and method, none lost."""
    async with (
        keeping_alive(tls=secure.upstream) as upstream,
        proxied(route_to(upstream.port, tls=secure.route)) as proxy,
        https(secure, proxy.port()) as client,
    ):
        seen: list[tuple[int, str]] = []

        async def ask(method: str, path: str) -> httpx.Response:
            answer = await client.request(
                method, path, content=b"body" if method == "POST" else None, extensions=asked(path)
            )
            seen.append((answer.status_code, answer.text))
            return answer

        await ask("POST", "/api/pay")
        await proxy.put("http-status", status=418, body="teapot", path="/api/*", method="POST", content_type="text/x")
        refused = await ask("POST", "/api/pay?card=1")
        await ask("GET", "/api/pay")
        await ask("POST", "/other")
        await ask("POST", "/api/again")
        evidence = await proxy.delete()
        await ask("POST", "/api/pay")
    assert seen == [
        (200, "served POST /api/pay 4"),
        (418, "teapot"),
        (200, "served GET /api/pay 0"),
        (200, "served POST /other 4"),
        (418, "teapot"),
        (200, "served POST /api/pay 4"),
    ]
    assert (refused.headers["Content-Type"], refused.headers["X-Stormwatch-Fault"]) == ("text/x", "http-status")
    assert [target for _, target, _ in upstream.requests] == ["/api/pay", "/api/pay", "/other", "/api/pay"]
    assert upstream.connections == 1
    assert (evidence["connections"], evidence["requests"]) == (1, 2)


async def test_a_share_of_requests_is_answered_and_the_rest_passes() -> None:
    """Half of 40 requests over one connection."""
    async with (
        keeping_alive() as upstream,
        proxied(route_to(upstream.port, http=True)) as proxy,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{proxy.port()}", trust_env=False, verify=False, timeout=PATIENCE
        ) as client,
    ):
        await proxy.put("http-status", share="50%", seed=7)
        statuses = [(await client.get("/")).status_code for _ in range(40)]
        evidence = await proxy.delete()
    assert set(statuses) == {200, 503}
    assert statuses.count(503) == evidence["requests"]
    assert statuses.count(200) == len(upstream.requests)


async def test_a_response_under_way_is_not_touched_by_a_status_that_comes_or_goes() -> None:
    """The fault is put while the service thinks: this answer is the service's, the next one the fault's."""
    async with (
        keeping_alive() as upstream,
        proxied(route_to(upstream.port, http=True)) as proxy,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{proxy.port()}", trust_env=False, verify=False, timeout=PATIENCE
        ) as client,
    ):
        upstream.reading.clear()
        slow = asyncio.ensure_future(client.get("/slow"))
        await until(lambda: bool(upstream.requests), what="the service to have the request")
        await proxy.put("http-status")
        upstream.reading.set()
        assert (await slow).text == "served GET /slow 0"
        assert (await client.get("/next")).status_code == 503


async def test_half_a_head_held_by_a_status_goes_on_when_it_is_removed() -> None:
    """The first bytes of a request wait for the decision; without the fault they reach the service."""
    async with keeping_alive() as upstream, proxied(route_to(upstream.port, http=True)) as proxy:
        await proxy.put("http-status")
        reader, writer = await proxy.open()
        writer.write(b"GET /half HTTP/1.1\r\nHo")
        await asyncio.sleep(0.05)
        await proxy.delete()
        writer.write(b"st: x\r\n\r\n")
        assert b"served GET /half" in await asyncio.wait_for(reader.readuntil(b"/half 0"), PATIENCE)
        writer.close()


async def test_an_upgraded_connection_passes_with_a_status_in_place() -> None:
    """After 101 the bytes are no requests any more, even when they look like some."""
    async with keeping_alive() as upstream, proxied(route_to(upstream.port, http=True)) as proxy:
        await proxy.put("http-status", path="/private/*")
        reader, writer = await proxy.open()
        writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        frames = b"GET /private/x HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff"
        writer.write(frames)
        assert frames == await asyncio.wait_for(reader.readexactly(len(frames)), 2)
        writer.close()


# Leases and the end.


async def test_a_lease_that_nobody_renews_ends_the_fault() -> None:
    """Within its time and not before, and the evidence can still be read."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        began = time.monotonic()
        await proxy.put("tcp-blackhole", lease=0.6)
        reader, writer = await proxy.open()
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
        took = time.monotonic() - began
        gone = await proxy.api.get("/routes/shop/faults/f")
        writer.close()
    assert 0.55 <= took < 15
    assert gone.status_code == 404
    assert gone.json()["ended"]["ended"] == "lease ran out"
    assert gone.json()["ended"]["evidence"]["connections"] == 1


async def test_a_renewed_lease_keeps_the_fault_and_the_shortest_lease_ends_first() -> None:
    """One fault is renewed past its first lease while another, put later, ends."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-blackhole", fault="long", lease=2.0)
        await proxy.put("tcp-latency", fault="short", lease=0.2, delay="1ms")
        await _until_gone(proxy, "short")
        asked = time.monotonic()
        renewed = await proxy.api.post("/routes/shop/faults/long/renew", json={"lease": 2.2})
        assert renewed.status_code == 200
        await _until_gone(proxy, "long")
        assert time.monotonic() - asked >= 2.2


async def test_a_proxy_that_stops_lets_what_it_held_go_on() -> None:
    """Stopping is not a fault either: held bytes are delivered before the connection ends."""
    async with echoing() as upstream:
        async with proxied(route_to(upstream.port)) as proxy:
            reader, writer = await proxy.open()
            await proxy.put("tcp-latency", delay="60s")
            writer.write(b"held")
            await until(lambda: bytes(upstream.received) == b"held", what="the server to have it")
            await _touched(proxy)
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"held"
        writer.close()


async def _send(writer: asyncio.StreamWriter, payload: bytes) -> None:
    writer.write(payload)
    await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


async def _is_reset(proxy: object) -> bool:
    reader, writer = await proxy.open()  # type: ignore[attr-defined]  # a Proxied
    try:
        writer.write(b"x")
        await asyncio.wait_for(reader.readexactly(1), PATIENCE)
    except ConnectionResetError:
        return True
    finally:
        await _closed(writer)
    return False


async def _touched(proxy: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while (await proxy.evidence())["first"] is None:  # type: ignore[attr-defined]  # a Proxied
        assert time.monotonic() < deadline, "the fault to be touched"


async def _until_gone(proxy: object, fault: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (await proxy.api.get(f"/routes/shop/faults/{fault}")).status_code != 404:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"{fault} to end"
        await asyncio.sleep(0.02)


def _linger_zero(writer: asyncio.StreamWriter) -> None:
    import socket
    import struct

    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _certificate(der: bytes) -> object:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)
