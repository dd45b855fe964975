"""`pytest --stormwatch-metrics FILE`: what the runner would export of the journeys that ran, in Prometheus' text format.

For a CI without a runner: node_exporter's textfile collector or a Pushgateway takes the file as it is. Under xdist one file is
written, by the controlling process.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric

from stormwatch.journeys.gathered_runs import GatheredRun, GatheredRuns
from stormwatch.journeys.journey import KIND, STEP_SECONDS, write_down
from stormwatch.journeys.report import Report
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome
from stormwatch.probes.watch import Watch


class MetricsFile:
    """A pytest plugin, registered only where the file is asked for."""

    def __init__(self, path: Path, gathered: GatheredRuns) -> None:
        self._path = path
        self._gathered = gathered
        self._failure = ""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, in one piece: who reads it meanwhile reads the one before."""
        if not self._gathered.writes:
            return
        registry = CollectorRegistry()
        registry.register(_Journeys(self._gathered.runs))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), registry)
        except OSError as error:
            self._failure = f"--stormwatch-metrics: cannot write {self._path}: {error.strerror}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why there is no file."""
        if self._failure:
            terminalreporter.write_line(f"stormwatch: {self._failure}", red=True)


class _Journeys:
    """Collects as prometheus_client wants it."""

    def __init__(self, seen: Sequence[GatheredRun]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """The families of all journeys."""
        families: dict[str, GaugeMetricFamily] = {}
        helps = {each.name: each.help for each in KIND.metrics}

        def add(name: str, says: str, labels: dict[str, str], value: float) -> None:
            family = families.setdefault(name, GaugeMetricFamily(name, says))
            family.add_sample(name, labels, value)

        for run in self._seen:
            report, labels = run.report, _labels(run)
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


def _labels(run: GatheredRun) -> dict[str, str]:
    """`instance` is the test as a configuration names it; `probe`, which only a configuration knows, its name."""
    file, _, test = run.node.partition("::")
    plain = test.removesuffix("[chromium]")
    return {
        "instance": f"{file}::{plain}",
        "probe": run.name or plain.replace("::", "."),
        "kind": KIND.name,
        "location": "",
    }
