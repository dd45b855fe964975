"""The control API: what it answers, and what it refuses, each refusal with a sentence that helps."""

import asyncio
from typing import Any

import httpx
import pytest

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.control import proxying
from stormwatch.chaos.proxy import Proxy
from stormwatch.chaos.route import Route
from stormwatch.probes.clock import SystemClock
from tests.servers.proxied import proxied, route_to
from tests.servers.upstream import echoing

HTTPX_KEEPS = 5.0
"""Seconds: `httpx.Limits().keepalive_expiry`."""
BLACKHOLE = {"kind": "tcp-blackhole", "lease": 30}


async def test_routes_and_faults_can_be_read() -> None:
    """Who serves, where each route listens, what is in place on it, and until when."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        health = (await proxy.api.get("/healthz")).json()
        assert (health["service"], health["routes"], health["faults"]) == ("stormwatch-proxy", 1, 0)
        put = await proxy.api.put("/routes/shop/faults/f", json={**BLACKHOLE, "owner": "drill x"})
        (route,) = (await proxy.api.get("/routes")).json()
        assert (await proxy.api.get("/routes/shop")).json()["listen"] == route["listen"]
        (fault,) = route["faults"]
    assert put.status_code == 201
    assert route["listen"] == proxy.routes["shop"]
    assert (route["upstream"], route["looked_into"]) == (upstream.address, False)
    assert (fault["id"], fault["kind"], fault["owner"]) == ("f", "tcp-blackhole", "drill x")
    assert 25 < fault["expires_in"] <= 30
    assert fault["evidence"] == {"connections": 0, "requests": 0, "bytes": 0, "first": None, "last": None}


async def test_the_same_fault_again_renews_its_lease_and_a_different_one_is_a_conflict() -> None:
    """PUT is idempotent; nothing is replaced behind somebody's back."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-blackhole", lease=5)
        again = await proxy.api.put("/routes/shop/faults/f", json={**BLACKHOLE, "lease": 60})
        assert (again.status_code, again.json()["expires_in"] > 50) == (200, True)
        other = await proxy.api.put("/routes/shop/faults/f", json={"kind": "tcp-reset", "lease": 5})
        assert (other.status_code, other.json()["error"]) == (
            409,
            "route shop has a different fault f: take it away first",
        )


async def test_deleting_twice_is_not_there_the_second_time_and_still_tells() -> None:
    """The second answer carries how it ended."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        await proxy.put("tcp-blackhole")
        first, second = [await proxy.api.delete("/routes/shop/faults/f") for _ in range(2)]
    assert (first.status_code, first.json()["ended"]) == (200, "reverted")
    assert (second.status_code, second.json()["ended"]["ended"]) == (404, "reverted")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"kind": "tcp-blackhole"}, 400, "the body lacks lease"),
        ({**BLACKHOLE, "lase": 1}, 400, "unknown in the body: lase; there are kind, lease, options, owner"),
        ({**BLACKHOLE, "lease": "30s"}, 400, "lease is a number of seconds, not '30s'"),
        ({**BLACKHOLE, "lease": True}, 400, "lease is a number of seconds, not True"),
        ({**BLACKHOLE, "lease": 0}, 409, "a lease is more than 0 and at most 3600 s, not 0 s"),
        ({**BLACKHOLE, "lease": 4000}, 409, "a lease is more than 0 and at most 3600 s, not 4000 s"),
        ({**BLACKHOLE, "options": []}, 400, "options are a JSON object, not list"),
        ({**BLACKHOLE, "options": {"x": 1}}, 400, "x: Unexpected keyword argument"),
        ({"kind": "tcp-latency", "lease": 1}, 400, "delay: Field required"),
        (
            {"kind": "tcp-latenci", "lease": 1},
            400,
            f"there is no fault 'tcp-latenci'; there are {', '.join(FAULTS)}",
        ),
        ([], 400, "the body must be a JSON object, not list"),
    ],
)
async def test_a_bad_body_is_refused_with_a_sentence(body: Any, status: int, error: str) -> None:
    """And nothing is put."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        answer = await proxy.api.put("/routes/shop/faults/f", json=body)
        assert (answer.status_code, answer.json()) == (status, {"error": error, "status": status})
        assert (await proxy.api.get("/routes/shop")).json()["faults"] == []


async def test_what_is_not_there_is_named() -> None:
    """Routes, faults, paths, methods; a body that is no JSON."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        no_route = await proxy.api.put("/routes/shoq/faults/f", json=BLACKHOLE)
        assert (no_route.status_code, no_route.json()["error"]) == (404, "there is no route shoq; there are shop")
        no_fault = await proxy.api.post("/routes/shop/faults/g/renew", json={"lease": 1})
        assert (no_fault.status_code, no_fault.json()["error"]) == (404, "route shop has no fault g")
        assert (await proxy.api.get("/nothing")).json() == {"error": "Not Found", "status": 404}
        assert (await proxy.api.post("/routes")).json() == {"error": "Method Not Allowed", "status": 405}
        text = await proxy.api.put("/routes/shop/faults/f", content=b"kind: tcp-reset")
        assert text.json()["error"].startswith("the body must be a JSON object: ")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.test"}, {"User-Agent": "Mozilla/5.0 (X11)"}])
async def test_a_page_in_a_browser_cannot_break_things(headers: dict[str, str]) -> None:
    """Reading is allowed, putting and deleting is not."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        answer = await proxy.api.put("/routes/shop/faults/f", json=BLACKHOLE, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "faults are not put by browsers")
        await proxy.put("tcp-blackhole")
        assert (await proxy.api.delete("/routes/shop/faults/f", headers=headers)).status_code == 403
        assert (await proxy.api.get("/routes", headers=headers)).status_code == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "shop.example:8474", "[::]:0"])
async def test_it_listens_on_loopback_only(address: str) -> None:
    """Nobody is asked who he is, so nobody from outside may ask."""
    with pytest.raises(ValueError, match="the control API listens on loopback only, like 127"):
        async with proxying([], address):
            pass


async def test_two_routes_of_one_name_are_refused() -> None:
    """Before anything is bound."""
    route = Route(name="shop", listen="127.0.0.1:0", upstream="127.0.0.1:1")
    with pytest.raises(ValueError, match="routes must have names of their own; twice: shop"):
        Proxy([route, route], SystemClock())


async def test_faults_of_one_route_leave_the_other_alone() -> None:
    """Two routes in one proxy."""
    async with echoing() as upstream:
        other = Route(name="other", listen="127.0.0.1:0", upstream=upstream.address)
        async with proxied(route_to(upstream.port), other) as proxy:
            await proxy.put("tcp-reset")
            reader, writer = await proxy.open("other")
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            with pytest.raises(httpx.TransportError):
                await proxy.api.get(f"http://{proxy.routes['shop']}/")


async def test_a_connection_that_is_idle_for_as_long_as_clients_keep_one_is_still_there() -> None:
    """A request that is sent while its connection is being closed is lost: a renewal, or the end of a fault."""
    async with echoing() as upstream, proxied(route_to(upstream.port)) as proxy:
        url = httpx.URL(proxy.control)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n")
            assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(-1), HTTPX_KEEPS + 1)
        finally:
            writer.close()
