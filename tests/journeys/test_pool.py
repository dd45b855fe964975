"""The pool and its warm workers: real processes, real Chromium where a page is needed, and nothing left afterwards."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.journeys.report import SoftFailure
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.result import Outcome, Reason
from tests.program import program
from tests.servers.shop import Shop

Write = Callable[..., Path]

DAEMON = (
    "__import__('subprocess').Popen(['sh', '-c', 'while :; do sleep 1; done', 'daemon-of' + os.environ['TMPDIR']], "
    "start_new_session=True)"
)
"""A process that a journey leaves behind, in a session of its own, that minds no closed pipe."""


@pytest.fixture
async def pool(scratch: Path, tmp_path: Path) -> AsyncGenerator[WorkerPool]:
    program("chromium")
    pool = WorkerPool(artifacts=tmp_path / "artifacts")
    yield pool
    await pool.aclose()
    assert list(scratch.iterdir()) == [], "a worker's directory goes with the worker"


async def process_of(test: Path, sign: str) -> int:
    """The number of the process whose command line holds `sign` and the directory of this test's processes."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    line = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if sign in line and str(test) in line and "--type=" not in line:
                    return int(entry.name)
        await asyncio.sleep(0.05)
    raise AssertionError(f"no process with {sign} and {test}")


async def test_a_warm_run_finds_neither_cookies_nor_storage_of_the_run_before_and_keeps_the_browser(
    pool: WorkerPool, write: Write, shop: Shop
) -> None:
    file = write(f"""
        started = []

        @pytest.fixture(scope="session")
        def once():
            started.append(os.getpid())
            return len(started)

        def test_it(page: Page, step, once):
            print('{{"event": "over"}}')
            os.write(1, b'{{"event": "over", "report": {{}}}}\\n')
            os.system("echo noise")
            with step("open"):
                page.goto("{shop.url}/")
            with step("look"):
                before = page.evaluate("[localStorage.length, document.cookie]")
                page.evaluate("localStorage.setItem('seen', 'yes'); document.cookie = 'seen=yes'")
            assert before == [0, ""] and once == 1
    """)
    reports = [await pool.run(Journey(file=file, test="test_it"), seconds=60) for _ in range(3)]
    assert [(report.outcome, report.sentence) for report in reports] == [(Outcome.UP, "")] * 3
    assert [[step.name for step in report.steps] for report in reports] == [["open", "look"]] * 3
    first, second = reports[0].steps
    assert 0 < first.seconds <= reports[0].seconds
    assert first.offset + first.seconds <= second.offset
    assert pool.workers == 1


async def test_a_failure_keeps_picture_and_trace_and_a_run_that_passes_keeps_nothing(
    pool: WorkerPool, write: Write, shop: Shop
) -> None:
    shop.faults.add("script-error")
    file = write(f"""
        def test_it(page: Page, step):
            page.goto("{shop.url}/")
            with step("outer"), step("greet"):
                expect(page.get_by_role("heading", name=os.environ["HEADING"])).to_be_visible(timeout=300)
    """)
    passing = Journey(file=file, test="test_it", environment={"HEADING": "Storm shop"})
    failing = Journey(file=file, test="test_it", environment={"HEADING": "Sunshine"})
    good, bad, always = await asyncio.gather(
        pool.run(passing, seconds=60, folder="good"),
        pool.run(failing, seconds=60, folder="bad"),
        pool.run(passing, seconds=60, folder="always", always=True),
    )
    assert (good.outcome, good.artifacts) == (Outcome.UP, ())
    assert not (pool.artifacts / "good").exists()
    assert (bad.outcome, bad.reason, bad.step) == (Outcome.DOWN, Reason.STEP, "outer / greet")
    assert bad.sentence == (
        'expected get_by_role("heading", name="Sunshine") to be visible within 0.3 s, there was no such element'
    )
    assert bad.where == f"{file}:8"
    assert bad.url == f"{shop.url}/"
    assert bad.console_errors == ("nothing is not defined",)
    assert "Call log" in bad.text
    assert bad.artifacts == always.artifacts == ("page.png", "trace.zip")
    assert (pool.artifacts / "bad" / "page.png").read_bytes().startswith(b"\x89PNG")
    assert (pool.artifacts / "bad" / "trace.zip").read_bytes().startswith(b"PK")


async def test_recordings_of_runs_that_passed_do_not_pile_up(
    pool: WorkerPool, write: Write, shop: Shop, scratch: Path
) -> None:
    journey = Journey(file=write(f"def test_it(page: Page):\n    page.goto('{shop.url}/')\n"), test="test_it")
    counts: list[int] = []
    for _ in range(4):
        assert (await pool.run(journey, seconds=60, folder="kept")).outcome is Outcome.UP
        counts.append(len([path for path in scratch.rglob("playwright-artifacts-*/**/*") if path.is_file()]))
    assert max(counts) <= 4, "at most those of one run, which is swept before the next"


@pytest.mark.slow
async def test_an_action_that_cannot_be_done_is_named_before_the_deadline_and_a_hang_is_cut_off_by_it(
    pool: WorkerPool, write: Write, left: Callable[[], list[str]], nothing_left: Callable[[], None]
) -> None:
    file = write("""
        def test_warm(page: Page):
            pass

        def test_wait(page: Page, step):
            with step("pay"):
                page.get_by_role("button", name="Pay").click()

        def test_hang(page: Page, step):
            with step("look"):
                pass
            with step("think"):
                while True:
                    pass
    """)
    assert (await pool.run(Journey(file=file, test="test_warm"), seconds=60)).outcome is Outcome.UP
    assert len(left()) >= 3, "worker, driver, browser"

    waited = await pool.run(Journey(file=file, test="test_wait"), seconds=12)
    assert (waited.outcome, waited.reason, waited.step) == (Outcome.DOWN, Reason.TIMEOUT, "pay")
    assert waited.sentence.startswith('click get_by_role("button", name="Pay") was not possible within ')
    assert waited.sentence.endswith(": there was no such element")

    began = time.monotonic()
    hung = await pool.run(Journey(file=file, test="test_hang"), seconds=4)
    # By the deadline; a goodbye, which is waited for during five seconds more, is not said to one that hangs.
    assert 4 <= time.monotonic() - began < 4 + 4.5
    assert (hung.outcome, hung.reason, hung.step) == (Outcome.DOWN, Reason.TIMEOUT, "think")
    assert hung.sentence == 'step "think" was not over within the 4 s of the journey'
    assert [(step.name, step.failed) for step in hung.steps] == [("look", False), ("think", True)]
    await asyncio.to_thread(nothing_left)


async def test_a_page_that_never_comes_is_named_and_photographed(pool: WorkerPool, write: Write, shop: Shop) -> None:
    shop.faults.add("slow-payment")
    file = write(f"""
        def test_it(page: Page, step):
            page.goto("{shop.url}/checkout")
            page.set_default_timeout(500)
            with step("pay"):
                page.get_by_label("Card number").fill("4242")
                page.get_by_role("button", name="Pay").click()
    """)
    report = await pool.run(Journey(file=file, test="test_it"), seconds=60, folder="slow")
    assert (report.outcome, report.reason, report.step) == (Outcome.DOWN, Reason.TIMEOUT, "pay")
    assert report.sentence == (
        'click get_by_role("button", name="Pay") was not possible within 0.5 s: the page that it leads to did not come'
    )
    assert report.artifacts == ("page.png", "trace.zip")


async def test_cancelling_a_run_leaves_no_process(
    pool: WorkerPool, write: Write, nothing_left: Callable[[], None]
) -> None:
    file = write(f"def test_it(step):\n    {DAEMON}\n    time.sleep(60)\n")
    running = asyncio.create_task(pool.run(Journey(file=file, test="test_it"), seconds=60))
    await process_of(Path(os.environ["TMPDIR"]), "daemon-of")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(nothing_left)


async def test_a_killed_worker_is_broken_and_the_next_run_is_clean(
    pool: WorkerPool, write: Write, tmp_path: Path
) -> None:
    file = write("""
        def test_it(step):
            with step("think"):
                while os.path.exists(os.environ["WAIT"]):
                    time.sleep(0.01)
    """)
    wait = tmp_path / "wait"
    journey = Journey(file=file, test="test_it", environment={"WAIT": str(wait)})
    assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
    wait.touch()
    running = asyncio.create_task(pool.run(journey, seconds=60))
    worker = await process_of(Path(os.environ["TMPDIR"]), "stormwatch.journeys.worker")
    await asyncio.sleep(0.3)
    os.kill(worker, signal.SIGKILL)
    report = await running
    assert (report.outcome, report.reason, report.step) == (Outcome.BROKEN, Reason.INTERNAL, "think")
    assert report.sentence.startswith('the journey worker died in step "think" (killed by SIGKILL)')
    wait.unlink()
    assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP


async def test_a_browser_that_died_during_a_run_is_broken_and_one_that_died_between_runs_is_replaced(
    pool: WorkerPool, write: Write, shop: Shop
) -> None:
    file = write(f"""
        def test_it(page: Page, step):
            with step("open"):
                page.goto("{shop.url}/")
            if os.environ["SUICIDE"] == "yes":
                with step("die"):
                    import contextlib, pathlib
                    for entry in pathlib.Path("/proc").iterdir():
                        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                            line = (entry / "cmdline").read_bytes().decode() if entry.name.isdecimal() else ""
                            if "--remote-debugging-pipe" in line and os.environ["TMPDIR"] in line and "--type=" not in line:
                                os.kill(int(entry.name), 9)
                    page.goto("{shop.url}/shop")
    """)
    calm = Journey(file=file, test="test_it", environment={"SUICIDE": "no"})
    wild = Journey(file=file, test="test_it", environment={"SUICIDE": "yes"})
    first, broken = await asyncio.gather(pool.run(calm, seconds=60), pool.run(wild, seconds=60))
    assert first.outcome is Outcome.UP
    assert (broken.outcome, broken.reason, broken.step, broken.sentence) == (
        Outcome.BROKEN,
        Reason.BROWSER,
        "die",
        "the browser died during the run",
    )
    os.kill(await process_of(Path(os.environ["TMPDIR"]), "--remote-debugging-pipe"), signal.SIGKILL)
    assert (await pool.run(calm, seconds=60)).outcome is Outcome.UP


async def test_a_browser_that_opens_no_page_is_broken_and_a_fixture_of_the_users_that_hangs_is_down(
    pool: WorkerPool, write: Write, tmp_path: Path
) -> None:
    """The target has no part in the one; what the other waits for may well be the target."""
    file = write(f"""
        @pytest.fixture
        def page(page):
            while os.path.exists({str(tmp_path / "hangs")!r}):
                time.sleep(0.01)
            return page

        def test_it(page):
            pass
    """)
    journey = Journey(file=file, test="test_it")
    assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
    os.kill(await process_of(Path(os.environ["TMPDIR"]), "--remote-debugging-pipe"), signal.SIGSTOP)
    report = await pool.run(journey, seconds=5)
    assert (report.outcome, report.reason, report.step) == (Outcome.BROKEN, Reason.BROWSER, "setup")
    assert report.sentence == "the browser had opened no page within 5 s: is the machine overloaded?"
    assert (await pool.run(journey, seconds=60)).outcome is Outcome.UP
    (tmp_path / "hangs").touch()
    report = await pool.run(journey, seconds=5)
    assert (report.outcome, report.reason, report.step) == (Outcome.DOWN, Reason.TIMEOUT, "setup")


async def test_a_changed_file_and_a_changed_import_are_picked_up(pool: WorkerPool, write: Write) -> None:
    write("def value():\n    return 'first'\n", "conftest.py")
    body = """
        from pathlib import Path

        @pytest.fixture
        def said(request):
            return request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py"))).value()

        def test_it(step, said):
            with step(said):
                pass
    """
    journey = Journey(file=write(body), test="test_it")
    names = [[step.name for step in (await pool.run(journey, seconds=60)).steps]]
    write("def value():\n    return 'the second'\n", "conftest.py")
    names.append([step.name for step in (await pool.run(journey, seconds=60)).steps])
    write(body.replace("step(said)", "step(said + ' and third')"))
    names.append([step.name for step in (await pool.run(journey, seconds=60)).steps])
    assert names == [["first"], ["the second"], ["the second and third"]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nowhere\n", "test_it.py:4: ModuleNotFoundError: No module named 'nowhere'"),
        ("def test_it(:\n    pass\n", "test_it.py:4: SyntaxError: invalid syntax"),
    ],
    ids=["import", "syntax"],
)
async def test_a_file_that_cannot_be_loaded_is_broken_with_file_and_line(
    pool: WorkerPool, write: Write, body: str, said: str
) -> None:
    file = write(body)
    with pytest.raises(ProbeBroken) as caught:
        await pool.run(Journey(file=file, test="test_it"), seconds=60)
    assert caught.value.reason is Reason.COLLECTION
    assert caught.value.message.removeprefix(f"{file.parent}/") == said


async def test_a_test_that_gives_no_verdict_is_broken_and_says_why(pool: WorkerPool, write: Write) -> None:
    file = write("""
        def test_needy(missing): pass
        def test_skipped(): pytest.skip("not today")
        @pytest.mark.parametrize("size", ["s", "m"])
        def test_many(size): pass
    """)
    said = {
        "test_neddy": "the file has no test test_neddy; did you mean test_needy?",
        "test_needy": "the test asks for a fixture that is not there: missing",
        "test_skipped": "the test ended without a verdict: Skipped: not today",
        "test_many": "test_many stands for 2 tests: name one of test_many[s], test_many[m]",
    }
    reports = {test: await pool.run(Journey(file=file, test=test), seconds=60) for test in said}
    assert {report.reason for report in reports.values()} == {Reason.COLLECTION}
    assert {test: report.sentence for test, report in reports.items()} == said
    assert (await pool.run(Journey(file=file, test="test_many[m]"), seconds=60)).outcome is Outcome.UP


async def test_without_a_browser_the_run_is_broken_and_names_the_remedy(pool: WorkerPool, write: Write) -> None:
    file = write("def test_it(page: Page): pass\n")
    journey = Journey(file=file, test="test_it", environment={"STORMWATCH_BROWSER": "/nowhere/chromium"})
    report = await pool.run(journey, seconds=60)
    assert (report.outcome, report.reason) == (Outcome.BROKEN, Reason.BROWSER)
    assert "/nowhere/chromium" in report.sentence
    assert "install Debian's `chromium-headless-shell` or `chromium`" in report.sentence


async def test_no_worker_starts_when_memory_is_short(scratch: Path, write: Write) -> None:
    pool = WorkerPool(memory=512 * 2**20, available=lambda: 100 * 2**20)
    with pytest.raises(ProbeBroken) as caught:
        await pool.run(Journey(file=write("def test_it(): pass\n"), test="test_it"), seconds=1)
    assert caught.value.reason is Reason.RESOURCES
    assert "needs 512 MiB of memory to start, and 100 MiB are available" in caught.value.message
    assert pool.workers == 0
    await pool.aclose()


async def test_a_worker_is_replaced_after_its_runs_and_the_longest_idle_one_makes_room(
    scratch: Path, write: Write
) -> None:
    file = write("def test_it(step):\n    with step(str(os.getpid())): pass\n")
    pool = WorkerPool(size=1, runs_per_worker=2)

    async def worker(**environment: str) -> str:
        report = await pool.run(Journey(file=file, test="test_it", environment=environment), seconds=60)
        return report.steps[0].name

    pids = [await worker() for _ in range(3)]
    assert pids[0] == pids[1] != pids[2]
    assert await worker(OTHER="yes") not in pids
    assert pool.workers == 1
    await pool.aclose()
    assert pool.workers == 0


async def test_when_all_places_are_taken_a_run_waits_and_says_so_when_it_waited_in_vain(
    scratch: Path, write: Write
) -> None:
    file = write("def test_it(step):\n    time.sleep(60)\n")
    pool = WorkerPool(size=1)
    journey = Journey(file=file, test="test_it")
    running = asyncio.create_task(pool.run(journey, seconds=60))
    await process_of(scratch, "stormwatch.journeys.worker")
    with pytest.raises(ProbeBroken, match=r"all 1 journey workers were busy for 0\.2 s") as caught:
        await pool.run(journey, seconds=0.2)
    assert caught.value.reason is Reason.RESOURCES
    running.cancel()
    await pool.aclose()


async def test_when_its_owner_is_killed_nothing_is_left(
    scratch: Path, write: Write, shop: Shop, nothing_left: Callable[[], None]
) -> None:
    file = write(f"""
        def test_it(page: Page):
            {DAEMON}
            page.goto("{shop.url}/")
            while True:
                pass
    """)
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import asyncio, pathlib\n"
                "from stormwatch.journeys.pool import Journey, WorkerPool\n"
                f"journey = Journey(file=pathlib.Path({str(file)!r}), test='test_it')\n"
                "async def main(): await WorkerPool().run(journey, seconds=60)\n"
                "asyncio.run(main())\n"
            ),
        ]
    )
    until = time.monotonic() + 60
    while "GET /" not in shop.requests and time.monotonic() < until:
        await asyncio.sleep(0.05)
    assert "GET /" in shop.requests
    owner.kill()
    owner.wait()
    await asyncio.to_thread(nothing_left)
    assert list(scratch.iterdir()) == []


async def test_settings_for_whole_test_runs_do_not_stop_a_journey(pool: WorkerPool, write: Write) -> None:
    """Parallel runs, stop at the first failure, selections: a project's pytest.ini stays as it is."""
    write("[pytest]\naddopts = -n 2 -x -m 'not journey' -ra --strict-markers\nfilterwarnings = error\n", "pytest.ini")
    file = write("""
        @pytest.mark.journey
        class TestShop:
            count = 0
            def test_it(self, step):
                self.count += 1
                assert self.count == 1
                assert os.environ.get("GOOD") or not hasattr(os, "once") and not setattr(os, "once", 1) and False
    """)
    outcomes = [(await pool.run(Journey(file=file, test="TestShop::test_it"), seconds=60)).outcome for _ in range(3)]
    assert outcomes == [Outcome.DOWN] * 3
    good = Journey(file=file, test="TestShop::test_it", environment={"GOOD": "yes"})
    assert [(await pool.run(good, seconds=60)).outcome for _ in range(3)] == [Outcome.UP] * 3


async def test_a_run_with_soft_failures_is_down_for_the_first_and_names_the_others(
    pool: WorkerPool, write: Write
) -> None:
    file = write("""
        def test_it(step):
            with step("banner", soft=True):
                assert "banner" in "page", "no banner"
            with step("slow", soft=True, budget=0.001):
                time.sleep(0.01)
            with step("buy"):
                pass

        def test_stopped(step):
            with step("banner", soft=True):
                raise KeyError("banner")
            with step("buy", budget=0.001):
                time.sleep(0.01)
    """)
    over = await pool.run(Journey(file=file, test="test_it"), seconds=60)
    assert (over.outcome, over.reason, over.step) == (Outcome.DOWN, Reason.ASSERTION, "banner")
    assert over.sentence == "no banner (and soft step slow failed)"
    assert over.where == f"{file}:7"
    assert [(step.name, step.failed) for step in over.steps] == [("banner", True), ("slow", True), ("buy", False)]
    assert [failure.step for failure in over.soft_failures] == ["banner", "slow"]
    stopped = await pool.run(Journey(file=file, test="test_stopped"), seconds=60)
    assert (stopped.outcome, stopped.reason, stopped.step) == (Outcome.DOWN, Reason.TOO_SLOW, "buy")
    assert stopped.sentence.endswith("and its budget is 0.001 s (and soft step banner failed)")
    assert stopped.soft_failures == (SoftFailure(step="banner", sentence="KeyError: 'banner'"),)
