"""Faults of a Toxiproxy that runs elsewhere: put and taken back by its API, proved by what it counts, seen by a probe.

Against our own server of that API, and against a real Toxiproxy (`-proxy-metrics`) when STORMWATCH_TOXIPROXY names one.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from stormwatch.chaos.absence import UndoFailed
from stormwatch.chaos.catalog import read_options
from stormwatch.chaos.control import proxying
from stormwatch.chaos.fault import Fault, FaultLost, FaultNotInjected
from stormwatch.chaos.toxiproxy_faults import ToxiproxyTarget, undo_toxiproxy
from stormwatch.chaos.undo import UndoJournal
from stormwatch.harness.config import ConfigError, load
from stormwatch.harness.injecting import fault_of, why_not
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.servers.upstream import keeping_alive

REAL = os.environ.get("STORMWATCH_TOXIPROXY", "")
PATIENCE = 20.0


@dataclass
class Elsewhere:
    """A Toxiproxy with the proxy `shop` in front of an HTTP server."""

    api: str
    http: httpx.AsyncClient
    upstream: str
    directory: Path
    listen: str = ""
    proxy: str = "shop"
    """That the faults are put on."""

    async def open(self, name: str = "shop") -> str:
        """A proxy; where it listens."""
        body = {"name": name, "listen": "127.0.0.1:0", "upstream": self.upstream}
        answer = await self.http.post("/proxies", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["listen"]

    async def left(self, name: str = "") -> dict[str, Any]:
        """What of it is not as it was."""
        seen = (await self.http.get(f"/proxies/{name or self.proxy}")).json()
        return {"toxics": [one["name"] for one in seen["toxics"]], "enabled": seen["enabled"]}

    async def look(self) -> Result:
        """One run of the probe of `shop`."""
        (probe,) = self.config("toxiproxy-down").probes
        async with Resources() as resources:
            return await run_once(probe, clock=SystemClock(), resources=resources)

    def config(self, written: str) -> Any:
        """A configuration with a drill of this fault."""
        path = self.directory / "stormwatch.yaml"
        path.write_text(
            f"probes: [{{name: front, kind: http, target: 'http://{self.listen}/', timeout: 500ms, "
            "confirm: {attempts: 1}, http: {expect: {slower_than: 300ms}}}]\n"
            f"targets: [{{name: shop, toxiproxy: {{api: '{self.api}', proxy: {self.proxy}}}}}]\n"
            f"drills: [{{name: d, fault: {{target: shop, kind: {written}}}, expect: {{probe: {{name: front}}}}}}]\n"
        )
        return load(path, environ={})

    def fault(self, written: str) -> Fault:
        """The fault of that drill."""
        config = self.config(written)
        return fault_of(config, config.drills[0].fault, state=self.directory, drill="d", clock=SystemClock())


@pytest.fixture(params=["ours", *(["real"] if REAL else [])])
async def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Elsewhere]:
    """With a proxy that a client has used."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(keeping_alive())
        url = REAL
        if request.param == "ours":
            url = (await stack.enter_async_context(proxying([], "127.0.0.1:0", toxiproxy="127.0.0.1:0"))).toxiproxy
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=60)
        )
        here = Elsewhere(url, http, upstream.address, tmp_path)
        for name in (await http.get("/proxies")).json():
            await http.delete(f"/proxies/{name}")
        here.listen = await here.open()
        assert (await here.look()).outcome is Outcome.UP
        await until(lambda: counted(here), "the first run to be counted")
        yield here
        assert UndoJournal(tmp_path / "undo").pending() == []


async def counted(here: Elsewhere) -> bool:
    """Whether the Toxiproxy says that something went through `shop`."""
    text = (await here.http.get("/metrics")).text
    return re.search(r'received_bytes_total\{[^}]*proxy="shop"[^}]*\} [1-9]', text) is not None


async def until(condition: Callable[[], Any], what: str) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.02)


BENT = [
    ("toxiproxy-latency, delay: 350ms", Reason.TOO_SLOW),
    ("toxiproxy-latency, delay: 2s, jitter: 100ms, stream: upstream", Reason.TIMEOUT),
    ("toxiproxy-bandwidth, rate: 1kB", None),
    ("toxiproxy-slow-close, delay: 100ms", None),
    ("toxiproxy-timeout", Reason.TIMEOUT),
    ("toxiproxy-slicer, average_size: 10B, variation: 2B, delay: 100ms", Reason.TIMEOUT),
    ("toxiproxy-limit-data, bytes: 5B", Reason.RESET),
    ("toxiproxy-reset", Reason.RESET),
    ("toxiproxy-down", Reason.REFUSED),
]


@pytest.mark.parametrize(("written", "reason"), BENT, ids=[written for written, _ in BENT])
async def test_a_probe_sees_it_it_is_proved_and_nothing_is_left(
    elsewhere: Elsewhere, written: str, reason: Reason | None
) -> None:
    """A small answer in one piece does not show every toxic; what it counted does."""
    async with elsewhere.fault(written) as injected:
        under = await elsewhere.look()

        async def touched() -> bool:
            return (await injected.evidence()).touched

        await until(touched, "evidence")
        evidence = await injected.evidence()
        assert await elsewhere.left() != {"toxics": [], "enabled": True}
    assert under.outcome is (Outcome.DOWN if reason else Outcome.UP), under.message
    assert reason is None or under.reason is reason, under.message
    assert evidence.bytes > 0 or evidence.connections == 1
    assert "the proxy shop of the Toxiproxy at " in evidence.what
    assert await elsewhere.left() == {"toxics": [], "enabled": True}
    assert (await elsewhere.look()).outcome is Outcome.UP


async def test_a_toxic_that_met_nobody_proves_nothing(elsewhere: Elsewhere) -> None:
    """It is there, and nothing came: the drill will be inconclusive."""
    async with elsewhere.fault("toxiproxy-timeout") as injected:
        evidence = await injected.evidence()
    assert (evidence.touched, evidence.bytes) == (False, 0)


async def test_what_nobody_could_prove_is_not_injected(elsewhere: Elsewhere) -> None:
    """A proxy that nobody has used, or a Toxiproxy that counts nothing; said with the remedy, and by `--dry-run` too."""
    # A Toxiproxy that goes on running still counts what went through a proxy of the same name before.
    elsewhere.proxy = f"shop-{token_hex(4)}"
    await elsewhere.open(elsewhere.proxy)
    for written in ("toxiproxy-timeout", "toxiproxy-down"):
        with pytest.raises(FaultNotInjected, match="start it with `-proxy-metrics`, and let its clients come once"):
            async with elsewhere.fault(written):
                pytest.fail("it was injected")
        assert await elsewhere.left() == {"toxics": [], "enabled": True}
    config = elsewhere.config("toxiproxy-timeout")
    assert f"has counted no bytes through {elsewhere.proxy}" in await why_not(config, config.drills[0].fault)


async def test_a_proxy_that_is_not_there_or_disabled_is_said(elsewhere: Elsewhere) -> None:
    """Nothing of it is touched."""
    await elsewhere.http.post("/proxies/shop", json={"enabled": False})
    with pytest.raises(FaultNotInjected, match="is disabled; enable it before it is broken"):
        async with elsewhere.fault("toxiproxy-down"):
            pytest.fail("it was injected")
    assert (await elsewhere.left())["enabled"] is False
    await elsewhere.http.delete("/proxies/shop")
    with pytest.raises(FaultNotInjected, match="has no proxy shop; correct the target's `proxy`"):
        async with elsewhere.fault("toxiproxy-timeout"):
            pytest.fail("it was injected")


async def test_a_toxic_that_somebody_removes_is_a_fault_that_was_lost(elsewhere: Elsewhere) -> None:
    """As when Toxiproxy was started anew: what was seen since then proves nothing."""
    async with elsewhere.fault("toxiproxy-timeout") as injected:
        await elsewhere.http.post("/reset")
        with pytest.raises(FaultLost, match="somebody removed it, or Toxiproxy was started anew"):
            await injected.evidence()


async def test_a_proxy_that_somebody_enables_is_a_fault_that_was_lost(elsewhere: Elsewhere) -> None:
    """Whoever comes is let through."""
    async with elsewhere.fault("toxiproxy-down") as injected:
        await elsewhere.http.post("/proxies/shop", json={"enabled": True})
        with pytest.raises(FaultLost, match="lets connections through"):
            await injected.evidence()


async def test_undoing_is_idempotent_and_says_when_nobody_answers(elsewhere: Elsewhere) -> None:
    """What is gone already is as well; a Toxiproxy that cannot be asked may still have it."""
    record = {"api": elsewhere.api, "proxy": "shop", "toxic": "none"}
    assert (await undo_toxiproxy(record)).was_there is False
    assert (await undo_toxiproxy({**record, "toxic": ""})).was_there is False
    assert (await undo_toxiproxy({**record, "proxy": "gone"})).was_there is False
    with pytest.raises(UndoFailed, match=r"no Toxiproxy answers at http://127\.0\.0\.1:9"):
        await undo_toxiproxy({**record, "api": "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    ("listen", "address", "reached"),
    [
        ("127.0.0.1:18080", "", ("127.0.0.1", 18080)),
        ("[::]:18080", "", ("toxi.example", 18080)),
        ("0.0.0.0:18080", "", ("toxi.example", 18080)),
        ("[::]:18080", "10.0.0.7:80", ("10.0.0.7", 80)),
    ],
)
def test_a_proxy_is_reached_where_its_clients_reach_it(listen: str, address: str, reached: tuple[str, int]) -> None:
    """What listens everywhere listens on the machine of the API."""
    target = ToxiproxyTarget(api="http://toxi.example:8474", proxy="p", address=address)
    assert target.reached_at(listen) == reached


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("toxiproxy-latency", {"delay": "0.5ms"}, "delay: Toxiproxy counts in steps of 1ms"),
        ("toxiproxy-latency", {"delay": "1s", "share": "0%"}, "share must be more than 0%"),
        ("toxiproxy-bandwidth", {"rate": "1500B"}, "rate: Toxiproxy counts in kB a second"),
        ("toxiproxy-slicer", {"average_size": "2B", "variation": "2B"}, "must be less than average_size"),
        ("toxiproxy-timeout", {"stream": "both"}, "'upstream' or 'downstream'"),
    ],
)
def test_what_toxiproxy_has_no_number_for_is_refused(kind: str, options: dict[str, Any], said: str) -> None:
    """Rather than rounded."""
    with pytest.raises(ValueError, match=re.escape(said)):
        read_options(kind, options)


@pytest.mark.parametrize("api", ["127.0.0.1:8474", "ftp://x", "http://u:secret@127.0.0.1:8474"])
def test_an_address_that_is_none_is_a_mistake_in_the_file(tmp_path: Path, api: str) -> None:
    """With its line; a password is not shown."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(f"targets: [{{name: shop, toxiproxy: {{api: '{api}', proxy: shop}}}}]\n")
    with pytest.raises(ConfigError, match=r"stormwatch.yaml:1: targets\[shop\].toxiproxy.*: api") as wrong:
        load(path, environ={})
    assert "secret" not in str(wrong.value)
