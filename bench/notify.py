"""What telling people costs: alerts a second through grouping and the outbox without loss, and how soon a page is on disk.

python -m bench notify          1,000 alerts a second for 5 s; 200 outages of 40 probes for the delay
"""

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stormwatch.exporters.channel import Receipt, Sending
from stormwatch.exporters.dispatcher import Dispatcher, Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.outbox import Outbox
from stormwatch.exporters.step import Step
from stormwatch.harness.config import load
from stormwatch.harness.service import Service
from stormwatch.probes.result import Outcome, Result
from stormwatch.slo.alert import AlertState, Transition

RATE = 1000
"""Alerts a second."""
SECONDS = 5
PROBES = 40
OUTAGES = 200


class Sink:
    """A receiver in this process that takes everything at once: what is measured is ours."""

    pause = 0.0
    acknowledgements = False

    def __init__(self, name: str, *, each_alert: bool) -> None:
        self.name = name
        self.each_alert = each_alert
        self.seen: set[tuple[str, str]] = set()
        self.messages = 0

    async def send(self, sending: Sending) -> Receipt:
        """Keep which alerts it tells."""
        self.messages += 1
        self.seen |= {(each.fingerprint, each.status) for each in sending.message.alerts}
        return Receipt(said="taken")

    async def aclose(self) -> None:
        """Nothing is held open."""


def main() -> int:
    """Print the figures. 1: something was lost."""
    with tempfile.TemporaryDirectory() as directory:
        lost = asyncio.run(_storm(Path(directory)))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_outages(Path(directory)))
    return int(lost > 0)


async def _storm(directory: Path) -> int:
    """Every alert fires and ends; one channel groups them, the other is told of each."""
    grouped, single = Sink("grouped", each_alert=False), Sink("single", each_alert=True)
    lines = (
        Line(channel=grouped, route=Route(channel="grouped", group_by=("team",), group_wait=0.2, group_interval=1.0)),
        Line(channel=single, route=Route(channel="single", group_by=None)),
    )
    taken: list[float] = []
    writing: list[float] = []
    delays: list[float] = []

    def reached(step: Step) -> None:
        if step is Step.TAKEN:
            taken.append(time.monotonic())
        elif step is Step.WRITE:
            writing.extend(taken)
            taken.clear()
        elif step is Step.WRITTEN:
            now = time.monotonic()
            delays.extend(now - at for at in writing)
            writing.clear()

    outbox = await Outbox.open(directory / "outbox.sqlite")
    dispatcher = Dispatcher(lines, outbox, step=reached)
    await dispatcher.begin()
    work = asyncio.create_task(dispatcher.run())
    began = time.monotonic()
    expected = await _tell(dispatcher, began)
    fed = time.monotonic() - began
    async with asyncio.timeout(120):
        while len(delays) < len(expected) or not grouped.seen >= expected:
            await asyncio.sleep(0.05)
    lasted, receipted = time.monotonic() - began, single.messages
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    on_disk = {
        (alert["labels"]["probe"], alert["ends_at"] is None)
        for each in await outbox.recent(0.0, channel="single", limit=10 * len(expected))
        for alert in each["message"]["alerts"]
    }
    await dispatcher.aclose()
    await outbox.aclose()
    lost = len(expected) - len(on_disk)
    print(f"{len(expected):,} alerts in {fed:.1f} s, {len(expected) / fed:,.0f} a second; two channels")
    print(f"  from the alert to the disk             {_shown(delays)}")
    print(
        f"  one message for each                   {receipted:>8,} messages, {receipted / lasted:,.0f} a second to the receipt; the rest waits"
    )
    print(f"  grouped by team                        {grouped.messages:>8,} messages")
    print(f"  commits                                {outbox.commits:>8,}")
    print(f"  lost                                   {lost:>8,}")
    return lost


async def _tell(dispatcher: Dispatcher, began: float) -> set[tuple[str, str]]:
    """Half of them begin, then end in the same order, at the rate: an alert that ends before anybody was told is not told."""
    expected: set[tuple[str, str]] = set()
    for number in range(RATE * SECONDS):
        is_end, place = divmod(number, RATE * SECONDS // 2)
        notification = Notification(
            labels={"alertname": "ProbeDown", "severity": "page", "probe": f"p{place}", "team": f"t{place % 7}"},
            annotations={"summary": f"p{place} is down", "runbook": "https://runbooks.example/p"},
            starts_at=1.0 + place,
            ends_at=time.time() if is_end else None,
        )
        dispatcher.notify(notification)
        expected.add((notification.fingerprint, notification.status))
        ahead = began + number / RATE - time.monotonic()
        await asyncio.sleep(max(0.0, ahead) if number % 10 == 0 else 0)
    return expected


async def _outages(directory: Path) -> None:
    """Real probes of servers that come and go, in a whole service; the page waits for nobody."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(PROBES)]
    ports = [each.getsockname()[1] for each in servers]
    probes = "".join(
        f'  - {{name: p{number}, kind: tcp, target: "127.0.0.1:{port}"}}\n' for number, port in enumerate(ports)
    )
    config = directory / "stormwatch.yaml"
    config.write_text(
        "defaults: {every: 250ms, timeout: 100ms, confirm: {attempts: 2, after: 10ms}}\n"
        f"probes:\n{probes}"
        'alerts:\n  flapping: {after: 0}\n  notify: [{name: hook, to: webhook, url: "http://127.0.0.1:9/", group_wait: 0s, group_interval: 0s}]\n'
    )
    decided: dict[str, float] = {}
    told: list[float] = []
    writing: list[float] = []
    delays: list[float] = []

    def heard(event: Result | Transition) -> None:
        if isinstance(event, Result):
            if event.outcome is Outcome.DOWN:
                decided[event.probe] = event.finished
        elif event.after is AlertState.FIRING and event.probe in decided:
            told.append(decided.pop(event.probe))

    def reached(step: Step) -> None:
        if step is Step.WRITE:
            writing.extend(told)
            told.clear()
        elif step is Step.WRITTEN:
            delays.extend(time.time() - at for at in writing)
            writing.clear()

    async with Service(load(config, environ={}), data=directory / "data", step=reached) as service:
        service.listen(heard)
        await asyncio.sleep(1.5)
        rng = random.Random(1)
        with suppress(TimeoutError):
            async with asyncio.timeout(120):
                while len(delays) < OUTAGES:
                    number = rng.randrange(PROBES)
                    servers[number].close()
                    await asyncio.sleep(0.4)
                    servers[number] = socket.create_server(("127.0.0.1", ports[number]), backlog=64)
                    await asyncio.sleep(rng.random() * 0.1)
    for each in servers:
        each.close()
    print(f"\n{len(delays):,} outages of {PROBES} probes, a whole service")
    print(f"  from the deciding result to the outbox {_shown(delays)}")


def _shown(values: Sequence[float]) -> str:
    ordered = sorted(values)
    if not ordered:
        return "nothing measured"
    parts = [
        (name, ordered[min(len(ordered) - 1, int(share * len(ordered)))])
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    return "  ".join(f"{name} {value * 1000:8.1f} ms" for name, value in [*parts, ("max", ordered[-1])])


if __name__ == "__main__":
    sys.exit(main())
