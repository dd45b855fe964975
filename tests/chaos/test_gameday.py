"""A game day as its journal tells it: where it stands, how soon people knew, what was found."""

import json
from typing import Any

import pytest

from stormwatch.chaos.gameday import Act, Checkpoint, Course, GameDay, course
from stormwatch.chaos.gameday_report import as_html, as_json, as_markdown
from stormwatch.chaos.verdict import Answer
from tests.chaos.stories import ZERO, observed
from tests.chaos.test_report import Page, report
from tests.chaos.test_verdict import STORIES

HOSTILE = "<img src=x onerror=alert(1)> | `x`"
DAY = GameDay(
    title="Payments",
    briefing="Two fail.",
    roles={"on call": "Ana", "commander": HOSTILE},
    acts=(
        Act(
            drill="first",
            hold=600.0,
            checkpoints=(
                Checkpoint(name="acknowledge", who="on call", within=60.0),
                Checkpoint(name="diagnose", who="commander", within=300.0, ask="Which one?"),
            ),
        ),
        Act(drill="second", checkpoints=(Checkpoint(name="acknowledge"),)),
    ),
)
Line = tuple[str, float, dict[str, Any]]


def told(*lines: Line) -> Course:
    """The course of a journal with these lines after its first; through JSON, as it is kept."""
    began: Line = ("began", 0.0, {"gameday": DAY.as_json()})
    entries = [
        {"number": number, "event": event, "at": ZERO + at, "data": data}
        for number, (event, at, data) in enumerate([began, *lines], 1)
    ]
    found = course(json.loads(json.dumps(entries)))
    assert found is not None
    return found


def step(act: int, name: str, at: float) -> Line:
    """A step of a drill, written a second after it was so."""
    return ("step", at + 1, {"act": act, "step": name, "at": ZERO + at, "text": f"{name}: tcp-reset on payments"})


def said(act: int, name: str, at: float, note: str = "") -> Line:
    """Somebody came to a checkpoint."""
    return ("checkpoint", at, {"act": act, "checkpoint": name, "by": "Ana", "note": note})


BEGUN: tuple[Line, ...] = (("act", -5, {"act": 0, "begins": ZERO}), step(0, "injecting", 0), step(0, "injected", 0))
PROVED: Line = ("report", 400, {"act": 0, "report": report(observed(), "first").as_json()})
MISSED: Line = (
    "report", 900, {"act": 1, "report": report(STORIES["the probe turns red and no alert fires"][1], "second").as_json()},
)  # fmt: skip


def test_people_are_measured_from_the_injection_and_from_the_alert() -> None:
    """Not from when a line was written; in time, late, and never."""
    one = told(*BEGUN, step(0, "firing", 20), said(0, "acknowledge", 61)).played[0]
    acknowledge, diagnose = one.act.checkpoints
    assert (one.took(acknowledge), one.heard(acknowledge), one.kept(acknowledge)) == (61, 41, Answer.NO)
    assert (one.took(diagnose), one.heard(diagnose), one.kept(diagnose)) == (None, None, Answer.NO)
    in_time = told(*BEGUN, said(0, "acknowledge", 60)).played[0]
    assert (in_time.kept(acknowledge), in_time.heard(acknowledge)) == (Answer.YES, None)
    assert told().played[0].kept(acknowledge) is Answer.INCONCLUSIVE


def test_while_something_is_broken_nothing_that_is_shown_says_what() -> None:
    """The steps that name fault and target are told when it is mended."""
    one = told(*BEGUN, step(0, "firing", 20)).played[0]
    assert [each.step for each in one.told] == ["act", "firing"]
    mended = told(*BEGUN, step(0, "firing", 20), step(0, "reverted", 30)).played[0]
    assert [each.step for each in mended.told] == ["act", "injecting", "injected", "firing", "reverted"]


def test_a_day_that_was_cut_short_goes_on_with_the_act_that_has_no_report() -> None:
    """What people had said of it is kept; the first word counts."""
    course_ = told(*BEGUN, said(0, "acknowledge", 5), PROVED, ("act", 500, {"act": 1, "begins": ZERO}))
    assert course_.present is course_.played[1]
    again = told(*BEGUN, said(0, "acknowledge", 5), said(0, "acknowledge", 9), ("act", 50, {"act": 0, "begins": ZERO}))
    assert again.present is again.played[0]
    assert again.played[0].injected is None
    assert again.played[0].reached["acknowledge"].at == ZERO + 5


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((said(0, "acknowledge", 5), said(0, "diagnose", 100), PROVED), 3),
        ((said(0, "acknowledge", 5), said(0, "diagnose", 100), PROVED, said(1, "acknowledge", 600), MISSED), 1),
        ((said(0, "acknowledge", 5), PROVED), 1),
    ],
)
def test_the_exit_code_is_that_of_machines_and_people(lines: tuple[Line, ...], code: int) -> None:
    """3 when an act was not run, 1 when a drill is missed or a checkpoint was not reached in time."""
    assert told(*BEGUN, *lines, ("ended", 1000, {})).exit_code() == code


def test_findings_come_from_verdicts_from_people_and_from_notes() -> None:
    """Each with what to do about it; what was proved and in time is no finding."""
    course_ = told(
        *BEGUN, said(0, "acknowledge", 61), said(0, "diagnose", 100), PROVED, MISSED,
        ("note", 950, {"by": "Bo", "text": "the runbook is gone"}), ("ended", 1000, {}),
    )  # fmt: skip
    found = [(one.text, one.follow_up) for one in course_.findings()]
    assert found[0][0] == "first: `acknowledge` took 61.0 s, asked within 1m"
    assert all(text.startswith("second: ") for text, _ in found[1:-1])
    assert any("fires within 1m30s" in text for text, _ in found[1:-1])
    assert found[-2][0] == "second: nobody came to `acknowledge`"
    assert found[-1] == ("Bo: the runbook is gone", "talk about it")


def test_the_reports_say_the_same_and_what_people_wrote_stays_text() -> None:
    """As a page, which fetches nothing, as Markdown, and as JSON."""
    course_ = told(
        *BEGUN, said(0, "acknowledge", 61, HOSTILE), PROVED, MISSED, ("note", 950, {"by": "Bo", "text": HOSTILE}), ("ended", 1000, {})
    )  # fmt: skip
    page = Page()
    page.feed(as_html(course_))
    assert (page.fetched, page.open) == ([], [])
    assert "1 of 2 drills proved, 0 of 3 checkpoints in time." in page.text
    written = as_markdown(course_)
    assert "<img" not in written + as_html(course_)
    assert "| <code>first</code> | ✓ proved | 20.0 s | acknowledge 61.0 s, diagnose never |" in written
    document = json.loads(json.dumps(as_json(course_)))
    assert document["exit_code"] == 1
    assert document["acts"][0]["checkpoints"][0] == {
        "name": "acknowledge", "who": "on call", "within": 60.0, "answer": "no", "seconds": 61.0,
        "seconds_after_alert": 41.0, "by": "Ana", "note": HOSTILE,
    }  # fmt: skip
    assert len(document["findings"]) == len(course_.findings())


@pytest.mark.parametrize(
    "lines",
    [
        [("note", {"by": "x", "text": "y"})],
        [("began", {})],
        [("began", {"gameday": DAY.as_json()}), ("step", {"act": 7})],
        [("began", {"gameday": DAY.as_json()}), ("dance", {"act": 0})],
    ],
)
def test_a_journal_of_something_else_is_refused(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """With the number of the line; an empty one is no day yet."""
    entries = [
        {"number": 1 + number, "event": event, "at": 0.0, "data": data} for number, (event, data) in enumerate(lines)
    ]
    with pytest.raises(ValueError, match=f"line {len(lines)} is none of a game day"):
        course(entries)
    assert course([]) is None
