"""A webhook hears of every alert at least once, in order, in the payload that Alertmanager sends."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator
from typing import Any

from stormwatch.exporters.notification import Notification
from stormwatch.exporters.webhook import WebhookNotifier, first_group, payload
from tests.exporters.test_alertmanager import until
from tests.servers.receiver import Receiver

START = 1_795_229_110.5


def alert(severity: str = "page", objective: str = "checkout-availability", **values: Any) -> Notification:
    """An alert of an objective."""
    labels = {"alertname": "ErrorBudgetBurn", "objective": objective, "severity": severity}
    return Notification(
        **{"labels": labels, "annotations": {"summary": "burns", "pair": severity}, "starts_at": START, **values}
    )


@contextlib.asynccontextmanager
async def started(notifier: WebhookNotifier) -> AsyncGenerator[WebhookNotifier]:
    """A notifier whose task runs."""
    task = asyncio.create_task(notifier.run())
    try:
        yield notifier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await notifier.aclose()


async def test_what_is_refused_at_first_is_tried_again_until_it_is_taken() -> None:
    """A drill learns when a person would have heard: when the receiver took it, not when it was sent first."""
    heard: list[tuple[Notification, float]] = []
    with Receiver() as receiver:
        receiver.refuse_next = 2
        notifier = WebhookNotifier(receiver.url, on_delivered=lambda *args: heard.append(args), jitter=lambda: 0.0)
        async with started(notifier):
            began = time.time()
            notifier.notify(alert())
            await until(lambda: bool(heard), "the delivery")
            notifier.notify(alert(ends_at=START + 60))
            await until(lambda: len(heard) == 2, "the resolve")

        assert [alert(), alert(ends_at=START + 60)] == [notification for notification, _ in heard]
        (arrived, first), (_, second) = receiver.received
        assert abs(heard[0][1] - arrived) < 0.5
        assert heard[0][1] - began > 0.5
        assert (notifier.counts.failed, notifier.counts.sent, notifier.counts.waiting) == (2, 2, 0)
        assert [first["status"], second["status"]] == ["firing", "resolved"]


async def test_the_payload_is_that_of_alertmanager() -> None:
    """Version 4, every field of it."""
    page, ticket = alert("page"), alert("ticket")

    document = payload([page, ticket], [], receiver="stormwatch", external_url="http://127.0.0.1:9797")

    assert {key: value for key, value in document.items() if key != "alerts"} == {
        "version": "4",
        "groupKey": '{}:{alertname="ErrorBudgetBurn", objective="checkout-availability"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "stormwatch",
        "groupLabels": {"alertname": "ErrorBudgetBurn", "objective": "checkout-availability"},
        "commonLabels": {"alertname": "ErrorBudgetBurn", "objective": "checkout-availability"},
        "commonAnnotations": {"summary": "burns"},
        "externalURL": "http://127.0.0.1:9797",
    }
    assert {
        "status": "firing",
        "labels": {"alertname": "ErrorBudgetBurn", "objective": "checkout-availability", "severity": "page"},
        "annotations": {"summary": "burns", "pair": "page"},
        "startsAt": "2026-11-21T02:45:10.500000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": page.fingerprint,
    } == document["alerts"][0]


async def test_a_group_fires_as_long_as_one_of_its_alerts_does() -> None:
    """The resolve of a ticket must not look like the end of the page beside it."""
    with Receiver() as receiver:
        async with started(WebhookNotifier(receiver.url)) as notifier:
            for each in (
                alert("page"),
                alert("ticket"),
                alert("ticket", ends_at=START + 5),
                alert("page", ends_at=START + 9),
            ):
                notifier.notify(each)
                await until(lambda: notifier.counts.waiting == 0, "the delivery")

        told = [(body["status"], [a["status"] for a in body["alerts"]]) for _, body in receiver.received]
    assert told == [
        ("firing", ["firing"]),
        ("firing", ["firing", "firing"]),
        ("firing", ["firing", "resolved"]),
        ("resolved", ["resolved"]),
    ]


def test_what_fired_and_was_resolved_meanwhile_is_told_in_two_payloads() -> None:
    """In order, and without mixing groups."""
    waiting = [alert("page"), alert(objective="other"), alert("ticket"), alert("page", ends_at=START + 1)]

    assert [waiting[0], waiting[2]] == first_group(waiting)
    assert [waiting[3]] == first_group(waiting[3:])


async def test_closing_tries_once_more() -> None:
    """What came in the last moment is not lost because the task ended first."""
    with Receiver() as receiver:
        notifier = WebhookNotifier(receiver.url)
        notifier.notify(alert())
        await notifier.aclose()

        assert len(receiver.received) == 1


async def test_a_request_that_is_wrong_for_good_is_not_repeated() -> None:
    """A status 4xx says so; it is counted, and the next one is tried."""
    answers = iter(["404 Not Found", "200 OK"])
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            requests.append(await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0])))
            writer.write(f"HTTP/1.1 {next(answers)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        async with started(WebhookNotifier(url)) as notifier:
            notifier.notify(alert())
            notifier.notify(alert(objective="other"))
            await until(lambda: notifier.counts.sent == 1, "the second one")

            assert notifier.counts.refused == 1
            assert notifier.counts.failed == 0

    assert [json.loads(body)["groupLabels"]["objective"] for body in requests] == ["checkout-availability", "other"]
