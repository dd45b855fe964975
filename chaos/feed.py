"""What a drill watches: the results, transitions and notifications that an operator gets, and nothing else."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Result
from stormwatch.slo.alert import AlertState, Transition

LAST_WORD = 30.0
"""Seconds that are waited at the most for a source that did not answer when it was last looked at: by then it is known to fail."""


@dataclass(frozen=True, slots=True)
class Notified:
    """A receiver outside of the monitoring was told about an alert, at a unix time."""

    labels: Mapping[str, str]
    at: float
    since: float | None = None
    """Unix time since when the alert fires, by what the source says. None: it does not say."""
    held_back: str = ""
    """Why nobody will be told, though the alert arrived: `silence 6f1c…`. Empty: somebody will."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"labels": dict(self.labels), "at": self.at, "since": self.since, "held_back": self.held_back}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Notified":
        """Read what `as_json` wrote, or an older version of it. Raises KeyError for anything else."""
        return cls(
            labels=document["labels"],
            at=document["at"],
            since=document.get("since"),
            held_back=document.get("held_back", ""),
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver at the end of the way was told: the last mile. Times are unix times."""

    labels: Mapping[str, str]
    at: float
    """When it came."""
    since: float
    """Since when the alert fires, by what was delivered."""
    resolved: bool = False
    """Whether it said that the alert is over."""
    receiver: str = ""
    """Whom the sender calls this receiver."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "labels": dict(self.labels),
            "at": self.at,
            "since": self.since,
            "resolved": self.resolved,
            "receiver": self.receiver,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Delivered":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        return cls(**document)


@dataclass(slots=True)
class Recording:
    """Everything that came since it was opened, in the order it came."""

    wants: Callable[[Result], bool] = lambda _result: True
    """Which results are kept."""
    results: list[Result] = field(default_factory=list[Result])
    transitions: list[Transition] = field(default_factory=list[Transition])
    notifications: list[Notified] = field(default_factory=list[Notified])
    deliveries: list[Delivered] = field(default_factory=list[Delivered])
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


@dataclass(frozen=True, slots=True)
class _Reader:
    """Another feed that is passed on to, and what it takes from here."""

    feed: "Feed"
    results: bool
    transitions: bool
    notifications: bool


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
        self.told: dict[tuple[tuple[str, str], ...], Delivered] = {}
        """What the receiver at the end of the way was told that it fires, and not yet that it is over."""
        self._failures: dict[str, str] = {}
        self._overdue: set[str] = set()
        self._recordings: list[Recording] = []
        self._readers: list[_Reader] = []

    @property
    def failure(self) -> str:
        """Why not everything comes any more, of each source that fails; empty while all is well."""
        return "; ".join(self._failures.values())

    @property
    def overdue(self) -> bool:
        """Whether a source did not answer when it was last looked at: what it has to say is not known, nor yet that it fails."""
        return bool(self._overdue)

    def __call__(self, result: Result) -> None:
        """Take a result. This makes a Feed a sink."""
        self.latest[result.probe] = result
        for recording in self._recordings:
            if recording.wants(result):
                recording.results.append(result)
                recording.woke()
        for reader in self._readers:
            if reader.results:
                reader.feed(result)

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
        for reader in self._readers:
            if reader.transitions:
                reader.feed.transition(transition)

    def notified(
        self, labels: Mapping[str, str], at: float, *, since: float | None = None, held_back: str = ""
    ) -> None:
        """Take the news that somebody who tells people has taken over an alert at this unix time; see `Notified`."""
        for recording in self._recordings:
            recording.notifications.append(Notified(dict(labels), at, since, held_back))
            recording.woke()
        for reader in self._readers:
            if reader.notifications:
                reader.feed.notified(labels, at, since=since, held_back=held_back)

    def delivered(self, delivered: Delivered) -> None:
        """Take what came to the receiver at the end of the way."""
        key = tuple(sorted(delivered.labels.items()))
        if delivered.resolved:
            self.told.pop(key, None)
        else:
            self.told[key] = delivered
        for recording in self._recordings:
            recording.deliveries.append(delivered)
            recording.woke()
        for reader in self._readers:
            reader.feed.delivered(delivered)

    def fail(self, why: str, *, source: str = "") -> None:
        """Say that nothing will come any more, or that something was lost: drills that watch become inconclusive.

        `source` tells several of them apart: each fails and recovers by itself.
        """
        self._failures[source] = why
        self._overdue.discard(source)
        for recording in self._recordings:
            recording.failure = recording.failure or why
            recording.woke()
        for reader in self._readers:
            reader.feed.fail(why, source=source)

    def miss(self, *, source: str = "") -> None:
        """Say that a source did not answer once. Until it does, or is known to fail, its silence proves nothing."""
        self._overdue.add(source)
        for reader in self._readers:
            reader.feed.miss(source=source)

    def recover(self, *, source: str = "") -> None:
        """Say that it flows again. Recordings that were open while it failed keep their failure: they have a gap."""
        self._failures.pop(source, None)
        self._overdue.discard(source)
        for recording in self._recordings:
            recording.woke()
        for reader in self._readers:
            reader.feed.recover(source=source)

    async def last_word(self, seen: Recording, *, clock: Clock) -> str:
        """Wait until every source has answered or failed. Returns why what was not seen is no silence; empty: all have answered."""
        await seen.until(lambda: not self.overdue, clock=clock, deadline=clock.monotonic() + LAST_WORD)
        return seen.failure or ("not every look is answered" if self.overdue else "")

    @contextlib.contextmanager
    def passing_on(
        self, to: "Feed", *, results: bool = True, transitions: bool, notifications: bool
    ) -> Generator[None]:
        """Let another feed have the present and all that comes, of the kinds that it wants, until the block is left.

        What came to the receiver at the end of the way, and what fails, it has always.
        """
        for result in self.latest.values() if results else ():
            to(result)
        for active in (*self.firing.values(), *self.pending.values()) if transitions else ():
            to.transition(active)
        for source, why in self._failures.items():
            to.fail(why, source=source)
        for source in self._overdue:
            to.miss(source=source)
        reader = _Reader(to, results, transitions, notifications)
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)

    @contextlib.contextmanager
    def recording(self, *, wants: Callable[[Result], bool] = lambda _result: True) -> Generator[Recording]:
        """Keep everything from now on until the block is left; of the results those that `wants` answers for."""
        recording = Recording(wants, failure=self.failure)
        self._recordings.append(recording)
        try:
            yield recording
        finally:
            self._recordings.remove(recording)
