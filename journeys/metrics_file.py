"""`pytest --stormwatch-metrics FILE`: what the runner would export of the journeys that ran, in Prometheus' text format.

For a CI without a runner: node_exporter's textfile collector or a Pushgateway takes the file as it is. Under xdist the results
cross to the controlling process with pytest's reports, and one file is written.
"""

import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric

from stormwatch.journeys.decision import Run, decide
from stormwatch.journeys.journey import KIND, STEP_SECONDS, write_down
from stormwatch.journeys.recorder import Recorder
from stormwatch.journeys.report import Report
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome
from stormwatch.probes.watch import Watch

BROWSERS: Final = frozenset({"browser", "context", "page", "step"})
"""Fixtures by which a test is known for a journey, beside the mark."""
_REPORT: Final = "stormwatch_report"


class MetricsFile:
    """A pytest plugin, registered only where the file is asked for."""

    def __init__(self, config: pytest.Config, path: Path, recorder: Recorder) -> None:
        self._path = path
        self._recorder = recorder
        self._run = Run()
        # A process of xdist's only runs tests; the one that started it hears of them.
        self._writes = not hasattr(config, "workerinput")
        self._seen: dict[str, Report] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Time the body alone, as the runner does."""
        run = self._run = Run()
        run.begin()
        try:
            return (yield)
        finally:
            run.seconds = run.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say in pytest's own report what the run was."""
        report = yield
        if _is_journey(item) and (report.when == "call" or not report.passed):
            if report.when == "setup":
                self._run = Run()
            decided = decide(item, call, report, run=self._run, recorder=self._recorder, file=item.path)
            # As text: xdist sends no subclass of `str`, such as an outcome.
            setattr(report, _REPORT, json.dumps(self._recorder.masker.mask(decided.as_json())))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the last word on each journey: a teardown that fails after a body that passed, a second try."""
        if said := getattr(report, _REPORT, None):
            self._seen[report.nodeid] = Report.from_json(json.loads(said))

    def pytest_sessionfinish(self) -> None:
        """Write the file, in one piece: who reads it meanwhile reads the one before."""
        if self._writes:
            registry = CollectorRegistry()
            registry.register(_Journeys(self._seen))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), registry)


class _Journeys:
    """Collects as prometheus_client wants it."""

    def __init__(self, seen: dict[str, Report]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """The families of all journeys."""
        families: dict[str, GaugeMetricFamily] = {}
        helps = {each.name: each.help for each in KIND.metrics}

        def add(name: str, says: str, labels: dict[str, str], value: float) -> None:
            family = families.setdefault(name, GaugeMetricFamily(name, says))
            family.add_sample(name, labels, value)

        for node, report in self._seen.items():
            labels = _labels(node)
            broken = report.outcome is Outcome.BROKEN
            add("stormwatch_probe_broken", "Whether the last run failed through us.", labels, broken)
            watch = _watched(report, labels["probe"])
            if not broken:
                up = report.outcome is Outcome.UP
                add("probe_success", "Displays whether or not the probe was a success", labels, up)
                add(
                    "probe_duration_seconds",
                    "Returns how long the probe took to complete in seconds",
                    labels,
                    report.seconds,
                )
                for phase in watch.phases:
                    add(STEP_SECONDS.name, STEP_SECONDS.help, {**labels, "step": phase.name}, phase.seconds)
            for measure in watch.measures:
                add(measure.name, helps[measure.name], {**labels, **measure.labels}, measure.value)
        return families.values()


def _watched(report: Report, probe: str) -> Watch:
    watch = Watch(clock=SystemClock(), resources=Resources(), timeout=0.0, probe=probe, trace_id="")
    write_down(report, watch, "")
    return watch


def _labels(node: str) -> dict[str, str]:
    """`instance` is the test as a configuration names it; `probe`, which only a configuration knows, its name."""
    file, _, test = node.partition("::")
    plain = test.removesuffix("[chromium]")
    return {"instance": f"{file}::{plain}", "probe": plain.replace("::", "."), "kind": KIND.name, "location": ""}


def _is_journey(item: pytest.Item) -> bool:
    names: Any = getattr(item, "fixturenames", ())
    return item.get_closest_marker("journey") is not None or not BROWSERS.isdisjoint(names)
