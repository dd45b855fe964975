"""What the kinds for databases, caches and brokers have in common in tests: how the way to a server can go wrong."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from stormwatch.probes.probe import Kind
from stormwatch.probes.procfs import ENDED, STATE, STOPPED, status_of
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import web
from tests.servers.nameserver import naming, zone
from tests.servers.probing import open_files, run, settle
from tests.servers.process import free_port

CANARY = "canary-7f3a9c-secret"
"""The password of every server. It must not be seen in anything that a run leaves."""


def is_silent_about_secrets(result: Result) -> bool:
    """Whether nothing that is kept of a run has the password in it."""
    kept = json.dumps([result.message, result.evidence, [attempt.message for attempt in result.attempts]])
    return CANARY not in kept and CANARY not in repr(result)


def ending(result: Result) -> tuple[Outcome, Reason, str]:
    """How a run ended, and where."""
    return result.outcome, result.reason, result.failed_phase


async def check_the_way(kind: Kind[Any], options: Mapping[str, Any], *, phase: str, protocol: str = "") -> None:
    """Every way in which a run can go wrong before an answer comes, each with its reason, nothing left open after it.

    `phase` is the one that waits for the server's first word, `protocol` the one that meets garbage if that is another.
    """
    options = {"password": CANARY, **options}
    down, short = Outcome.DOWN, 0.3
    before, tasks = open_files(), len(asyncio.all_tasks())
    ends: dict[str, Result] = {}

    ends["closed port"] = await run(kind, f"127.0.0.1:{free_port()}", options)
    assert ending(ends["closed port"]) == (down, Reason.REFUSED, "connect"), ends["closed port"].message
    assert ends["closed port"].message.endswith("Connection refused")

    # A link-local address without its link: the kernel refuses it without a packet.
    ends["no way"] = await run(kind, "[fe80::1]:9", options)
    assert ending(ends["no way"]) == (down, Reason.UNREACHABLE, "connect"), ends["no way"].message

    async with naming(zone({})) as names:
        ends["no name"] = await run(kind, "db.test", {**options, "resolver": names.address})
    assert ending(ends["no name"]) == (down, Reason.DNS, "resolve"), ends["no name"].message

    records = {("db.test.", "A"): ["127.0.0.2", "127.0.0.1"]}
    async with naming(zone(records)) as names, web.serving(web.silent, before_request=True) as server:
        ends["second address"] = await run(
            kind, f"db.test:{server.port}", {**options, "resolver": names.address}, timeout=short
        )
    assert ending(ends["second address"]) == (down, Reason.TIMEOUT, phase), ends["second address"].message
    assert ends["second address"].evidence["remote"] == f"127.0.0.1:{server.port}"

    ends["policy"] = await run(kind, f"127.0.0.1:{free_port()}", options, reach=Reach(refuse=OWN_HOST))
    assert ending(ends["policy"])[:2] == (Outcome.BROKEN, Reason.POLICY), ends["policy"].message

    behaviours: list[tuple[web.Behaviour, Reason, str]] = [
        (web.silent, Reason.TIMEOUT, phase),
        (_drip_nothing, Reason.TIMEOUT, phase),
        (web.close, Reason.RESET, phase),
        (web.reset, Reason.RESET, phase),
        (_garble, Reason.PROTOCOL, protocol or phase),
        (_flood, Reason.PROTOCOL, protocol or phase),
    ]
    for behaviour, reason, where in behaviours:
        async with web.serving(behaviour, before_request=True) as server:
            result = ends[behaviour.__name__] = await run(kind, f"127.0.0.1:{server.port}", options, timeout=short)
        assert ending(result) == (down, reason, where), f"{behaviour.__name__}: {result}"
        assert result.seconds < short + 0.5, behaviour.__name__

    async with web.serving(web.silent, before_request=True) as server:
        task = asyncio.create_task(run(kind, f"127.0.0.1:{server.port}", options, timeout=30))
        while not server.connections:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    assert all(is_silent_about_secrets(result) for result in ends.values())
    assert await settle(before) <= before
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= tasks, asyncio.all_tasks()


async def _drip_nothing(exchange: web.Exchange) -> None:
    """A byte now and then, of which no message ever comes."""
    with contextlib.suppress(ConnectionError):
        while True:
            exchange.writer.write(b"\x00" if exchange.reader.at_eof() else b"")
            await exchange.writer.drain()
            await asyncio.sleep(0.02)


async def _garble(exchange: web.Exchange) -> None:
    """Words of the web, whatever was asked."""
    exchange.writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" * 4)
    await exchange.writer.drain()
    await exchange.reader.read()


async def _flood(exchange: web.Exchange) -> None:
    """Without end, as fast as it is read."""
    while True:
        exchange.writer.write(b"x" * 65536)
        await exchange.writer.drain()


@contextlib.contextmanager
def paused(pid: int) -> Generator[None]:
    """A process that is there and does nothing: its listening sockets go on accepting, nobody answers."""
    os.kill(pid, signal.SIGSTOP)
    try:
        # Each thread stops for itself, and one of them may have an answer on its way. A thread may also end meanwhile.
        while not {*STOPPED, *ENDED}.issuperset(_states(pid)):
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> set[str]:
    """Those of its threads, which /proc knows by their numbers, too."""
    threads = (int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    return {status[STATE] for thread in threads if (status := status_of(thread))}
