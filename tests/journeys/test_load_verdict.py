"""What a load says about objectives: judged from exact counts, and never against the target for what is our own doing."""

from fractions import Fraction

import pytest

from stormwatch.harness.load_verdict import Held, bounds_for, judge
from stormwatch.harness.problem import Exit
from stormwatch.journeys.load_job import Bound
from stormwatch.journeys.load_summary import Entry, LoadSummary, Tally
from stormwatch.journeys.load_tally import Tallies
from stormwatch.journeys.report import Report, StepTimes
from stormwatch.probes.result import Outcome, Phase, Reason, Result
from stormwatch.slo.objective import Judgement, Objective

FAST = Objective(name="fast", probes=("order",), target=Fraction(95, 100), window=86400.0, slower_than=0.5)
PAY = Objective(name="pay", probes=("order",), target=Fraction(3, 4), window=86400.0, slower_than=0.5, step="pay")
UP = Objective(name="up", probes=("order",), target=Fraction(999, 1000), window=86400.0)


def entry(runs: int, failures: int) -> Entry:
    return Entry(
        journey="order",
        step="",
        runs=runs,
        failures=failures,
        per_second=1.0,
        mean=0.1,
        shortest=0.1,
        longest=2.0,
        percentiles={"0.5": 0.1, "0.95": 0.48},
    )


def tally(good: int, bad: int, *, step: str = "", seconds: float | None = 0.5) -> Tally:
    return Tally(journey="order", step=step, seconds=seconds, good=good, bad=bad)


def summary(
    *tallies: Tally, runs: int = 1000, failures: int = 0, saturated: bool = False, broken: int = 0
) -> LoadSummary:
    return LoadSummary(
        seconds=60.0,
        users=10,
        workers=1,
        entries=(entry(runs, failures),),
        tallies=tallies,
        saturated=saturated,
        broken=broken,
        broken_why="no card" if broken else "",
    )


def report(outcome: Outcome, seconds: float, pay: float | None, *, failed: bool = False) -> Report:
    steps = () if pay is None else (StepTimes(name="pay", seconds=pay, offset=0.0, failed=failed),)
    return Report(outcome=outcome, seconds=seconds, steps=steps)


RUNS = (
    report(Outcome.UP, 0.2, 0.1),
    report(Outcome.UP, 0.9, 0.1),
    report(Outcome.UP, 0.9, 0.8),
    report(Outcome.UP, 0.5, 0.5),
    report(Outcome.DOWN, 0.1, 0.1, failed=True),
    report(Outcome.DOWN, 0.1, None),
    report(Outcome.BROKEN, 0.0, None),
)


@pytest.mark.parametrize("objective", [FAST, PAY, UP], ids=lambda each: each.name)
def test_a_run_is_counted_as_the_objective_would_judge_its_result(objective: Objective) -> None:
    counted = Tallies()
    for run in RUNS:
        counted.add("order", run, bounds_for([objective], "order"))
    judged = [
        objective.judges(
            Result(
                probe="order",
                kind="journey",
                target="",
                location="",
                started=0.0,
                seconds=run.seconds,
                outcome=run.outcome,
                trace_id="",
                attempts=(),
                reason=Reason.NONE if run.outcome is Outcome.UP else Reason.STEP,
                phases=tuple(Phase(step.name, step.seconds, failed=step.failed) for step in run.steps),
            )
        )
        for run in RUNS
    ]
    own = [
        (each.good, each.bad)
        for each in counted.tallies()
        if (each.step, each.seconds) == (objective.step, objective.slower_than)
    ]
    assert own == [(judged.count(Judgement.GOOD), judged.count(Judgement.BAD))]


def test_what_workers_counted_adds_up_whatever_the_order() -> None:
    one, other, master = Tallies(), Tallies(), Tallies()
    for counting, run in zip([one, other] * 4, RUNS, strict=False):
        counting.add("order", run, [Bound(), Bound("pay", 0.5)])
        master.add_all(one.take())
    master.add_all(other.take())
    alone = Tallies()
    for run in RUNS:
        alone.add("order", run, [Bound(), Bound("pay", 0.5)])
    assert sorted(map(repr, master.tallies())) == sorted(map(repr, alone.tallies()))
    assert master.broken == alone.broken == 1


def test_exactly_the_target_holds_and_one_run_less_does_not() -> None:
    exact = judge([FAST], summary(tally(950, 50)))
    assert (exact.judged[0].held, exact.code) == (Held.HOLDS, Exit.GOOD)
    less = judge([FAST], summary(tally(949, 51), tally(1000, 0, seconds=None)))
    assert (less.judged[0].held, less.code) == (Held.FAILS, Exit.NOT_GOOD)
    assert less.judged[0].percentile == pytest.approx(0.48), "of locust: rounded, and not what it is judged by"


def test_slow_runs_of_a_load_without_time_to_spare_are_no_verdict_but_failed_ones_are() -> None:
    slow = judge([FAST], summary(tally(500, 500), tally(1000, 0, seconds=None), saturated=True))
    assert (slow.judged[0].held, slow.code) == (Held.UNKNOWN, Exit.NO_VERDICT)
    assert "use more workers" in slow.judged[0].why
    failed = judge([FAST], summary(tally(500, 500), tally(900, 100, seconds=None), saturated=True))
    assert (failed.judged[0].held, failed.code) == (Held.FAILS, Exit.NOT_GOOD)
    good = judge([FAST], summary(tally(1000, 0), saturated=True))
    assert good.code is Exit.GOOD, "fast enough though we were slow"


def test_a_step_that_no_run_came_to_is_no_evidence() -> None:
    verdict = judge([PAY], summary(tally(1000, 0)))
    assert (verdict.judged[0].held, verdict.judged[0].why) == (Held.UNKNOWN, "no run came to it")
    assert verdict.code is Exit.NO_VERDICT


def test_without_objectives_any_failure_is_not_good() -> None:
    assert judge([], summary()).code is Exit.GOOD
    failing = judge([], summary(failures=2))
    assert (failing.code, failing.why) == (
        Exit.NOT_GOOD,
        "2 of 1000 runs failed, and no objective says how many may",
    )


def test_no_verdict_where_nothing_ran_something_was_broken_or_it_ended_early() -> None:
    nothing = judge([UP], summary(runs=0, broken=3))
    assert (nothing.code, nothing.why) == (Exit.NO_VERDICT, "no run came to an end: no card")
    broken = judge([UP], summary(tally(1000, 0, seconds=None), broken=3))
    assert (broken.code, broken.why) == (Exit.NO_VERDICT, "3 runs were broken: no card")
    early = judge([UP], summary(tally(1000, 0, seconds=None)), ended_early="it was ended after 3 s of 60 s")
    assert (early.code, early.why) == (Exit.NO_VERDICT, "it was ended after 3 s of 60 s")
    assert judge([UP], summary(tally(10, 990, seconds=None)), ended_early="…").code is Exit.NOT_GOOD


def test_objectives_about_certificates_and_about_others_are_left_out() -> None:
    expiry = Objective(name="tls", probes=("order",), target=Fraction(1, 2), window=1.0, expires_within=86400.0)
    other = Objective(name="other", probes=("front",), target=Fraction(1, 2), window=1.0)
    assert bounds_for([expiry, other], "order") == ()
    assert judge([expiry, other], summary()).judged == ()
    assert bounds_for([FAST, PAY, UP], "order") == (Bound("", 0.5), Bound(), Bound("pay", 0.5), Bound("pay"))
