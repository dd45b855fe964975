"""Steps: timed, nested, and able to say where an exception came from. In virtual time."""

import pytest

from stormwatch.journeys.step import Step, Steps


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
