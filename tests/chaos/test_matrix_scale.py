"""Rules whose windows are scaled: the same alert for the same share of failures, sooner."""

from fractions import Fraction

import pytest

from stormwatch.chaos.matrix_scale import read_factor, scaled
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.rule import BurnRate, Windows
from tests.chaos.test_matrix_plan import FRONT, objective

PROMISE = objective("promise", "front")
RULES = (*rules_for_objective(PROMISE, (FRONT,)), *rules_for_probe(FRONT))


def burns(factor: str) -> list[BurnRate]:
    made = scaled(RULES, Fraction(factor), probes=(FRONT,), objectives=(PROMISE,))
    return [one for one in made.rules if isinstance(one, BurnRate)]


def test_windows_shrink_by_the_factor_and_burn_factors_stay() -> None:
    """1 h and 5 min become 6 min and 30 s; 14.4 stays."""
    (page, _ticket) = burns("1/10")

    assert page.pairs[0] == Windows(long=360.0, short=30.0, factor=Fraction(144, 10))


def test_no_window_gets_shorter_than_its_probe_can_fill() -> None:
    """Two results of a probe every 5 s, and three times that for the long one; it is said."""
    made = scaled(RULES, Fraction(1, 360), probes=(FRONT,), objectives=(PROMISE,))
    pairs = [pair for one in made.rules if isinstance(one, BurnRate) for pair in one.pairs]

    assert pairs[0] == Windows(long=30.0, short=10.0, factor=Fraction(144, 10))
    assert made.held[0] == "promise: the window of 1 s is 10 s, or it held no results"


def test_the_rules_of_probes_keep_their_rhythm() -> None:
    """And a factor of one changes nothing."""
    made = scaled(RULES, Fraction(1, 60), probes=(FRONT,), objectives=(PROMISE,))

    assert [one for one in made.rules if not isinstance(one, BurnRate)] == [
        one for one in RULES if not isinstance(one, BurnRate)
    ]
    assert scaled(RULES, Fraction(1), probes=(FRONT,), objectives=(PROMISE,)).rules == RULES


@pytest.mark.parametrize(("text", "factor"), [("1/60", Fraction(1, 60)), ("0.1", Fraction(1, 10)), ("1", Fraction(1))])
def test_a_factor_is_written_as_a_fraction_or_a_number(text: str, factor: Fraction) -> None:
    """Exactly."""
    assert read_factor(text) == factor


@pytest.mark.parametrize("text", ["", "x", "1/0", "0", "2", "-1/2"])
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    """More than 1 would make windows longer."""
    with pytest.raises(ValueError, match="scale"):
        read_factor(text)
