"""The last result of each probe, in memory: for the API, the status page and for whoever asks what is up now."""

from collections.abc import Iterable

from stormwatch.probes.result import Outcome, Result


class Latest:
    """A sink that remembers one result a probe, the last failure, and since when the outcome is what it is."""

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}
        self._failures: dict[str, Result] = {}
        self._since: dict[str, float] = {}

    def __call__(self, result: Result) -> None:
        """Remember a result."""
        before = self._results.get(result.probe)
        if before is None or before.outcome is not result.outcome:
            self._since[result.probe] = result.started
        self._results[result.probe] = result
        if result.outcome is not Outcome.UP:
            self._failures[result.probe] = result

    def result(self, probe: str) -> Result | None:
        """The last result of a probe."""
        return self._results.get(probe)

    def failure(self, probe: str) -> Result | None:
        """The last result that was down or broken."""
        return self._failures.get(probe)

    def since(self, probe: str) -> float | None:
        """Unix time since when the outcome of a probe has been the same."""
        return self._since.get(probe)

    def restore(self, results: Iterable[Result]) -> None:
        """Take results of an earlier life, oldest first."""
        for result in results:
            self(result)
