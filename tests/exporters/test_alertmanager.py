"""The real Alertmanager gets our alerts, keeps them, and resolves them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stormwatch.exporters.alertmanager import AlertmanagerNotifier
from stormwatch.exporters.notification import Notification, families
from tests.program import program
from tests.servers.process import free_port, running
from tests.servers.receiver import Receiver

CONFIG = """\
route: {{receiver: people, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - {{name: people, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}
"""


@contextlib.contextmanager
def alertmanager(folder: Path, port: int, receiver: Receiver) -> Generator[str]:
    """A running Alertmanager that pages the receiver; its address."""
    (folder / "alertmanager.yml").write_text(CONFIG.format(url=receiver.url))
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, log=folder / "alertmanager.log", port=port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def started(notifier: AlertmanagerNotifier) -> AsyncGenerator[AlertmanagerNotifier]:
    """A notifier whose task runs."""
    task = asyncio.create_task(notifier.run())
    try:
        yield notifier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await notifier.aclose()


async def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


def page(**values: Any) -> Notification:
    """A page for a probe that is down."""
    labels = {"alertname": "ProbeDown", "probe": "front", "severity": "page", "team": "wéb", "empty": ""}
    return Notification(
        **{"labels": labels, "annotations": {"summary": "front is down"}, "starts_at": time.time() - 3, **values}
    )


async def test_an_alert_fires_and_is_resolved_in_the_real_alertmanager(tmp_path: Path) -> None:
    """Its people hear both, once each; the fingerprint is the one that Alertmanager computes itself."""
    delivered: list[tuple[Notification, float]] = []
    with Receiver() as receiver, alertmanager(tmp_path, free_port(), receiver) as url:
        notifier = AlertmanagerNotifier(f"{url}/", resend=0.5, on_delivered=lambda *args: delivered.append(args))
        async with started(notifier), httpx.AsyncClient(timeout=60) as client:
            alert = page()
            notifier.notify(alert)
            await until(lambda: bool(receiver.alerts("firing", alertname="ProbeDown")), "the page")
            (known,) = (await client.get(f"{url}/api/v2/alerts")).json()
            assert alert.fingerprint == known["fingerprint"]
            assert known["labels"] == {"alertname": "ProbeDown", "probe": "front", "severity": "page", "team": "wéb"}
            assert known["annotations"] == {"summary": "front is down"}

            sent = notifier.counts.sent
            await until(lambda: notifier.counts.sent > sent + 2, "the alert to be sent again")
            assert len(receiver.alerts("firing", alertname="ProbeDown")) == 1

            over = page(starts_at=alert.starts_at, ends_at=time.time())
            notifier.notify(over)
            await until(lambda: bool(receiver.alerts("resolved", alertname="ProbeDown")), "the resolve")
    assert [alert, over] == [notification for notification, _ in delivered]


async def test_an_alert_that_is_not_sent_again_ends_by_itself(tmp_path: Path) -> None:
    """A prober that died must not leave alerts that burn for ever: four intervals after the last sending it is over."""
    with Receiver() as receiver, alertmanager(tmp_path, free_port(), receiver) as url:
        async with started(AlertmanagerNotifier(url, resend=0.5)) as notifier:
            notifier.notify(page())
            await until(lambda: bool(receiver.alerts("firing")), "the page")
        await until(lambda: bool(receiver.alerts("resolved")), "the alert to end")


async def test_an_alertmanager_that_comes_late_is_told(tmp_path: Path) -> None:
    """Nothing waits for it meanwhile; the failures are counted."""
    port = free_port()
    with Receiver() as receiver:
        async with started(AlertmanagerNotifier(f"http://127.0.0.1:{port}", resend=1)) as notifier:
            notifier.notify(page())
            await until(lambda: notifier.counts.failed >= 1, "the first failure")
            assert notifier.counts.waiting == 1
            with alertmanager(tmp_path, port, receiver):
                await until(lambda: bool(receiver.alerts("firing")), "the page")
                await until(lambda: notifier.counts.waiting == 0, "nothing to wait")
        names = {family.name: family.samples[0] for family in families([notifier.counts])}
    assert dict(names["stormwatch_notifications_sent_total"].labels) == {"notifier": "alertmanager"}
    assert names["stormwatch_notifications_failed_total"].value >= 1


async def test_one_alert_that_is_refused_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    """Alertmanager answers 400 to the whole request for one alert without a label."""
    with Receiver() as receiver, alertmanager(tmp_path, free_port(), receiver) as url:
        notifier = AlertmanagerNotifier(url, resend=0.5)
        notifier.notify(page())
        notifier.notify(page(labels={"alertname": ""}))
        async with started(notifier):
            await until(lambda: bool(receiver.alerts("firing", alertname="ProbeDown")), "the page")
            await until(lambda: notifier.counts.refused == 1, "the refusal")
            assert notifier.counts.waiting == 0


@pytest.mark.parametrize(
    ("labels", "fingerprint"), [({}, "cbf29ce484222325"), ({"a": ""}, "cbf29ce484222325")], ids=["none", "empty"]
)
def test_a_fingerprint_of_nothing_is_the_offset_of_fnv(labels: dict[str, str], fingerprint: str) -> None:
    """An empty value is no label."""
    assert fingerprint == page(labels=labels).fingerprint
