"""Pings over HTTP, as Healthchecks' clients send them, in a whole service: on disk before OK, and seen at once."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.harness.config import load
from stormwatch.harness.heartbeat_web import BODY, BURST, LARGEST, read_path
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.runner import Runner
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.harness.service import Service
from stormwatch.harness.turns import SHARED, Turns
from stormwatch.harness.web import web_app
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.heartbeat_state import Sort, State
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.watch import Watch
from tests.servers.process import free_port

UUID = "b3f1d6a0-4c2e-4f7b-9a55-0c1d2e3f4a5b"
PING_KEY = "fqOOd6-F4MMNuCEnzTU01w"
CONFIG = """\
defaults: {every: 1h, timeout: 1s, confirm: {attempts: 1}}
probes:
  - {name: nightly, kind: heartbeat, target: backup, heartbeat: {key: "${env:BACKUP}", cron: "0 3 * * *"}}
  - {name: reports, kind: heartbeat, target: reports, heartbeat: {key: "${env:SHARED}", interval: 1h}}
  - {name: mails, kind: heartbeat, target: mails, heartbeat: {key: "${env:SHARED}", interval: 1h}}
"""
ENVIRON = {"BACKUP": UUID, "SHARED": PING_KEY}


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncGenerator[tuple[Service, httpx.AsyncClient]]:
    """A service that waits for three jobs."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(CONFIG)
    bound = bind("127.0.0.1:0")
    url = f"http://{address_of(bound)}"
    async with (
        Service(load(path, environ=ENVIRON), data=tmp_path / "data", page=f"{url}/") as service,
        serving(web_app(service), bound),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield service, client


def state_of(tmp_path: Path, job: str) -> State:
    """What is on disk of a job."""
    import json

    db = sqlite3.connect(tmp_path / "data" / "heartbeats.sqlite")
    try:
        ((text,),) = db.execute("SELECT state FROM job WHERE name = ?", (job,)).fetchall()
    finally:
        db.close()
    return State.from_json(json.loads(text))


async def until(service: Service, probe: str, outcome: Outcome, *, after: float = 0.0) -> Any:
    """Wait for the result of a run that nobody's schedule has asked for."""
    for _ in range(400):
        result = service.latest.result(probe)
        if result is not None and result.outcome is outcome and result.started > after:
            return result
        await asyncio.sleep(0.02)
    raise AssertionError(f"{probe} is not {outcome}: {service.latest.result(probe)}")


async def test_pings_are_on_disk_and_seen_at_once(tmp_path: Path) -> None:
    """Every method, every sort, both forms of address; the schedule would look an hour later."""
    async with served(tmp_path) as (service, client):
        await until(service, "nightly", Outcome.UP)
        started = await client.get(f"/ping/{UUID}/start", params={"rid": UUID})
        assert (started.status_code, started.text) == (200, "OK")
        assert started.headers["ping-body-limit"] == str(BODY)
        failed = await client.post(f"/ping/{UUID}/7", params={"rid": UUID.upper()}, content="no space\nleft")
        assert failed.text == "OK"
        result = await until(service, "nightly", Outcome.DOWN)
        assert result.message.startswith("backup failed with exit code 7 at ")
        assert result.message.endswith("; it says 'left'")
        kept = state_of(tmp_path, "backup")
        assert (kept.exit_code, kept.failed, kept.body, kept.pings) == (
            7,
            True,
            "no space\nleft",
            {"start": 1, "fail": 1},
        )
        assert kept.seconds is not None

        assert (await client.head(f"/ping/{UUID.upper()}")).status_code == 200
        await until(service, "nightly", Outcome.UP, after=result.started)
        for path in (f"{UUID}/0", f"{UUID}/log", f"{UUID}/fail", UUID):
            assert (await client.get(f"/ping/{path}")).text == "OK"
        assert state_of(tmp_path, "backup").pings == {"start": 1, "fail": 2, "success": 3, "log": 1}

        assert (await client.post(f"/ping/{PING_KEY}/reports/fail")).text == "OK"
        await until(service, "reports", Outcome.DOWN)
        await until(service, "mails", Outcome.UP)
        for page in ("/", "/probes/nightly", "/config", "/metrics", "/api/v1/probes"):
            text = (await client.get(page)).text
            assert UUID not in text
            assert PING_KEY not in text
        metrics = (await client.get("/metrics")).text
        assert "no space" not in metrics


async def test_wrong_addresses_are_answered_as_by_healthchecks(tmp_path: Path) -> None:
    """And change nothing."""
    other = "00000000-0000-4000-8000-000000000000"
    async with served(tmp_path) as (_, client):
        for path, status, text in [
            (other, 200, "OK (not found)"),
            (f"{other}/fail", 200, "OK (not found)"),
            (f"{PING_KEY}/nothing", 404, "not found"),
            (f"{PING_KEY[:-1]}x/reports", 404, "not found"),
            (f"{PING_KEY.lower()}/reports", 404, "not found"),
            (PING_KEY, 400, "invalid url format"),
            (f"{UUID}/256", 400, "invalid url format"),
            (f"{UUID}/-1", 400, "invalid url format"),
            (f"{UUID}/start/now", 400, "invalid url format"),
            (f"{UUID}?rid=1", 400, "invalid uuid format"),
        ]:
            answer = await client.get(f"/ping/{path}")
            assert (path, answer.status_code, answer.text) == (path, status, text)
        assert (await client.put(f"/ping/{UUID}")).status_code == 405
        assert state_of(tmp_path, "backup").pings == {}


async def test_bodies_are_bounded_and_floods_are_told_to_wait(tmp_path: Path) -> None:
    """10 kB are kept; an endless body is refused; the sixty-first ping of a second comes later."""
    async with served(tmp_path) as (_, client):
        assert (await client.post(f"/ping/{UUID}", content=b"\xff" + b"x" * 3 * BODY)).text == "OK"
        assert len(state_of(tmp_path, "backup").body) == BODY
        refused = await client.post(f"/ping/{PING_KEY}/mails", content=b"x" * (LARGEST + 1))
        assert refused.status_code == 413
        statuses = [(await client.get(f"/ping/{PING_KEY}/reports/log")).status_code for _ in range(BURST + 20)]
        assert statuses[:BURST] == [200] * BURST
        assert 429 in statuses
        assert (await client.get(f"/ping/{UUID}")).status_code == 200, "each job has a limit of its own"


async def test_a_ping_that_cannot_be_kept_is_not_acknowledged(tmp_path: Path) -> None:
    """The client hears 500 and tries again; afterwards all is as before."""
    async with served(tmp_path) as (_, client):
        blocker = sqlite3.connect(tmp_path / "data" / "heartbeats.sqlite", isolation_level=None, timeout=0)
        blocker.execute("BEGIN EXCLUSIVE")
        answer = await client.get(f"/ping/{UUID}/fail", timeout=20)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert (answer.status_code, answer.text) == (500, "not stored, try again")
        assert (await client.get(f"/ping/{UUID}")).text == "OK"
        assert state_of(tmp_path, "backup").pings == {"success": 1}


async def test_two_jobs_with_one_uuid_are_told_apart_by_nobody(tmp_path: Path) -> None:
    """409, as by Healthchecks, rather than a guess."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(CONFIG)
    bound = bind("127.0.0.1:0")
    url = f"http://{address_of(bound)}"
    config = load(path, environ={"BACKUP": UUID, "SHARED": UUID})
    async with (
        Service(config, data=tmp_path / "data", page=url) as service,
        serving(web_app(service), bound),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        assert (await client.get(f"/ping/{UUID}")).status_code == 409


async def test_without_heartbeats_nothing_listens(tmp_path: Path) -> None:
    """No file, no address."""
    path = tmp_path / "stormwatch.yaml"
    path.write_text(f'probes: [{{name: a, kind: tcp, target: "127.0.0.1:{free_port()}"}}]\n')
    bound = bind("127.0.0.1:0")
    url = f"http://{address_of(bound)}"
    async with (
        Service(load(path, environ={}), data=tmp_path / "data", page=url) as service,
        serving(web_app(service), bound),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        assert (await client.get(f"/ping/{UUID}")).status_code == 404
        assert not (tmp_path / "data" / "heartbeats.sqlite").exists()


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([UUID, "start", "0", "300", "", "job", "²"]), max_size=4).map("/".join)
)
def test_any_path_is_a_ping_or_none(path: str) -> None:
    """Nothing else comes of it."""
    address = read_path(path)
    assert address is None or (address.exit_code is None or 0 <= address.exit_code <= 255)
    if address is not None and address.exit_code:
        assert address.sort is Sort.FAIL


def test_a_file_that_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    """At the start, with the remedy."""
    from stormwatch.harness.problem import Problem

    (tmp_path / "data" / "heartbeats.sqlite").mkdir(parents=True)

    async def start() -> None:
        path = tmp_path / "stormwatch.yaml"
        path.write_text(CONFIG)
        async with Service(load(path, environ=ENVIRON), data=tmp_path / "data"):
            pass

    with pytest.raises(Problem, match=r"^cannot keep heartbeats: .*; choose another directory with --data$"):
        asyncio.run(start())


async def test_news_during_a_run_is_looked_at_once_after_it_and_the_schedule_goes_on() -> None:
    """However much news there was; and news of a probe that nobody runs any more is passed over."""
    clock, results, begun, go_on = SystemClock(), list[Result](), asyncio.Event(), asyncio.Event()

    async def check(_watch: Watch) -> None:
        begun.set()
        await go_on.wait()

    async with Resources() as resources:
        runner = Runner(
            [Probe(name="a", kind="heartbeat", target="a", check=check, every=3600, timeout=10)],
            take=results.append,
            clock=clock,
            resources=resources,
            lag=LoopLag(clock),
            turns=Turns({SHARED: 1}, clock=clock.monotonic),
        )
        runner.soon("a")
        task = asyncio.create_task(runner.run())
        await asyncio.wait_for(begun.wait(), 10)
        for _ in range(3):
            runner.soon("a")
        assert runner.under_way == 1
        go_on.set()
        for _ in range(500):
            await asyncio.sleep(0.01)
            if len(results) == 2 and not runner.under_way:
                break
        go_on.clear()
        runner.soon("a")
        assert runner.under_way == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [result.outcome for result in results] == [Outcome.UP, Outcome.UP]
    assert runner.skipped["a"] == 0
    runner.soon("a")
    assert runner.under_way == 0
