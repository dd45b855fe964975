"""The unit tests that we write for rules of calendar windows, time slices and own burns: passed as rendered, failed when broken by hand."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from stormwatch.slo.alert import Severity
from stormwatch.slo.calendar import Calendar
from stormwatch.slo.objective import Objective, Slices
from stormwatch.slo.policy import Burn, rules_for_objective
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.promtool import render_tests
from stormwatch.slo.rule import BudgetLeft, BurnRate, Rule
from tests.slo.promtool import promtool
from tests.slo.story import objective, probe
from tests.slo.test_promtool import write_all

FRONT = probe()
MONTH = objective("month", target=Fraction(99, 100), calendar=Calendar("month", "Europe/Berlin"))
SLICED = objective("sliced", target=Fraction(9, 10), window=7200.0, slices=Slices(60.0, Fraction(3, 4)))
OWN = objective("own", target=Fraction(99, 100), window=7200.0)
BURNS = (Burn(severity=Severity.PAGE, long=720.0, short=120.0, factor=Fraction("14.4"), lasting=60.0, literal=True),)


def low(about: Objective) -> Sequence[Rule]:
    """Only what looks at its budget."""
    return [rule for rule in rules_for_objective(about, [FRONT]) if isinstance(rule, BudgetLeft)]


CASES: dict[str, tuple[Objective, Sequence[Rule]]] = {
    "month": (MONTH, low(MONTH)),
    "slices": (SLICED, low(SLICED)),
    "burns": (
        OWN,
        [rule for rule in rules_for_objective(OWN, [FRONT], burns=BURNS) if isinstance(rule, BurnRate)],
    ),
}


def tried(case: str, directory: Path, *mistake: str) -> tuple[int, str]:
    """What promtool says of the rules of a case and their tests, after one text of the rules was made another."""
    about, rules = CASES[case]
    text = render_rules([about], rules, [FRONT])
    if mistake:
        right, wrong = mistake
        assert right in text
        text = text.replace(right, wrong)
    files = render_tests([about], rules, [FRONT], rule_file="rules.yml")
    done = promtool(directory, *write_all(directory, text, files))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_promtool_passes_the_tests(case: str, tmp_path: Path) -> None:
    """Each is rendered and tested like every other objective."""
    code, said = tried(case, tmp_path)

    assert code == 0, said


@pytest.mark.parametrize(
    ("case", "right", "wrong"),
    [
        (
            "month",
            'stormwatch_objective_period_events{objective="month", judgement="bad"}',
            'stormwatch_objective_period_events{objective="month", judgement="good"}',
        ),
        ("month", "stormwatch_objective_period_expected_events", "stormwatch_objective_period_events"),
        ("month", "0.01 * clamp_min", "0.02 * clamp_min"),
        ("month", "< 0.1", "< 0.2"),
        ("slices", "120)", "480)"),
        ("burns", "for: 1m", "for: 4m"),
        ("burns", "ratio_rate12m{", "ratio_rate5m{"),
    ],
)
def test_a_rule_that_is_broken_by_hand_fails_its_test(case: str, right: str, wrong: str, tmp_path: Path) -> None:
    """Another series, another whole, another budget, another `for`, another window."""
    code, said = tried(case, tmp_path, right, wrong)

    assert (code, "FAILED" in said) == (1, True)
