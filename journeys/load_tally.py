"""How many runs were good by each bound, exactly: locust's percentiles are rounded, and forget what failed quickly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stormwatch.journeys.load_job import Bound
from stormwatch.journeys.load_summary import Tally
from stormwatch.journeys.report import Report
from stormwatch.probes.result import Outcome


@dataclass(slots=True)
class _Count:
    good: int = 0
    bad: int = 0


class Tallies:
    """Counts runs; hands over what was counted since the last time; takes in what another process counted."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, float | None], _Count] = {}
        self.broken = 0
        self.broken_why = ""

    def add(self, journey: str, report: Report, bounds: Iterable[Bound]) -> None:
        """Count one run. A broken one is no evidence, nor is one that did not come to the step."""
        if report.outcome is Outcome.BROKEN:
            self.broken += 1
            self.broken_why = self.broken_why or report.sentence
            return
        for bound in bounds:
            good = _is_good(report, bound)
            if good is not None:
                self._count(journey, bound.step, bound.seconds, good=int(good), bad=int(not good))

    def take(self) -> Mapping[str, Any]:
        """What was counted since the last time, as JSON values."""
        taken = {
            "counts": [asdict(tally) for tally in self.tallies()],
            "broken": self.broken,
            "broken_why": self.broken_why,
        }
        self._counts, self.broken, self.broken_why = {}, 0, ""
        return taken

    def add_all(self, taken: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        for each in taken["counts"]:
            self._count(each["journey"], each["step"], each["seconds"], good=each["good"], bad=each["bad"])
        self.broken += taken["broken"]
        self.broken_why = self.broken_why or taken["broken_why"]

    def tallies(self) -> Sequence[Tally]:
        """What is counted now."""
        return tuple(
            Tally(journey=journey, step=step, seconds=seconds, good=count.good, bad=count.bad)
            for (journey, step, seconds), count in self._counts.items()
        )

    def _count(self, journey: str, step: str, seconds: float | None, *, good: int, bad: int) -> None:
        count = self._counts.setdefault((journey, step, seconds), _Count())
        count.good += good
        count.bad += bad


def _is_good(report: Report, bound: Bound) -> bool | None:
    """As an objective judges a result of a journey (`slo.objective`)."""
    if not bound.step:
        return report.outcome is Outcome.UP and not _is_slow(report.seconds, bound)
    found = [step for step in report.steps if step.name == bound.step]
    if not found:
        return None
    return not any(step.failed for step in found) and not _is_slow(sum(step.seconds for step in found), bound)


def _is_slow(seconds: float, bound: Bound) -> bool:
    return bound.seconds is not None and seconds > bound.seconds
