"""locust's users that run journeys as a load. Only ever imported in a process that makes load: locust changes the standard library."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormwatch.chaos.load_users import Tally
from stormwatch.journeys import load_process
from stormwatch.journeys.load_job import LoadJob, LoadJourney
from stormwatch.journeys.load_session import Owner
from stormwatch.journeys.report import Report
from stormwatch.probes.result import Outcome, Reason

_GRACE = 5.0
"""Seconds that nobody will ask for: this load ends by being killed."""


def make_journey_load(job: Mapping[str, Any]) -> None:
    """Begin, and go on until somebody ends the process. Where that cannot be, say why and end."""
    counting = _Counting(job)
    if code := load_process.serve(counting):
        os._exit(code)


class _Counting(Owner):
    """Asks for the load of a fault, and counts what comes of it: nobody is at the other end."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__(-1, -1)
        self._job = job
        self._tally = Tally(Path(job["count"]))

    def job(self) -> Mapping[str, Any]:
        """The users that were asked for, all of them of journeys without a browser."""
        journey = LoadJourney(
            name=self._job["test"],
            file=Path(self._job["journey"]),
            test=self._job["test"],
            base_url=self._job["origin"],
        )
        return LoadJob(
            journeys=(journey,),
            users=self._job["users"],
            spawn_rate=self._job["spawn_rate"],
            pause=self._job["pause"],
            grace=_GRACE,
        ).as_json()

    def tell(self, event: str, **values: Any) -> None:
        """Of all that is told, when it begins and why it does not."""
        if event in {"not-collected", "refused"}:
            _give_up(": ".join(filter(None, (values.get("where"), values["why"]))))
        if event == "ready" and "browser" in values["journeys"].values():
            names = ", ".join(name for name, how in values["journeys"].items() if how == "browser")
            _give_up(
                f"{names}: it needs a browser, and each of its users would be one; name a journey without under `test`"
            )
        if event == "began":
            # Our standard error output is somebody's temporary file: nobody reads it any more, and it must not grow.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.setitimer(signal.ITIMER_REAL, self._job["at_most"])
            for _ in range(self._job["users"]):
                self._tally.began()

    def ran(self, report: Report) -> None:
        """One run is over. That somebody was there is known of one that passed, or came past a step or as far as an assertion."""
        if report.outcome is Outcome.UP:
            self._tally.answered(200)
            return
        met = report.reason is Reason.ASSERTION or any(not step.failed for step in report.steps)
        self._tally.unanswered(f"{report.reason.value}: {report.sentence}", met=met)

    def when_gone(self) -> None:
        """Nobody is there: whoever holds the fault, or his reaper, ends this process."""


def _give_up(why: str) -> None:
    os.write(2, why.encode())
    os._exit(2)
