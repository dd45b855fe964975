"""Slices of time: when each is decided, what a late result does, and that they are what is counted."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.calendar import Calendar
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.feasibility import findings
from stormwatch.slo.latency import time_to_fire
from stormwatch.slo.objective import Judgement, Slices
from stormwatch.slo.policy import rules_for_objective
from stormwatch.slo.rule import BurnRate
from stormwatch.slo.timeslice import LATE, Decided, Slicer
from tests.slo.story import DAY, START, objective, probe, result, results

GOOD, BAD = Judgement.GOOD, Judgement.BAD
MINUTES = Slices(60.0, Fraction(3, 4))


def test_a_slice_is_decided_when_it_is_over_and_only_once() -> None:
    slicer = Slicer(MINUTES)
    for at, judgement in ((1, GOOD), (16, GOOD), (31, BAD), (60, GOOD), (60.001, BAD), (90, GOOD)):
        slicer.add(at, judgement)
    assert list(slicer.decide(60 + LATE - 0.001)) == []
    assert list(slicer.decide(60 + LATE)) == [Decided(60.0, GOOD)]
    assert list(slicer.decide(119)) == []
    assert list(slicer.decide(500)) == [Decided(120.0, BAD)]
    assert list(slicer.decide(600)) == []


def test_a_slice_without_evidence_is_no_evidence() -> None:
    slicer = Slicer(MINUTES)
    slicer.add(10, Judgement.NO_EVIDENCE)
    assert list(slicer.decide(1000)) == []


def test_a_result_that_comes_after_its_slice_was_decided_counts_nowhere() -> None:
    slicer = Slicer(MINUTES)
    slicer.add(10, GOOD)
    assert list(slicer.decide(70)) == [Decided(60.0, GOOD)]
    slicer.add(50, BAD)
    slicer.add(61, GOOD)
    assert list(slicer.decide(200)) == [Decided(120.0, GOOD)]
    assert slicer.late == 1


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans())), st.lists(st.integers(0, 4000), max_size=10))
def test_slices_are_the_same_however_often_one_looks(seen: list[tuple[int, bool]], looks: list[int]) -> None:
    """Each result is given before the first look that could decide its slice, as in life."""
    often, once = Slicer(MINUTES), Slicer(MINUTES)
    decided: list[Decided] = []
    waiting = sorted(seen)
    for at, good in waiting:
        once.add(at, GOOD if good else BAD)
    for look in [*sorted(looks), 10_000]:
        while waiting and waiting[0][0] <= look:
            at, good = waiting.pop(0)
            often.add(at, GOOD if good else BAD)
        decided += often.decide(look)
    assert decided == list(once.decide(10_000))
    assert often.late == 0


def test_an_objective_counts_slices_and_restarts_with_those_that_are_over() -> None:
    judging = objective(slices=MINUTES, target=Fraction(99, 100), window=1.0 * DAY)
    rules = rules_for_objective(judging, [probe()])

    def fresh() -> Evaluator:
        return Evaluator([judging], rules, [probe()])

    # Four results a minute, of which one in four may be bad: the second minute is bad, the third is not over.
    story = list(results("+++-" + "+--+" + "--", first=START + 15))
    first = fresh()
    first.evaluate(START)
    for each in story:
        first.observe(each)
    first.evaluate(START + 160)
    assert first.events()[judging.name] == (1, 1)
    assert first.budget(judging.name, START + 160).total == 2

    second = fresh()
    second.replay(story)
    second.evaluate(START + 170)
    assert second.events()[judging.name] == (0, 0)
    for each in results("--", first=START + 165):
        second.observe(each)
    second.evaluate(START + 182)
    assert second.events()[judging.name] == (0, 1), (
        "the slice during which it began is counted by the process that ends it"
    )
    budget = second.budget(judging.name, START + 182)
    assert (budget.total, budget.bad, budget.allowed) == (3, 2, Fraction(1440, 100))


@pytest.mark.parametrize("took", [1.0, 11.0])
@pytest.mark.parametrize("began", [0.0, 7.0, 16.0, 31.0, 44.5, 59.5])
def test_what_is_told_of_detection_holds_for_slices(began: float, took: float) -> None:
    """Wherever in a slice an outage begins, and however long its runs take to fail: the alert fires within the bounds."""
    watched, judging = probe(), objective(slices=MINUTES, target=Fraction(9, 10), window=7200.0)
    rules = rules_for_objective(judging, [watched])
    page = next(rule for rule in rules if isinstance(rule, BurnRate) and rule.severity is Severity.PAGE)
    bounds = time_to_fire(page, watched, 1.0, objective=judging)
    evaluator = Evaluator([judging], [page], [watched])
    outage, starts = START + 7200 + began, [START + number * 15.0 for number in range(1, 560)]
    ended = sorted((start + (took if start >= outage else 0.2), "-" if start >= outage else "+") for start in starts)
    fired, now = None, START
    while fired is None and now < START + 8400:
        now += 1.0
        while ended and ended[0][0] <= now:
            at, sign = ended.pop(0)
            evaluator.observe(result(sign, at))
        fired = now if any(each.after is AlertState.FIRING for each in evaluator.evaluate(now)) else None

    assert fired is not None
    assert bounds.best <= fired - outage <= bounds.worst


def test_what_is_counted_is_named_where_it_is_told_what_an_objective_means() -> None:
    """Slices are slices, and a month is a month."""
    judging = objective(slices=MINUTES, target=Fraction(9, 10), calendar=Calendar("week"), window=7.0 * DAY)
    told = [each.text for each in findings(judging, [probe()], rules_for_objective(judging, [probe()]))]

    assert any("bad of 90 slices" in text for text in told), told
    assert any("the budget of a week of 7d is 1008 bad slices" in text for text in told), told
