"""Whether a value is within its tolerance: as chaoslib has it where that has an answer, and no where it has none."""

from typing import Any

import pytest

from stormwatch.chaos.experiment import AtPath, Exactly, Matches, OneOf, Provider, Within
from stormwatch.chaos.experiment_tolerance import decided, meets
from stormwatch.chaos.experiment_variables import Variables

ANSWER = {"status": 200, "headers": {}, "body": {"queue": {"length": 7}, "nodes": [{"up": True}, {"up": False}]}}


@pytest.mark.parametrize(
    ("tolerance", "value", "met"),
    [
        (Exactly(value=True), True, True),
        (Exactly(value=True), "yes", False),
        (Exactly(value=True), ANSWER, False),
        (Exactly(value=200), 200, True),
        (Exactly(value=200), ANSWER, True),
        (Exactly(value=201), ANSWER, False),
        (Exactly(value="${word}"), "well", True),
        (OneOf(values=(200, 204)), ANSWER, True),
        (OneOf(values=(199, 201)), ANSWER, False),  # a status is one of them, not between
        (OneOf(values=(1, 10)), 5, True),
        (OneOf(values=(1, 10)), 10, True),
        (OneOf(values=(1, 10)), 11, False),
        (OneOf(values=(1, 10)), "5", False),
        (OneOf(values=(1, 5, 10)), 5, True),
        (OneOf(values=(1, 5, 10)), 4, False),
        (Within(low=0.1, high=0.3), 0.3, True),
        (Within(low=0.1, high=0.3), "0.2\n", True),
        (Within(low=0.1, high=0.3), "many", False),
        (Within(low=0, high=1), float("nan"), False),
        (Within(low=200, high=299, target="status"), ANSWER, True),
        (Matches(pattern="^we"), "well", True),
        (Matches(pattern="ll$", target="stdout"), {"stdout": "well"}, True),
        (Matches(pattern="ill"), "well", False),
        (Matches(pattern="7"), 7, False),
        (AtPath(path="$.queue.length", target="body"), ANSWER, True),
        (AtPath(path="$.queue.age", target="body"), ANSWER, False),
        (AtPath(path="$.nodes[*].up", target="body", count=2), ANSWER, True),
        (AtPath(path="$.nodes[*].up", target="body", count=3), ANSWER, False),
        (AtPath(path="$.nodes[*].up", target="body", expect=[True, False], has_expect=True), ANSWER, True),
        (AtPath(path="$.queue.length", expect=7, has_expect=True), '{"queue": {"length": 7}}', True),
        (AtPath(path="$.queue.length", expect=8, has_expect=True), '{"queue": {"length": 7}}', False),
        (AtPath(path="$.a"), "no JSON", False),
    ],
)
def test_a_value_is_compared(tolerance: Any, value: Any, met: bool) -> None:
    """Every kind, met and not met."""
    assert meets(tolerance, value, Variables({"word": "well"})).met is met


@pytest.mark.parametrize(
    ("provider", "output", "yes"),
    [
        (Provider.PYTHON, 1, True),
        (Provider.PYTHON, 0, False),
        (Provider.PROCESS, {"status": 0}, True),
        (Provider.PROCESS, {"status": 1}, False),  # chaoslib takes any answer for a yes
        (Provider.HTTP, {"status": 204}, True),
        (Provider.HTTP, {"status": 500}, False),
    ],
)
def test_what_another_probe_decides(provider: Provider, output: Any, yes: bool) -> None:
    """A program and a request say it with their status."""
    assert decided(provider, output) is yes


def test_both_sides_are_shown() -> None:
    """What was asked and what was seen, cut to a line."""
    shown = meets(Exactly(value=201), {"status": 200}, Variables())
    assert (shown.asked, shown.seen) == ("201", "200")
    assert len(meets(Exactly(value="x"), "y" * 5000, Variables()).seen) < 200
