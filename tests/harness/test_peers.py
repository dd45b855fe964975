"""What is taken from other locations, and what is not: whoever answers as somebody else, or nonsense, gives no results."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

import pytest

from stormwatch.harness.peers import AHEAD, follow
from stormwatch.harness.peers_section import Peer
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.result import Result
from tests.servers.process import free_port
from tests.slo.story import result


def _answer(location: str = "nyc1", ahead: float = 0.0) -> bytes:
    seen = [
        result("-", time.time() + ahead, location=location),
        result("+", time.time(), name="api", location=location),
    ]
    probes: list[dict[str, Any]] = [{"name": each.probe, "last": each.as_json()} for each in seen]
    return json.dumps({"probes": [*probes, {"name": "new", "last": None}]}).encode()


async def _heard(body: bytes, *, status: int = 200) -> list[list[str]]:
    """What is heard of a peer that answers with this body, before it is asked for the third time."""
    heard: list[list[str]] = []
    asked = 0
    enough = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        if asked == 3:
            enough.set()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    def hear(location: str, results: Iterable[Result], _now: float) -> None:
        assert location == "nyc1"
        heard.append([each.probe for each in results])

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        peers = [Peer(location="nyc1", url=f"http://127.0.0.1:{port}")]
        task = asyncio.create_task(follow(peers, {"front"}, hear, clock=SystemClock()))
        async with asyncio.timeout(20):
            await enough.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return heard


async def test_the_last_results_of_the_probes_that_are_asked_for_are_heard() -> None:
    """Again and again; other probes are left out, and so is one that has not run yet."""
    heard = await _heard(_answer())

    assert len(heard) >= 2
    assert all(each == ["front"] for each in heard)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param(_answer("sin1"), 200, "it says that it is in 'sin1'", id="another location"),
        pytest.param(_answer(ahead=AHEAD + 3600), 200, "ahead of ours", id="a clock that is ahead"),
        pytest.param(_answer(), 503, "503", id="an error"),
        pytest.param(b"<html>", 200, "JSONDecodeError", id="no JSON"),
        pytest.param(b"[]", 200, "TypeError", id="another document"),
        pytest.param(b'{"probes": [{"name": "front", "last": {"probe": 1}}]}', 200, "KeyError", id="no result"),
    ],
)
async def test_nonsense_is_no_answer(body: bytes, status: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and not heard: so it becomes PeerSilent."""
    with caplog.at_level(logging.WARNING):
        heard = await _heard(body, status=status)

    assert heard == []
    told = [record.getMessage() for record in caplog.records if "gives no results" in record.getMessage()]
    assert len(told) == 1
    assert said in told[0]
    assert "the peer in nyc1" in told[0]
