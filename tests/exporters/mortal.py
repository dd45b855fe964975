"""A dispatcher in a process of its own that kills itself, like `kill -9`, when it comes to a certain step.

    python -m tests.exporters.mortal DATA STEP URL FIRING

STEP is `name:number`, the step at its n-th time. The process says `done` when it has nothing to deliver any more.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from stormwatch.exporters.channel import Channel
from stormwatch.exporters.dispatcher import Dispatcher, Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.outbox import Outbox
from stormwatch.exporters.pagerduty import PagerDutyChannel
from stormwatch.exporters.slack import SlackChannel
from tests.exporters.dispatching import START, alert
from tests.servers.pagerduty import KEY
from tests.servers.slack import CHANNEL, TOKEN


async def main(data: Path, step: str, kind: str, url: str, story: str) -> None:
    """Tell a story: `fire`, or `fire` and `end`."""
    name, _, number = step.partition(":")
    left = int(number or 0)

    def reached(at: str) -> None:
        nonlocal left
        if at == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    channel: Channel
    if kind == "slack":
        channel = SlackChannel("slack", token=TOKEN, channel=CHANNEL, api=url)
        channel.pause = 0.0
    else:
        channel = PagerDutyChannel("pagerduty", routing_key=KEY, url=url)
    route = Route(channel=channel.name, group_by=None, acknowledgements=True)
    outbox = await Outbox.open(data / "outbox.sqlite")
    dispatcher = Dispatcher([Line(channel=channel, route=route)], outbox, jitter=lambda: 0.0, step=reached)
    await dispatcher.begin()
    work = asyncio.create_task(dispatcher.run())
    dispatcher.notify(alert())
    if "end" in story:
        dispatcher.notify(alert(ends_at=START + 60))
    async with asyncio.timeout(20):
        while not (found := await outbox.recent(0.0)) or any(each["settled"] is None for each in found):
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await dispatcher.aclose()
    await outbox.aclose()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    directory, *others = sys.argv[1:]
    asyncio.run(main(Path(directory), *others))
