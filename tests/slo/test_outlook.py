"""What `validate` says of an alert is what the real evaluator does: detection at 100 %, 50 % and 10 % errors, and the reset."""

import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest

from stormwatch.probes.probe import Confirm
from stormwatch.slo.alert import AlertState, Severity
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.feasibility import SHARES, Outlook, outlook_of_probe, outlooks
from stormwatch.slo.latency import Bounds, longest_run
from stormwatch.slo.noise import Noise
from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BurnRate, Rule, Windows
from tests.slo.story import DAY, START, objective, probe, result

WATCHED = probe(every=20.0, timeout=5.0, confirm=Confirm(attempts=2, after=1.0))
PROMISED = objective(target=Fraction(95, 100), window=1.0 * DAY)
PAIRS = {
    "a pair": (Windows(1200.0, 200.0, Fraction(1)),),
    "no multiple of the interval": (Windows(1210.0, 130.0, Fraction(3, 2)),),
    "two pairs": (Windows(600.0, 100.0, Fraction(4)), Windows(2000.0, 300.0, Fraction(1))),
}


def _rule(pairs: tuple[Windows, ...], lasting: float = 0.0) -> BurnRate:
    return BurnRate(
        alertname="ErrorBudgetBurn", severity=Severity.PAGE, objective=PROMISED.name, pairs=pairs, lasting=lasting
    )


def _moments(rule: Rule, promised: Objective, *, nth: int, first: int, onset: float, takes: float) -> Iterator[float]:
    """Seconds from the onset until it fires; then, when all runs are good again from there on, until it is over."""
    evaluator = Evaluator([promised], [rule], [WATCHED])
    healthy = 110  # runs: longer than any window here
    begins = START + healthy * WATCHED.every + onset
    fired = False
    second = START
    for number in itertools.count():
        at = START + number * WATCHED.every
        since = number - healthy - (1 if onset > 0 else 0)
        bad = not fired and since >= 0 and since % nth == first
        decided = at + (takes if bad else 0.125)
        while second < decided:
            changes = evaluator.evaluate(second)
            second += 1
            for change in changes:
                if change.after is AlertState.FIRING:
                    fired = True
                    yield change.at - begins
                elif change.after is AlertState.RESOLVED:
                    return
        evaluator.observe(result("-" if bad else "+", decided, seconds=decided - at))
        if number > healthy + 1000:
            return


def _fires(rule: Rule, nth: int, promised: Objective = PROMISED) -> list[float]:
    """From every phase: a run has just begun, or has just passed; the failing ones are quick or as slow as can be."""
    return [
        moment
        for first in range(nth)
        for onset, takes in ((0.0, 1.0), (0.0, longest_run(WATCHED)), (0.5, 1.0), (0.5, longest_run(WATCHED)))
        for moment in itertools.islice(_moments(rule, promised, nth=nth, first=first, onset=onset, takes=takes), 1)
    ]


def _outlook(rule: BurnRate) -> Outlook:
    (found,) = outlooks(PROMISED, [WATCHED], [rule])
    return found


@pytest.mark.parametrize("nth", SHARES)
@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_detection_is_bracketed_and_the_brackets_are_tight(pairs: tuple[Windows, ...], nth: int) -> None:
    """Nothing is seen sooner or later than said, and both ends are nearly reached: an interval for windows of an odd length."""
    rule = _rule(pairs)
    best, worst = _outlook(rule).detection[nth]
    seen = _fires(rule, nth)
    if worst == float("inf") == best:
        assert not seen
        return

    assert seen
    assert best <= min(seen)
    assert max(seen) <= worst
    slack = nth * WATCHED.every + 2
    assert min(seen) <= best + slack
    assert worst - slack <= max(seen)


@pytest.mark.parametrize("nth", SHARES)
def test_what_is_said_to_be_never_seen_is_not_and_no_more(nth: int) -> None:
    """20 % of the runs must fail: every second is more, every tenth less."""
    rule = _rule((Windows(1200.0, 200.0, Fraction(4)),))
    never = _outlook(rule).detection[nth] == Bounds(float("inf"), float("inf"))

    assert never is (nth == 10)
    assert bool(_fires(rule, nth)) is not never


def test_a_for_is_waited_for() -> None:
    """Also by failures that are spread: their share must stay above the threshold between two of them."""
    rule = _rule((Windows(1200.0, 200.0, Fraction(1)),), lasting=90.0)
    for nth in (1, 2):
        best, worst = _outlook(rule).detection[nth]
        seen = _fires(rule, nth)
        assert best <= min(seen) <= max(seen) <= worst


def test_the_reset_is_bracketed() -> None:
    """After a total failure that just made it fire."""
    for pairs in PAIRS.values():
        rule = _rule(pairs)
        best, worst = _outlook(rule).reset
        evaluator = Evaluator([PROMISED], [rule], [WATCHED])
        at, failing, good_since, over = START, False, 0.0, 0.0
        for number in range(600):
            at = START + number * WATCHED.every
            failing = number >= 110 and not good_since
            evaluator.observe(result("-" if failing else "+", at + 0.25))
            for second in range(int(WATCHED.every)):
                for change in evaluator.evaluate(at + 1 + second):
                    if change.after is AlertState.FIRING and not good_since:
                        good_since = change.at
                    elif change.after is AlertState.RESOLVED:
                        over = change.at
            if over:
                break
        assert best <= over - good_since <= worst, pairs


def test_noise_is_told_where_it_was_measured() -> None:
    """Of an objective about two probes the noise of both; without one of them nothing."""
    dns = probe("dns", every=40.0)
    both = objective(probes=("front", "dns"))
    rules = rules_for_objective(both, [WATCHED, dns])
    noise = {"front": Noise(3, 1000), "dns": Noise(0, 500)}

    (page, *_) = outlooks(both, [WATCHED, dns], rules, noise=noise)
    assert page.noise == pytest.approx(0.002)
    assert page.false_a_month is not None
    assert page.false_a_month > 0
    assert outlooks(both, [WATCHED, dns], rules, noise={"front": Noise(3, 1000)})[0].false_a_month is None


def test_probe_down_is_seen_at_the_next_failed_run() -> None:
    """And with a `for` over the next run never, when that is good."""
    at_once = outlook_of_probe(WATCHED, rules_for_probe(WATCHED), noise={"front": Noise(2, 100)})
    patient = outlook_of_probe(WATCHED, rules_for_probe(WATCHED, lasting=30.0))
    assert at_once is not None
    assert patient is not None

    assert (at_once.failures, patient.failures) == (1, 3)
    assert at_once.detection[10].worst == at_once.detection[1].worst + 9 * WATCHED.every
    assert patient.detection[2] == Bounds(float("inf"), float("inf"))
    assert at_once.false_a_month == pytest.approx(30 * DAY / 20 * 0.98 * 0.02)
    assert outlook_of_probe(WATCHED, rules_for_probe(WATCHED, severity=None)) is None
