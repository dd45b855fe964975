"""locust's users that run journeys. Only ever imported in a process that makes load: locust changes the standard library."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gevent
import pytest
from gevent.event import Event
from locust import User, constant
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from stormwatch.journeys.load_browser import LoadWorker
from stormwatch.journeys.load_isolation import isolated
from stormwatch.journeys.load_job import LoadJob, LoadJourney
from stormwatch.journeys.load_run import run_once, tear_down
from stormwatch.journeys.load_summary import JOURNEY, STEP, entry_name
from stormwatch.journeys.report import Report
from stormwatch.probes.result import Outcome, Reason

_BROKEN_PAUSE: Final = 1.0
"""Seconds that a user whose run was broken rests at least: nothing is learned by failing in a loop."""
_STARTING: Final = 30.0
"""Seconds on top of a run's time-out that a worker has for its start, and for saying what came of the run."""

OnRun = Callable[[LoadJourney, Report], None]
"""Hears of each run that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A journey that was found, with the test that pytest collected for it."""

    journey: LoadJourney
    item: pytest.Function

    @property
    def in_browser(self) -> bool:
        """Whether it needs one: then a user is a worker process of its own."""
        return not {"page", "context", "browser"}.isdisjoint(self.item.fixturenames)


class RunFailed(Exception):
    """What locust's statistics of failures say of a run."""

    def __repr__(self) -> str:
        return str(self)


class JourneyUser(User):
    """A user that runs one journey again and again."""

    abstract = True
    offered: Offered
    on_run: OnRun
    pause: float
    """Seconds between two runs."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._told_to_stop = Event()

    def run_until_told_to_stop(self) -> None:
        """The only task: run after run, and the one that is under way to its end.

        Not a task a run: locust kills a user that rests between two of them, and it may have begun the next when the kill comes.
        """
        while not self._told_to_stop.is_set():
            self.run_and_tell()
            # Others have their turn, also where nothing waits.
            gevent.sleep(0)
            self._told_to_stop.wait(self.pause)
        raise StopUser

    def stop(self, force: bool = False) -> bool:
        """Tell it to stop; with `force`, at once. Returns whether it has stopped."""
        if force:
            return bool(super().stop(force=True))
        self._state = LOCUST_STATE_STOPPING
        self._told_to_stop.set()
        return False

    def run_once(self) -> Report:
        """One run."""
        raise NotImplementedError

    def run_and_tell(self) -> None:
        """One run, as a request of locust's for the journey and one for each step."""
        report = self.run_once()
        journey = self.offered.journey
        type(self).on_run(journey, report)
        if report.outcome is Outcome.BROKEN:
            self._told_to_stop.wait(_BROKEN_PAUSE)
            return
        for step in report.steps:
            sentence = report.sentence if step.name == report.step else "the step failed"
            self._tell(STEP, entry_name(journey.name, step.name), step.seconds, sentence if step.failed else "")
        self._tell(JOURNEY, journey.name, report.seconds, report.sentence if report.outcome is Outcome.DOWN else "")

    def _tell(self, kind: str, name: str, seconds: float, failure: str) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=RunFailed(failure) if failure else None,
            context={},
        )


class ApiUser(JourneyUser):
    """Runs the test in a greenlet of this process."""

    abstract = True

    def on_start(self) -> None:
        """A test of its own, of which nothing is shared with other users."""
        journey = self.offered.journey
        self._item = isolated(self.offered.item, secrets=journey.secrets, base_url=journey.base_url)

    def run_once(self) -> Report:
        """Pytest's set-up, call and teardown."""
        return run_once(self._item)

    def on_stop(self) -> None:
        """Let go of fixtures of module and session."""
        tear_down(self._item)


class BrowserUser(JourneyUser):
    """Runs the test in a warm worker: a process with one pytest session and one browser."""

    abstract = True

    def on_start(self) -> None:
        """Nothing is started before the first run."""
        self._worker: LoadWorker | None = None

    def run_once(self) -> Report:
        """Ask the worker for one run, and wait for its word."""
        journey = self.offered.journey
        self._worker = self._worker or LoadWorker(journey)
        try:
            with gevent.Timeout(_STARTING + journey.timeout, TimeoutError):
                # As it was asked for: what pytest calls it has the browser in it, and here another one has collected it.
                report = self._worker.run(journey.test)
        except TimeoutError:
            sentence = f"it did not end within {journey.timeout:g} s"
            report = Report(
                outcome=Outcome.DOWN,
                reason=Reason.TIMEOUT,
                sentence=sentence,
                seconds=journey.timeout,
                retire=sentence,
            )
        if report.retire:
            self.on_stop()
        return report

    def on_stop(self) -> None:
        """End the worker, and its browser."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


def users_of(job: LoadJob, offered: Sequence[Offered], on_run: OnRun) -> Mapping[str, type[User]]:
    """A class of users for each journey, by the name that locust shows."""
    beside_api = not all(each.in_browser for each in offered)
    made: dict[str, type[User]] = {}
    for each in offered:
        name = _class_name(each.journey.name)
        # `a-b` and `a.b` are two journeys.
        while name in made:
            name += "_"
        made[name] = _users(job, each, on_run, name=name, few=beside_api)
    return made


def _users(job: LoadJob, offered: Offered, on_run: OnRun, *, name: str, few: bool) -> type[User]:
    made: type[Any] = type(
        name,
        (BrowserUser if offered.in_browser else ApiUser,),
        {
            "offered": offered,
            "on_run": staticmethod(on_run),
            "pause": job.pause,
            "wait_time": constant(job.pause),
            "tasks": [JourneyUser.run_until_told_to_stop],
            "fixed_count": job.browser_users if offered.in_browser and few else 0,
        },
    )
    return made


def _class_name(journey: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"\W+", journey)) or "Journey"
