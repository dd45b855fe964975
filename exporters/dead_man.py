"""A dead man's switch outside is told again and again that we are well. When it falls silent, somebody else calls.

Any service that calls when a request stays out takes these: Healthchecks and the like, or another stormwatch's `heartbeat`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx

from stormwatch.exporters.exposition import Family, Sample
from stormwatch.probes.clock import Clock, SystemClock

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds that one request may take."""
FIRST_PAUSE = 1.0
"""Seconds after the first request that failed; twice as many after each further one, up to the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Where and how often."""

    url: str
    """Requested as long as we are well."""
    every: float
    """Seconds between two requests."""
    fail_url: str = ""
    """Told why, once, when we are not well any more. Empty: silence has to be enough."""


class DeadMan:
    """Tells a switch that we are well. `run` is a task of its own; then comes `aclose`."""

    def __init__(self, switch: Switch, trouble: Callable[[], str], *, clock: Clock | None = None) -> None:
        """`trouble` says in one sentence why we are not well; empty when we are."""
        self.trouble = ""
        """What the last look saw."""
        self.sent = 0
        """Requests that the switch took."""
        self.failed = 0
        """Requests that it did not take."""
        self._switch = switch
        self._look = trouble
        self._clock = clock or SystemClock()
        self._client = httpx.AsyncClient(timeout=TIMEOUT)
        self._told = True
        """Whether `fail_url` knows of the trouble."""
        self._said = ""

    async def run(self) -> None:
        """Until cancelled. Moments are multiples of the interval, so that requests do not drift apart by what they take."""
        due, pause = self._clock.monotonic(), 0.0
        while True:
            trouble = self._look()
            if trouble != self.trouble:
                self._changed(trouble)
            if await self._tell(trouble):
                pause = 0.0
                now = self._clock.monotonic()
                due += self._switch.every * max(1, -(-(now - due) // self._switch.every))
                await self._clock.sleep_until(due)
            else:
                pause = min(self._switch.every, max(FIRST_PAUSE, pause * 2))
                await self._clock.sleep_until(self._clock.monotonic() + pause)

    async def aclose(self) -> None:
        """Let go of the connections. The switch is not told: whoever stops us for long tells it, or is called."""
        await self._client.aclose()

    def families(self) -> Iterable[Family]:
        """Its metrics."""
        yield Family(
            "stormwatch_well",
            "Whether the schedule advances, the rules are evaluated and the history is written, by the last look.",
            "gauge",
            [Sample(int(not self.trouble))],
        )
        yield Family(
            "stormwatch_watchdog_pings_total",
            "Requests that the dead man's switch took.",
            "counter",
            [Sample(self.sent)],
        )
        yield Family(
            "stormwatch_watchdog_pings_failed_total",
            "Requests that the dead man's switch did not take; each is tried again.",
            "counter",
            [Sample(self.failed)],
        )

    def _changed(self, trouble: str) -> None:
        self._told = False
        if not trouble:
            log.warning("well again after: %s; the dead man's switch is told so", self.trouble)
        elif self.trouble:
            log.critical("still not well: %s", trouble)
        else:
            log.critical("not well, so the dead man's switch is not told any more that we are: %s", trouble)
        self.trouble = trouble

    async def _tell(self, trouble: str) -> bool:
        """Whether there is nothing to try again soon."""
        if not trouble:
            return await self._request(self._switch.url, "")
        if self._switch.fail_url and not self._told:
            self._told = await self._request(self._switch.fail_url, trouble)
            return self._told
        return True

    async def _request(self, url: str, body: str) -> bool:
        """POST; the address is in no log, because it may be a secret."""
        try:
            async with self._client.stream("POST", url, content=body.encode()) as answer:
                said = "" if answer.is_success else f"status {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = type(error).__name__
        if said:
            self.failed += 1
        else:
            self.sent += 1
        if said and said != self._said:  # once for each new trouble, not once for each try
            log.error("the dead man's switch was not told: %s; tried again", said)
        elif self._said and not said:
            log.warning("the dead man's switch answers again after %s", self._said)
        self._said = said
        return not said
