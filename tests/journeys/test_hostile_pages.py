"""Pages and deaths that a run has to survive: each ends by its deadline with the right outcome, and the next run is clean."""

import asyncio
import contextlib
import json
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
COMPLAINTS = 3000
PAGES = {
    "/": "",
    "/loop": "<script>while (true);</script>",
    "/dialogs": "<button onclick=\"alert(1); this.textContent = confirm('?') + ' ' + prompt('?')\">ask</button>",
    "/popups": "<button onclick=\"for (let i = 0; i < 3; i++) window.open('/loads-for-ever')\">open</button>",
    "/file": "<a href=/download>get</a>",
    "/loads-for-ever": "<img src=/never>",
    "/alerts": "<script>for (;;) alert(1)</script>",
    "/windows": "<script>for (;;) window.open('/')</script>",
    "/pushes": "<script>let i = 0; setInterval(() => history.pushState({}, '', '/pushes?' + i++), 0)</script>",
    "/prints": "<button onclick=\"print(); this.textContent = 'printed'\">print</button>",
    "/streams": "<script>new EventSource('/stream')</script>",
    "/scolds": f"<script>for (let i = 0; i < {COMPLAINTS}; i++) console.error('no ' + i + 'x'.repeat(1000))</script>",
    "/liar": "<p>Target crashed</p>",
    "/hoards": "<button onclick='const all = []; for (;;) all.push(new Array(1e5).fill(Math.random()))'>take</button>",
    "/book": "<p></p><script>document.querySelector('p').textContent = 'y'.repeat(5e5)</script>",
    "/leaves": "<script>addEventListener('beforeunload', (e) => { e.preventDefault(); e.returnValue = 'stay' })</script>",
}


BUFFERED = 16
"""Mebibytes that may lie between a server and a browser that reads nothing. Of paragraphs of a mebibyte Chromium reads some 55, and
then no more: it lays them out, one word each. (A gigabyte of comments it loads, and the journey goes on.)
"""


async def endless(exchange: web.Exchange) -> None:
    """A download that never ends, of 200 MiB a second at most."""
    exchange.writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment\r\n\r\n"
    )
    while True:
        exchange.writer.write(MEBIBYTE)
        await exchange.writer.drain()
        await asyncio.sleep(0.005)


async def hostile(exchange: web.Exchange, sent: list[bytes]) -> None:
    """What a site can do to a browser. `sent` grows by what it took of an endless page."""
    if exchange.path == "/never":
        await asyncio.sleep(3600)
    elif exchange.path == "/stream":
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            exchange.writer.write(b"data: more\n\n")
            await exchange.writer.drain()
            await asyncio.sleep(0.05)
    elif exchange.path == "/endless":
        await endless(exchange)
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
    "/pushes": (Outcome.UP, Reason.NONE, ""),
    "/prints": (Outcome.UP, Reason.NONE, ""),
    "/streams": (Outcome.UP, Reason.NONE, ""),
    "/scolds": (Outcome.UP, Reason.NONE, ""),
    "/book": (Outcome.DOWN, Reason.STEP, "y… (499004 characters more)"),
    "/liar": (Outcome.DOWN, Reason.STEP, "saw Target crashed"),
    "/alerts": (Outcome.DOWN, Reason.TIMEOUT, ""),
    "/windows": (Outcome.DOWN, Reason.TIMEOUT, ""),
    "/gigabyte": (Outcome.DOWN, Reason.TIMEOUT, ""),
    "/loop": (Outcome.DOWN, Reason.TIMEOUT, ""),
}


@pytest.mark.timeout(600)
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
                    if path == "/prints":
                        expect(page.get_by_role("button")).to_have_text("printed")
                    if path == "/streams":
                        page.wait_for_load_state("networkidle")
                    if path in ("/book", "/liar"):
                        expect(page.locator("p")).to_have_text("short", timeout=100)
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
            allowed = {"/loop": 6.0, "/gigabyte": 6.0, "/alerts": 4.0, "/windows": 4.0}.get(path, 60.0)
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
            assert report.step == ("" if outcome is Outcome.UP else "use" if path in {"/book", "/liar"} else "open"), (
                path
            )
            assert len(json.dumps(report.as_json())) < 50_000, path
            if path == "/scolds":
                assert (report.console_error_count, len(report.console_errors)) == (COMPLAINTS, 20)
            assert took < allowed + 10, path
            after = await pool.run(calm, seconds=60)
            assert (after.outcome, after.sentence) == (Outcome.UP, ""), path
    assert len(sent) > BUFFERED, "the browser was loading the page of a gigabyte, and not waiting for it"
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


def processes(sign: str) -> list[int]:
    """The processes of this test's workers whose command line holds `sign`."""
    lines: dict[int, bytes] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                lines[int(entry.name)] = (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])

    def is_ours(pid: int) -> bool:
        # Not all of them name the directory, and Chromium writes over the environment of some. Their worker names it.
        return pid in parents and (os.environ["TMPDIR"].encode() in lines[pid] or is_ours(parents[pid]))

    return [pid for pid in lines if sign.encode() in lines[pid] and is_ours(pid)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "killing",
    [
        ("playwright/driver", {Reason.BROWSER, Reason.INTERNAL}),
        ("--type=renderer", {Reason.BROWSER}),
        ("network.mojom.NetworkService", {Reason.BROWSER}),
        ("stormwatch.journeys.worker", {Reason.INTERNAL}),
    ],
    ids=["driver", "renderer", "network", "worker"],
)
async def test_whoever_is_killed_in_the_middle_of_a_run_it_is_broken_and_the_next_run_is_clean(
    pool: WorkerPool, write: Write, tmp_path: Path, killing: tuple[str, set[Reason]], nothing_left: Callable[[], None]
) -> None:
    victim, reasons = killing
    async with web.serving(partial(hostile, sent=[])) as server:
        file = write(f"""
            def test_it(page: Page, step):
                page.goto("{server.url}")
                with step("wait"):
                    if os.path.exists({str(tmp_path / "wait")!r}):
                        page.evaluate("fetch('/never')")
        """)
        journey = Journey(file=file, test="test_it")
        (tmp_path / "wait").touch()
        # Who dies is noticed at once, and not by the deadline: that would be no failure of ours.
        running = asyncio.create_task(pool.run(journey, seconds=60))
        while not any(exchange.path == "/never" for exchange in server.exchanges):
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


@pytest.mark.timeout(150)
async def test_a_driver_and_a_worker_that_hang_are_noticed_by_the_deadline_and_the_next_run_is_clean(
    pool: WorkerPool, write: Write, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    """Nobody hears of them as of one that dies; they answer no goodbye and hear no SIGTERM. The target has no part in it."""
    # A worker that is alive ends its driver when its owner hangs up, beside the owner: then nobody could tell whose SIGKILL it was.
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
    running = asyncio.create_task(pool.run(journey, seconds=4))
    while not (tmp_path / "ready").exists():
        if running.done():
            # On a machine that is so busy it did not come to its step. Those after it have a new worker first.
            running = asyncio.create_task(pool.run(journey, seconds=30))
        await asyncio.sleep(0.02)
    for sign in ("playwright/driver", "stormwatch.journeys.worker"):
        frozen = await asyncio.to_thread(processes, sign)
        assert frozen, sign
        for each in frozen:
            os.kill(each, signal.SIGSTOP)
    report = await running
    assert (report.outcome, report.reason, report.step) == (Outcome.BROKEN, Reason.INTERNAL, "wait")
    assert "somebody had stopped 2 of the run's own processes (SIGSTOP)" in report.sentence
    (tmp_path / "wait").unlink()
    after = await pool.run(journey, seconds=60)
    assert (after.outcome, after.sentence) == (Outcome.UP, "")
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


SMALL_PAGES = """
    @pytest.fixture(scope="session")
    def browser_type_launch_args(browser_type_launch_args):
        small = "--js-flags=--max-old-space-size=64"
        return {**browser_type_launch_args, "args": [*browser_type_launch_args.get("args", ()), small]}
"""
"""A conftest.py with which a page may have 64 MiB for its scripts, so that the machine need not give it gigabytes."""


@pytest.mark.timeout(300)
async def test_a_page_that_takes_more_memory_than_it_may_is_down_as_soon_as_it_crashes(
    pool: WorkerPool, write: Write, nothing_left: Callable[[], None]
) -> None:
    write(SMALL_PAGES, "conftest.py")
    async with web.serving(partial(hostile, sent=[])) as server:
        file = write(f"""
            def test_it(page: Page, step):
                page.goto("{server.url}hoards")
                with step("order"):
                    page.get_by_role("button").click()
                    page.wait_for_timeout(200_000)

            def test_calm(page: Page):
                page.goto("{server.url}")
                expect(page.get_by_role("heading")).to_have_text("Here")
        """)
        began = time.monotonic()
        report = await pool.run(Journey(file=file, test="test_it"), seconds=240)
        assert time.monotonic() - began < 120, "its deadline was not waited for"
        assert (report.outcome, report.reason, report.step) == (Outcome.DOWN, Reason.STEP, "order")
        assert report.sentence.startswith("the page crashed: its process ended itself (SIG")
        assert "more memory than a page may have" in report.sentence
        assert (await pool.run(Journey(file=file, test="test_calm"), seconds=60)).outcome is Outcome.UP
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


@pytest.mark.timeout(300)
async def test_a_download_without_end_is_ended_before_the_disk_is_full(
    scratch: Path, write: Write, nothing_left: Callable[[], None]
) -> None:
    program("chromium")
    pool = WorkerPool(disk=64 * 2**20)
    async with web.serving(partial(hostile, sent=[])) as server:
        file = write(f"""
            def test_it(page: Page, step):
                with step("download"):
                    with page.expect_download() as download, pytest.raises(Exception):
                        page.goto("{server.url}endless")
                    download.value.path()
        """)
        report = await pool.run(Journey(file=file, test="test_it"), seconds=240)
        assert (report.outcome, report.reason, report.step) == (Outcome.BROKEN, Reason.RESOURCES, "download")
        assert report.sentence.startswith("the run was ended: its browser had written ")
        assert report.sentence.endswith(", and may write 64: a download without end?")
    await pool.aclose()
    await asyncio.to_thread(nothing_left)
    assert list(scratch.iterdir()) == []


@pytest.mark.timeout(300)
async def test_when_memory_gets_short_the_run_that_grew_is_ended_and_the_others_go_on(
    scratch: Path, write: Write, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    program("chromium")
    short = tmp_path / "short"
    pool = WorkerPool(available=lambda: 2**27 if short.exists() else 2**33, memory=2**29, grown=600 * 2**20)
    async with web.serving(partial(hostile, sent=[])) as server:
        file = write(f"""
            from pathlib import Path

            def test_greedy(page: Page, step):
                page.goto("{server.url}")
                page.evaluate("() => {{ window.kept = []; for (let i = 0; i < 24; i++) kept.push(new Uint8Array(2 ** 25).fill(1)) }}")
                Path({str(short)!r}).touch()
                with step("wait"):
                    page.wait_for_timeout(200_000)

            def test_modest(step):
                while not os.path.exists({str(tmp_path / "over")!r}):
                    time.sleep(0.01)
        """)
        modest = asyncio.create_task(pool.run(Journey(file=file, test="test_modest"), seconds=240))
        greedy = await pool.run(Journey(file=file, test="test_greedy"), seconds=240)
        assert (greedy.outcome, greedy.reason, greedy.step) == (Outcome.BROKEN, Reason.RESOURCES, "wait")
        assert "GiB of memory, and 128 MiB were left: " in greedy.sentence
        (tmp_path / "over").touch()
        assert (await modest).outcome is Outcome.UP
    await pool.aclose()
    await asyncio.to_thread(nothing_left)


@pytest.mark.timeout(120)
async def test_a_worker_whose_event_is_longer_than_it_may_be_is_broken_at_once(scratch: Path, write: Write) -> None:
    """What comes after a line that nobody can read has no beginning."""
    pool = WorkerPool()
    file = write("""
        def test_it(step):
            with step("x" * 5_000_000):
                time.sleep(200)
    """)
    report = await pool.run(Journey(file=file, test="test_it"), seconds=100)
    assert (report.outcome, report.reason) == (Outcome.BROKEN, Reason.INTERNAL)
    assert report.sentence.endswith("it wrote a line of more than 4 MiB")
    await pool.aclose()


@pytest.mark.timeout(120)
async def test_what_failed_is_known_before_pytest_has_made_a_text_of_it(scratch: Path, write: Write) -> None:
    """It parses every file that the exception came through; on a busy machine the deadline is earlier."""
    pool = WorkerPool()
    write(
        """
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_makereport(item, call):
            if call.excinfo is not None:
                time.sleep(100)
        """,
        "conftest.py",
    )
    file = write("""
        def test_calm(): pass
        def test_it(step):
            with step("pay"):
                assert 1 == 2, "the sum is wrong"
    """)
    assert (await pool.run(Journey(file=file, test="test_calm"), seconds=60)).outcome is Outcome.UP
    report = await pool.run(Journey(file=file, test="test_it"), seconds=3)
    assert (report.outcome, report.reason, report.step) == (Outcome.DOWN, Reason.ASSERTION, "pay")
    assert report.sentence.startswith("the sum is wrong")
    await pool.aclose()
