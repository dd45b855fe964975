"""What the benches of journeys visit, in a process of its own: two small pages, and a journey over both in each dialect.

`python -m bench._two_pages` prints their address, and serves them until stdin ends.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

TEST: Final = """
from playwright.sync_api import Page, expect

def test_two_pages(page: Page, step):
    with step("open"):
        page.goto("{url}/")
    with step("follow"):
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
"""
"""For pytest and for a warm worker."""

SCRIPT: Final = """
import sys
from playwright.sync_api import expect, sync_playwright
from stormwatch.journeys.chromium import launch_args

with sync_playwright() as playwright:
    options = launch_args({{}}, downloaded=playwright.chromium.executable_path)
    browser = playwright.chromium.launch(**options)
    print("ready", flush=True)
    for line in sys.stdin:
        context = browser.new_context()
        {before}
        page = context.new_page()
        page.goto("{url}/")
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        {after}
        context.close()
        print("ready", flush=True)
"""
"""The same without pytest, again for each line that it reads. `before` and `after` are statements about the context."""

JOURNEY: Final = """
const {{ journey, step, before, expect }} = require('@elastic/synthetics');
const {{ createInterface }} = require('readline');

// Each run but a single one waits for a line: so it takes turns with others.
let good = true;
// The options of Elastic's agent make every exit code 0.
process.on('exit', () => {{ if (!good) process.exitCode = 1; }});
const lines = {runs} > 1 ? createInterface({{ input: process.stdin }})[Symbol.asyncIterator]() : null;

for (let number = 0; number < {runs}; number++) {{
  journey(`two pages ${{number}}`, ({{ page }}) => {{
    before(async () => {{
      if (lines) {{
        console.error(good ? 'ready' : 'the journey failed');
        if ((await lines.next()).done) process.exit(0);
      }}
      good = false;
    }});
    step('open', async () => {{
      await page.goto('{url}/');
    }});
    step('follow', async () => {{
      await page.getByRole('link', {{ name: 'Next' }}).click();
      await expect(page.getByRole('heading', {{ name: 'Thank you' }})).toBeVisible();
      good = true;
    }});
  }});
}}
"""
"""For @elastic/synthetics: `runs` journeys, which it runs one after another in one process and one browser."""


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


@contextlib.contextmanager
def serving() -> Generator[str]:
    """The pages, from a process whose time is nobody's; gives their address without the last slash."""
    command = [sys.executable, "-m", "bench._two_pages"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def main() -> None:
    """Serve."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
