"""A webhook: Alertmanager's payload (version 4) posted to an address, in order, at least once.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
A receiver that may get a payload twice tells by group key, fingerprint, status and start that it has it already.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx

from stormwatch.exporters.notification import Counts, Delivered, Notification, is_worth_retrying, rfc3339
from stormwatch.probes.clock import Clock, SystemClock

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds that one request may take."""
FIRST_PAUSE = 0.5
"""Seconds after the first failure, roughly: half of it is random, so that many senders do not come together."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries at the most."""
KEPT = 10_000
"""Notifications that wait for a receiver that does not answer. Beyond it the oldest are given up, and counted."""
GROUPED_BY = ("alertname", "objective", "probe")


class WebhookNotifier:
    """A notifier for one address."""

    def __init__(
        self,
        url: str,
        *,
        receiver: str = "stormwatch",
        external_url: str = "",
        clock: Clock | None = None,
        on_delivered: Delivered = lambda _notification, _at: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`external_url` is where people find the status page; `jitter` gives numbers from 0 to 1.

        `on_delivered` hears when a person would have: the receiver took the notification.
        """
        self.counts = Counts("webhook")
        self._url = url
        self._receiver = receiver
        self._external_url = external_url
        self._clock = clock or SystemClock()
        self._on_delivered = on_delivered
        self._jitter = jitter
        self._client = httpx.AsyncClient(timeout=TIMEOUT)
        self._waiting: deque[Notification] = deque()
        self._firing: dict[str, Notification] = {}
        """What the receiver was told and was not told to be over, by fingerprint."""
        self._news = asyncio.Event()
        self._trouble = ""

    def notify(self, notification: Notification) -> None:
        """Put it behind what waits already."""
        if len(self._waiting) >= KEPT:
            self._waiting.popleft()
            self.counts.refused += 1
        self._waiting.append(notification)
        self.counts.waiting = len(self._waiting)
        self._news.set()

    async def run(self) -> None:
        """Deliver one group after the other until cancelled."""
        pause = 0.0
        while True:
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
            if await self._deliver():
                pause = 0.0
            else:
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
                await self._clock.sleep_until(self._clock.monotonic() + pause * (0.5 + self._jitter() / 2))

    async def aclose(self) -> None:
        """Try once more to deliver what waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                while self._waiting and await self._deliver():
                    pass
        if self._waiting:
            log.error("webhook: closed with %d notifications undelivered: %s", len(self._waiting), self._trouble)
        await self._client.aclose()

    async def _deliver(self) -> bool:
        """Send the oldest notification, together with others of its group. False: to be tried again."""
        news = first_group(self._waiting)
        group = group_of(news[0])
        told = [each for each in self._firing.values() if group_of(each) == group]
        document = payload(news, told, receiver=self._receiver, external_url=self._external_url)
        try:
            answer = await self._client.post(self._url, json=document)
        except httpx.HTTPError as error:
            return self._failed(f"{type(error).__name__}: {error}")
        if is_worth_retrying(answer.status_code):
            return self._failed(f"status {answer.status_code}")
        if answer.is_success:
            self._sent(news)
        else:
            self.counts.refused += len(news)
            log.error(
                "the webhook refuses %s with status %d: %.200s", dict(group), answer.status_code, answer.text.strip()
            )
        self._settled(news)
        return True

    def _sent(self, news: Sequence[Notification]) -> None:
        self.counts.sent += len(news)
        if self._trouble:
            log.warning("the webhook answers again after %s", self._trouble)
            self._trouble = ""
        at = self._clock.now()
        for each in news:
            if each.is_resolved:
                self._firing.pop(each.fingerprint, None)
            else:
                self._firing[each.fingerprint] = each
            self._on_delivered(each, at)

    def _settled(self, news: Sequence[Notification]) -> None:
        done = {id(each) for each in news}
        self._waiting = deque(each for each in self._waiting if id(each) not in done)
        self.counts.waiting = len(self._waiting)

    def _failed(self, said: str) -> bool:
        self.counts.failed += 1
        if said != self._trouble:
            log.error("the webhook did not take %d notifications: %s", len(self._waiting), said)
        self._trouble = said
        return False


def group_of(notification: Notification) -> tuple[tuple[str, str], ...]:
    """The labels that make notifications one group: the alert's name and what it is about."""
    labels = notification.sent_labels
    return tuple((name, labels[name]) for name in GROUPED_BY if name in labels)


def first_group(waiting: Iterable[Notification]) -> list[Notification]:
    """The oldest notification and those of its group, up to one that speaks of an alert for the second time.

    So what fired and was resolved while nobody listened is told in two payloads, in order.
    """
    found: dict[str, Notification] = {}
    group: tuple[tuple[str, str], ...] | None = None
    for each in waiting:
        group = group_of(each) if group is None else group
        if group_of(each) != group:
            continue
        if each.fingerprint in found:
            break
        found[each.fingerprint] = each
    return list(found.values())


def payload(
    news: Sequence[Notification], told: Sequence[Notification], *, receiver: str, external_url: str
) -> dict[str, Any]:
    """Alertmanager's webhook payload for one group: the news, and what still fires of what was told before."""
    alerts = {each.fingerprint: each for each in (*told, *news)}
    group = dict(group_of(news[0]))
    return {
        "version": "4",
        "groupKey": "{}:{" + ", ".join(f'{name}="{value}"' for name, value in group.items()) + "}",
        "truncatedAlerts": 0,
        "status": "resolved" if all(each.is_resolved for each in alerts.values()) else "firing",
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": _common([each.sent_labels for each in alerts.values()]),
        "commonAnnotations": _common([each.annotations for each in alerts.values()]),
        "externalURL": external_url,
        "alerts": [
            {
                "status": each.status,
                "labels": each.sent_labels,
                "annotations": dict(each.annotations),
                "startsAt": rfc3339(each.starts_at),
                "endsAt": "0001-01-01T00:00:00Z" if each.ends_at is None else rfc3339(each.ends_at),
                "generatorURL": each.generator_url,
                "fingerprint": each.fingerprint,
            }
            for each in alerts.values()
        ],
    }


def _common(documents: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = documents
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
