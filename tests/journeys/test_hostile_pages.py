"""Pages and deaths that a run has to survive: each ends by its deadline with the right outcome, and the next run is clean."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path

import pytest

from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome, Reason
from tests.program import program
from tests.servers import web

Write = Callable[..., Path]

HTML = "<!doctype html><link rel=icon href=data:,><title>It</title><h1>Here</h1>"
MEBIBYTE = b"<p>" + b"a" * (2**20 - 3)
PAGES = {
    "/": "",
    "/loop": "<script>while (true);</script>",
    "/dialogs": "<button onclick=\"alert(1); this.textContent = confirm('?') + ' ' + prompt('?')\">ask</button>",
    "/popups": "<button onclick=\"for (let i = 0; i < 3; i++) window.open('/loads-for-ever')\">open</button>",
    "/file": "<a href=/download>get</a>",
    "/loads-for-ever": "<img src=/never>",
    "/leaves": "<script>addEventListener('beforeunload', (e) => { e.preventDefault(); e.returnValue = 'stay' })</script>",
}


BUFFERED = 16
"""Mebibytes that may lie between a server and a browser that reads nothing. Of paragraphs of a mebibyte Chromium reads some 55, and
then no more: it lays them out, one word each. (A gigabyte of comments it loads, and the journey goes on.)
"""


async def hostile(exchange: web.Exchange, sent: list[bytes]) -> None:
    """What a site can do to a browser. `sent` grows by what it took of an endless page."""
    if exchange.path == "/never":
        await asyncio.sleep(3600)
    elif exchange.path == "/redirect":
        await web.answer(b"", status=302, headers={"Location": "/redirect"})(exchange)
    elif exchange.path == "/download":
        disposition = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": "attachment; filename=big.bin",
        }
        await web.answer(MEBIBYTE, headers=disposition)(exchange)
    elif exchange.path == "/gigabyte":
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            exchange.writer.write(MEBIBYTE)
            await exchange.writer.drain()
            sent.append(MEBIBYTE)
    else:
        await web.answer((HTML + PAGES[exchange.path]).encode(), headers={"Content-Type": "text/html"})(exchange)


@pytest.fixture
async def pool(scratch: Path, tmp_path: Path) -> AsyncGenerator[WorkerPool]:
    program("chromium")
    pool = WorkerPool(artifacts=tmp_path / "artifacts")
    yield pool
    await pool.aclose()
    assert list(scratch.iterdir()) == [], "a worker's directory goes with the worker, downloads and all"


CASES = {
    "/loads-for-ever": (Outcome.DOWN, Reason.TIMEOUT, "/loads-for-ever was not loaded within "),
    "/redirect": (Outcome.DOWN, Reason.STEP, "/redirect: it redirects without end"),
    "/download": (Outcome.DOWN, Reason.STEP, "Download is starting"),
    "/dialogs": (Outcome.UP, Reason.NONE, ""),
    "/file": (Outcome.UP, Reason.NONE, ""),
    "/popups": (Outcome.UP, Reason.NONE, ""),
    "/leaves": (Outcome.UP, Reason.NONE, ""),
    "/gigabyte": (Outcome.DOWN, Reason.TIMEOUT, ""),
    "/loop": (Outcome.DOWN, Reason.TIMEOUT, ""),
}


@pytest.mark.timeout(400)
async def test_whatever_a_page_does_the_run_ends_in_time_and_the_next_one_is_clean(
    pool: WorkerPool, write: Write, nothing_left: Callable[[], None]
) -> None:
    sent: list[bytes] = []
    async with web.serving(partial(hostile, sent=sent)) as server:
        file = write(f"""
            @pytest.mark.parametrize("path", {sorted(CASES)!r})
            def test_it(page: Page, step, path):
                with step("open"):
                    page.goto("{server.url}" + path[1:], timeout=1000 if path == "/loads-for-ever" else None)
                with step("use"):
                    for button in page.get_by_role("button").all():
                        button.click()
                    if path == "/dialogs":
                        expect(page.get_by_role("button")).to_have_text("false null")
                    if path == "/popups":
                        expect(page.get_by_role("heading")).to_have_text("Here")
                    if path == "/file":
                        with page.expect_download() as download:
                            page.get_by_role("link").click()
                        assert download.value.suggested_filename == "big.bin"
                    if path == "/leaves":
                        page.goto("{server.url}")

            def test_calm(browser, page: Page):
                assert len(browser.contexts) == 1 and len(page.context.pages) == 1
                page.goto("{server.url}")
                expect(page.get_by_role("heading")).to_have_text("Here")
        """)
        calm = Journey(file=file, test="test_calm")
        assert (await pool.run(calm, seconds=60)).outcome is Outcome.UP
        for path, (outcome, reason, said) in CASES.items():
            # What can be done shall have time. What cannot ends by the deadline.
            allowed = 6.0 if path in {"/loop", "/gigabyte"} else 60.0
            began = time.monotonic()
            report = await pool.run(Journey(file=file, test=f"test_it[{path}]"), seconds=allowed, folder=path[1:])
            took = time.monotonic() - began
            assert (report.outcome, report.reason) == (outcome, reason), (path, report.sentence)
            assert said in report.sentence, path
            if allowed < 60:
                # The last: on a machine so busy that the failure came, and its sentence was not made in time.
                known = (
                    f"{path} was not loaded within ",
                    "was not over within",
                    "failed so late that the run was over",
                )
                assert any(each in report.sentence for each in known), report.sentence
            assert report.step == ("" if outcome is Outcome.UP else "open"), path
            assert took < allowed + 10, path
            after = await pool.run(calm, seconds=60)
            assert (after.outcome, after.sentence) == (Outcome.UP, ""), path
    assert len(sent) > BUFFERED, "the browser was loading the page of a gigabyte, and not waiting for it"
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


def processes(sign: str) -> list[int]:
    """The processes of this test's workers whose command line holds `sign`."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
                if sign.encode() in line.partition(b"\0\0")[0] and os.environ["TMPDIR"].encode() in line:
                    found.append(int(entry.name))
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "killing",
    [
        ("playwright/driver", {Reason.BROWSER, Reason.INTERNAL}),
        ("--type=renderer", {Reason.BROWSER}),
        ("stormwatch.journeys.worker", {Reason.INTERNAL}),
    ],
    ids=["driver", "renderer", "worker"],
)
async def test_whoever_is_killed_in_the_middle_of_a_run_it_is_broken_and_the_next_run_is_clean(
    pool: WorkerPool, write: Write, tmp_path: Path, killing: tuple[str, set[Reason]], nothing_left: Callable[[], None]
) -> None:
    victim, reasons = killing
    async with web.serving(partial(hostile, sent=[])) as server:
        file = write(f"""
            def test_it(page: Page, step):
                page.goto("{server.url}")
                open({str(tmp_path / "ready")!r}, "w").close()
                with step("wait"):
                    while os.path.exists({str(tmp_path / "wait")!r}):
                        page.evaluate("1")
        """)
        journey = Journey(file=file, test="test_it")
        (tmp_path / "wait").touch()
        # Who dies is noticed at once, and not by the deadline: that would be no failure of ours.
        running = asyncio.create_task(pool.run(journey, seconds=60))
        while not (tmp_path / "ready").exists():
            assert not running.done(), running
            await asyncio.sleep(0.02)
        killed = await asyncio.to_thread(processes, victim)
        assert killed, victim
        for each in killed:
            os.kill(each, signal.SIGKILL)
        report = await running
        assert (report.outcome, report.reason in reasons) == (Outcome.BROKEN, True), (report.reason, report.sentence)
        (tmp_path / "wait").unlink()
        after = await pool.run(journey, seconds=60)
        assert (after.outcome, after.sentence) == (Outcome.UP, "")
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


@pytest.mark.timeout(300)
async def test_a_driver_that_hangs_is_noticed_by_the_deadline_and_the_next_run_is_clean(
    pool: WorkerPool, write: Write, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    """Nobody hears of it as of one that dies, and it answers no goodbye."""
    file = write(f"""
        def test_it(page: Page, step):
            with step("wait"):
                open({str(tmp_path / "ready")!r}, "w").close()
                while os.path.exists({str(tmp_path / "wait")!r}):
                    page.evaluate("1")
    """)
    journey = Journey(file=file, test="test_it")
    assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
    (tmp_path / "ready").unlink()
    (tmp_path / "wait").touch()
    running = asyncio.create_task(pool.run(journey, seconds=6))
    while not (tmp_path / "ready").exists():
        if running.done():
            # On a machine that is so busy it did not come to its step. Those after it have a new worker first.
            running = asyncio.create_task(pool.run(journey, seconds=30))
        await asyncio.sleep(0.02)
    frozen = await asyncio.to_thread(processes, "playwright/driver")
    assert frozen
    for each in frozen:
        os.kill(each, signal.SIGSTOP)
    report = await running
    assert (report.outcome, report.reason, report.step) == (Outcome.DOWN, Reason.TIMEOUT, "wait")
    assert 'step "wait" was not over within the ' in report.sentence
    (tmp_path / "wait").unlink()
    after = await pool.run(journey, seconds=60)
    assert (after.outcome, after.sentence) == (Outcome.UP, "")
    await pool.aclose()
    await asyncio.to_thread(nothing_left)
