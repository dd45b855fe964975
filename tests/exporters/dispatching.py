"""A dispatcher that runs, and alerts to give it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from stormwatch.exporters.dispatcher import Dispatcher, Line
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.outbox import Outbox

START = 1_795_229_110.5


def alert(severity: str = "page", objective: str = "checkout-availability", **values: Any) -> Notification:
    """An alert of an objective."""
    labels = {"alertname": "ErrorBudgetBurn", "objective": objective, "severity": severity}
    return Notification(
        **{"labels": labels, "annotations": {"summary": "burns", "pair": severity}, "starts_at": START, **values}
    )


@contextlib.asynccontextmanager
async def started(*lines: Line, data: Path, run: bool = True, **values: Any) -> AsyncGenerator[Dispatcher]:
    """A dispatcher on the outbox in a directory, where an earlier one left it."""
    outbox = await Outbox.open(data / "outbox.sqlite")
    dispatcher = Dispatcher(lines, outbox, **values)
    await dispatcher.begin()
    task = asyncio.create_task(dispatcher.run()) if run else None
    try:
        yield dispatcher
    finally:
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await dispatcher.aclose()
        await outbox.aclose()
