"""Verdicts against those of the last run: exit code 1 only for what got worse."""

import json
from itertools import combinations

import pytest

from stormwatch.chaos.comparison import WORSE, compare, verdicts_of
from stormwatch.chaos.verdict import Verdict
from tests.chaos.stories import observed
from tests.chaos.test_report import report

PROVED, MISSED, LATE, UNSAFE = Verdict.PROVED, Verdict.MISSED, Verdict.LATE, Verdict.UNSAFE


def test_every_verdict_has_its_place() -> None:
    """Once each: else a comparison of it would fail."""
    assert sorted(WORSE) == sorted(Verdict)


@pytest.mark.parametrize(("good", "bad"), list(combinations(WORSE, 2)))
def test_worse_is_1_and_better_is_0(good: Verdict, bad: Verdict) -> None:
    """Whatever the verdict is now: what was missed and is missed still is no regression; unsafe is 4 all the same."""
    assert compare({"a": good}, {"a": bad}).exit_code == (4 if bad is UNSAFE else 1)
    assert compare({"a": bad}, {"a": good}).exit_code == 0
    assert compare({"a": bad}, {"a": bad}).exit_code == (4 if bad is UNSAFE else 0)


def test_it_is_told_by_name() -> None:
    """Worse first; what is new counts by its own verdict; what was not run this time is said."""
    found = compare(
        {"a": PROVED, "b": LATE, "c": PROVED, "gone": PROVED}, {"a": MISSED, "b": PROVED, "c": PROVED, "new": LATE}
    )
    assert found.lines() == [
        "✗ worse: a: proved, now missed",
        "✓ better: b: late, now proved",
        "· new: new: late",
        "· not run this time: gone",
        "1 as the last time",
    ]
    assert found.as_json() == {
        "exit_code": 1,
        "worse": [{"name": "a", "before": "proved", "after": "missed"}],
        "better": [{"name": "b", "before": "late", "after": "proved"}],
        "new": {"new": "late"},
        "not_run": ["gone"],
        "same": 1,
    }
    assert compare({}, {"new": Verdict.INCONCLUSIVE}).exit_code == 3
    assert compare({"a": PROVED}, {"a": PROVED}).lines() == ["nothing got worse; 1 as the last time"]


def test_both_forms_of_json_are_read() -> None:
    """The list without a comparison, the object with one; anything else is refused."""
    documents = [json.loads(json.dumps(report(observed(), name).as_json())) for name in ("a", "b")]
    wanted = {"a": PROVED, "b": PROVED}
    assert verdicts_of(documents) == verdicts_of({"drills": documents, "comparison": {}}) == wanted
    for wrong in ({}, [{}], "text", {"drills": 3}, [{"drill": {"name": "a"}, "verdict": "fine"}]):
        with pytest.raises((KeyError, TypeError, ValueError)):
            verdicts_of(wrong)
