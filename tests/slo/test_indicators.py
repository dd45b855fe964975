"""What a run means to an objective that looks inside it: at one step, or at the certificate that it saw."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from stormwatch.probes.result import Measure, Outcome, Phase, Reason, Result
from stormwatch.slo.alert import AlertState
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.objective import Judgement, Slices
from stormwatch.slo.policy import rules_for_objective
from tests.slo.story import DAY, START, objective, probe, result, results

STEPS = (Phase("log in", 0.2), Phase("pay", 1.5, 0.2), Phase("pay / confirm", 0.5, 1.0))


def run(sign: str, phases: tuple[Phase, ...] = STEPS, **fields: Any) -> Result:
    return replace(result(sign, START), phases=phases, **fields)


@pytest.mark.parametrize(
    ("seen", "judgement"),
    [
        (run("+"), Judgement.GOOD),
        (run("+", (Phase("log in", 0.2),)), Judgement.NO_EVIDENCE),
        (run("-", (Phase("log in", 0.2, failed=True),), failed_phase="log in"), Judgement.NO_EVIDENCE),
        (run("-", (Phase("log in", 0.2), Phase("pay", 9.0, failed=True)), failed_phase="pay"), Judgement.BAD),
        (run("-", (Phase("log in", 0.2),), failed_phase="pay"), Judgement.BAD),
        (run("-", (*STEPS, Phase("leave", 0.1, failed=True)), failed_phase="leave"), Judgement.GOOD),
        (run("-", STEPS, failed_phase="pay", reason=Reason.TOO_SLOW), Judgement.GOOD),
        (run("+", (Phase("pay", 1.6), Phase("pay", 0.5))), Judgement.BAD),
        (run("?"), Judgement.NO_EVIDENCE),
    ],
    ids=[
        *("passed", "left out", "failed before it", "failed in it", "ended in it", "failed after it"),
        *("too slow as a whole", "too slow", "broken"),
    ],
)
def test_a_step_is_judged_when_the_run_came_to_it(seen: Result, judgement: Judgement) -> None:
    assert objective(step="pay", slower_than=2.0).judges(seen) is judgement


@pytest.mark.parametrize(
    ("left", "sign", "judgement"),
    [
        (22 * DAY, "+", Judgement.GOOD),
        (21 * DAY, "+", Judgement.GOOD),
        (21 * DAY - 1, "+", Judgement.BAD),
        (-5.0, "-", Judgement.BAD),
        (30 * DAY, "-", Judgement.GOOD),
        (None, "-", Judgement.NO_EVIDENCE),
        (None, "+", Judgement.NO_EVIDENCE),
        (1.0, "?", Judgement.NO_EVIDENCE),
    ],
)
def test_a_certificate_is_judged_whenever_one_was_seen(left: float | None, sign: str, judgement: Judgement) -> None:
    seen = result(sign, START)
    measures = () if left is None else (Measure("probe_ssl_earliest_cert_expiry", seen.finished + left),)
    judging = objective(expires_within=21.0 * DAY)
    assert judging.judges(replace(seen, measures=measures)) is judgement


def test_the_alert_of_a_step_says_which_step_was_how_slow() -> None:
    judging = objective(step="pay", slower_than=1.0, target=Fraction(9, 10), window=3600.0)
    evaluator = Evaluator([judging], rules_for_objective(judging, [probe()]), [probe()])
    for each in results("-" * 40):
        evaluator.observe(replace(each, outcome=Outcome.UP, reason=Reason.NONE, message="", phases=STEPS))
    told = [change for change in evaluator.evaluate(START + 600) if change.after is AlertState.FIRING]
    assert told
    assert {(change.reason, change.message) for change in told} == {
        ("too-slow", "step 'pay' of front took 1.5s, wanted at most 1s")
    }


def test_the_alert_of_a_certificate_says_how_long_it_is_valid() -> None:
    judging = objective(expires_within=21.0 * DAY, target=Fraction(9, 10), window=3600.0)
    evaluator = Evaluator([judging], rules_for_objective(judging, [probe()]), [probe()])
    for each in results("+" * 40):
        seen = (Measure("probe_ssl_earliest_cert_expiry", START + 20 * DAY + 585),)
        evaluator.observe(replace(each, measures=seen))
    told = [change for change in evaluator.evaluate(START + 600) if change.after is AlertState.FIRING]
    assert {(change.reason, change.message) for change in told} == {
        ("certificate", "the certificate that front saw expires in 20d, wanted at least 21d")
    }


def test_what_history_tells_without_its_inside_is_not_judged_and_comes_back_whole_or_by_the_hour() -> None:
    """A run of which only the end is known would count failures of the step and forget its successes."""
    judging = objective(step="pay", target=Fraction(9, 10), window=4.0 * DAY)
    evaluator = Evaluator([judging], rules_for_objective(judging, [probe()]), [probe()])
    now = START + 4 * DAY
    light = [replace(result("-", now - 7000 + 15 * number), failed_phase="pay") for number in range(40)]
    evaluator.replay(light)
    assert evaluator.budget(judging.name, now).total == 0
    evaluator.recall(judging.name, START + 3600, good=200, bad=40)
    evaluator.replay_inside([replace(result("+", now - 600 + 15 * number), phases=STEPS) for number in range(40)])
    budget = evaluator.budget(judging.name, now)
    assert (budget.total, budget.bad) == (280, 40)
    assert evaluator.events()[judging.name] == (0, 0)


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        ({}, ""),
        ({"slower_than": 0.5}, "within 500ms"),
        ({"step": "pay", "slower_than": 2.0}, "step pay within 2s"),
        ({"expires_within": 21.0 * DAY}, "certificate for 21d more"),
        ({"slices": Slices(60.0, Fraction(95, 100))}, "slices of 1m with 95%"),
        ({"step": "pay", "slices": Slices(60.0, Fraction(95, 100))}, "step pay, slices of 1m with 95%"),
    ],
)
def test_what_is_asked_of_a_run_is_said_in_words(fields: dict[str, Any], asks: str) -> None:
    """Reports and pages say it beside the target."""
    assert objective(**fields).asks == asks
