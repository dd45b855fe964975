"""The pytest session inside a process that makes load: it collects the journeys, and then lets locust run instead of pytest's loop."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.os
import pytest
from locust import main as locust_main
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC, PERCENTILES_TO_REPORT, StatsEntry, StatsError

from stormwatch.journeys import load_pytest
from stormwatch.journeys.collection import place_and_cause
from stormwatch.journeys.load_job import LoadJob, LoadJourney, Role
from stormwatch.journeys.load_process import OFFERED
from stormwatch.journeys.load_run import Raised
from stormwatch.journeys.load_summary import JOURNEY, STEP, Entry, Failing, LoadSummary
from stormwatch.journeys.load_tally import Tallies
from stormwatch.journeys.load_users import Offered, users_of
from stormwatch.journeys.marked_item import name_of
from stormwatch.journeys.plugin import MASKER
from stormwatch.journeys.report import Report

_TICK: Final = 1.0
"""Seconds between two words about how it goes."""
_LOOK: Final = 0.1
_LONGEST_LAG: Final = 0.05
"""Seconds, on average."""
_COUNTS: Final = "stormwatch"
"""Under which key counts stand in what locust's workers report."""
_END: Final = "stormwatch-end"
_ENDED: Final = "stormwatch-ended"
"""Messages between master and worker: come to an end; what was sent before this was all."""
_LAST_WORDS: Final = 30.0
"""Seconds on top of the grace that a master waits for its workers' last counts."""


class Owner:
    """The other end: one job comes, events go out a line each."""

    def __init__(self, requests: int, events: int) -> None:
        self._requests = requests
        self._events = events

    @classmethod
    def of_standard_streams(cls) -> "Owner":
        """Move the protocol out of reach: what prints to 1 goes to 2 from now on, and what reads 0 finds nothing."""
        requests, events = os.dup(0), os.dup(1)
        nothing: Final = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(requests, events)

    def job(self) -> Mapping[str, Any]:
        """What is asked for."""
        line = b""
        while not line.endswith(b"\n") and (more := os.read(self._requests, 1 << 16)):
            line += more
        return json.loads(line)

    def tell(self, event: str, **values: Any) -> None:
        """Send an event."""
        data = json.dumps({"event": event, **values}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._events, data) :]
        except BrokenPipeError:
            return

    def ran(self, report: Report) -> None:
        """Hear of each run that is over; sums are all that goes out."""

    def when_gone(self) -> None:
        """Wait until nobody is there, without holding up the users; then end as on SIGTERM."""
        gevent.os.make_nonblocking(self._requests)
        while gevent.os.nb_read(self._requests, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)


class Lag:
    """How long a greenlet that is due waits for its turn: so long each answer that a user waits for lies unread."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._count = 0

    def measure(self) -> None:
        """Look again and again, until killed."""
        while True:
            due = time.monotonic() + _LOOK
            gevent.sleep(_LOOK)
            self._seconds += max(0.0, time.monotonic() - due)
            self._count += 1

    @property
    def is_too_long(self) -> bool:
        """Whether durations say more about us than about the target."""
        return self._count > 0 and self._seconds / self._count > _LONGEST_LAG


class LoadSession:
    """The pytest plugin that lets locust run."""

    def __init__(self, job: LoadJob, owner: Owner) -> None:
        self._job = job
        self._owner = owner
        self._errors: list[str] = []
        self._tallies = Tallies()
        self._journeys: tuple[str, ...] = ()
        self._began = 0.0
        self._users = 0
        self._processes = 1
        self._over = False
        self._ended: set[str] = set()
        """The workers that have sent their last counts."""
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._lag = Lag()
        self._saturated = False
        """Whether a worker had no time to spare."""
        self.ran = False
        """Whether locust was started."""
        self.code = 0
        """What it ended with."""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Take back options of the user's configuration that make sense for a whole test run only."""
        config.option.maxfail = 0
        config.pluginmanager.register(Raised(), "stormwatch-raised")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be loaded."""
        if report.failed:
            self._errors.append(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Make load, as the job says."""
        if self._errors:
            where, why = place_and_cause(self._errors[0])
            self._owner.tell("not-collected", where=where, why=why or self._errors[0][-4000:])
            return True
        offered: list[Offered] = []
        for journey in self._job.journeys:
            found = _found(journey, session.items)
            if isinstance(found, str):
                self._owner.tell("not-collected", where=str(journey.file), why=found)
                return True
            offered += found
        session.config.stash[MASKER].add(value for each in offered for value in each.journey.secrets.values())
        self._journeys = tuple(each.journey.name for each in offered)
        if twice := {name for name in self._journeys if self._journeys.count(name) > 1}:
            why = f"several journeys are called {', '.join(sorted(twice))}; give them names in the configuration"
            self._owner.tell("not-collected", where="", why=why)
            return True
        if why := _refused(offered):
            self._owner.tell("refused", why=why)
            return True
        self._owner.tell(
            "ready", journeys={each.journey.name: "browser" if each.in_browser else "api" for each in offered}
        )
        # It keeps what it knows of a test in one place. Browser journeys run in workers, which have their own.
        session.config.pluginmanager.unregister(name="playwright")
        OFFERED.update(users_of(self._job, offered, self._on_run))
        self.ran = True
        self.code = self._run_locust()
        return True

    def _on_run(self, journey: LoadJourney, report: Report) -> None:
        self._tallies.add(journey.name, report, journey.bounds)
        self._owner.ran(report)

    def _run_locust(self) -> int:
        from locust import events

        events.init.add_listener(self._on_init)
        events.test_start.add_listener(self._on_start)
        events.quitting.add_listener(self._on_quitting)
        events.report_to_master.add_listener(self._report)
        events.worker_report.add_listener(self._hear)
        sys.argv = ["locust", *_locust_arguments(self._job)]
        try:
            locust_main.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    def _on_init(self, environment: Environment, **_: Any) -> None:
        runner = environment.runner
        # One that ends well is not told from one whose journeys failed: that is for objectives to say.
        environment.process_exit_code = 0
        if isinstance(runner, WorkerRunner):
            runner.register_message(_END, partial(_end_worker, runner), concurrent=True)
        elif isinstance(runner, MasterRunner):
            runner.register_message(_ENDED, self._worker_ended)
        gevent.spawn(self._owner.when_gone)

    def _on_start(self, environment: Environment, **_: Any) -> None:
        """Users begin: from here on it counts how long it takes."""
        for each in self._greenlets:
            each.kill()
        self._lag, self._saturated, self._tallies = Lag(), False, Tallies()
        self._greenlets = [gevent.spawn(self._lag.measure)]
        if isinstance(environment.runner, WorkerRunner):
            return
        self._began, self._users, self._over = time.monotonic(), 0, False
        self._owner.tell("began")
        self._greenlets.append(gevent.spawn(self._tell_progress, environment))
        if self._job.seconds is not None:
            self._greenlets.append(gevent.spawn_later(self._job.seconds, self._finish, environment))

    def _tell_progress(self, environment: Environment) -> None:
        while True:
            runner, entries = _runner(environment), _of_journeys(environment)
            self._users = max(self._users, runner.user_count)
            self._owner.tell(
                "progress",
                seconds=round(time.monotonic() - self._began, 1),
                users=runner.user_count,
                journeys={**dict.fromkeys(self._journeys, 0), **{each.name: each.num_requests for each in entries}},
                failures=sum(each.num_failures for each in entries),
                per_second=round(sum(each.current_rps for each in entries), 1),
            )
            gevent.sleep(_TICK)

    def _finish(self, environment: Environment) -> None:
        self._end(environment)
        _runner(environment).quit()
        if environment.web_ui is not None:
            environment.web_ui.stop()

    def _on_quitting(self, environment: Environment, **_: Any) -> None:
        if not isinstance(environment.runner, WorkerRunner):
            self._end(environment)

    def _end(self, environment: Environment) -> None:
        """Let users come to the end of their runs, and hand over what was seen. Only the first call does."""
        if self._over or not self._began:
            return
        self._over = True
        runner, seconds = _runner(environment), time.monotonic() - self._began
        self._users = max(self._users, runner.user_count)
        if isinstance(runner, MasterRunner):
            self._end_workers(runner)
        else:
            runner.stop()
        if self._job.csv:
            # Its writer comes by every so often, and not at the end.
            gevent.sleep(CSV_STATS_INTERVAL_SEC * 1.5)
        self._owner.tell("over", summary=self._summary(environment, seconds).as_json())

    def _end_workers(self, runner: MasterRunner) -> None:
        """Wait until each has sent its last counts. locust itself waits half a second for them, whether they came or not."""
        workers = {client.id for client in runner.clients.all}
        self._processes = len(workers)
        runner.stop(send_stop_to_client=False)
        runner.send_message(_END)
        deadline = time.monotonic() + self._job.grace + _LAST_WORDS
        # A worker that died is not waited for: locust takes it out of its clients.
        while missing := workers & {client.id for client in runner.clients.all} - self._ended:
            if time.monotonic() > deadline:
                self._owner.tell("silent", workers=len(missing))
                return
            gevent.sleep(0.05)

    def _worker_ended(self, environment: Environment, msg: Any, **_: Any) -> None:
        self._ended.add(msg.node_id)

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        data[_COUNTS] = {**self._tallies.take(), "saturated": self._lag.is_too_long}

    def _hear(self, client_id: str, data: dict[str, Any]) -> None:
        self._tallies.add_all(data[_COUNTS])
        self._saturated |= data[_COUNTS]["saturated"]

    def _summary(self, environment: Environment, seconds: float) -> LoadSummary:
        runner = _runner(environment)
        return LoadSummary(
            seconds=seconds,
            users=self._users,
            workers=self._processes,
            entries=tuple(self._entry(entry) for entry in environment.stats.entries.values()),
            tallies=tuple(self._tallies.tallies()),
            failing=tuple(
                Failing(
                    **self._place(error.method, error.name),
                    sentence=StatsError.parse_error(error.error),
                    count=error.occurrences,
                )
                for error in environment.stats.errors.values()
            ),
            broken=self._tallies.broken,
            broken_why=self._tallies.broken_why,
            saturated=self._saturated
            or (self._lag.is_too_long and not isinstance(runner, MasterRunner))
            or runner.cpu_warning_emitted
            or runner.worker_cpu_warning_emitted,
        )

    def _entry(self, entry: StatsEntry) -> Entry:
        return Entry(
            **self._place(entry.method, entry.name),
            runs=entry.num_requests,
            failures=entry.num_failures,
            per_second=entry.total_rps,
            mean=entry.avg_response_time / 1000,
            shortest=(entry.min_response_time or 0.0) / 1000,
            longest=entry.max_response_time / 1000,
            percentiles={str(part): entry.get_response_time_percentile(part) / 1000 for part in PERCENTILES_TO_REPORT},
        )

    def _place(self, kind: str | None, name: str) -> dict[str, str]:
        """Journey and step of one of locust's names."""
        if kind != STEP:
            return {"journey": name, "step": ""}
        journey = max((each for each in self._journeys if name.startswith(f"{each}/")), key=len)
        return {"journey": journey, "step": name.removeprefix(f"{journey}/")}


def _end_worker(runner: WorkerRunner, environment: Environment, msg: Any, **_: Any) -> None:
    """Let users come to the end of their runs, send what was not sent yet, and say that this was all."""
    runner.stop()
    data: dict[str, Any] = {}
    environment.events.report_to_master.fire(client_id=runner.client_id, data=data)
    runner.send_message("stats", data)
    runner.send_message(_ENDED)


def _runner(environment: Environment) -> Runner:
    assert environment.runner is not None, "locust has made no runner"
    return environment.runner


def _of_journeys(environment: Environment) -> Sequence[StatsEntry]:
    return [entry for entry in environment.stats.entries.values() if entry.method == JOURNEY]


def _found(journey: LoadJourney, items: Sequence[pytest.Item]) -> Sequence[Offered] | str:
    """What pytest collected for a journey, or why there is none."""
    own = [item for item in items if item.path == journey.file and isinstance(item, pytest.Function)]
    names = {item: item.nodeid.partition("::")[2] for item in own}
    if not journey.test:
        offered = [
            Offered(journey=replace(journey, name=_called(item, name), test=name), item=item)
            for item, name in names.items()
            if item.get_closest_marker("journey") is not None or "step" in item.fixturenames
        ]
        return offered or "no test in it is a journey: one that uses `step`, or has the mark `journey`"
    fitting = [item for item, name in names.items() if name == journey.test] or [
        item for item, name in names.items() if journey.test in (_plain(name), name.partition("[")[0])
    ]
    if len(fitting) == 1:
        return [Offered(journey=journey, item=fitting[0])]
    known = ", ".join(names.values()) or "no test at all"
    return f"there {'are several tests' if fitting else 'is no test'} {journey.test}; it has {known}"


def _refused(offered: Sequence[Offered]) -> str:
    """Why users of these journeys cannot be had at all; empty if they can."""
    in_process = [each for each in offered if not each.in_browser]
    if bent := [each.journey.name for each in in_process if each.journey.client]:
        return (
            f"{', '.join(bent)}: `client` says who visits with a browser, and the test uses none (no page, context or browser); "
            "leave `client` out, and tell the test's own HTTP client what it needs"
        )
    if in_process and (lacking := load_pytest.missing(in_process[0].item)):
        return (
            f"pytest {pytest.__version__} has no {', '.join(lacking)}, which users in one process need; "
            f"install one of pytest {load_pytest.KNOWN}, or load journeys in browsers alone"
        )
    return ""


def _called(item: pytest.Item, name: str) -> str:
    try:
        return name_of(item) or _plain(name)
    except ValueError:
        return _plain(name)  # its runs say what is wrong with the mark


def _plain(name: str) -> str:
    """As people know a test: without the parameter that pytest-playwright adds."""
    return re.sub(r"\[(?:chromium|firefox|webkit)\]$", "", name)


def _locust_arguments(job: LoadJob) -> list[str]:
    arguments = ["-f", str(Path(__file__).with_name("load_locustfile.py")), "--skip-log-setup"]
    arguments += ["--stop-timeout", f"{job.grace:g}", "--exit-code-on-error", "0"]
    if job.role is Role.WORKER:
        return [*arguments, "--worker", "--master-host", job.host, "--master-port", str(job.port)]
    arguments += ["--users", str(job.users), "--spawn-rate", f"{job.spawn_rate:g}", "--only-summary"]
    if job.page:
        host, _, port = job.page.rpartition(":")
        arguments += ["--autostart", "--web-host", host.strip("[]"), "--web-port", port]
    else:
        arguments += ["--headless"]
    if job.csv:
        arguments += ["--csv", job.csv]
    if job.role is Role.MASTER:
        arguments += ["--master", "--master-bind-host", job.host, "--master-bind-port", str(job.port)]
        arguments += ["--expect-workers", str(job.workers), "--expect-workers-max-wait", f"{job.patience:.0f}"]
    return arguments
