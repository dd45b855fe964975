"""A marked test alert on the real way: written to an outbox, sent by each channel, its receiver's answer read."""

import asyncio
import contextlib
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stormwatch.exporters.dispatcher import Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.message import Message
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.outbox import Outbox
from stormwatch.harness.config import Config
from stormwatch.harness.notifying import lines_of, open_dispatcher
from stormwatch.harness.problem import Problem
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.clock import SystemClock

POLL = 0.05
"""Seconds between two looks for the receipts."""


async def trial(config: Config, names: Collection[str], *, severity: str, wait: float) -> Sequence[dict[str, Any]]:
    """What each channel's receiver said to the alert and to its end, in at most `wait` seconds for each.

    Raises Problem for a name that no channel has, and when there is none.
    """
    lines = {line.channel.name: line for line in lines_of(config)}
    if not lines:
        raise Problem(f"{config.path}: no channel is configured in alerts.notify; see docs/how-to/notify-people.md")
    for name in names:
        if name not in lines:
            raise Problem(f"no channel is called {name}; {did_you_mean(name, lines)}")
    clock = SystemClock()
    alert = Notification(
        labels={"alertname": "StormwatchTest", "severity": severity, "test": "true", "probe": "notify-test"},
        annotations={"summary": "This is a test: nothing is wrong, and nothing has to be done."},
        starts_at=clock.now(),
    )
    with tempfile.TemporaryDirectory(prefix="stormwatch-notify-") as directory:
        dispatcher, outbox = await open_dispatcher(
            config,
            [_alone(lines[name]) for name in names or lines],
            data=Path(directory),
            page="",
            clock=clock,
            on_delivered=lambda _notification, _at: None,
        )
        work = asyncio.create_task(dispatcher.run())
        try:
            for expected, told in ((1, alert), (2, replace(alert, ends_at=clock.now() + 1))):
                dispatcher.notify(told)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await _settled(outbox, expected * len(dispatcher.workers))
            found = await outbox.recent(0.0)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await dispatcher.aclose()
            await outbox.aclose()
    receipts = [
        {**each, "status": Message.from_json(each["message"]).status}
        for each in sorted(found, key=lambda each: each["id"])
    ]
    return [{name: value for name, value in each.items() if name != "message"} for each in receipts]


def _alone(line: Line) -> Line:
    """At once, whatever it is told otherwise, and without a fallback: each receiver answers for itself."""
    route = Route(
        channel=line.channel.name,
        group_by=line.route.group_by,
        acknowledgements=line.route.acknowledgements,
        damping=False,
    )
    return replace(line, route=route, is_told=True, fallback="")


async def _settled(outbox: Outbox, expected: int) -> None:
    """Wait for so many receipts, good or bad."""
    while True:
        found = await outbox.recent(0.0)
        if len(found) >= expected and all(each["settled"] is not None for each in found):
            return
        await asyncio.sleep(POLL)
