"""locust's users that put load on a service. Only ever imported in a process that makes load: locust changes the standard library."""

import os
import signal
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, cast

import gevent
from locust import FastHttpUser, constant, task
from locust.env import Environment

from stormwatch.chaos.load_count import LoadCount, LoadCountFile

_REST = 0.2
"""Seconds that a user rests whose request was not answered: to be refused costs nothing, and would be asked for thousands of times a second."""
_FAILURE = 120
"""Characters of a failure that are kept."""


class Tally:
    """Counts what comes of requests."""

    def __init__(self, path: Path) -> None:
        self._file = LoadCountFile(path)
        self._count = LoadCount()

    def began(self) -> None:
        """One more user."""
        self._put(users=self._count.users + 1)

    def answered(self, status: int) -> None:
        """One more request was answered."""
        now, before = time.time(), self._count
        self._put(
            answered=before.answered + 1,
            errors=before.errors + (status >= 400),
            first=before.first or now,
            last=now,
        )

    def unanswered(self, why: str, *, met: bool = False) -> None:
        """One more was not; `met`: there was somebody all the same."""
        now, before = time.time(), self._count
        touch = {"first": before.first or now, "last": now} if met else {}
        self._put(unanswered=before.unanswered + 1, why=why, **touch)

    def _put(self, **values: Any) -> None:
        self._count = replace(self._count, **values)
        self._file.write(self._count)


class ServiceUser(FastHttpUser):
    """Makes requests by turns, one after the other."""

    abstract = True
    tally: ClassVar[Tally]
    turns: ClassVar[tuple[Mapping[str, Any], ...]]
    _numbers: ClassVar["count[int]"] = count()

    def on_start(self) -> None:
        """Each user begins at another turn, so that all kinds of requests are there from the beginning."""
        self._turn = next(self._numbers)
        self.tally.began()

    @task
    def ask(self) -> None:
        """One request."""
        asked = self.turns[self._turn % len(self.turns)]
        self._turn += 1
        # A redirect may lead to somebody who has not agreed to any of this.
        answer = self.client.request(
            asked["method"],
            asked["path"],
            data=asked["body"] or None,
            headers=asked["headers"],
            allow_redirects=False,
        )
        if answer.status_code:
            self.tally.answered(answer.status_code)
            return
        error: Exception = cast("Any", answer).error
        self.tally.unanswered(f"{type(error).__name__}: {error}".rstrip(": ")[:_FAILURE])
        gevent.sleep(_REST)


def make_load(job: Mapping[str, Any]) -> None:
    """Begin, and go on until somebody ends the process."""

    def trust(cafile: str | None = None) -> ssl.SSLContext:
        del cafile  # what geventhttpclient brings along; we trust whom the configuration says, or the system
        return ssl.create_default_context(cafile=job["ca_file"] or None)

    made: type[Any] = type(
        "User",
        (ServiceUser,),
        {
            "host": job["origin"],
            "tally": Tally(Path(job["count"])),
            "turns": tuple(request for request in job["requests"] for _ in range(request["weight"])),
            "wait_time": constant(job["pause"]),
            "network_timeout": job["timeout"],
            "connection_timeout": job["timeout"],
            "concurrency": 1,
            "insecure": False,
            "ssl_context_factory": staticmethod(trust),
        },
    )
    environment = Environment(user_classes=[made])
    runner = environment.create_local_runner()
    # Our standard error output is somebody's temporary file: nobody reads it any more, and it must not grow.
    nothing = os.open(os.devnull, os.O_WRONLY)
    signal.setitimer(signal.ITIMER_REAL, job["at_most"])
    runner.start(job["users"], spawn_rate=job["spawn_rate"])
    os.dup2(nothing, 2)
    runner.greenlet.join()
