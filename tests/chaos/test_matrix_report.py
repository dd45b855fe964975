"""A matrix for people: nothing is lost, and nothing that came from outside is taken for markup."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from stormwatch.chaos.matrix import Matrix, Outcome, merge
from stormwatch.chaos.matrix_plan import Skipped
from stormwatch.chaos.matrix_report import SIGN, html_of, markdown_of, show_score, text_of
from tests.chaos.cells import cell, labels, outcome, sight
from tests.chaos.test_matrix import matrix
from tests.chaos.test_report import LOOK
from tests.program import program

HOSTILE = "<script>alert(1)</script> | `x`"


def found() -> Matrix:
    """One of each that matters; the reason of a broken cell comes from outside."""
    return matrix(
        outcome("tcp-reset", "pay"),
        outcome("tcp-latency"),
        outcome("http-body", target="hotel", trouble=HOSTILE),
        skipped=(Skipped(name="hotel/x", why="it needs options"),),
        scale="1/60",
        seconds=61.0,
    )


def test_the_terminal_has_score_grid_survivors_and_findings() -> None:
    """In this order; a sign for each cell, so that nothing depends on colour."""
    lines = text_of(found()).plain.splitlines()
    text = "\n".join(lines)

    assert lines[1] == "Detection score  50.0 % (1 of 2; 95 % interval 9.5 % … 90.5 %)"
    assert "All windows of objectives were scaled by 1/60" in text
    assert f"tcp-latency    {SIGN[outcome('x').state]} " in text
    assert text.index("✗ survived  payments/tcp-latency") < text.index("? inconclusive  hotel/http-body")
    assert "hotel/x: it needs options" in text
    assert "False alarms in 0 controls" in text


def test_the_page_escapes_what_came_from_outside() -> None:
    """And shows names of options as code."""
    page = html_of(found())

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<code>x</code>" in page
    assert "50.0 %" in page


def test_what_would_catch_it_names_options_as_code() -> None:
    """In no place of the page, its tips included, are there backticks."""
    slow = Outcome(cell=cell("tcp-latency", options={"delay": "1s"}), sight=sight())
    page, _, document = html_of(matrix(slow, outcome("tcp-reset", trouble="`issuer` is missing"))).partition(
        "<details>"
    )

    assert "What would catch it: <code>slower_than</code> in the expectations" in page
    assert "`" not in page
    assert "`issuer` is missing" in document


def test_markdown_keeps_its_tables() -> None:
    """A bar in a sentence does not end a cell."""
    text = markdown_of(found())

    assert "| `hotel/http-body` | inconclusive |" in text
    assert "<script>" not in text
    assert text.startswith("## Detection score: 50.0 % (1 of 2")
    row = next(line for line in text.splitlines() if line.startswith("| `hotel/http-body`"))
    assert row.count("|") == 5


@pytest.mark.parametrize(
    "said",
    [
        "![x](http://collector.example/?seen)",
        "`a` ![x](http://collector.example/?seen) `b`",
        "a ` ![x](http://collector.example/?seen)",
        "<img src=http://collector.example/> | <https://collector.example/>",
        "**loud** @everybody #1 [x](http://collector.example/)",
    ],
)
def test_what_came_from_outside_is_no_markdown(said: str) -> None:
    """No picture that tells somebody who reads it, no link, no row more."""
    text = markdown_of(matrix(outcome("http-body", target="hotel", trouble=said)))
    drawn = MarkdownIt("gfm-like", {"linkify": False}).render(text)

    assert not re.search(r"<(img|a) ", drawn)
    assert "<strong>loud" not in drawn
    assert "@everybody" not in text


def test_rounds_that_were_not_run_are_said() -> None:
    """All cells are known, and not as well as was asked."""
    once, twice = matrix(outcome("a", "pay"), repeat=2), matrix(*merge([outcome("a", "pay")] * 2), repeat=2)

    assert "1 of 1 cells in 0.00 s, interrupted after 1 of 2 runs" in text_of(once).plain
    assert "1 of 1 cells in 0.00 s, each 2 times" in markdown_of(twice)


def test_a_matrix_of_nothing_is_shown_as_well() -> None:
    """Interrupted before the first cell, or all equivalent."""
    empty = Matrix(outcomes=(), alerts=(labels("pay"),), planned=3)

    assert show_score(empty.score) == "0.0 % (0 of 0; 95 % interval 0.0 % … 100.0 %)"
    assert "0 of 3 cells" in text_of(empty).plain
    assert "<html" in html_of(empty)
    assert markdown_of(empty)


async def test_a_page_fits_a_laptop_and_a_phone_whatever_names_are_long(tmp_path: Path) -> None:
    """Opened in Chromium, in light and dark: only the grid scrolls to the side, within its frame; nothing is loaded, no error."""
    long = "availability-and-pricing-" * 3 + "x" * 80
    page = tmp_path / "matrix.html"
    many = [outcome("tcp-latency", target=f"{long}{number}") for number in range(12)]
    page.write_text(html_of(matrix(outcome(long, "pay"), *many, skipped=(Skipped(name=long, why=long),))))
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
