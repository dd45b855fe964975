"""Faults of HTTP through the proxy, where waiting, streaming and removing meet real connections."""

import asyncio
import time

import httpx
import pytest

from tests.servers.proxied import Proxied, proxied, route_to
from tests.servers.upstream import keeping_alive

PATIENCE = 20.0


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On both loops: tests run on asyncio's, `stormwatch proxy` on uvloop."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def client_of(proxy: Proxied) -> httpx.AsyncClient:
    """One that keeps its connection."""
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{proxy.port()}", trust_env=False, verify=False, timeout=PATIENCE
    )


async def test_only_matching_requests_wait_and_the_service_hears_of_them_later() -> None:
    """By path and method, on one connection."""
    async with (
        keeping_alive() as upstream,
        proxied(route_to(upstream.port, http=True)) as proxy,
        client_of(proxy) as client,
    ):
        await proxy.put("http-delay", delay="400ms", path="/slowly/*", method="POST")
        began = time.monotonic()
        assert (await client.get("/slowly/x")).text == "served GET /slowly/x 0"
        assert (await client.post("/else", content=b"1")).text == "served POST /else 1"
        quick = time.monotonic() - began
        began = time.monotonic()
        asking = asyncio.ensure_future(client.post("/slowly/x", content=b"22"))
        await asyncio.sleep(0.1)
        assert len(upstream.requests) == 2
        assert (await asking).text == "served POST /slowly/x 2"
        assert time.monotonic() - began >= 0.4
        evidence = await proxy.delete()
    assert quick < PATIENCE
    assert (evidence["connections"], evidence["requests"]) == (1, 1)


async def test_a_request_that_waits_goes_on_when_the_fault_ends() -> None:
    """An hour is cut short, and the connection goes on."""
    async with (
        keeping_alive() as upstream,
        proxied(route_to(upstream.port, http=True)) as proxy,
        client_of(proxy) as client,
    ):
        await proxy.put("http-delay", delay="1h")
        asking = asyncio.ensure_future(client.post("/a", content=b"body"))
        deadline = time.monotonic() + PATIENCE
        while (await proxy.evidence())["first"] is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await proxy.delete()
        assert (await asking).text == "served POST /a 4"
        assert (await client.get("/b")).text == "served GET /b 0"


async def test_a_large_answer_streams_while_its_headers_change() -> None:
    """Its beginning is with the client while the service has not said its end."""
    said = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 20000000\r\n\r\n" + bytes(10_000_000))
        await said.wait()
        writer.write(bytes(10_000_000))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, proxied(route_to(port, http=True)) as proxy, client_of(proxy) as client:
        await proxy.put("http-header", set={"X-Mark": "m"}, remove=["Server"])
        async with client.stream("GET", "/") as answer:
            assert (answer.headers["x-mark"], "server" in answer.headers) == ("m", False)
            size = 0
            async for part in answer.aiter_raw():
                size += len(part)
                if size >= 9_000_000:
                    said.set()
        evidence = await proxy.delete()
    assert size == 20_000_000
    assert evidence["requests"] == 1
