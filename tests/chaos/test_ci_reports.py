"""Reports for machines and reviewers: JUnit with a case for each clause, Markdown in which nothing of a target's means anything."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from stormwatch.chaos.comparison import compare
from stormwatch.chaos.junit import as_junit
from stormwatch.chaos.markdown import as_markdown
from stormwatch.chaos.verdict import Answer, Verdict
from tests.chaos.stories import observed, red
from tests.chaos.test_report import report
from tests.chaos.test_verdict import STORIES

HOSTILE = "]]> <img src=x onerror=alert(1)> `a` | @everyone \x00\x1b[31m\ud800\ufffe\nsecond line </code><b>"


@pytest.mark.parametrize("story", STORIES)
def test_each_clause_is_a_case(story: str) -> None:
    """No is a failure, not known an error, and the sums are right: what is not proved is never all green."""
    whole = report(STORIES[story][1])
    (suite,) = ET.fromstring(as_junit([whole]))
    cases = suite.findall("testcase")
    clauses = whole.judgement.clauses
    assert [case.get("name") for case in cases] == [f"{one.name}: {one.asked}" for one in clauses]
    found = {Answer.YES: None, Answer.NO: "failure", Answer.INCONCLUSIVE: "error"}
    assert [next((child.tag for child in case), None) for case in cases] == [found[one.answer] for one in clauses]
    counted = [one.answer for one in clauses]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
        str(len(clauses)),
        str(counted.count(Answer.NO)),
        str(counted.count(Answer.INCONCLUSIVE)),
    )
    assert (whole.verdict is Verdict.PROVED) == (suite.get("failures") == suite.get("errors") == "0")
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["verdict"] == whole.verdict.value


def test_several_drills_are_several_suites() -> None:
    """With their sums in the root, as servers read them."""
    root = ET.fromstring(as_junit([report(observed(), "first"), report(observed(), "second")]))
    assert [suite.get("name") for suite in root] == ["first", "second"]
    assert int(root.get("tests") or 0) == sum(int(suite.get("tests") or 0) for suite in root) > 0


def test_a_message_of_a_target_stays_a_message() -> None:
    """Well-formed XML whatever it holds; in Markdown no element, no mention, no second column or line."""
    record = replace(observed(), sightings=(replace(red(12, "refused"), message=HOSTILE),))
    whole = report(record)
    assert whole.verdict is not Verdict.PROVED
    ET.fromstring(as_junit([whole]).encode("utf-8", "strict"))
    written = as_markdown([whole])
    (line,) = (one for one in written.splitlines() if "onerror" in one)
    assert "<img" not in line
    assert "<b>" not in line
    assert "|" not in line
    assert line.count("</code>") == line.count("<code>") == 2
    assert "&#64;everyone" in line.rpartition("<code>")[2]


def test_markdown_shows_what_a_reviewer_asks_first() -> None:
    """How many are proved, what got worse, one line a drill, and why for those that are not."""
    unheard = STORIES["the probe turns red and no alert fires"][1]
    proved, missed = report(observed(), "good"), report(unheard, "bad")
    assert missed.verdict is Verdict.MISSED
    compared = compare({"good": Verdict.PROVED, "bad": Verdict.PROVED}, {"good": Verdict.PROVED, "bad": Verdict.MISSED})
    assert as_markdown([proved, missed], compared).splitlines()[:9] == [
        "### Drills: 1 of 2 proved",
        "",
        "- <code>✗ worse: bad: proved, now missed</code>",
        "- <code>1 as the last time</code>",
        "",
        "| | drill | failure | noticed after | all well after |",
        "|---|---|---|---:|---:|",
        "| ✓ proved | <code>good</code> | <code>tcp-blackhole on payments</code> | 20.0 s | 22.0 s |",
        "| ✗ missed | <code>bad</code> | <code>tcp-blackhole on payments</code> |  |  |",
    ]
    assert "fires within 1m30s</code>: <code>" in as_markdown([missed])
