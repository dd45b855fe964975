"""A webhook hears of every alert at least once, in order, in the payload that Alertmanager sends; signed if it is asked for."""

import hashlib
import hmac
import json
import re
import time
from pathlib import Path

from stormwatch.exporters.dispatcher import Line
from stormwatch.exporters.grouping import Route, key_of
from stormwatch.exporters.message import Message, Why
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.webhook import SIGNATURE, WebhookChannel, payload
from tests.exporters.dispatching import START, alert, started
from tests.exporters.test_alertmanager import until
from tests.servers.receiver import Receiver
from tests.servers.service import Answer, AnyService


def webhook(url: str) -> Line:
    """As `alerts: {webhook: …}` makes it."""
    return Line(channel=WebhookChannel("webhook", url), route=Route(channel="webhook"))


async def test_what_is_refused_at_first_is_tried_again_until_it_is_taken(tmp_path: Path) -> None:
    """A drill learns when a person would have heard: when the receiver took it, not when it was sent first."""
    heard: list[tuple[Notification, float]] = []
    with Receiver() as receiver:
        receiver.refuse_next = 2
        async with started(
            webhook(receiver.url), data=tmp_path, on_delivered=lambda *args: heard.append(args), jitter=lambda: 0.0
        ) as dispatcher:
            began = time.time()
            dispatcher.notify(alert())
            await until(lambda: bool(heard), "the delivery")
            dispatcher.notify(alert(ends_at=START + 60))
            await until(lambda: len(heard) == 2, "the resolve")
            (counts,) = dispatcher.counts

        assert [alert(), alert(ends_at=START + 60)] == [notification for notification, _ in heard]
        (arrived, first), (_, second) = receiver.received
        assert -0.1 < heard[0][1] - arrived < 20
        assert heard[0][1] - began > 0.5
        assert (counts.failed, counts.sent, counts.waiting) == (2, 2, 0)
        assert [first["status"], second["status"]] == ["firing", "resolved"]


async def test_the_payload_is_that_of_alertmanager() -> None:
    """Version 4, every field of it."""
    page, ticket = alert("page"), alert("ticket")
    group = {"alertname": "ErrorBudgetBurn", "objective": "checkout-availability"}

    document = payload(
        Message(
            incident="1", sequence=0, why=Why.FIRST, group=group, alerts=(page, ticket), page="http://127.0.0.1:9797"
        ),
        receiver="stormwatch",
    )

    assert {key: value for key, value in document.items() if key != "alerts"} == {
        "version": "4",
        "groupKey": '{}:{alertname="ErrorBudgetBurn", objective="checkout-availability"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "stormwatch",
        "groupLabels": group,
        "commonLabels": group,
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
    assert key_of(group) == document["groupKey"]


async def test_a_group_fires_as_long_as_one_of_its_alerts_does(tmp_path: Path) -> None:
    """The resolve of one must not look like the end of the page beside it."""
    with Receiver() as receiver:
        async with started(webhook(receiver.url), data=tmp_path) as dispatcher:
            for number, each in enumerate(
                (alert("page"), alert("high"), alert("high", ends_at=START + 5), alert("page", ends_at=START + 9)), 1
            ):
                dispatcher.notify(each)
                await until(lambda number=number: len(receiver.received) == number, "the delivery")

        told = [(body["status"], [a["status"] for a in body["alerts"]]) for _, body in receiver.received]
    assert told == [
        ("firing", ["firing"]),
        ("firing", ["firing", "firing"]),
        ("firing", ["firing", "resolved"]),
        ("resolved", ["resolved"]),
    ]


async def test_what_fired_and_was_resolved_while_nobody_listened_is_told_in_two_payloads(tmp_path: Path) -> None:
    """In order, and without mixing groups."""
    with Receiver() as receiver:
        async with started(webhook(receiver.url), data=tmp_path) as dispatcher:
            for each in (alert(), alert(objective="other"), alert(ends_at=START + 1)):
                dispatcher.notify(each)
            await until(lambda: len(receiver.received) == 3, "all of it")

        told = [(body["groupLabels"]["objective"], body["status"]) for _, body in receiver.received]
    assert [status for objective, status in told if objective != "other"] == ["firing", "resolved"]
    assert ("other", "firing") in told


async def test_closing_tries_once_more(tmp_path: Path) -> None:
    """What came in the last moment is not left to the next life when the receiver is there."""
    with Receiver() as receiver:
        async with started(webhook(receiver.url), data=tmp_path, run=False) as dispatcher:
            dispatcher.notify(alert())

        assert len(receiver.received) == 1


async def test_a_request_that_is_wrong_for_good_is_not_repeated(tmp_path: Path) -> None:
    """A status 4xx says so; it is a receipt, and the next one is tried."""
    with AnyService(Answer(404, "no such hook"), Answer(200, "")) as service:
        async with started(webhook(service.url), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            dispatcher.notify(alert(objective="other"))
            await until(lambda: dispatcher.counts[0].sent == 1, "the second one")
            (counts,) = dispatcher.counts

            assert (counts.refused, counts.failed) == (1, 0)

    told = [each.json["groupLabels"]["objective"] for each in service.requests]
    assert told == ["checkout-availability", "other"]


async def test_a_signature_holds_for_this_body_at_this_time_only(tmp_path: Path) -> None:
    """Verified as docs/reference/notifications.md tells receivers to."""
    with AnyService(Answer(200, "")) as service:
        channel = WebhookChannel("signed", service.url, secret="canary-77aa")
        async with started(Line(channel=channel, route=Route(channel="signed")), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: bool(dispatcher.counts[0].sent), "the delivery")

    (request,) = service.requests
    header = request.headers[SIGNATURE.lower()]
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", header)
    assert found
    assert abs(int(found[1]) - time.time()) < 60
    expected = hmac.new(b"canary-77aa", found[1].encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert expected == found[2]
    assert json.loads(request.body)["version"] == "4"
    assert "canary-77aa" not in header
