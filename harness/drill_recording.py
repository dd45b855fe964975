"""`stormwatch drill --record DIR`: what a drill saw is kept, for `stormwatch mutate` to judge it again with other rules.

A control run is recorded in the same way, with nothing broken: whatever fires then is a false alarm.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.recording import EARLIER, Earlier, Tape, path_of, recorded
from stormwatch.exporters import history
from stormwatch.harness.config import Config
from stormwatch.harness.problem import Problem
from stormwatch.probes.clock import Clock

CONTROL = "control run"
"""The name of a control run's recording. No drill can have it: there is a space in it."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def drill_recorded(
    config: Config, drill: Drill, feed: Feed, *, clock: Clock, directory: Path, data: Path | None
) -> AsyncGenerator[Tape]:
    """Record a drill for as long as the block lasts. `data` is where the service that is watched keeps its history.

    Raises Problem when nothing can be written, before anything is injected. What goes wrong later costs the recording, and
    not the drill.
    """
    async with _kept(config, drill.name, feed, clock=clock, directory=directory, data=data) as tape:
        yield tape


async def record_control(
    config: Config, feed: Feed, *, seconds: float, clock: Clock, directory: Path, data: Path | None
) -> None:
    """Record for so many seconds, and break nothing. Raises Problem when nothing can be written."""
    async with _kept(config, CONTROL, feed, clock=clock, directory=directory, data=data):
        await clock.sleep_until(clock.monotonic() + seconds)


@asynccontextmanager
async def _kept(
    config: Config, name: str, feed: Feed, *, clock: Clock, directory: Path, data: Path | None
) -> AsyncGenerator[Tape]:
    path = path_of(directory, name)
    earlier = await asyncio.to_thread(_earlier, config, data, clock.now()) if data else []
    async with AsyncExitStack() as stack:
        try:
            tape = await stack.enter_async_context(recorded(name, path, feed, clock=clock, earlier=earlier))
        except OSError as error:
            raise Problem(f"--record: cannot write {path}: {error.strerror or error}; nothing was injected") from error
        yield tape
        try:
            await stack.aclose()
        except OSError as error:
            log.warning("%s was not recorded: %s: %s", name, path, error.strerror or error)


def _earlier(config: Config, data: Path, now: float) -> list[Earlier]:
    """What the windows of the objectives hold already."""
    reach = max((objective.window for objective in config.objectives), default=0.0)
    file = data / "history.sqlite"
    if not reach or not file.exists():
        return []
    try:
        newest = deque(history.Recorded(file).replay(now - reach), maxlen=EARLIER)
    except history.HistoryUnavailable as error:
        log.warning("what was seen before the drill cannot be read, so it is not recorded: %s", error)
        return []
    return [Earlier(one.probe, one.finished, one.seconds, one.outcome) for one in newest]
