"""What a drill watches: the results, transitions and notifications that an operator gets, and nothing else."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Transition


@dataclass(frozen=True, slots=True)
class Notified:
    """A receiver outside of the monitoring was told about an alert, at a unix time."""

    labels: Mapping[str, str]
    at: float

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"labels": dict(self.labels), "at": self.at}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Notified":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        return cls(labels=document["labels"], at=document["at"])


@dataclass(slots=True)
class Recording:
    """Everything that came since it was opened, in the order it came."""

    wants: Callable[[Result], bool] = lambda _result: True
    """Which results are kept."""
    results: list[Result] = field(default_factory=list[Result])
    transitions: list[Transition] = field(default_factory=list[Transition])
    notifications: list[Notified] = field(default_factory=list[Notified])
    failure: str = ""
    """Why the feed died, if it did: from then on silence proves nothing."""
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[], bool], *, clock: Clock, deadline: float) -> bool:
        """Wait until the condition holds (True), or the clock's `monotonic()` passed `deadline`, or the feed died."""
        while not condition():
            if self.failure or clock.monotonic() >= deadline:
                return False
            self._came.clear()
            waiting: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self._came.wait()),
                asyncio.ensure_future(clock.sleep_until(deadline)),
            ]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
        return True

    def woke(self) -> None:
        """Look at the conditions again."""
        self._came.set()


class Feed:
    """A sink for results and transitions that keeps only the present, until somebody opens a recording.

    Fed on one event loop, by the service in the same process or by what polls a running one. It never blocks.
    """

    def __init__(self) -> None:
        self.latest: dict[str, Result] = {}
        """The last result of each probe."""
        self.firing: dict[tuple[tuple[str, str], ...], Transition] = {}
        """The alerts that fire now, by their identity."""
        self.pending: dict[tuple[tuple[str, str], ...], Transition] = {}
        """The alerts whose condition holds, and which do not fire yet."""
        self.failure = ""
        """Why nothing comes any more; empty while all is well."""
        self._recordings: list[Recording] = []

    def __call__(self, result: Result) -> None:
        """Take a result. This makes a Feed a sink."""
        self.latest[result.probe] = result
        for recording in self._recordings:
            if recording.wants(result):
                recording.results.append(result)
                recording.woke()

    def transition(self, transition: Transition) -> None:
        """Take an alert's change of state."""
        for state, alerts in ((AlertState.FIRING, self.firing), (AlertState.PENDING, self.pending)):
            if transition.after is state:
                alerts[transition.alert.key] = transition
            else:
                alerts.pop(transition.alert.key, None)
        for recording in self._recordings:
            recording.transitions.append(transition)
            recording.woke()

    def notified(self, labels: Mapping[str, str], at: float) -> None:
        """Take the news that a receiver accepted the notification of an alert at this unix time."""
        for recording in self._recordings:
            recording.notifications.append(Notified(dict(labels), at))
            recording.woke()

    def fail(self, why: str) -> None:
        """Say that nothing will come any more, or that something was lost: drills that watch become inconclusive."""
        self.failure = why
        for recording in self._recordings:
            recording.failure = recording.failure or why
            recording.woke()

    def recover(self) -> None:
        """Say that it flows again. Recordings that were open meanwhile keep their failure: they have a gap."""
        self.failure = ""

    @contextlib.contextmanager
    def recording(self, *, wants: Callable[[Result], bool] = lambda _result: True) -> Generator[Recording]:
        """Keep everything from now on until the block is left; of the results those that `wants` answers for."""
        recording = Recording(wants, failure=self.failure)
        self._recordings.append(recording)
        try:
            yield recording
        finally:
            self._recordings.remove(recording)
