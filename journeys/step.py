"""`step`: the named stretches of a journey, timed, nested, and able to say in which of them an exception was raised.

A soft step that fails does not stop the journey: the run fails when its body is over. A step with a budget fails when it took
longer.
"""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is over. `name` of a nested one is `outer / inner`; the second of a name in a run is `name (2)`."""

    name: str
    began: float
    """On the clock of its `Steps`, in seconds."""
    seconds: float
    failed: bool
    picture: bool = False
    """Whether a picture of the page is wanted now that it is over."""


class OverBudget(AssertionError):
    """A step did what it should, and took longer than its budget."""


class StepListener(Protocol):
    """Hears of steps while they run: the worker, which passes them on; the recorder, which groups the trace by them."""

    def step_began(self, name: str) -> None:
        """Called before the body of the step."""
        ...

    def step_ended(self, step: Step) -> None:
        """Called after the body, also when it raised."""
        ...


class Steps:
    """What the fixture `step` gives to one run of one test: `with step("add to cart"): …`."""

    def __init__(
        self, *, clock: Callable[[], float] = time.perf_counter, listeners: Sequence[StepListener] = ()
    ) -> None:
        self._clock = clock
        self._listeners = listeners
        self._open: list[str] = []
        self._seen: dict[str, int] = {}
        self._raised: list[tuple[BaseException, str]] = []
        self.done: list[Step] = []
        """Every step that is over, in the order in which they began to be over: an inner one before its outer one."""
        self.survived: list[tuple[str, BaseException]] = []
        """The soft steps that failed, and of what."""

    def __call__(
        self, name: str, *, soft: bool = False, budget: float | timedelta | None = None, picture: bool = False
    ) -> "OpenStep":
        """A context manager that times its body under this name.

        soft        when it fails, the journey goes on, and the run fails at its end
        budget      seconds: a step that took longer fails, as `too-slow`
        picture     a picture of the page is taken after it, and kept where artifacts of the run are kept

        Raises ValueError for a name that is empty and a budget that is none.
        """
        said = " ".join(str(name).split())
        if not said:
            raise ValueError('a step needs a name that people can read, as in step("add to cart")')
        seconds = budget / timedelta(seconds=1) if isinstance(budget, timedelta) else budget
        if seconds is not None and not 0 < seconds < float("inf"):
            raise ValueError(f"the budget of step {said!r} is {budget!r}; write seconds above 0, or leave it out")
        return OpenStep(self, said, soft=soft, budget=seconds, picture=picture)

    def failing(self, error: BaseException) -> str:
        """The innermost step that `error`, or what it was raised from, came out of; empty if it came from no step."""
        cause: BaseException | None = error
        while cause is not None:
            for raised, name in self._raised:
                if raised is cause:
                    return name
            cause = cause.__cause__ or cause.__context__
        return ""

    def begin(self, name: str) -> tuple[str, float]:
        """Open a step inside the one that is open now. Returns its full name and when it began."""
        path = " / ".join([*self._open[-1:], name])
        count = self._seen[path] = self._seen.get(path, 0) + 1
        full = path if count == 1 else f"{path} ({count})"
        self._open.append(full)
        for listener in self._listeners:
            listener.step_began(full)
        return full, self._clock()

    def end(
        self, name: str, began: float, error: BaseException | None, *, budget: float | None, picture: bool
    ) -> BaseException | None:
        """Close the step that was opened last. Returns what it failed of: `error`, or that its budget was not enough."""
        seconds = self._clock() - began
        self._open.pop()
        if error is None and budget is not None and seconds > budget:
            error = OverBudget(f'step "{name}" took {seconds:.3g} s, and its budget is {budget:.3g} s')
        if error is not None and not any(raised is error for raised, _ in self._raised):
            self._raised.append((error, name))
        step = Step(name=name, began=began, seconds=seconds, failed=error is not None, picture=picture)
        self.done.append(step)
        for listener in self._listeners:
            listener.step_ended(step)
        return error


class OpenStep:
    """A step as a context manager. A class and not a generator, so that no frame of ours stands in a traceback."""

    def __init__(self, steps: Steps, name: str, *, soft: bool, budget: float | None, picture: bool) -> None:
        self._steps = steps
        self._name = name
        self._soft = soft
        self._budget = budget
        self._picture = picture
        self._full = ""
        self._began = 0.0

    def __enter__(self) -> Self:
        self._full, self._began = self._steps.begin(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        failure = self._steps.end(self._full, self._began, error, budget=self._budget, picture=self._picture)
        if failure is None:
            return False
        # What is no failure of the step (a skip, Ctrl-C) goes its way.
        if self._soft and isinstance(failure, (Exception, pytest.fail.Exception)):
            self._steps.survived.append((self._full, failure if failure is error else _raised_here(failure)))
            return True
        if failure is not error:
            raise failure
        return False


def _raised_here(error: BaseException) -> BaseException:
    """With the line of the journey in its traceback, though nobody raised it there."""
    frame = inspect.currentframe()
    caller = frame.f_back.f_back if frame and frame.f_back else None
    return error.with_traceback(TracebackType(None, caller, caller.f_lasti, caller.f_lineno)) if caller else error
