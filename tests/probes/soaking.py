"""Real checks through `run_once` against real servers whose answers are spoilt on the way. For `test_fuzz` and `bench/fuzz.py`."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import dns.message
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from stormwatch.harness.catalog import KINDS
from stormwatch.probes import ntp_packet
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.grpc_wire import frame
from stormwatch.probes.probe import Kind, Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.run import run_once
from tests.servers import http2, web
from tests.servers.backends import CANARY
from tests.servers.certificates import Authority
from tests.servers.mysql import mysql_server
from tests.servers.nameserver import naming, zone
from tests.servers.nats import nats_server
from tests.servers.postgres import USER, postgres_server
from tests.servers.probing import check_of
from tests.servers.redis import redis_server
from tests.servers.spoiler import answering_datagrams, spoiling
from tests.servers.upgrading import SCRIPTS, upgrading

TIMEOUT: Final = 0.25
"""Seconds that a run may take: many spoilt answers never come to their end."""
GRACE: Final = 10.0
"""Seconds over its time that a run may be, on a machine that is busy with thirty others and with the servers."""
TOGETHER: Final = 32


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """A probe whose answers are spoilt."""

    name: str
    kind: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Soaked:
    """What came of a case."""

    name: str
    runs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    endings: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    """Runs that raised, were broken for a reason of ours, or did not end by their deadline."""


async def soak(case: Case, runs: int, *, kinds: Mapping[str, Kind[Any]] = KINDS) -> Soaked:
    """Run it so often, some at a time."""
    came = Soaked(case.name)
    check = check_of(kinds[case.kind], case.target, case.options)
    probe = Probe(name=case.name.replace(" ", "-"), kind=case.kind, target=case.target, check=check, timeout=TIMEOUT)
    left = iter(range(runs))
    loop = asyncio.get_running_loop()

    def left_behind(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "client_connected_cb" not in context["message"]:  # that is a server of the test, which was lied to as well
            came.wrong.append(f"left behind: {context}")

    loop.set_exception_handler(left_behind)
    began = time.perf_counter()

    async def work(resources: Resources) -> None:
        for _ in left:
            result = await run_once(probe, clock=SystemClock(), resources=resources)
            came.runs += 1
            came.slowest = max(came.slowest, result.seconds)
            came.endings[f"{result.outcome} {result.reason}" if result.outcome is not Outcome.UP else "up"] += 1
            if result.outcome is Outcome.BROKEN and result.reason is not Reason.CREDENTIALS:
                came.wrong.append(f"broken, {result.reason}: {result.message}")
            if result.seconds > TIMEOUT + GRACE:
                came.wrong.append(f"took {result.seconds:.2f} s: {result.message}")

    async with Resources() as resources:
        try:
            await asyncio.gather(*(work(resources) for _ in range(TOGETHER)))
        except Exception as error:  # noqa: BLE001 - that there is none is what is looked for
            came.wrong.append(f"raised {error!r}")
    loop.set_exception_handler(None)
    came.seconds = time.perf_counter() - began
    return came


@contextlib.asynccontextmanager
async def own_cases(directory: Path, number: int) -> AsyncGenerator[Sequence[Case]]:
    """Cases whose servers are part of the tests: HTTP with and without TLS, TLS, DNS, datagrams, dialogues, gRPC."""
    authority = Authority(directory, "Soaked Authority")
    issued = authority.issue("127.0.0.1")
    body = b'{"status": "ok", "queue": {"length": 17}}'
    trusting = {"ca_file": str(authority.file)}
    judging = {
        "expect": {
            "json": [{"path": "queue.length", "below": 100}],
            "headers": {"Content-Type": {"matches": "json"}},
            "body_not_matches": ["(?i)error"],
        }
    }
    whole = web.answer(
        body,
        headers={
            "Content-Type": "application/json",
            "Set-Cookie": ["a=b"],
            "Last-Modified": "Sat, 21 Nov 2026 06:00:00 GMT",
        },
    )

    async def answer(exchange: web.Exchange) -> None:
        await whole(exchange)
        plain.exchanges.clear()  # the server remembers each with its buffers: memory would grow with the runs
        secure.exchanges.clear()

    names = {("shop.test.", "A"): ["192.0.2.1", "192.0.2.2"], ("shop.test.", "MX"): ["10 mail.shop.test."]}
    named = zone(names)

    def answered(data: bytes) -> bytes:
        said = named(dns.message.from_wire(data), "udp")
        assert isinstance(said, bytes)
        return said

    def told_the_time(data: bytes) -> bytes:
        now = ntp_packet.ntp_time(time.time())
        return b"\x24\x01\x03\xe7" + bytes(8) + b"GPS\0" + now + data[40:48] + now + now

    async def grpc(call: http2.Call) -> None:
        call.head([("content-type", "application/grpc")])
        call.data(frame(b"\x08\x01"))
        call.trailers([("grpc-status", "0")])
        calls.calls.clear()

    async with contextlib.AsyncExitStack() as stack:

        async def spoilt(port: int) -> str:
            return f"127.0.0.1:{await stack.enter_async_context(spoiling(port, number))}"

        plain = await stack.enter_async_context(web.serving(answer))
        secure = await stack.enter_async_context(web.serving(answer, tls=issued.server_context()))
        calls = await stack.enter_async_context(http2.serving(grpc))
        server = await stack.enter_async_context(naming(named))
        datagrams = await stack.enter_async_context(answering_datagrams(answered, number))
        clock = await stack.enter_async_context(answering_datagrams(told_the_time, number))
        echo = await stack.enter_async_context(answering_datagrams(lambda data: data, number))
        mail = await stack.enter_async_context(upgrading(SCRIPTS["smtp"], issued.server_context()))
        talk = [
            {"expect": "^220 (?P<host>[^ ]+)", "labels": {"host": "{{ host }}"}},
            {"send": "EHLO a\r\n", "expect": "^250 STARTTLS"},
        ]
        yield (
            Case("http", "http", f"http://{await spoilt(plain.port)}/", judging),
            Case("https", "http", f"https://{await spoilt(secure.port)}/", {**judging, **trusting}),
            Case("tls", "tls", await spoilt(secure.port), trusting),
            Case("tls in smtp", "tls", await spoilt(mail), {**trusting, "starttls": "smtp"}),
            Case("tcp dialogue", "tcp", await spoilt(mail), {"dialogue": talk}),
            Case(
                "dns",
                "dns",
                "shop.test",
                {"server": f"127.0.0.1:{datagrams}", "expect": {"answers_include": ["192.0.2.1"]}},
            ),
            Case(
                "dns over tcp",
                "dns",
                "shop.test",
                {"server": await spoilt(server.port), "transport": "tcp", "type": "MX"},
            ),
            Case("udp", "udp", f"127.0.0.1:{echo}", {"send": "hello", "expect": {"contains": "hello"}}),
            Case("ntp", "ntp", f"127.0.0.1:{clock}"),
            Case("grpc", "grpc", await spoilt(calls.port)),
        )


@contextlib.asynccontextmanager
async def program_cases(directory: Path, number: int) -> AsyncGenerator[Sequence[Case]]:
    """Cases whose servers are programs that must be installed: redis-server, nats-server, PostgreSQL, MariaDB; a websocket."""
    authority = Authority(directory, "Programs Authority")
    issued = authority.issue("127.0.0.1")
    login = {"username": USER, "password": CANARY}

    async def talk(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosedError):
            async for message in connection:
                await connection.send(message)

    async with contextlib.AsyncExitStack() as stack:

        async def spoilt(port: int) -> str:
            return f"127.0.0.1:{await stack.enter_async_context(spoiling(port, number))}"

        async def begun(server: contextlib.AbstractContextManager[T]) -> T:
            return await asyncio.to_thread(stack.enter_context, server)

        (directory / "redis").mkdir()
        (directory / "nats").mkdir()
        (directory / "mysql").mkdir()
        redis = await begun(redis_server(directory / "redis", issued, authority.file))
        nats = await begun(nats_server(directory / "nats"))
        postgres = await begun(postgres_server(issued, authority.file))
        mysql = await begun(mysql_server(directory / "mysql", issued, authority.file))
        sockets = await stack.enter_async_context(serve(talk, "127.0.0.1", 0))
        socket = next(iter(sockets.sockets)).getsockname()[1]
        yield (
            Case("redis", "redis", await spoilt(redis.port), {"password": CANARY, "round_trip": True}),
            Case("nats", "nats", await spoilt(nats.port), {**login, "round_trip": True}),
            Case("postgres", "postgres", await spoilt(postgres.port), login),
            Case("mysql", "mysql", await spoilt(mysql.port), login),
            Case(
                "websocket",
                "websocket",
                f"ws://{await spoilt(socket)}/",
                {"dialogue": [{"send": "hello", "expect": "hello"}]},
            ),
        )
