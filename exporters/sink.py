"""A sink is a callable that takes a Result; `FanOut` gives one result to all and lets none of them hurt another."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping

from stormwatch.probes.result import Result

Sink = Callable[[Result], None]
"""Takes a result. Does not block, does not answer. One that needs closing also has `async def aclose()`."""

log = logging.getLogger(__name__)


class FanOut:
    """One call, no answer. A sink that raises is logged with its traceback and counted; the others still receive."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self.errors: Counter[str] = Counter(dict.fromkeys(sinks, 0))
        """How often each sink raised: `stormwatch_sink_errors_total`."""

    def __call__(self, result: Result) -> None:
        """Hand a result to every sink, in the order they were given."""
        for name, sink in self._sinks.items():
            try:
                sink(result)
            except Exception:
                self.errors[name] += 1
                log.exception("sink %s did not take the result of probe %s", name, result.probe)
