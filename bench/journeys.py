"""One journey three ways: in a warm worker of ours, by a cold `pytest`, and as a bare Playwright script with a warm browser.

    python -m bench.journeys [--runs N] [--json]

The journey opens two pages of a small server on loopback, clicks a link, and waits for a heading. The three take turns, so
that whatever else the machine does hits all of them. Two bars: warm at most 1.1 times bare, cold at least 3 times warm.

warm        `WorkerPool.run`, from the call to its report: our process, the pipe, pytest, fixtures, steps, and the trace
            that is recorded in case the run fails. `warm, no artifacts` is the same without recording.
cold        `python -m pytest` on the same file, from start to exit
bare        new context, the same calls, context closed, in one Python process that keeps its browser
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome

RUNS = 15
COLD_RUNS = 5
WARM_BAR, COLD_BAR = 1.1, 3.0

TEST = """
from playwright.sync_api import Page, expect

def test_two_pages(page: Page, step):
    with step("open"):
        page.goto("{url}/")
    with step("follow"):
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
"""

BARE = """
import sys
from playwright.sync_api import expect, sync_playwright
from stormwatch.journeys.chromium import launch_args

with sync_playwright() as playwright:
    options = launch_args({{}}, downloaded=playwright.chromium.executable_path)
    browser = playwright.chromium.launch(**options)
    print("ready", flush=True)
    for line in sys.stdin:
        context = browser.new_context()
        page = context.new_page()
        page.goto("{url}/")
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        context.close()
        print("done", flush=True)
"""


class _Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"<h1>Thank you</h1>" if self.path == "/next" else b"<h1>Shop</h1><a href=/next>Next</a>"
        body = b"<!doctype html><link rel=icon href=data:,><title>bench</title>" + body
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        """Say nothing."""


async def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each way; what only warms up is left out."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory(prefix="stormwatch-bench-") as folder:
        file, script = Path(folder, "test_two_pages.py"), Path(folder, "bare.py")
        file.write_text(TEST.format(url=url))
        script.write_text(BARE.format(url=url))
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        pool = WorkerPool(artifacts=Path(folder, "artifacts"))
        bare = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert bare.stdin is not None
        assert bare.stdout is not None
        bare.stdout.readline()

        async def warm(artifacts: str, environment: dict[str, str], *, observe: bool = True) -> None:
            journey = Journey(file=file, test="test_two_pages", environment=environment)
            report = await pool.run(journey, seconds=60, folder=artifacts, observe=observe)
            assert report.outcome is Outcome.UP, report

        async def script_once() -> None:
            assert bare.stdin is not None
            assert bare.stdout is not None
            bare.stdin.write("again\n")
            bare.stdin.flush()
            assert (await asyncio.to_thread(bare.stdout.readline)) == "done\n"

        async def cold() -> None:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
            process = await asyncio.create_subprocess_exec(
                *command, cwd=folder, stdout=asyncio.subprocess.DEVNULL, env=os.environ
            )
            assert await process.wait() == 0

        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "warm": lambda: warm("run", {}),
            "warm, no artifacts": lambda: warm("", {"PLAIN": "yes"}),
            "warm, not observed": lambda: warm("", {"PLAIN": "yes"}, observe=False),
            "bare": script_once,
            "cold": cold,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        try:
            for number in range(runs + 2):
                for name, way in ways.items():
                    if name == "cold" and not 1 <= number < COLD_RUNS + 2:
                        continue
                    began = time.perf_counter()
                    await way()
                    if number >= 2:
                        seconds[name].append(time.perf_counter() - began)
        finally:
            bare.stdin.close()
            bare.wait()
            await pool.aclose()
            server.shutdown()
            server.server_close()
    return seconds


def main() -> None:
    """Measure and print; the exit code is that of Python, the bars are shown and not enforced."""
    parser = argparse.ArgumentParser(prog="python -m bench.journeys")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", action="store_true")
    asked, _ = parser.parse_known_args()
    seconds = asyncio.run(measure(asked.runs))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        "warm / bare": medians["warm"] / medians["bare"],
        "warm without artifacts / bare": medians["warm, no artifacts"] / medians["bare"],
        "cold / warm": medians["cold"] / medians["warm"],
    }
    if asked.json:
        print(
            json.dumps({"median_seconds": medians, "ratios": ratios, "runs": {n: len(v) for n, v in seconds.items()}})
        )
        return
    for name, values in seconds.items():
        print(
            f"{name:20} median {medians[name] * 1000:7.0f} ms   best {min(values) * 1000:7.0f} ms   {len(values)} runs"
        )
    print(f"warm / bare {ratios['warm / bare']:.2f} (bar: at most {WARM_BAR}); ", end="")
    print(f"without artifacts {ratios['warm without artifacts / bare']:.2f}; ", end="")
    print(f"cold / warm {ratios['cold / warm']:.1f} (bar: at least {COLD_BAR})")


if __name__ == "__main__":
    main()
