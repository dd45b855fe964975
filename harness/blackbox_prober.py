"""What `/probe` does: a module and a target become a check, the check one result, the result an answer.

    module ▸ translate ▸ check (kept) ▸ run_once ▸ page
                                           ▲
                                        places: so many at once, the others wait

The same `run_once` as for scheduled probes; nothing here looks at a target itself.
"""

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stormwatch.exporters.exposition import Family, Sample
from stormwatch.exporters.histogram import SHORT_SECONDS, Histogram
from stormwatch.exporters.probe_page import probe_page
from stormwatch.harness.blackbox_checks import BlackboxChecks, Built, Impossible
from stormwatch.harness.blackbox_history import BlackboxHistory, Entry
from stormwatch.harness.blackbox_module import Module, Modules, read_modules
from stormwatch.harness.blackbox_translation import Materials
from stormwatch.harness.lag import LoopLag
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.secret import mask_of
from stormwatch.probes.clock import Clock, SystemClock
from stormwatch.probes.probe import Check, Probe
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Reason
from stormwatch.probes.run import run_once

log = logging.getLogger(__name__)

DEFAULT_MODULE: Final = "http_2xx"
SCRAPE_TIMEOUT: Final = 120.0
"""Seconds that a run may take when nobody says otherwise."""
AT_ONCE: Final = 64
"""Runs under way at once. A storm of scrapes waits in line, and scheduled probes keep their own places."""


PATIENCE: Final = 0.5
"""Share of the time-out that a run waits for a place: with less than the rest, a slow start of ours would be the target's fault."""
REFUSED_BY_DEFAULT: Final = Reach(refuse=OWN_HOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How `/probe` is served."""

    reach: Reach = REFUSED_BY_DEFAULT
    """Where a target that comes with a request may be."""
    timeout_offset: float = 0.5
    """Seconds that are kept back from Prometheus' scrape time-out, for the way of the answer."""
    history: int = 100
    at_once: int = AT_ONCE


@dataclass(slots=True)
class _Counts:
    unknown_modules: int = 0
    reloaded: float = 0.0
    """Unix time of the last reload that succeeded."""
    reload_succeeded: bool = True
    waits: Histogram = field(default_factory=lambda: Histogram(SHORT_SECONDS))
    waiting: int = 0
    under_way: int = 0


class BlackboxProber:
    """`async with BlackboxProber(read_modules(path)) as prober:` runs its modules on request until it is left."""

    def __init__(self, modules: Modules, *, terms: Terms | None = None, clock: Clock | None = None) -> None:
        self.terms = terms or Terms()
        self.clock: Clock = clock or SystemClock()
        self.modules = modules
        self.history = BlackboxHistory(self.terms.history)
        self.lag = LoopLag(self.clock)
        self._counts = _Counts(reloaded=self.clock.now())
        self._places = asyncio.Semaphore(self.terms.at_once)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._resources = await self._stack.enter_async_context(Resources())
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="stormwatch-blackbox-"))
        self._materials = Materials(Path(directory))
        self._checks = BlackboxChecks(self._materials)
        watching = asyncio.create_task(self.lag.watch(), name="loop lag of /probe")

        async def end() -> None:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(watching, return_exceptions=True)

        self._stack.push_async_callback(end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def module(self, name: str) -> Module | None:
        """A module by its name; one that is not there is counted."""
        found = self.modules.modules.get(name)
        if found is None:
            self._counts.unknown_modules += 1
        return found

    def timeout(self, module: Module, scrape_timeout: float) -> float:
        """Seconds that a run may take, of the `scrape_timeout` that Prometheus gave; 0 when it gave none."""
        most = (scrape_timeout or SCRAPE_TIMEOUT) - self.terms.timeout_offset
        return module.timeout if 0 < module.timeout < most or most < 0 else most

    async def probe(self, name: str, module: Module, target: str, *, hostname: str = "", timeout: float) -> Entry:
        """One run, remembered. Waiting for a place counts against the time-out: who asked does not wait longer for it."""
        built = self._checks.get(name, module, target, hostname)
        began = self.clock.monotonic()
        self._counts.waiting += 1
        try:
            async with asyncio.timeout(timeout * PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            waited = self.clock.monotonic() - began
            overrun = Impossible(
                Reason.RESOURCES,
                f"no place among the {self.terms.at_once} runs at once within {waited:.2g} s: "
                "raise --probe-concurrency, or ask less often",
            )
            return await self._run(name, target, built, overrun, timeout=timeout, waited=waited)
        finally:
            self._counts.waiting -= 1
        waited = self.clock.monotonic() - began
        try:
            return await self._run(name, target, built, built.check, timeout=timeout, waited=waited)
        finally:
            self._places.release()

    async def _run(self, name: str, target: str, built: Built, check: Check, *, timeout: float, waited: float) -> Entry:
        self._counts.waits.observe(waited)
        self._counts.under_way += 1
        try:
            probe = Probe(
                name=name, kind=built.kind.name, target=built.target, check=check, timeout=max(0.0, timeout - waited)
            )
            result = await run_once(
                probe,
                clock=self.clock,
                resources=self._resources,
                late=waited,
                queued=waited,
                worst_lag=self.lag.worst,
                reach=self.terms.reach,
                mask=mask_of(built.secrets),
            )
        finally:
            self._counts.under_way -= 1
        return self.history.add(name, target, result, probe_page(result, built.kind, timeout=timeout))

    async def reload(self) -> None:
        """Read the file again. Raises ConfigError when it cannot be used; then the modules stay what they were."""
        try:
            modules = await asyncio.to_thread(read_modules, self.modules.path)
        except ConfigError as error:
            self._counts.reload_succeeded = False
            log.warning("the modules stay what they were: %s", "; ".join(error.lines))
            raise
        self.modules = modules
        self._checks = BlackboxChecks(self._materials)
        self._counts.reloaded, self._counts.reload_succeeded = self.clock.now(), True

    def families(self) -> Iterator[Family]:
        """What it says about itself, for `/metrics`."""
        counts = self._counts
        yield Family(
            "blackbox_exporter_build_info",
            "Always 1. Here for dashboards; what runs is stormwatch_build_info.",
            "gauge",
            [Sample(1.0, dict.fromkeys(("branch", "goarch", "goos", "goversion", "revision", "tags", "version"), ""))],
        )
        yield _gauge(
            "blackbox_exporter_config_last_reload_successful",
            "Whether the file of modules could be used when it was last read.",
            float(counts.reload_succeeded),
        )
        yield _gauge(
            "blackbox_exporter_config_last_reload_success_timestamp_seconds",
            "Unix time at which the modules in use were read.",
            counts.reloaded,
        )
        yield Family(
            "blackbox_module_unknown_total",
            "Requests for a module that is not there.",
            "counter",
            [Sample(counts.unknown_modules)],
        )
        yield Family(
            "stormwatch_blackbox_queue_wait_seconds",
            "Seconds that a request to /probe waited for others to end.",
            "histogram",
            counts.waits.samples({}),
        )
        yield _gauge("stormwatch_blackbox_runs_under_way", "Requests to /probe that are being run.", counts.under_way)
        yield _gauge("stormwatch_blackbox_runs_waiting", "Requests to /probe that wait for a place.", counts.waiting)
        yield _gauge(
            "stormwatch_blackbox_checks", "Checks of a module and a target that are kept compiled.", len(self._checks)
        )


def _gauge(name: str, help: str, value: float) -> Family:  # noqa: A002 - the word of the format
    return Family(name, help, "gauge", [Sample(value)])
