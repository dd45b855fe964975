"""Steps: timed, nested, and able to say where an exception came from. In virtual time."""

import traceback
from datetime import timedelta

import pytest

from stormwatch.journeys.failure import explain
from stormwatch.journeys.step import OverBudget, Step, Steps
from stormwatch.probes.result import Reason


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_knows_when_it_began_and_how_long_it_took() -> None:
    clock = Hand()
    step = Steps(clock=clock)
    clock.now = 101.0
    with step("open"):
        clock.now = 103.5
    assert step.done == [Step(name="open", began=101.0, seconds=2.5, failed=False)]


def test_a_nested_step_carries_the_name_of_the_outer_one_and_is_over_before_it() -> None:
    step = Steps(clock=Hand())
    with step("check out"), step("pay"):
        pass
    assert [done.name for done in step.done] == ["check out / pay", "check out"]


def test_steps_of_one_name_are_numbered_so_that_none_hides_another() -> None:
    step = Steps(clock=Hand())
    for _ in range(3):
        with step("add to cart"):
            pass
    assert [done.name for done in step.done] == ["add to cart", "add to cart (2)", "add to cart (3)"]


def test_the_innermost_step_is_the_one_that_failed() -> None:
    step = Steps(clock=Hand())
    with pytest.raises(KeyError) as caught, step("check out"), step("pay"):
        raise KeyError("card")
    assert step.failing(caught.value) == "check out / pay"
    assert [(done.name, done.failed) for done in step.done] == [("check out / pay", True), ("check out", True)]


def test_an_exception_raised_from_that_of_a_step_still_leads_to_the_step() -> None:
    step = Steps(clock=Hand())

    def pay() -> None:
        with step("pay"):
            raise KeyError("card")

    def check_out() -> None:
        try:
            pay()
        except KeyError as error:
            raise RuntimeError("no card") from error

    with pytest.raises(RuntimeError) as caught:
        check_out()
    assert step.failing(caught.value) == "pay"


def test_a_failure_that_the_journey_survived_is_not_the_one_that_failed_it() -> None:
    step = Steps(clock=Hand())
    with pytest.raises(KeyError), step("try the old button"):
        raise KeyError("button")
    assert step.failing(ValueError("later")) == ""


@pytest.mark.parametrize("name", ["", "  "])
def test_a_step_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a step needs a name"):
        Steps()(name)


def test_listeners_hear_of_a_step_before_and_after_it() -> None:
    heard: list[object] = []

    class Listener:
        def step_began(self, name: str) -> None:
            heard.append(name)

        def step_ended(self, step: Step) -> None:
            heard.append(step.failed)

    step = Steps(clock=Hand(), listeners=[Listener()])
    with step("open"):
        heard.append("body")
    assert heard == ["open", "body", False]


def test_a_soft_step_that_fails_does_not_stop_the_journey_and_is_remembered() -> None:
    step = Steps(clock=Hand())
    with step("look around"):
        with step("banner", soft=True):
            raise KeyError("no banner")
        with step("buy"):
            pass
    assert [(done.name, done.failed) for done in step.done] == [
        ("look around / banner", True),
        ("look around / buy", False),
        ("look around", False),
    ]
    ((name, error),) = step.survived
    assert (name, repr(error), step.failing(error)) == ("look around / banner", "KeyError('no banner')", name)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), pytest.skip.Exception("not today")])
def test_what_is_no_failure_of_a_soft_step_goes_its_way(ending: BaseException) -> None:
    step = Steps(clock=Hand())
    with pytest.raises(type(ending)), step("banner", soft=True):
        raise ending
    assert step.survived == []


def test_pytest_fail_in_a_soft_step_is_a_failure_of_it() -> None:
    step = Steps(clock=Hand())
    with step("banner", soft=True):
        pytest.fail("no banner")
    assert [name for name, _ in step.survived] == ["banner"]


@pytest.mark.parametrize("budget", [2.0, timedelta(seconds=2)])
def test_a_step_that_takes_longer_than_its_budget_fails_and_one_that_takes_just_as_long_does_not(
    budget: float | timedelta,
) -> None:
    clock = Hand()
    step = Steps(clock=clock)
    with step("open", budget=budget):
        clock.now += 2.0
    with pytest.raises(OverBudget) as caught, step("pay", budget=budget):
        clock.now += 2.5
    assert [(done.name, done.failed) for done in step.done] == [("open", False), ("pay", True)]
    assert explain(caught.value) == (Reason.TOO_SLOW, 'step "pay" took 2.5 s, and its budget is 2 s')
    assert step.failing(caught.value) == "pay"


def test_what_a_step_failed_of_is_told_and_not_that_it_was_slow_as_well() -> None:
    clock = Hand()
    step = Steps(clock=clock)

    def pay() -> None:
        with step("pay", budget=1.0):
            clock.now += 2.0
            raise KeyError("card")

    with pytest.raises(KeyError):
        pay()


def test_a_soft_step_over_its_budget_points_to_its_line_in_the_journey() -> None:
    clock = Hand()
    step = Steps(clock=clock)
    with step("pay", soft=True, budget=1.0):
        clock.now += 2.0
    ((_, error),) = step.survived
    assert [entry.name for entry in traceback.extract_tb(error.__traceback__)] == [
        "test_a_soft_step_over_its_budget_points_to_its_line_in_the_journey"
    ]


@pytest.mark.parametrize("budget", [0, -1, float("inf"), float("nan"), timedelta(0)])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="the budget of step 'pay' is"):
        Steps()("pay", budget=budget)
