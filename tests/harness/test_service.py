"""The whole service in process: results become pages and JSON, alerts survive a restart, nothing is told twice or lost."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stormwatch.harness.config import Config, load
from stormwatch.harness.problem import Problem
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.harness.service import Service
from stormwatch.harness.web import web_app
from tests.servers.process import free_port
from tests.servers.receiver import Receiver

CONFIG = """\
location: test
defaults: {{every: 200ms, timeout: 80ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: good, kind: tcp, target: "127.0.0.1:{good}"}}
  - name: bad
    kind: http
    target: http://127.0.0.1:{bad}/
    depends_on: [good]
    labels: {{service: shop}}
    http: {{bearer: "${{env:TOKEN}}"}}
objectives:
  - {{name: bad-availability, probe: bad, target: 99%, window: 1d}}
alerts: {{webhook: "{webhook}"}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Generator[Config]:
    """One probe that is up, one that is refused, and a receiver that nobody answers at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        path = tmp_path / "stormwatch.yaml"
        ports = {"good": listening.getsockname()[1], "bad": free_port()}
        path.write_text(CONFIG.format(**ports, webhook=f"http://127.0.0.1:{free_port()}/hook"))
        yield load(path, environ={"TOKEN": "canary-5d1f"})


@asynccontextmanager
async def served(config: Config, data: Path) -> AsyncGenerator[tuple[Service, httpx.AsyncClient]]:
    """A service with its pages on a free port."""
    bound = bind("127.0.0.1:0")
    url = f"http://{address_of(bound)}"
    async with (
        Service(config, data=data, page=f"{url}/") as service,
        serving(web_app(service), bound),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield service, client


async def until_firing(service: Service) -> None:
    """Wait until both alerts about the bad probe fire."""
    with service.feed.recording() as seen:
        deadline = service.clock.monotonic() + 60
        assert await seen.until(lambda: len(service.feed.firing) >= 3, clock=service.clock, deadline=deadline)


async def test_results_become_pages_and_json(config: Config, tmp_path: Path) -> None:
    """Everything that a person reads is there for a machine too."""
    async with served(config, tmp_path / "data") as (service, client):
        await until_firing(service)
        await service.history.flush()

        probes = (await client.get("/api/v1/probes")).json()["probes"]
        assert [probe["name"] for probe in probes] == ["good", "bad"]
        assert [probe["last"]["outcome"] for probe in probes] == ["up", "down"]
        results = (await client.get("/api/v1/results", params={"probe": "bad", "since": "1m", "limit": 1})).json()
        assert [result["reason"] for result in results["results"]] == ["refused"]
        alerts = (await client.get("/api/v1/alerts")).json()["alerts"]
        assert {"ProbeDown", "ErrorBudgetBurn"} == {alert["labels"]["alertname"] for alert in alerts}
        transitions = (await client.get("/api/v1/transitions")).json()["transitions"]
        assert "firing" in {transition["after"] for transition in transitions}
        assert (await client.get("/-/ready")).status_code == 200
        assert (await client.get("/-/healthy")).text == "Healthy\n"
        assert "bad" in (await client.get("/")).text
        assert "refused" in (await client.get("/probes/bad")).text
        metrics = (await client.get("/metrics")).text
        assert 'probe_success{instance="127.0.0.1' in metrics
        assert 'stormwatch_objective_events_total{objective="bad-availability",judgement="bad"}' in metrics
        assert "stormwatch_notifications_failed_total" in metrics


async def test_what_is_asked_wrongly_is_told_and_hurts_nobody(config: Config, tmp_path: Path) -> None:
    """Unknown names are 404, unreadable numbers 400, and no path leads out of the artifacts."""
    async with served(config, tmp_path / "data") as (_, client):
        assert (await client.get("/probes/none")).status_code == 404
        assert (await client.get("/api/v1/results?since=yesterday")).status_code == 400
        assert (await client.get("/artifacts/..%2fhistory.sqlite")).status_code == 404


async def test_no_page_shows_a_secret(config: Config, tmp_path: Path) -> None:
    """The token of the probe is in no answer."""
    async with served(config, tmp_path / "data") as (service, client):
        await until_firing(service)
        for path in ("/", "/probes/bad", "/config", "/metrics", "/api/v1/probes", "/api/v1/results"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "canary-5d1f" not in answer.text


async def test_alerts_go_on_after_a_restart(config: Config, tmp_path: Path) -> None:
    """What fired before fires on, since the same moment, and is told to the receiver that was away."""
    async with served(config, tmp_path / "data") as (service, _):
        await until_firing(service)
        before = {one.alert.key: one.since for one in service.evaluator.active()}
    with Receiver() as receiver:
        again = replace(config, alerts=replace(config.alerts, webhook=receiver.url))
        async with served(again, tmp_path / "data") as (service, _):
            after = {one.alert.key: one.since for one in service.evaluator.active()}
            assert before.items() <= after.items()
            async with asyncio.timeout(60):
                while not receiver.alerts("firing", alertname="ProbeDown", probe="bad"):
                    await asyncio.sleep(0.05)


async def test_a_data_directory_that_cannot_be_made_is_one_line(config: Config, tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "data").write_text("")

    with pytest.raises(Problem, match=r"cannot keep history in .*--data"):
        async with Service(config, data=tmp_path / "data"):
            pass
