"""Drills on the prober's side against real servers: each kind is proved to page, while another client sees nothing.

All at once, because each of them mostly waits: a fixture runs them, and each test looks at what came of one kind.
"""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stormwatch.harness.config import load
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.grpc_wire import frame
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.run import run_once
from tests.servers import http2, web
from tests.servers.backends import CANARY
from tests.servers.certificates import Authority, Issued
from tests.servers.command import Invocation, invoke_all
from tests.servers.kafka import kafka_cluster
from tests.servers.mail import mail_server
from tests.servers.mysql import mysql_server
from tests.servers.nameserver import naming, zone
from tests.servers.nats import nats_server
from tests.servers.postgres import postgres_server
from tests.servers.rabbitmq import rabbitmq_server
from tests.servers.redis import redis_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
"""Seven servers and ten drills begin at once: on a machine that does much else beside, that takes its time."""

NAME = "shop.test"
"""What the certificate of every server is for, and nothing else."""
PASSWORD = "${env:PASSWORD}"
LOGIN = {"username": "watcher", "password": PASSWORD}
ENVIRON = {"PASSWORD": CANARY}

FAULTS: Mapping[str, tuple[str, str]] = {
    "redis": ("tcp-reset", "tls"),
    "postgres": ("tcp-blackhole", "timeout"),
    "mysql": ("tcp-reset", "reset"),
    "nats": ("tcp-blackhole", "timeout"),
    "rabbitmq": ("tcp-blackhole", "timeout"),
    "kafka": ("tcp-reset", "reset"),
    "smtp": ("tcp-blackhole", "timeout"),
    "imap": ("tls-expired", "certificate"),
    "grpc": ("tcp-reset", "reset"),
    "websocket": ("tls-wrong-host", "certificate"),
}
"""What each probe meets on its way, and why it is down then. Redis begins with the handshake, which the reset ends."""


@dataclass(frozen=True)
class Seen:
    """What came of one drill."""

    code: int
    report: Mapping[str, Any]
    beside: Sequence[Result]
    """What the same probe saw without a detour, as long as the drills lasted."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen]:
    """By kind."""
    authority = Authority(tmp_path_factory.mktemp("authority"), "Root")
    issued = authority.issue(NAME)
    room = tmp_path_factory.mktemp
    with ExitStack() as stack, ThreadPoolExecutor() as threads:

        def start(server: Callable[..., AbstractContextManager[Any]], *more: Any) -> Any:
            return threads.submit(lambda: stack.enter_context(server(*more)))

        rabbitmq = start(rabbitmq_server, room("rabbitmq"), issued)
        mysql = start(mysql_server, room("mysql"), issued, authority.file)
        postgres = start(postgres_server, issued, authority.file)
        redis = start(redis_server, room("redis"), issued, authority.file)
        nats = start(nats_server, room("nats"), issued)
        kafka = start(kafka_cluster, room("kafka"))
        mail = start(mail_server, issued)
        trust = {"ca_file": str(authority.file)}
        tls = {"tls": True, **trust}
        places: dict[str, tuple[str, Mapping[str, Any]]] = {
            "redis": (f"{NAME}:{redis.result().tls_port}", {"password": PASSWORD, **tls}),
            "postgres": (f"{NAME}:{postgres.result().port}", {**LOGIN, **tls}),
            "mysql": (f"{NAME}:{mysql.result().port}", {**LOGIN, **tls}),
            "nats": (f"{NAME}:{nats.result().port}", {**LOGIN, **tls}),
            "rabbitmq": (f"{NAME}:{rabbitmq.result().tls_port}", {**LOGIN, **tls}),
            "kafka": (kafka.result().leading(0), {"topic": "watched", "round_trip": True}),
            "smtp": (f"{NAME}:{mail.result().smtp_port}", trust),
            "imap": (f"{NAME}:{mail.result().imaps_port}", {"tls": "implicit", **trust}),
        }
        return asyncio.run(_drill_all(room("drills"), places, issued, tls))


async def _drill_all(
    directory: Path, places: Mapping[str, tuple[str, Mapping[str, Any]]], issued: Issued, tls: Mapping[str, Any]
) -> Mapping[str, Seen]:
    async with (
        naming(zone({(f"{NAME}.", "A"): ["127.0.0.1"]})) as names,
        _serving_grpc(issued) as grpc,
        web.serving(_upgrade, tls=issued.server_context()) as websocket,
    ):
        places = {
            **places,
            "grpc": (f"{NAME}:{grpc.port}", tls),
            "websocket": (f"wss://{NAME}:{websocket.port}/", {"ca_file": tls["ca_file"]}),
        }
        invocations: list[Invocation] = []
        ordinary: dict[str, Probe] = {}
        for kind, (target, options) in places.items():
            room = directory / kind
            room.mkdir()
            path = room / "stormwatch.yaml"
            path.write_text(json.dumps(_config(kind, target, {"resolver": names.address, **options})))
            (ordinary[kind],) = load(path, environ=ENVIRON).probes
            environ = {**os.environ, **ENVIRON, "STORMWATCH_STATE": str(room / "state")}
            invocations.append(Invocation(["drill", "--format", "json"], room, environ))
        drilling = asyncio.create_task(asyncio.to_thread(invoke_all, invocations, 300))
        beside: dict[str, list[Result]] = {kind: [] for kind in places}
        async with Resources() as resources:
            while not drilling.done():
                for kind, probe in ordinary.items():
                    beside[kind].append(await run_once(probe, clock=SystemClock(), resources=resources))
                await asyncio.wait([drilling], timeout=1)
        done = await drilling
    for each in done:
        assert each.stdout, each.stderr
    return {
        kind: Seen(each.returncode, json.loads(each.stdout)[0], beside[kind])
        for kind, each in zip(places, done, strict=True)
    }


def _config(kind: str, target: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    fault, reason = FAULTS[kind]
    probe = {"name": "watched", "kind": kind, "target": target, "every": "3s", "timeout": "2s", kind: options}
    probe["confirm"] = {"attempts": 1}
    expect = {"probe": {"name": "watched", "reason": reason, "within": "30s"}, "resolves_within": "30s"}
    drill = {"name": kind, "side": "prober", "fault": {"kind": fault, "target": "watched"}, "expect": expect}
    return {"probes": [probe], "drills": [drill]}


@asynccontextmanager
async def _serving_grpc(issued: Issued) -> AsyncGenerator[http2.Server]:
    async def behave(call: http2.Call) -> None:
        call.head([("content-type", "application/grpc")])
        call.data(frame(b"\x08\x01"))
        call.trailers([("grpc-status", "0")])

    context = issued.server_context()
    context.set_alpn_protocols(["h2"])
    async with http2.serving(behave, tls=context) as server:
        yield server


async def _upgrade(exchange: web.Exchange) -> None:
    """As RFC 6455 §4.2.2 has it, and then silence."""
    key = exchange.header("Sec-WebSocket-Key") or ""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    head = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {base64.b64encode(digest).decode()}"
    exchange.writer.write(f"HTTP/1.1 101 Switching\r\n{head}\r\n\r\n".encode())
    await exchange.writer.drain()
    await exchange.reader.read()


@pytest.mark.parametrize("kind", FAULTS)
def test_the_drill_is_proved_and_nobody_else_notices(seen: Mapping[str, Seen], kind: str) -> None:
    """The probe goes through TLS to the server's name and is up; under the fault it is down; the others always are up."""
    drill = seen[kind]
    assert (drill.code, drill.report["verdict"]) == (0, "proved"), drill.report
    assert len(drill.beside) > 1
    assert {(each.outcome, each.message) for each in drill.beside} == {(Outcome.UP, "")}
