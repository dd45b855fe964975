"""Alerts of others: what changed between two looks, what is held back, what came to the receiver, and who fell silent."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from stormwatch.chaos.alertmanager_alerts import AlertmanagerAlerts, held_back_by
from stormwatch.chaos.detection import SKEW
from stormwatch.chaos.feed import Delivered, Feed
from stormwatch.chaos.prometheus_alerts import ActiveAlert, PrometheusAlerts, changes
from stormwatch.chaos.source import PATIENCE, PERIOD, UNREADABLE, ClockApart, looked_at
from stormwatch.chaos.webhook_receiver import LARGEST, webhook_receiver
from stormwatch.probes.clock import SystemClock
from stormwatch.slo.alert import AlertState
from tests.servers.answers import Answers

CLOCK = SystemClock()
LABELS = {"alertname": "HighErrorRate", "severity": "page"}
SINCE = "2026-01-02T03:04:05.123456789Z"
AT = 1767323045.123456


def active(state: str, since: str = SINCE) -> dict[tuple[tuple[str, str], ...], ActiveAlert]:
    """What one look shows: one alert."""
    one = ActiveAlert.from_api(
        {"labels": LABELS, "annotations": {}, "state": state, "activeAt": since, "value": "1.5e+00"}
    )
    return {one.alert.key: one}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, active("pending"), ["inactive>pending"]),
        ({}, active("firing"), ["inactive>firing"]),
        (active("pending"), active("firing"), ["pending>firing"]),
        (active("firing"), active("firing"), []),
        (active("firing"), {}, ["firing>resolved"]),
        (active("pending"), {}, ["pending>inactive"]),
        (active("firing"), active("pending"), ["firing>resolved", "inactive>pending"]),
        (active("firing"), active("firing", "2026-01-02T03:05:05Z"), ["firing>resolved", "inactive>firing"]),
    ],
)
def test_two_looks_make_the_transitions_between_them(before: Any, now: Any, told: list[str]) -> None:
    """Also of an alert that was away between them: it began anew."""
    found = list(changes(before, now, at=AT + 60))
    assert [f"{one.before}>{one.after}" for one in found] == told
    assert all(one.at == AT + 60 for one in found)
    assert all(one.alert.labels == LABELS and one.value == 1.5 for one in found)
    assert not found or found[0].since == pytest.approx(AT, abs=1e-3)


def prometheus(*alerts: Mapping[str, Any], started: str = "a") -> dict[str, Any]:
    """The answers of a Prometheus."""
    return {
        "/api/v1/status/runtimeinfo": {"data": {"startTime": started}},
        "/api/v1/alerts": {"data": {"alerts": list(alerts)}},
    }


FIRING = {"labels": LABELS, "annotations": {}, "state": "firing", "activeAt": SINCE, "value": "1"}


async def test_a_restart_of_prometheus_is_a_gap() -> None:
    """What it forgot looks resolved: who records meanwhile has no verdict, who begins then has."""
    feed = Feed()
    with Answers(prometheus(FIRING)) as server, feed.recording() as seen:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            source = PrometheusAlerts(client, feed, CLOCK, shown=server.url)
            await source.look()
            assert (len(feed.firing), seen.failure) == (1, "")
            server.answers = prometheus(started="b")
            await source.look()
            assert "was restarted" in seen.failure
            await source.look()
            assert (len(feed.firing), feed.failure) == (0, "")


@pytest.mark.parametrize("apart", [-SKEW - 5, SKEW + 5])
async def test_clocks_that_are_apart_are_refused(apart: float) -> None:
    """Since when an alert holds could not be compared with when the fault began."""
    with Answers(prometheus()) as server:
        server.clock = time.time() + apart
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            source = PrometheusAlerts(client, Feed(), CLOCK, shown=server.url)
            with pytest.raises(ClockApart, match=r"its clock is \d+ s (ahead of|behind) ours"):
                await source.look()


async def test_a_source_that_falls_silent_fails_the_feed_until_it_answers_again() -> None:
    """Each for itself, after more than a moment and more than one look; the recording that was open keeps its gap."""
    feed = Feed()
    with Answers({**prometheus(), "/api/v2/alerts": []}) as server, feed.recording() as seen:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            one = PrometheusAlerts(client, feed, CLOCK, shown="one")
            other = AlertmanagerAlerts(client, feed, CLOCK, shown="other")
            async with asyncio.timeout(60), looked_at(one, feed, CLOCK), looked_at(other, feed, CLOCK):
                server.status = 503
                silent = CLOCK.monotonic()
                while "one" not in feed.failure or "other" not in feed.failure:
                    await asyncio.sleep(0.05)
                assert CLOCK.monotonic() - silent > PATIENCE - PERIOD
                server.status = 200
                while feed.failure:
                    await asyncio.sleep(0.05)
    assert seen.failure in {
        "Prometheus at one cannot be watched: status 503",
        "Alertmanager at other cannot be watched: status 503",
    }


@pytest.mark.parametrize("answer", [None, {"data": 1}, {"data": {"alerts": [{}]}}])
async def test_what_is_no_answer_of_a_prometheus_is_not_read(answer: Any) -> None:
    """Whatever it is, it is told as one that cannot be read, not as an alert that ended."""
    with Answers({**prometheus(), "/api/v1/alerts": answer}) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            with pytest.raises(UNREADABLE):
                await PrometheusAlerts(client, Feed(), CLOCK, shown=server.url).look()


def in_alertmanager(state: str = "active", **more: Any) -> dict[str, Any]:
    """An alert as Alertmanager's API shows it."""
    status = {"state": state, "silencedBy": [], "inhibitedBy": [], **more.pop("status", {})}
    return {"labels": LABELS, "startsAt": SINCE, "status": status, "receivers": [{"name": "people"}], **more}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (in_alertmanager(), ""),
        (in_alertmanager("suppressed", status={"silencedBy": ["6f1c"]}), "silence 6f1c"),
        (
            in_alertmanager("suppressed", status={"inhibitedBy": ["ab", "cd"]}),
            "inhibited by alert ab, inhibited by alert cd",
        ),
        (in_alertmanager(status={"mutedBy": ["nights"]}), "muted by time interval nights"),
        (in_alertmanager(receivers=[]), "no receiver"),
    ],
)
def test_why_alertmanager_holds_an_alert_back(document: dict[str, Any], why: str) -> None:
    """Silences, inhibitions, hours; and an alert that has nobody."""
    assert held_back_by(document) == why


async def test_an_alert_in_alertmanager_is_told_once_and_again_when_it_is_let_go() -> None:
    """Not before its inhibitions were looked at."""
    feed = Feed()
    with Answers({}) as server, feed.recording() as seen:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            source = AlertmanagerAlerts(client, feed, CLOCK, shown=server.url)
            for document in (
                in_alertmanager("unprocessed"),
                in_alertmanager("suppressed", status={"silencedBy": ["6f1c"]}),
                in_alertmanager(),
                in_alertmanager(),
            ):
                server.answers = {"/api/v2/alerts": [document]}
                await source.look()
    assert [one.held_back for one in seen.notifications] == ["silence 6f1c", ""]
    assert all(one.since == pytest.approx(AT, abs=1e-3) and one.labels == LABELS for one in seen.notifications)


def payload(**more: Any) -> dict[str, Any]:
    """A message of Alertmanager's webhook."""
    alert = {
        "status": "firing",
        "labels": LABELS,
        "annotations": {},
        "startsAt": SINCE,
        "endsAt": "0001-01-01T00:00:00Z",
    }
    return {
        "version": "4",
        "receiver": "drill",
        "status": "firing",
        "alerts": [alert, {**alert, "status": "resolved"}],
        **more,
    }


async def test_the_receiver_tells_each_alert_of_a_message() -> None:
    """What it says that fires, and what it says that is over, at any path."""
    feed = Feed()
    app = webhook_receiver(feed, CLOCK)
    with feed.recording() as seen:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            before = CLOCK.now()
            answer = await client.post("/any/path", json=payload())
    assert answer.status_code == 200
    firing, resolved = seen.deliveries
    assert before <= firing.at <= CLOCK.now()
    assert firing == Delivered(LABELS, firing.at, pytest.approx(AT, abs=1e-3), False, "drill")  # type: ignore[arg-type]
    assert resolved.resolved


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"version": "4"}',
        b'{"version": "4", "receiver": "x", "alerts": [1]}',
    ],
)
async def test_what_is_no_message_is_refused_and_told_to_nobody(body: bytes) -> None:
    """With status 400."""
    feed = Feed()
    with feed.recording() as seen:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(webhook_receiver(feed, CLOCK)), base_url="http://x"
        ) as client:
            assert (await client.post("/", content=body)).status_code == 400
            assert (await client.post("/", json=payload(version="5"))).status_code == 400
    assert seen.deliveries == []


async def test_a_message_without_end_is_not_read_to_its_end() -> None:
    """Memory is bounded."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(LARGEST // 1_000_000 + 2):
            yield b" " * 1_000_000

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(webhook_receiver(Feed(), CLOCK)), base_url="http://x"
    ) as client:
        assert (await client.post("/", content=endless())).status_code == 413


def test_a_feed_passes_on_what_is_wanted_there() -> None:
    """Results always; alerts and messages of ours only where nobody else's are watched; failures by their source."""
    own, feed = Feed(), Feed()
    own.fail("gone", source="service")
    with own.passing_on(feed, transitions=False, notifications=False), feed.recording() as seen:
        feed.fail("silent", source="Prometheus")
        assert feed.failure == "gone; silent"
        own.recover(source="service")
        assert feed.failure == "silent"
        own.notified(LABELS, AT)
        own.delivered(Delivered(LABELS, AT, AT))
        for one in changes({}, active("firing"), at=AT):
            own.transition(one)
    assert (seen.transitions, seen.notifications, feed.firing) == ([], [], {})
    assert len(seen.deliveries) == 1
    other = Feed()
    with own.passing_on(other, transitions=True, notifications=True), other.recording() as seen:
        assert [one.after for one in other.firing.values()] == [AlertState.FIRING]
        own.notified(LABELS, AT)
    own.notified(LABELS, AT)
    assert len(seen.notifications) == 1
