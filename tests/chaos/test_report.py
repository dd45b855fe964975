"""A report: the same on the terminal, as JSON that is judged again, and as a page that needs nothing but itself."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.report import Progress, Report, html_of
from stormwatch.chaos.verdict import judge
from tests.chaos.stories import DRILL, ZERO, observed, other, red, result
from tests.chaos.test_verdict import STORIES
from tests.program import program


def report(record: Observation, name: str = "payment-blackhole") -> Report:
    """A judged report."""
    drill = replace(DRILL, name=name)
    detection = detect(drill, record)
    steps = (Progress(ZERO, "injecting", "tcp-blackhole on payments"),)
    return Report(drill=drill, detection=detection, judgement=judge(drill, detection), steps=steps)


def test_the_terminal_shows_verdict_chain_and_clauses() -> None:
    """Every link in seconds, the slowest named, every clause with its sign."""
    assert report(observed()).lines() == [
        "✓ proved  payment-blackhole  tcp-blackhole on payments",
        "",
        "  detection       20.5 s",
        "    traffic meets the fault     0.50 s",
        "    probe turns red             11.5 s  slowest",
        "    alert pending                1.0 s",
        "    alert fires                  7.0 s",
        "    receiver told               0.50 s",
        "",
        "  recovery        22.0 s",
        "    probe green again           15.0 s",
        "    alert resolved               7.0 s",
        "",
        "  ✓ all is well before the fault: checkout was up",
        "  ✓ traffic meets the fault: 3 connections, 900 bytes; first after 0.50 s",
        "  ✓ checkout turns red within 1m: after 12.0 s",
        "  ✓ reason timeout: timeout seen",
        "  ✓ ErrorBudgetBurn{objective=checkout-availability, severity=page} fires within 1m30s: after 20.0 s",
        "  ✓ no other alert fires (allowed: front-fast): silent",
        "  ✓ the fault is taken back, and proved to be gone: nothing is left",
        "  ✓ checkout is green within 5m after the undo: after 15.0 s",
        "  ✓ the alert resolves within 5m after the undo: after 22.0 s",
    ]


@pytest.mark.parametrize("story", STORIES)
def test_a_report_is_judged_again_from_its_json(story: str) -> None:
    """Text and back: equal, although the verdict in it is not read."""
    whole = report(STORIES[story][1])
    document = json.loads(json.dumps(whole.as_json()))
    document["verdict"] = "proved"
    assert whole == Report.from_json(document)


def test_a_report_of_another_version_is_not_guessed_at() -> None:
    """It says which is needed and which was found."""
    with pytest.raises(ValueError, match="a report of version 1 is needed, this one has 99"):
        Report.from_json(report(observed()).as_json() | {"version": 99})


class Page(HTMLParser):
    """What a page would fetch, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("story", STORIES)
def test_every_story_has_a_page_that_fetches_nothing(story: str) -> None:
    """Well-formed, no script, no network, the verdict and every clause in it."""
    told = report(STORIES[story][1])
    text = told.html()
    page = Page()
    page.feed(text)
    assert (page.open, page.fetched) == ([], [])
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert told.verdict.value in page.text
    for clause in told.judgement.clauses:
        assert clause.asked in page.text
        assert clause.seen in page.text


def test_what_targets_say_is_not_markup() -> None:
    """Messages, labels and names come from outside."""
    evil = "<script>alert(1)</script>"
    told = report(
        observed(
            [result(-1), replace(red(12), message=evil), result(45)],
            [*STORIES["all is seen in time and recovers"][1].transitions, _evil_alert(evil)],
        ),
        name=evil,
    )
    assert evil not in told.html()
    assert "&lt;script&gt;" in told.html()


def test_several_drills_are_one_page() -> None:
    """Each with its own heading."""
    text = html_of([report(observed(), "one"), report(STORIES["nobody notices anything"][1], "two")])
    assert re.findall(r"<h1>(.*?)</h1>", text) == ["one", "two"]


async def test_a_page_fits_a_laptop_and_a_phone(tmp_path: Path) -> None:
    """Opened in Chromium at both widths, in light and dark: nothing sticks out, nothing overlaps the frame, no error."""
    page = tmp_path / "report.html"
    page.write_text(html_of([report(record, story) for story, (_, record) in STORIES.items()]))
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, script, program("chromium"), page],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[1280, 1280, []], [390, 390, []]]


LOOK = """
import json, sys
from playwright.sync_api import sync_playwright
seen = []
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox", "--disable-gpu"])
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: errors.append(request.url) if not request.url.startswith("file:") else None)
        page.goto("file://" + sys.argv[2])
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        seen.append([width, page.evaluate("document.documentElement.scrollWidth"), errors])
    browser.close()
print(json.dumps(seen))
"""


def _evil_alert(text: str) -> object:
    from tests.chaos.stories import alert

    return alert(20, labels=other("ProbeDown", probe=text))
