"""A dead man's switch is told that we are well, as long as we are; against a real server."""

import asyncio
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest

from stormwatch.exporters.dead_man import DeadMan, Switch
from stormwatch.exporters.exposition import Family

SECRET = "uuid-that-is-a-secret"


class SwitchServer:
    """Keeps the path and the body of each request, and answers with what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                outer.requests.append((self.path, body))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{SECRET}"


@pytest.fixture
def switch() -> Generator[SwitchServer]:
    """Until the test ends."""
    server = SwitchServer()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join(5)


class Told:
    """A dead man that runs while the block does, with a trouble that the test sets."""

    def __init__(self, url: str, *, every: float = 0.05, fail: bool = False) -> None:
        self.trouble = ""
        self.dead_man = DeadMan(
            Switch(url=url, every=every, fail_url=f"{url}/fail" if fail else ""), lambda: self.trouble
        )

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.dead_man.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.dead_man.aclose()

    def value(self, name: str) -> float:
        """A metric."""
        family: Family = next(each for each in self.dead_man.families() if each.name == name)
        return next(iter(family.samples)).value


async def count(switch: SwitchServer, least: int) -> None:
    """Wait until so many requests came."""
    async with asyncio.timeout(60):
        while len(switch.requests) < least:
            await asyncio.sleep(0.01)


async def test_the_switch_is_told_at_once_and_again(switch: SwitchServer) -> None:
    """With nothing in the body."""
    async with Told(switch.url) as told, asyncio.timeout(60):
        while told.value("stormwatch_watchdog_pings_total") < 3:
            await asyncio.sleep(0.01)
    assert set(switch.requests) == {(f"/{SECRET}", "")}
    assert told.value("stormwatch_well") == 1


async def test_it_is_not_told_while_we_are_not_well(switch: SwitchServer, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, once; when we are well again it goes on."""
    async with Told(switch.url) as told:
        await count(switch, 1)
        told.trouble = "the history cannot be written: disk full"
        while told.value("stormwatch_well"):
            await asyncio.sleep(0.01)
        before = len(switch.requests)
        await asyncio.sleep(0.3)  # six intervals, in which nothing may come
        assert len(switch.requests) == before
        told.trouble = ""
        await count(switch, before + 2)
    assert [record.message for record in caplog.records if "disk full" in record.message] == [
        "not well, so the dead man's switch is not told any more that we are: the history cannot be written: disk full",
        "well again after: the history cannot be written: disk full; the dead man's switch is told so",
    ]


async def test_the_reason_is_told_once_where_somebody_wants_it(switch: SwitchServer) -> None:
    """Again only when it is another one."""
    async with Told(switch.url, fail=True) as told:
        await count(switch, 1)
        told.trouble = "the schedule stands still"
        async with asyncio.timeout(60):
            while (f"/{SECRET}/fail", "the schedule stands still") not in switch.requests:
                await asyncio.sleep(0.01)
        before = len(switch.requests)
        await asyncio.sleep(0.3)
        assert len(switch.requests) == before
        told.trouble = "the disk is full"
        await count(switch, before + 1)
    assert switch.requests[-1] == (f"/{SECRET}/fail", "the disk is full")


@pytest.mark.parametrize("status", [404, 500, 302])
async def test_a_switch_that_does_not_take_it_is_asked_again_and_its_address_is_in_no_log(
    status: int, switch: SwitchServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A redirect is not followed: the address that was configured is the one that counts."""
    switch.status = status
    async with Told(switch.url, every=0.05) as told:
        await count(switch, 3)
        assert told.value("stormwatch_watchdog_pings_failed_total") >= 2
        assert told.value("stormwatch_well") == 1
        switch.status = 200
        while not told.value("stormwatch_watchdog_pings_total"):
            await asyncio.sleep(0.01)
    assert {path for path, _ in switch.requests} == {f"/{SECRET}"}
    assert [record.message for record in caplog.records] == [
        f"the dead man's switch was not told: status {status}; tried again",
        f"the dead man's switch answers again after status {status}",
    ]


async def test_a_switch_that_is_not_there_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again."""
    async with Told("http://127.0.0.1:9/hidden") as told:
        while told.value("stormwatch_watchdog_pings_failed_total") < 2:
            await asyncio.sleep(0.01)
    assert [record.message for record in caplog.records] == [
        "the dead man's switch was not told: ConnectError; tried again"
    ]
