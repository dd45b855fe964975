"""Watch a `stormwatch run` somewhere else: its API polled once a second, into the feed that drills read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from stormwatch.chaos.feed import Feed
from stormwatch.chaos.source import UNREADABLE, said
from stormwatch.harness.problem import Problem
from stormwatch.probes.clock import Clock
from stormwatch.probes.result import Result
from stormwatch.slo.alert import Transition

PERIOD = 1.0
"""Seconds between two looks."""
OVERLAP = 120.0
"""Seconds that each look reaches back beyond the last: results are recorded in batches, and may be late."""
PATIENCE = 5.0
"""Seconds without an answer, and two looks in a row, after which the drill is told that nobody watches."""


@asynccontextmanager
async def polled_feed(url: str, clock: Clock) -> AsyncGenerator[Feed]:
    """A feed of the service at `url`, as it is now and from now on. Raises Problem when nobody answers there."""
    feed = Feed()
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=5) as client:
        poller = _Poller(client, feed, clock)
        try:
            await poller.begin()
        except UNREADABLE as error:
            raise Problem(f"--watch {url}: no running stormwatch answers there ({said(error)})") from error
        task = asyncio.create_task(poller.run(), name="poller")
        try:
            yield feed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Poller:
    def __init__(self, client: httpx.AsyncClient, feed: Feed, clock: Clock) -> None:
        self._client = client
        self._feed = feed
        self._clock = clock
        self._since = clock.now()
        self._seen: dict[Any, float] = {}

    async def begin(self) -> None:
        for probe in (await self._get("probes"))["probes"]:
            if probe["last"]:
                self._take_result(Result.from_json(probe["last"]))
        for document in (await self._get("alerts"))["alerts"]:
            self._take_transition(Transition.from_json(document))

    async def run(self) -> None:
        answered, silent = self._clock.monotonic(), 0
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + PERIOD)
            try:
                await self._look()
            except UNREADABLE as error:
                silent += 1
                if silent > 1 and self._clock.monotonic() - answered > PATIENCE:
                    self._feed.fail(f"{self._client.base_url} does not answer: {said(error)}")
                else:
                    self._feed.miss()
            else:
                if silent:
                    self._feed.recover()
                answered, silent = self._clock.monotonic(), 0

    async def _look(self) -> None:
        now, since = self._clock.now(), self._since - OVERLAP
        results = (await self._get("results", since=since, limit=10_000))["results"]
        transitions = (await self._get("transitions", since=since))["transitions"]
        for document in reversed(results):
            self._take_result(Result.from_json(document))
        for document in transitions:
            self._take_transition(Transition.from_json(document))
        self._since = now
        self._seen = {key: at for key, at in self._seen.items() if at > since - OVERLAP}

    async def _get(self, what: str, **query: float) -> dict[str, Any]:
        answer = await self._client.get(f"/api/v1/{what}", params=query)
        answer.raise_for_status()
        return answer.json()

    def _take_result(self, result: Result) -> None:
        if self._is_new((result.trace_id, result.probe), result.finished):
            self._feed(result)

    def _take_transition(self, transition: Transition) -> None:
        if self._is_new((transition.alert.key, transition.after, transition.at), transition.at):
            self._feed.transition(transition)

    def _is_new(self, key: Any, at: float) -> bool:
        if key in self._seen:
            return False
        self._seen[key] = at
        return True
