"""`step`: the named stretches of a journey, timed, nested, and able to say in which of them an exception was raised."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that is over. `name` of a nested one is `outer / inner`; the second of a name in a run is `name (2)`."""

    name: str
    began: float
    """On the clock of its `Steps`, in seconds."""
    seconds: float
    failed: bool


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

    def __call__(self, name: str) -> "OpenStep":
        """A context manager that times its body under this name. Raises ValueError for a name that is empty."""
        said = " ".join(str(name).split())
        if not said:
            raise ValueError('a step needs a name that people can read, as in step("add to cart")')
        return OpenStep(self, said)

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

    def end(self, name: str, began: float, error: BaseException | None) -> None:
        """Close the step that was opened last."""
        seconds = self._clock() - began
        self._open.pop()
        if error is not None and not any(raised is error for raised, _ in self._raised):
            self._raised.append((error, name))
        step = Step(name=name, began=began, seconds=seconds, failed=error is not None)
        self.done.append(step)
        for listener in self._listeners:
            listener.step_ended(step)


class OpenStep:
    """A step as a context manager. A class and not a generator, so that no frame of ours stands in a traceback."""

    def __init__(self, steps: Steps, name: str) -> None:
        self._steps = steps
        self._name = name
        self._full = ""
        self._began = 0.0

    def __enter__(self) -> Self:
        self._full, self._began = self._steps.begin(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.end(self._full, self._began, error)
