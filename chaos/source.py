"""A source that drills watch and that has to be asked: about once a second, until it is left; its silence is said."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import httpx

from stormwatch.chaos.feed import Feed
from stormwatch.probes.clock import Clock

PERIOD = 1.0
"""Seconds between two looks."""
TIMEOUT = 2.0
"""Seconds that one look may take."""
PATIENCE = 4.0
"""Seconds without an answer, and two looks in a row, after which a drill is told that nobody watches."""

UNREADABLE = (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError, AttributeError)
"""What a look raises when nobody answers, or what answers is not what was asked."""


class ClockApart(ValueError):
    """A source's clock and ours differ by so much that moments cannot be compared. One sentence, with the remedy."""


class Source(Protocol):
    """Something that is looked at."""

    @property
    def name(self) -> str:
        """What it is called in a verdict: `Prometheus at http://127.0.0.1:9090`."""
        ...

    async def look(self) -> None:
        """Look once and feed what changed. Raises one of UNREADABLE."""
        ...


@asynccontextmanager
async def looked_at(source: Source, feed: Feed, clock: Clock) -> AsyncGenerator[None]:
    """Look at a source until the block is left. The first look is the caller's."""
    task = asyncio.create_task(_keep_looking(source, feed, clock), name=source.name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_looking(source: Source, feed: Feed, clock: Clock) -> None:
    answered, silent = clock.monotonic(), 0
    while True:
        began = clock.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                await source.look()
        except UNREADABLE as error:
            silent += 1
            if silent > 1 and clock.monotonic() - answered > PATIENCE:
                feed.fail(f"{source.name} cannot be watched: {said(error)}", source=source.name)
            else:
                feed.miss(source=source.name)
        else:
            if silent:
                feed.recover(source=source.name)
            answered, silent = clock.monotonic(), 0
        await clock.sleep_until(began + PERIOD)


def said(error: BaseException) -> str:
    """What is wrong with an answer, in a few words."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "time-out"
    if isinstance(error, httpx.HTTPError | ClockApart):
        return str(error) or type(error).__name__
    return "its answer cannot be read"
