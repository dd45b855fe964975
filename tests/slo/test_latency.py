"""What the time budget promises is what the evaluator keeps, at every phase of probe, failure and evaluation."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.probe import Confirm, Probe
from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.latency import Bounds, failures_to_fire, time_to_fire, time_to_resolve
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BudgetLeft, BurnRate, Down, Rule, Windows
from tests.slo.story import DAY, HOUR, MINUTE, START, objective, probe, result

HOURLY = Windows(1.0 * HOUR, 5.0 * MINUTE, Fraction(72, 5))
SIX_HOURS = Windows(6.0 * HOUR, 30.0 * MINUTE, Fraction(6))
DAILY = Windows(1.0 * DAY, 2.0 * HOUR, Fraction(3))
THREE_DAYS = Windows(3.0 * DAY, 6.0 * HOUR, Fraction(1))


@pytest.mark.parametrize(
    ("every", "target", "needed"),
    [
        (15, "999/1000", [4, 9, 18, 18]),
        (30, "999/1000", [2, 5, 9, 9]),
        (60, "999/1000", [1, 3, 5, 5]),
        (60, "995/1000", [5, 11, 22, 22]),
        (60, "99/100", [9, 22, 44, 44]),
        (300, "999/1000", [1, 1, 1, 1]),
        (300, "995/1000", [1, 3, 5, 5]),
        (600, "999/1000", [1, 1, 1, 1]),
    ],
)
def test_failures_that_page_in_a_month_of_the_workbook(every: int, target: str, needed: list[int]) -> None:
    """After a healthy time; a run a minute at 99.9 % pages at the first failure."""
    asked = objective(target=Fraction(target))

    assert needed == [failures_to_fire(pair, asked, Fraction(every)) for pair in (HOURLY, SIX_HOURS, DAILY, THREE_DAYS)]


def test_a_pair_that_needs_more_than_everything_never_fires() -> None:
    """14.4 times 7 % is more than all runs."""
    low = objective(target=Fraction(93, 100))
    rule = BurnRate(alertname="B", severity=Severity.PAGE, objective=low.name, pairs=(HOURLY,))

    assert failures_to_fire(HOURLY, low, Fraction(15)) is None
    assert time_to_fire(rule, probe(), 1.0, objective=low) == Bounds(math.inf, math.inf)


def test_a_probe_that_is_down_pages_within_an_interval_and_its_attempts() -> None:
    """15 s until the next run, two attempts of 5 s with a pause of 1 s, an evaluation a second."""
    down, _ = rules_for_probe(probe())

    assert time_to_fire(down, probe(), 1.0) == Bounds(1.0, 15 + 5 + 1 + 5 + 1)


def test_a_for_waits_for_the_evaluation_after_it() -> None:
    """30 s at an evaluation every 20 s are 40 s."""
    down, _ = rules_for_probe(probe(), lasting=30)

    assert time_to_fire(down, probe(), 20.0) == Bounds(1 + 40, 26 + 20 + 40)


def test_a_burn_takes_as_many_runs_as_its_windows_need() -> None:
    """Four failed of 240 after a healthy hour: three intervals more than the first."""
    rule = BurnRate(alertname="B", severity=Severity.PAGE, objective="front-availability", pairs=(HOURLY,))

    bounds = time_to_fire(rule, probe(), 1.0, objective=objective())
    assert bounds == Bounds(best=1.0, worst=26 + 3 * 15 + 1)
    assert time_to_fire(rule, probe(), 1.0, objective=objective(), healthy=1.0 * HOUR).best == 1 + 3 * 15


def test_runs_that_take_longer_than_their_interval_skip_ticks() -> None:
    """Two attempts of 10 s every 15 s: while it fails there is a result every 30 s."""
    slow = probe(timeout=10.0)
    rule = BurnRate(alertname="B", severity=Severity.PAGE, objective="front-availability", pairs=(HOURLY,))

    assert time_to_fire(rule, slow, 1.0, objective=objective()).worst == 15 + 21 + 3 * 30 + 1


def test_a_rule_about_an_objective_needs_it() -> None:
    """The budget is not in the rule."""
    page, *_ = rules_for_objective(objective(), [probe()])

    with pytest.raises(ValueError, match="is about the objective 'front-availability'; none was given"):
        time_to_fire(page, probe(), 1.0)
    with pytest.raises(ValueError, match="is about the objective 'front-availability'; 'other' was given"):
        time_to_resolve(page, probe(), 1.0, failing=60, objective=objective("other"))


def test_a_page_is_resolved_when_the_failures_have_left_the_short_windows() -> None:
    """A minute of outage in a young installation stays for the half hour of the slower pair."""
    page, *_ = rules_for_objective(objective(), [probe()])

    bounds = time_to_resolve(page, probe(), 1.0, failing=60, objective=objective())
    assert 30 * MINUTE < bounds.worst < 32 * MINUTE
    assert bounds.best < 6 * MINUTE


probes = st.builds(
    probe,
    every=st.sampled_from([5.0, 7.0, 15.0, 30.0]),
    timeout=st.sampled_from([1.0, 4.0, 6.0]),
    confirm=st.builds(Confirm, attempts=st.integers(1, 3), after=st.sampled_from([0.0, 1.0])),
)
short_objective = objective(target=Fraction(95, 100), window=10.0 * MINUTE)
rules = st.one_of(
    st.builds(
        Down,
        alertname=st.just("D"),
        severity=st.just(Severity.PAGE),
        probe=st.just("front"),
        lasting=st.integers(0, 40),
    ),
    st.builds(
        BurnRate,
        alertname=st.just("B"),
        severity=st.just(Severity.PAGE),
        objective=st.just(short_objective.name),
        lasting=st.sampled_from([0, 0, 45]),
        pairs=st.sampled_from(
            [
                (Windows(300.0, 60.0, Fraction(10)),),
                (Windows(300.0, 300.0, Fraction(4)),),
                (Windows(300.0, 60.0, Fraction(10)), Windows(600.0, 120.0, Fraction(3))),
            ]
        ),
    ),
    st.builds(
        BudgetLeft,
        alertname=st.just("L"),
        severity=st.just(Severity.INFO),
        objective=st.just(short_objective.name),
        below=st.sampled_from([Fraction(1, 10), Fraction(1, 2)]),
    ),
)


@given(
    watched=probes,
    rule=rules,
    interval=st.sampled_from([1.0, 5.0, 15.0]),
    place=st.floats(0, 0.999),
    offset=st.floats(0, 0.999),
    slowness=st.floats(0, 1),
    history=st.sampled_from([0.0, 1.0]),
    outage=st.sampled_from([120.0, 400.0]),
)
@settings(max_examples=200, deadline=None)
def test_the_evaluator_keeps_the_bounds(
    *,
    watched: Probe,
    rule: Rule,
    interval: float,
    place: float,
    offset: float,
    slowness: float,
    history: float,
    outage: float,
) -> None:
    """A total failure begins and ends at some moment, between runs and evaluations at any phase."""
    fails, back = START + 10 * MINUTE, START + 10 * MINUTE + outage
    # Either the windows are full of good results when it begins to fail, or monitoring begins with the failure.
    begins = START - watched.every if history else fails
    fired, resolved = _live(
        watched,
        rule,
        begins=begins + place * watched.every,
        failing=(fails, back),
        slowness=slowness,
        evaluations=(interval, offset),
    )

    bounds = time_to_fire(rule, watched, interval, objective=_of(rule))
    late_enough = back - fails > bounds.worst + 0.01
    if fired is not None and fired <= back:
        assert bounds.best - 0.01 <= fired - fails
    if late_enough:
        assert fired is not None
        assert fired - fails <= bounds.worst + 0.01
    if late_enough and resolved is not None:
        over = time_to_resolve(rule, watched, interval, failing=outage, objective=_of(rule))
        assert over.best - 0.01 <= resolved - back <= over.worst + 0.01


def _of(rule: Rule) -> Objective | None:
    return short_objective if isinstance(rule, BurnRate | BudgetLeft) else None


def _live(
    watched: Probe,
    rule: Rule,
    *,
    begins: float,
    failing: tuple[float, float],
    slowness: float,
    evaluations: tuple[float, float],
) -> tuple[float | None, float | None]:
    """When the alert first fired, and when it was resolved after the target was back; a run skips ticks as the runner does."""
    one = Evaluator([short_objective], [rule], [watched])
    decided = list(_runs(watched, begins, failing, slowness, until=failing[1] + 20 * MINUTE))
    interval, offset = evaluations
    now = START - watched.every + offset * interval
    fired = resolved = None
    while now < failing[1] + 20 * MINUTE:
        while decided and decided[0][0] <= now:
            at, up = decided.pop(0)
            one.observe(result("+" if up else "-", at))
        for change in one.evaluate(now):
            if change.after is AlertState.FIRING and fired is None:
                fired = now
            if change.after is AlertState.RESOLVED and now >= failing[1] and resolved is None:
                resolved = now
        now += interval
    return fired, resolved


def _runs(
    watched: Probe, begins: float, failing: tuple[float, float], slowness: float, *, until: float
) -> list[tuple[float, bool]]:
    ends: list[tuple[float, bool]] = []
    tick, free = begins, begins
    while tick < until:
        if tick >= free:
            at, up = tick, False
            for attempt in range(watched.confirm.attempts):
                up = not failing[0] <= at < failing[1]
                at += watched.timeout * (slowness * 0.5 if up else slowness)
                if up:
                    break
                if attempt + 1 < watched.confirm.attempts:
                    at += watched.confirm.after
            ends.append((at, up))
            free = at
        tick += watched.every
    return ends
