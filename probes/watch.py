"""What one attempt writes down while it runs: phases, measures and evidence, kept also when it fails."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from stormwatch.probes.clock import Clock
from stormwatch.probes.reach import ANYWHERE, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import NO_LABELS, Measure, Phase


class Watch:
    """Given to a check for one attempt, thrown away after it."""

    def __init__(
        self,
        *,
        clock: Clock,
        resources: Resources,
        timeout: float,
        probe: str,
        trace_id: str,
        reach: Reach = ANYWHERE,
    ) -> None:
        self.clock = clock
        self.resources = resources
        self.reach = reach
        """Where this run may connect to. Every check asks it about the addresses it is about to use."""
        self.timeout = timeout
        """Seconds that this attempt may take in all."""
        self.probe = probe
        """Name of the probe, for naming artifacts and for logs."""
        self.trace_id = trace_id
        self.began = clock.monotonic()
        self.deadline = self.began + timeout
        """On the monotonic clock. `run_once` enforces it; a check uses it to bound what cannot be cancelled."""
        self.phases: list[Phase] = []
        self.measures: list[Measure] = []
        self.evidence: dict[str, Any] = {}
        self.failed_phase = ""
        self._seconds: float | None = None

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - self.clock.monotonic())

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a stretch. If it raises, the run failed in this phase (the innermost one, if they nest)."""
        began = self.clock.monotonic()
        failed = False
        try:
            yield
        except BaseException:
            failed = True
            self.failed_phase = self.failed_phase or name
            raise
        finally:
            self.phases.append(
                Phase(name=name, seconds=self.clock.monotonic() - began, offset=began - self.began, failed=failed)
            )

    def add_phase(self, name: str, seconds: float, *, offset: float = 0.0, failed: bool = False) -> None:
        """Add a stretch that somebody else timed (libcurl's clocks, a journey's worker)."""
        self.phases.append(Phase(name=name, seconds=seconds, offset=offset, failed=failed))
        if failed and not self.failed_phase:
            self.failed_phase = name

    def measure(self, name: str, value: float, **labels: str) -> None:
        """Write down a number under the metric name it is exported as, in base units."""
        self.measures.append(Measure(name=name, value=float(value), labels=labels or NO_LABELS))

    def note(self, key: str, value: Any) -> None:
        """Keep evidence: JSON values only, small (a head, not a body of megabytes), never a secret."""
        self.evidence[key] = value

    def took(self, seconds: float) -> None:
        """Say how long the attempt took where a better clock than ours knows it (libcurl's, the journey worker's)."""
        self._seconds = seconds

    def seconds(self) -> float:
        """How long the attempt took so far, or what `took` said."""
        return self._seconds if self._seconds is not None else self.clock.monotonic() - self.began
