"""The summary of a workflow run: what ran, whatever a page wrote into its messages, and never more than GitHub shows."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stormwatch.journeys.markdown import inert
from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import compare
from stormwatch.journeys.step_summary import LARGEST, append, summary_of
from stormwatch.probes.result import Outcome, Phase, Reason

DOWN = RunRecord(
    key="test_shop.py::test_pay",
    name="test_pay",
    target="test_shop.py::test_pay",
    file="/repo/journeys/test_shop.py",
    outcome=Outcome.DOWN,
    reason=Reason.STEP,
    message='step "pay": no button',
    started=0.0,
    seconds=1.25,
    failed_step="pay",
    steps=(Phase("open", 0.25, 0.0), Phase("pay", 1.0, 0.25, failed=True)),
    evidence={"where": "/repo/journeys/test_shop.py:12"},
)
UP = replace(
    DOWN,
    key="up",
    name="test_search",
    outcome=Outcome.UP,
    reason=Reason.NONE,
    message="",
    steps=(Phase("open", 0.25, 0.0), Phase("pay", 1.0, 0.25)),
    evidence={},
)
GITHUB = {
    "GITHUB_WORKSPACE": "/repo",
    "GITHUB_SERVER_URL": "https://github.test",
    "GITHUB_REPOSITORY": "storm/shop",
    "GITHUB_SHA": "abc",
    "GITHUB_RUN_ID": "7",
}
HOSTILE = (
    "![x](https://evil.test/x.png) <img src=https://evil.test/y.png> [a](javascript:b) `c` **d** | e\n# f &amp; \\g @h"
)


class Rendered(HTMLParser):
    """What a reader of the Markdown sees: elements and text."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_failed_is_first_with_a_link_to_its_line() -> None:
    """Then the steps that got slower, and the seconds of each step; where the page is, for whoever wants to see."""
    slow = compare({UP.key: {"pay": 2.0}}, [{UP.key: {"pay": 1.0}}] * 5)
    said = summary_of([UP, DOWN], slow, report=Path("/repo/report.html"), environ=GITHUB)

    assert said.splitlines() == [
        "### Journeys: Of 2 journeys: 1 down, 1 up.",
        "",
        (
            "Pictures, traces and requests are in report.html, if the workflow keeps it among the "
            "[artifacts of this run](https://github.test/storm/shop/actions/runs/7#artifacts)."
        ),
        "",
        "| | name | took | what was seen |",
        "|---|---|---:|---|",
        (
            '| ✗ down | test&#95;pay | 1.25 s | step "pay": no button '
            "([journeys/test&#95;shop.py:12](https://github.test/storm/shop/blob/abc/journeys/test_shop.py#L12)) |"
        ),
        "| ✓ up | test&#95;search | 1.25 s |  |",
        "",
        "**Steps that got slower**",
        "",
        "- test&#95;search, step pay: took 2.000 s, +100%; the median of 5 runs is 1.000 s, and noise explains up to 1.200 s",
        "",
        "<details><summary>Steps</summary>",
        "",
        "| journey | step | took |",
        "|---|---|---:|",
        "| test&#95;pay | open | 0.250 s |",
        "| test&#95;pay | ✗ pay | 1.000 s |",
        "| test&#95;search | open | 0.250 s |",
        "| test&#95;search | ↑ pay | 1.000 s |",
        "",
        "</details>",
    ]


def test_elsewhere_it_has_no_links() -> None:
    """A runner that sets nothing but the file, as those that are like GitHub's do."""
    said = summary_of([DOWN], environ={})

    assert "journeys/test&#95;shop.py:12" in said
    assert "](" not in said


@given(said=st.text(st.characters(exclude_categories=())))
def test_text_is_read_as_it_was_said(said: str) -> None:
    """By Markdown, whatever it is: no element, no picture, no second line."""
    rendered = Rendered(f"- x {inert(said)}")

    assert set(rendered.elements) == {"ul", "li"}
    # U+0000 is nothing that a page of HTML may have.
    whole = f"x {said}".encode("utf-8", "replace").decode()
    assert rendered.text.split() == whole.replace("\0", "\N{REPLACEMENT CHARACTER}").split()


def test_a_page_that_writes_markdown_has_no_picture_no_link_and_no_column() -> None:
    """In a name, a message and a step."""
    hostile = replace(DOWN, name=HOSTILE, message=HOSTILE, steps=(Phase(HOSTILE, 1.0, 0.0),))
    rendered = Rendered(summary_of([hostile], environ={}))

    assert not {"img", "a", "code", "h1", "strong", "em"} & {*rendered.elements}
    assert rendered.elements.count("td") == 4 + 3
    assert "![x](https://evil.test/x.png) <img src=https://evil.test/y.png>" in rendered.text


def test_what_has_no_place_is_counted() -> None:
    """The worst is there in any case, and what was begun is ended."""
    many = [replace(UP, key=str(number), name=f"journey-{number}") for number in range(2000)]
    said = summary_of([*many, DOWN], largest=20_000, environ={})

    assert len(said.encode()) <= 20_000
    assert "| ✗ down | test&#95;pay |" in said
    assert "more have no place here." in said
    assert said.count("<details>") == said.count("</details>")
    full = summary_of([*many, DOWN], environ={})
    assert len(full.encode()) <= LARGEST
    assert "journey-1999" in full


def test_it_is_appended(tmp_path: Path) -> None:
    """Another command of the same step has its own, which stays."""
    file = tmp_path / "summary"
    environ = {"GITHUB_STEP_SUMMARY": str(file)}

    assert append("first", environ) == append("second", environ) == ""
    assert file.read_text() == "first\nsecond\n"
    assert append("nobody reads it", {}) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("missing/summary", "No such file or directory", id="no directory"),
        pytest.param("full", "over its limit of 1048576", id="no room: all of it would be lost"),
    ],
)
def test_what_cannot_be_appended_is_said_in_one_line(tmp_path: Path, name: str, said: str) -> None:
    """And is no failure of anything."""
    (tmp_path / "full").write_bytes(b"x" * (LARGEST - 5))
    complaint = append("a summary", {"GITHUB_STEP_SUMMARY": str(tmp_path / name)})

    assert said in complaint
    assert "\n" not in complaint
    assert (tmp_path / "full").stat().st_size == LARGEST - 5
