"""The journeys that a pytest session ran, decided as the runner decides them, for all that is written about them at its end.

Under xdist the results cross to the controlling process with pytest's reports.
"""

import json
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from stormwatch.journeys.collection import place_and_cause
from stormwatch.journeys.decision import Run, decide
from stormwatch.journeys.marked_item import name_of
from stormwatch.journeys.recorder import Recorder
from stormwatch.journeys.report import Report
from stormwatch.probes.result import Outcome, Reason

BROWSERS: Final = frozenset({"browser", "context", "page", "step"})
"""Fixtures by which a test is known for a journey, beside the mark."""
_CROSSES: Final = "stormwatch_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredRun:
    """One journey of the session. Artifacts of the report are whole paths."""

    node: str
    """What pytest calls the test, without secrets."""
    file: str
    """The whole path of the test's file."""
    name: str = ""
    """What its mark calls it; empty: it is called as its test."""
    started: float
    """Unix time in seconds."""
    report: Report
    skipped: bool = False
    """Whether the test skipped itself: in the runner that is broken, in CI somebody meant it."""


class GatheredRuns:
    """A pytest plugin, registered only where something is written about journeys."""

    def __init__(self, config: pytest.Config, recorder: Recorder) -> None:
        self._recorder = recorder
        self._run = Run()
        self._started = 0.0
        # A process of xdist's only runs tests; the one that started it hears of them.
        self.writes = not hasattr(config, "workerinput")
        self._seen: dict[str, GatheredRun] = {}
        self.others_failed = False
        """Whether a test that is no journey failed."""

    @property
    def runs(self) -> tuple[GatheredRun, ...]:
        """The last word on each journey, in the order in which they came."""
        return tuple(self._seen.values())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note when the test began."""
        self._started = time.time()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Time the body alone, as the runner does."""
        run = self._run = Run()
        run.begin()
        try:
            return (yield)
        finally:
            run.seconds = run.begin()

    # First, and registered after the recorder: when it is our turn again, artifacts are kept.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say in pytest's own report what the run was."""
        report = yield
        if _is_journey(item) and (report.when == "call" or not report.passed):
            if report.when == "setup":
                self._run = Run()
            decided = decide(item, call, report, run=self._run, recorder=self._recorder, file=item.path)
            if decided.outcome is not Outcome.UP and not decided.where:
                decided = replace(decided, where=f"{item.path}:{(item.location[1] or 0) + 1}")
            artifacts = tuple(str(path) for path in self._recorder.artifacts)
            decided = replace(decided, artifacts=artifacts, no_video=self._recorder.no_video)
            said = {
                "node": item.nodeid,
                "file": str(item.path),
                "name": _name(item),
                "started": self._started,
                "skipped": report.skipped,
                "report": decided.as_json(),
            }
            # As text: xdist sends no subclass of `str`, such as an outcome.
            setattr(report, _CROSSES, json.dumps(self._recorder.masker.mask(said)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the last word on each journey: a teardown that fails after a body that passed, a second try."""
        if said := getattr(report, _CROSSES, None):
            known = json.loads(said)
            self._seen[report.nodeid] = GatheredRun(
                node=known["node"],
                file=known["file"],
                name=known["name"],
                started=known["started"],
                skipped=known["skipped"],
                report=Report.from_json(known["report"]),
            )
        elif report.failed and report.nodeid not in self._seen:
            self.others_failed = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be loaded is a journey that could not be run."""
        if report.failed:
            where, why = place_and_cause(report.longreprtext)
            sentence = f"the file could not be loaded: {why or report.longreprtext.strip()[-300:]}"
            broken = Report(
                outcome=Outcome.BROKEN,
                reason=Reason.COLLECTION,
                sentence=sentence,
                where=_whole(where),
                text=report.longreprtext,
            )
            self._seen[report.nodeid] = GatheredRun(
                node=report.nodeid,
                file=report.fspath and str(Path.cwd() / report.fspath),
                started=time.time(),
                report=Report.from_json(self._masked(broken)),
            )

    def _masked(self, report: Report) -> Any:
        return self._recorder.masker.mask(report.as_json())


def _name(item: pytest.Item) -> str:
    try:
        return name_of(item)
    except ValueError:
        return ""  # the run says what is wrong with the mark


def _whole(where: str) -> str:
    # pytest names files relative to where it was started.
    return str(Path.cwd() / where) if where else ""


def _is_journey(item: pytest.Item) -> bool:
    names: Any = getattr(item, "fixturenames", ())
    return item.get_closest_marker("journey") is not None or not BROWSERS.isdisjoint(names)
