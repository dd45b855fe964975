"""What noise is, how often it pages by the model, and that simulated noise pages as often."""

import random
from collections.abc import Iterator
from fractions import Fraction

import pytest

from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState
from stormwatch.slo.evaluator import Evaluator
from stormwatch.slo.noise import MONTH, Noise, false_alerts_a_month, false_downs_a_month, measure
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BurnRate, Down, Windows
from tests.slo.story import DAY, START, objective, probe, result, results


@pytest.mark.parametrize(
    ("signs", "isolated"),
    [
        ("+++-+++", 1),
        ("+-+-+-+", 3),
        ("++--++", 0),
        ("-+++", 0),
        ("+++-", 0),
        ("+?-?+", 1),
        ("-+-+", 1),
        ("", 0),
    ],
)
def test_a_failed_run_between_two_good_ones_is_noise(signs: str, isolated: int) -> None:
    """Broken runs say nothing; at either end it is not known whether it is alone."""
    seen = measure(results(signs))

    assert seen.get("front", Noise(0, 0)) == Noise(isolated, len(signs.replace("?", "")))


def test_probes_are_measured_apart() -> None:
    """Their results come mixed."""
    mixed = [*results("+-+", name="front"), *results("+++", name="dns")]
    mixed.sort(key=lambda each: each.started)

    assert measure(mixed) == {"front": Noise(1, 3), "dns": Noise(0, 3)}


@pytest.mark.parametrize(
    ("pair", "share"),
    [
        pytest.param(Windows(20 * 60.0, 5 * 60.0, Fraction(3)), 0.05, id="a pair"),
        pytest.param(Windows(30 * 60.0, 60.0, Fraction(2)), 0.03, id="a long and a very short window"),
        pytest.param(Windows(10 * 60.0, 10 * 60.0, Fraction(4)), 0.08, id="one window"),
    ],
)
def test_simulated_noise_pages_as_often_as_the_model_says(pair: Windows, share: float) -> None:
    """The real evaluator over 40,000 runs, 40 s apart: within five standard deviations of the number that is expected."""
    watched = probe(every=40.0)
    promised = objective(target=Fraction(95, 100), window=1.0 * DAY)
    rule = rules_for_objective(promised, [watched])[0]
    assert isinstance(rule, BurnRate)
    alone = BurnRate(alertname="Noise", severity=rule.severity, objective=promised.name, pairs=(pair,))
    runs, rng = 40_000, random.Random(7)

    begun = _begun(alone, (result("-" if rng.random() < share else "+", START + 40.0 * n) for n in range(runs)))
    expected = false_alerts_a_month(alone, promised, Fraction(40), share) * runs * 40 / MONTH

    assert expected > 30
    assert abs(begun - expected) < 5 * (2 * expected) ** 0.5, (begun, expected)

    def wrong(factor: float) -> float:
        return abs(begun - expected * factor) / (2 * expected) ** 0.5

    assert wrong(2) > 3


def _begun(rule: BurnRate, seen: Iterator[Result]) -> int:
    promised = objective(target=Fraction(95, 100), window=1.0 * DAY)
    evaluator = Evaluator([promised], [rule], [probe(every=40.0)])
    begun = 0
    for each in seen:
        evaluator.observe(each)
        begun += sum(change.after is AlertState.FIRING for change in evaluator.evaluate(each.finished))
    return begun


def test_probe_down_pages_on_every_failed_run_unless_it_waits() -> None:
    """43,200 runs in a month of one a minute; with `for` over the next run two must fail in a row."""
    watched = probe(every=60.0)
    down = next(rule for rule in rules_for_probe(watched) if isinstance(rule, Down))
    patient = next(rule for rule in rules_for_probe(watched, lasting=60.0) if isinstance(rule, Down))

    assert false_downs_a_month(down, 60.0, 0.001) == pytest.approx(43_200 * 0.001 * 0.999)
    assert false_downs_a_month(patient, 60.0, 0.001) == pytest.approx(43_200 * 0.001**2 * 0.999)


def test_without_noise_nothing_is_expected_and_more_noise_pages_more() -> None:
    """The usual windows, a run a minute: one failed run in an hour is above 14.4 times."""
    promised = objective()
    page = rules_for_objective(promised, [probe(every=60.0)])[0]
    assert isinstance(page, BurnRate)
    expected = [false_alerts_a_month(page, promised, Fraction(60), share) for share in (0.0, 1e-5, 1e-4, 1e-3)]

    assert expected[0] == 0
    assert expected == sorted(expected)
    assert expected[2] == pytest.approx(43_200 * 1e-4, rel=0.15), "almost each of the failures pages"
