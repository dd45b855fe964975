"""Metrics of our own process: CPU, memory, file descriptors, Python. From prometheus-client, on a registry of our own."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from stormwatch.exporters.exposition import Family, FamilyKind, Sample

_KINDS: dict[str, FamilyKind] = {"counter": "counter", "gauge": "gauge"}


class ProcessMetrics:
    """A source of families: `process_*`, `python_info`, `stormwatch_build_info`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        try:
            self._version = version("stormwatch")
        except PackageNotFoundError:
            self._version = "unknown"  # run from a folder that was never installed

    def __call__(self) -> Iterator[Family]:
        """Read /proc and give what it says."""
        yield Family(
            "stormwatch_build_info", "Always 1; the label says which version runs.", "gauge", [Sample(1, self._build)]
        )
        for metric in self._registry.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            samples = [Sample(sample.value, sample.labels) for sample in metric.samples if sample.name == name]
            yield Family(name, metric.documentation, _KINDS.get(metric.type, "untyped"), samples)

    @property
    def _build(self) -> dict[str, str]:
        return {"version": self._version}
