"""`stormwatch load --metrics FILE`: what a load came to in Prometheus' text format, under the names that scheduled runs have."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric

from stormwatch.journeys.journey import KIND, STEP_SECONDS
from stormwatch.journeys.load_summary import LoadSummary


def write_metrics(summary: LoadSummary, path: Path, *, location: str, instances: Mapping[str, str]) -> None:
    """Write the file, in one piece. `instances`: the target of each journey. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(_Loaded(summary, location, instances))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)


class _Loaded:
    """Collects as prometheus_client wants it."""

    def __init__(self, summary: LoadSummary, location: str, instances: Mapping[str, str]) -> None:
        self._summary = summary
        self._location = location
        self._instances = instances

    def collect(self) -> Iterable[Metric]:
        """The families of all journeys. `quantile` and `users` tell them from what scheduled runs export."""
        families: dict[str, GaugeMetricFamily] = {}

        def add(name: str, says: str, labels: Mapping[str, str], value: float) -> None:
            families.setdefault(name, GaugeMetricFamily(name, says)).add_sample(name, dict(labels), value)

        for entry in self._summary.entries:
            labels = {
                "probe": entry.journey,
                "instance": self._instances.get(entry.journey, ""),
                "kind": KIND.name,
                "location": self._location,
                "users": str(self._summary.users),
            }
            step = {"step": entry.step} if entry.step else {}
            name, says = (
                (STEP_SECONDS.name, "Duration of each step under load, in seconds.")
                if step
                else ("probe_duration_seconds", "Duration of runs under load, in seconds.")
            )
            for quantile, seconds in entry.percentiles.items():
                add(name, says, {**labels, **step, "quantile": quantile}, seconds)
            add("stormwatch_load_runs", "Runs of a journey or a step under load.", {**labels, **step}, entry.runs)
            add(
                "stormwatch_load_failures",
                "How many of stormwatch_load_runs failed.",
                {**labels, **step},
                entry.failures,
            )
            add("stormwatch_load_runs_per_second", "Runs in a second.", {**labels, **step}, entry.per_second)
        broken = GaugeMetricFamily("stormwatch_load_broken_runs", "Runs that failed through us.")
        broken.add_metric([], self._summary.broken)
        return [*families.values(), broken]
