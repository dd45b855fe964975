"""Toxiproxy's API: one suite for what its clients rely on, and then what only ours can do.

The suite runs against ours, and against a real Toxiproxy when STORMWATCH_TOXIPROXY names one (`http://127.0.0.1:8474`). It
changes things with PATCH as Toxiproxy's client for Go does, and with POST as toxiproxy-python 0.1.1.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from stormwatch.chaos.control import proxying
from tests.servers.process import free_port
from tests.servers.proxied import route_to
from tests.servers.upstream import Upstream, echoing, keeping_alive

PATIENCE = 20.0
REAL = os.environ.get("STORMWATCH_TOXIPROXY", "")


class Api:
    """A client of the API, with an echo server to stand behind its proxies."""

    def __init__(self, http: httpx.AsyncClient, upstream: Upstream, *, ours: bool) -> None:
        self.http = http
        self.upstream = upstream
        self.ours = ours

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The JSON of an answer with this status."""
        answer = await self.http.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def open(self, name: str = "shop", **more: Any) -> dict[str, Any]:
        """A proxy to the echo server."""
        return await self.ask("POST", "/proxies", proxy_of(self.upstream, name, **more), status=201)

    async def toxic(
        self, kind: str, name: str = "", *, proxy: str = "shop", stream: str = "downstream", **attributes: Any
    ) -> Any:
        """A toxic on a proxy."""
        body = {"name": name, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes}
        return await self.ask("POST", f"/proxies/{proxy}/toxics", body)

    async def connect(self, proxy: str = "shop") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection through a proxy."""
        listen = (await self.ask("GET", f"/proxies/{proxy}"))["listen"]
        return await asyncio.open_connection("127.0.0.1", int(listen.rpartition(":")[2]))


def proxy_of(upstream: Upstream, name: str, **more: Any) -> dict[str, Any]:
    """The body that opens a proxy."""
    return {"name": name, "listen": "127.0.0.1:0", "upstream": upstream.address, **more}


@pytest.fixture(params=["ours", *(["real"] if REAL else [])])
async def api(request: pytest.FixtureRequest) -> AsyncGenerator[Api]:
    """On an API without proxies."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(echoing())
        url = REAL
        if request.param == "ours":
            url = (await stack.enter_async_context(proxying([], "127.0.0.1:0", toxiproxy="127.0.0.1:0"))).toxiproxy
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=PATIENCE)
        )
        for name in (await http.get("/proxies")).json():
            await http.delete(f"/proxies/{name}")
        yield Api(http, upstream, ours=request.param == "ours")


@contextlib.asynccontextmanager
async def ours(*routes: Any) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient, dict[str, str]]]:
    """Our two APIs, and where the routes listen."""
    async with (
        proxying(routes, "127.0.0.1:0", toxiproxy="127.0.0.1:0") as serving,
        httpx.AsyncClient(base_url=serving.toxiproxy, trust_env=False, verify=False, timeout=60) as theirs,
        httpx.AsyncClient(base_url=serving.control, trust_env=False, verify=False, timeout=60) as control,
    ):
        yield theirs, control, serving.routes


async def echo(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], payload: bytes) -> bytes:
    """What comes back: as many bytes, or fewer when the connection ends."""
    reader, writer = connection
    writer.write(payload)
    came = b""
    async with asyncio.timeout(PATIENCE):
        while len(came) < len(payload) and (part := await reader.read(65536)):
            came += part
    return came


async def closed(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    """Whether the connection ends, with or without RST, with nothing more said."""
    try:
        return await asyncio.wait_for(connection[0].read(), PATIENCE) == b""
    except ConnectionResetError:
        return True
    finally:
        connection[1].close()


# The contract.


async def test_a_proxy_is_opened_shown_and_closed(api: Api) -> None:
    """With the port that it really has; gone is gone."""
    made = await api.open()
    # Toxiproxy 2.12 shows its `Logger`, an empty object, beside it.
    assert {key: value for key, value in made.items() if key != "Logger"} == {
        "name": "shop",
        "listen": made["listen"],
        "upstream": api.upstream.address,
        "enabled": True,
        "toxics": [],
    }
    assert not made["listen"].endswith(":0")
    assert await api.ask("GET", "/proxies") == {"shop": made}
    assert await api.ask("GET", "/proxies/shop") == made
    connection = await api.connect()
    assert await echo(connection, b"hello") == b"hello"
    await api.ask("DELETE", "/proxies/shop", status=204)
    assert await closed(connection)
    assert await api.ask("GET", "/proxies") == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/proxies/none", None, 404, "proxy not found"),
        ("DELETE", "/proxies/none", None, 404, "proxy not found"),
        ("POST", "/proxies", {"upstream": "127.0.0.1:1"}, 400, "missing required field: name"),
        ("POST", "/proxies", {"name": "x"}, 400, "missing required field: upstream"),
        ("POST", "/proxies", {"name": "shop", "upstream": "127.0.0.1:1"}, 409, "proxy already exists"),
        ("POST", "/proxies", {"name": 1}, 400, "bad request body: "),
        ("POST", "/populate", [{"name": "x"}], 400, "missing required field: upstream at proxy 1"),
        ("GET", "/proxies/shop/toxics/none", None, 404, "toxic not found"),
        ("PATCH", "/proxies/shop/toxics/none", {}, 404, "toxic not found"),
        ("DELETE", "/proxies/shop/toxics/none", None, 404, "toxic not found"),
        ("GET", "/proxies/none/toxics", None, 404, "proxy not found"),
        ("POST", "/proxies/shop/toxics", {"type": "none"}, 400, "invalid toxic type"),
        ("POST", "/proxies/shop/toxics", {}, 400, "invalid toxic type"),
        (
            "POST",
            "/proxies/shop/toxics",
            {"type": "latency", "stream": "sideways"},
            400,
            "stream was invalid, can be either upstream or downstream",
        ),
        ("POST", "/proxies/shop/toxics", {"type": "latency", "name": "there"}, 409, "toxic already exists"),
        (
            "POST",
            "/proxies/shop/toxics",
            {"type": "latency", "attributes": {"latency": "1s"}},
            400,
            "bad request body: ",
        ),
    ],
)
async def test_errors_have_their_words_and_their_status(  # noqa: PLR0917 - pytest's parameters
    api: Api, method: str, path: str, body: Any, status: int, said: str
) -> None:
    """`{"error": …, "status": …}`."""
    await api.open()
    await api.toxic("latency", "there")
    error = await api.ask(method, path, body, status=status)
    assert error["status"] == status
    assert error["error"].startswith(said)


async def test_a_body_that_is_no_json_is_said(api: Api) -> None:
    """And a browser is refused."""
    answer = await api.http.post("/proxies", content=b"{")
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert answer.json()["error"].startswith("bad request body: ")
    assert (await api.http.get("/proxies", headers={"User-Agent": "Mozilla/5.0"})).status_code == 403


async def test_a_toxic_is_put_shown_changed_and_removed(api: Api) -> None:
    """Its name is made of type and stream; what is not given has its default; attributes that are not changed stay."""
    await api.open()
    made = await api.ask("POST", "/proxies/shop/toxics", {"type": "latency", "attributes": {"latency": 100}})
    wanted = {
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
        "attributes": {"latency": 100, "jitter": 0},
    }
    assert wanted.items() <= made.items()
    assert wanted.items() <= (await api.ask("GET", "/proxies/shop/toxics"))[0].items()
    assert wanted.items() <= (await api.ask("GET", "/proxies/shop"))["toxics"][0].items()
    for method in ("POST", "PATCH"):
        changed = await api.ask(
            method, "/proxies/shop/toxics/latency_downstream", {"attributes": {"jitter": 5}, "toxicity": 0.5}
        )
        assert {**wanted, "attributes": {"latency": 100, "jitter": 5}, "toxicity": 0.5}.items() <= changed.items()
    await api.ask("DELETE", "/proxies/shop/toxics/latency_downstream", status=204)
    assert await api.ask("GET", "/proxies/shop/toxics") == []


async def test_latency_holds_answers_back_until_it_is_removed(api: Api) -> None:
    """In milliseconds, on a standing connection."""
    await api.open()
    connection = await api.connect()
    assert await echo(connection, b"warm") == b"warm"
    await api.toxic("latency", latency=300)
    began = time.monotonic()
    assert await echo(connection, b"x") == b"x"
    assert time.monotonic() - began >= 0.3
    connection[1].close()


async def test_a_proxy_that_is_not_enabled_refuses_until_it_is(api: Api) -> None:
    """Standing connections are closed; the port comes back the same; `/reset` enables too."""
    listen = (await api.open())["listen"]
    for enable in (
        lambda: api.ask("POST", "/proxies/shop", {"enabled": True}),
        lambda: api.ask("POST", "/reset", status=204),
    ):
        connection = await api.connect()
        assert await echo(connection, b"x") == b"x"
        assert (await api.ask("POST", "/proxies/shop", {"enabled": False}))["enabled"] is False
        assert await closed(connection)
        with pytest.raises(ConnectionRefusedError):
            await api.connect()
        await enable()
        assert (await api.ask("GET", "/proxies/shop"))["enabled"] is True
        assert (await api.ask("GET", "/proxies/shop"))["listen"] == listen
        connection = await api.connect()
        assert await echo(connection, b"y") == b"y"
        connection[1].close()


async def test_reset_removes_every_toxic(api: Api) -> None:
    """Of all proxies; the proxies stay."""
    for name in ("shop", "cart"):
        await api.open(name)
        await api.toxic("latency", proxy=name, latency=1)
        await api.toxic("bandwidth", proxy=name, rate=1, stream="upstream")
    await api.ask("POST", "/reset", status=204)
    assert {name: one["toxics"] for name, one in (await api.ask("GET", "/proxies")).items()} == {"shop": [], "cart": []}


async def test_populate_opens_keeps_and_replaces(api: Api) -> None:
    """What is as it was keeps its toxics; another upstream makes it new."""
    port = free_port()
    wanted = proxy_of(api.upstream, "shop", listen=f"127.0.0.1:{port}")
    made = (await api.ask("POST", "/populate", [wanted, proxy_of(api.upstream, "cart")], status=201))["proxies"]
    assert [one["name"] for one in made] == ["shop", "cart"]
    await api.toxic("latency", latency=1)
    kept = (await api.ask("POST", "/populate", [wanted], status=201))["proxies"]
    assert [one["name"] for one in kept[0]["toxics"]] == ["latency_downstream"]
    other = {**wanted, "upstream": "127.0.0.1:1"}
    made = (await api.ask("POST", "/populate", [other], status=201))["proxies"]
    assert (made[0]["upstream"], made[0]["toxics"]) == ("127.0.0.1:1", [])


async def test_another_upstream_ends_connections_and_keeps_toxics(api: Api) -> None:
    """New connections go there, with the toxics that were there."""
    await api.open()
    await api.toxic("latency", latency=1)
    connection = await api.connect()
    assert await echo(connection, b"x") == b"x"
    async with echoing() as other:
        changed = await api.ask("PATCH", "/proxies/shop", {"upstream": other.address})
        assert changed["upstream"] == other.address
        assert [one["name"] for one in changed["toxics"]] == ["latency_downstream"]
        assert await closed(connection)
        connection = await api.connect()
        assert await echo(connection, b"there") == b"there"
        assert bytes(other.received) == b"there"
        connection[1].close()


@pytest.mark.parametrize("timeout", [0, 300])
async def test_a_timeout_is_silent_and_ends_the_connection(api: Api, timeout: int) -> None:
    """After its time, or, with 0, when it is removed."""
    await api.open()
    connection = await api.connect()
    await api.toxic("timeout", timeout=timeout)
    connection[1].write(b"anyone?")
    if timeout == 0:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection[0].read(1), 0.3)
        await api.ask("DELETE", "/proxies/shop/toxics/timeout_downstream", status=204)
    assert await closed(connection)


async def test_limit_data_ends_the_connection_after_so_many_bytes(api: Api) -> None:
    """Exactly."""
    await api.open()
    await api.toxic("limit_data", bytes=10)
    connection = await api.connect()
    assert await echo(connection, b"0123456789abcdef") == b"0123456789"
    assert await closed(connection)


async def test_bandwidth_slicer_and_slow_close_take_their_time(api: Api) -> None:
    """KB a second; microseconds; milliseconds."""
    await api.open()
    await api.toxic("bandwidth", rate=50)
    connection = await api.connect()
    began = time.monotonic()
    assert await echo(connection, b"x" * 20_000) == b"x" * 20_000
    assert time.monotonic() - began >= 0.35
    await api.ask("DELETE", "/proxies/shop/toxics/bandwidth_downstream", status=204)
    await api.toxic("slicer", average_size=10, size_variation=2, delay=20_000)
    began = time.monotonic()
    assert await echo(connection, b"y" * 200) == b"y" * 200
    assert time.monotonic() - began >= 0.25
    await api.ask("DELETE", "/proxies/shop/toxics/slicer_downstream", status=204)
    await api.toxic("slow_close", delay=300)
    began = time.monotonic()
    connection[1].write_eof()
    # Toxiproxy ends both directions when one has ended; ours lets the other one finish.
    said = await asyncio.wait_for(connection[0].read(), PATIENCE)
    assert said == (b"bye" if api.ours else b"")
    assert time.monotonic() - began >= 0.28
    connection[1].close()


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_reset_peer_resets_new_connections(api: Api, stream: str) -> None:
    """With RST, at the latest when something was said in its direction."""
    await api.open()
    await api.toxic("reset_peer", stream=stream, timeout=0)
    connection = await api.connect()
    connection[1].write(b"x")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(connection[0].read(), PATIENCE)
    connection[1].close()


async def test_a_toxicity_of_nothing_touches_nothing(api: Api) -> None:
    """0 is none of the connections."""
    await api.open()
    await api.ask("POST", "/proxies/shop/toxics", {"type": "reset_peer", "toxicity": 0, "attributes": {"timeout": 0}})
    connection = await api.connect()
    assert await echo(connection, b"x") == b"x"
    connection[1].close()


async def test_the_version_is_the_one_whose_api_it_is(api: Api) -> None:
    """Clients look at it."""
    assert (await api.ask("GET", "/version"))["version"].startswith("2.")


# Ours alone.


async def test_a_toxic_with_a_ttl_ends_by_itself_and_a_patch_renews_it() -> None:
    """Seconds; without, it stays. A renewal keeps the evidence."""
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, _, _):
        path = "/proxies/shop/toxics"
        made = (await api.post(path, json={"type": "latency", "ttl": 20})).json()
        assert 0 < made["expires_in"] <= 20
        assert "expires_in" not in (await api.post(path, json={"type": "noop"})).json()
        renewed = (await api.patch(f"{path}/latency_downstream", json={"ttl": 60})).json()
        assert 30 < renewed["expires_in"] <= 60
        await api.patch(f"{path}/latency_downstream", json={"ttl": 0.2})
        deadline = time.monotonic() + PATIENCE
        while (await api.get(f"{path}/latency_downstream")).status_code != 404:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert [one["name"] for one in (await api.get(path)).json()] == ["noop_downstream"]


async def test_a_seed_draws_the_same_connections_again() -> None:
    """Half of them; another seed draws others."""
    drawn: list[list[bool]] = []
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, _, routes):
        port = int(routes["shop"].rpartition(":")[2])
        for seed in (7, 7, 8):
            body = {"type": "reset_peer", "toxicity": 0.5, "seed": seed, "attributes": {"timeout": 0}}
            assert (await api.post("/proxies/shop/toxics", json=body)).status_code == 200
            drawn.append([await _is_reset(port) for _ in range(24)])
            await api.delete("/proxies/shop/toxics/reset_peer_downstream")
    assert drawn[0] == drawn[1] != drawn[2]
    assert 0 < sum(drawn[0]) < 24


async def test_faults_of_ours_are_toxics_too_matched_by_path_and_counted() -> None:
    """By our names, with our options as attributes; evidence says what they touched."""
    async with keeping_alive() as upstream, ours(route_to(upstream.port, http=True)) as (api, _, routes):
        body = {"type": "http-status", "name": "broken", "attributes": {"status": 418}, "match": {"path": "/api/*"}}
        assert (await api.post("/proxies/shop/toxics", json=body)).status_code == 200
        async with httpx.AsyncClient(
            base_url=f"http://{routes['shop']}", trust_env=False, verify=False, timeout=60
        ) as client:
            assert (await client.get("/api/x")).status_code == 418
            assert (await client.get("/else")).status_code == 200
        evidence = (await api.get("/proxies/shop/evidence")).json()
        assert (evidence["broken"]["requests"], evidence["broken"]["connections"]) == (1, 1)
        changed = await api.patch("/proxies/shop/toxics/broken", json={"attributes": {"status": 500}})
        assert changed.json()["attributes"] == {"status": 500}
        bad = await api.post("/proxies/shop/toxics", json={"type": "http-status", "attributes": {"status": 42}})
        assert (bad.status_code, bad.json()["error"]) == (
            400,
            "bad request body: status: Input should be greater than or equal to 200",
        )


async def test_a_fault_that_a_route_cannot_have_is_refused() -> None:
    """With the remedy."""
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, _, _):
        answer = await api.post("/proxies/shop/toxics", json={"type": "http-status"})
    assert answer.status_code == 400
    assert "give it `tls` or `http: true`" in answer.json()["error"]


async def test_what_a_drill_holds_is_no_toxic_and_outlives_a_reset() -> None:
    """Neither shown nor removed; and our control API shows toxics beside it."""
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, control, _):
        body = {"kind": "tcp-latency", "options": {"delay": "1ms"}, "lease": 30}
        assert (await control.put("/routes/shop/faults/drill", json=body)).status_code == 201
        await api.post("/proxies/shop/toxics", json={"type": "latency", "attributes": {"latency": 1}})
        assert [one["name"] for one in (await api.get("/proxies/shop/toxics")).json()] == ["latency_downstream"]
        shown = (await control.get("/routes/shop")).json()["faults"]
        assert [(one["id"], one["expires_in"] is None) for one in shown] == [
            ("drill", False),
            ("toxic.latency_downstream", True),
        ]
        await api.post("/reset")
        assert [one["id"] for one in (await control.get("/routes/shop")).json()["faults"]] == ["drill"]


async def test_a_change_of_a_timeout_closes_nothing() -> None:
    """The connection stays silent, and ends as the new attributes say."""
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, _, routes):
        connection = await asyncio.open_connection("127.0.0.1", int(routes["shop"].rpartition(":")[2]))
        await api.post("/proxies/shop/toxics", json={"type": "timeout", "attributes": {"timeout": 0}})
        assert (
            await api.patch("/proxies/shop/toxics/timeout_downstream", json={"attributes": {"timeout": 400}})
        ).status_code == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection[0].read(1), 0.2)
        assert await closed(connection)


async def test_bytes_are_counted_by_proxy_and_direction() -> None:
    """In Toxiproxy's two counters."""
    async with echoing() as upstream, ours(route_to(upstream.port)) as (api, _, routes):
        connection = await asyncio.open_connection("127.0.0.1", int(routes["shop"].rpartition(":")[2]))
        assert await echo(connection, b"x" * 1000) == b"x" * 1000
        lines = (await api.get("/metrics")).text.splitlines()
        connection[1].close()
    labels = f'listener="{routes["shop"]}",proxy="shop",upstream="{upstream.address}"'
    for way in ("upstream", "downstream"):
        for what in ("received", "sent"):
            assert f'toxiproxy_proxy_{what}_bytes_total{{direction="{way}",{labels}}} 1000' in lines


async def test_one_address_may_serve_both_apis() -> None:
    """8474 is the usual port of both."""
    port = free_port()
    async with (
        proxying([], f"127.0.0.1:{port}", toxiproxy=f"127.0.0.1:{port}") as serving,
        httpx.AsyncClient(base_url=serving.control, trust_env=False, verify=False, timeout=60) as both,
    ):
        assert serving.toxiproxy == serving.control
        assert (await both.get("/proxies")).json() == {}
        assert (await both.get("/healthz")).json()["service"] == "stormwatch-proxy"


async def _is_reset(port: int) -> bool:
    connection = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await echo(connection, b"x") != b"x"
    except ConnectionResetError:
        return True
    finally:
        connection[1].close()
        with contextlib.suppress(OSError):
            await connection[1].wait_closed()
