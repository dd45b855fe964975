"""Alertmanager: firing alerts are sent at once and again and again, resolved ones for five minutes.

API v2, POST /api/v2/alerts: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import httpx

from stormwatch.exporters.notification import Counts, Delivered, Notification, is_worth_retrying, rfc3339
from stormwatch.probes.clock import Clock, SystemClock

log = logging.getLogger(__name__)

RESEND = 15.0
"""Seconds between two sendings of an alert that fires."""
RESOLVED_FOR = 300.0
"""Seconds that a resolved alert is sent again: an Alertmanager that was restarted meanwhile hears of it, too."""
LASTS = 4
"""An alert that is not sent again ends by itself after so many intervals: three lost requests do not resolve it."""
TIMEOUT = 10.0
"""Seconds that one request may take."""
FIRST_PAUSE = 0.5
"""Seconds after the first failure; twice as many after each further one, up to the interval of resending."""
BATCH = 256
"""Alerts in one request."""


class AlertmanagerNotifier:
    """A notifier. It remembers what fires, so after a restart it must be told again."""

    def __init__(
        self,
        url: str,
        *,
        resend: float = RESEND,
        clock: Clock | None = None,
        on_delivered: Delivered = lambda _notification, _at: None,
    ) -> None:
        """`url` is where Alertmanager listens, without `/api/v2`; `resend` in seconds."""
        self.counts = Counts("alertmanager")
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        self._resend = resend
        self._clock = clock or SystemClock()
        self._on_delivered = on_delivered
        self._client = httpx.AsyncClient(timeout=TIMEOUT)
        self._known: dict[str, Notification] = {}
        """What fires, and what was resolved lately, by fingerprint."""
        self._unsent: dict[str, Notification] = {}
        """What Alertmanager was not told yet."""
        self._news = asyncio.Event()
        self._trouble = ""

    def notify(self, notification: Notification) -> None:
        """Send an alert as soon as possible."""
        key = notification.fingerprint
        self._known[key] = self._unsent[key] = notification
        self.counts.waiting = len(self._unsent)
        self._news.set()

    async def run(self) -> None:
        """Send news at once and everything every `resend` seconds, until cancelled."""
        pause = 0.0
        all_due = self._clock.monotonic()
        while True:
            now = self._clock.monotonic()
            if now >= all_due:
                all_due = now + self._resend
                self._forget()
                went_well = await self._send(list(self._known.values()))
            else:
                went_well = await self._send(list(self._unsent.values()))
            if went_well:
                pause = 0.0
                await self._wait(self._news, all_due)
            else:
                pause = min(self._resend, max(FIRST_PAUSE, pause * 2))
                await self._clock.sleep_until(self._clock.monotonic() + pause)

    async def aclose(self) -> None:
        """Send once more what Alertmanager was not told yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._send(list(self._unsent.values()))
        await self._client.aclose()

    async def _wait(self, news: asyncio.Event, moment: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - self._clock.monotonic())):
                await news.wait()
        news.clear()

    def _forget(self) -> None:
        before = self._clock.now() - RESOLVED_FOR
        for key, each in list(self._known.items()):
            if each.ends_at is not None and each.ends_at < before and key not in self._unsent:
                del self._known[key]

    async def _send(self, notifications: Sequence[Notification]) -> bool:
        """Whether all were delivered or refused for good."""
        for start in range(0, len(notifications), BATCH):
            if not await self._post(notifications[start : start + BATCH]):
                return False
        return True

    async def _post(self, batch: Sequence[Notification]) -> bool:
        ends = self._clock.now() + LASTS * self._resend
        try:
            answer = await self._client.post(self._url, json=[_alert(each, ends) for each in batch])
        except httpx.HTTPError as error:
            return self._failed(f"{type(error).__name__}: {error}")
        if answer.is_success:
            self._sent(batch)
            return True
        said = f"status {answer.status_code}: {answer.text[:200].strip()}"
        if is_worth_retrying(answer.status_code):
            return self._failed(said)
        if len(batch) > 1:  # one that is refused must not take the others with it
            return all([await self._post([each]) for each in batch])
        self.counts.refused += 1
        self._settled(batch[0])
        self._known.pop(batch[0].fingerprint, None)
        log.error("Alertmanager refuses %s: %s", dict(batch[0].labels), said)
        return True

    def _sent(self, batch: Sequence[Notification]) -> None:
        self.counts.sent += len(batch)
        if self._trouble:
            log.warning("Alertmanager answers again after %s", self._trouble)
            self._trouble = ""
        for each in batch:
            if self._settled(each):
                self._on_delivered(each, self._clock.now())

    def _settled(self, notification: Notification) -> bool:
        """Whether this was news; it is none any more."""
        key = notification.fingerprint
        was_news = self._unsent.get(key) is notification
        if was_news:
            del self._unsent[key]
            self.counts.waiting = len(self._unsent)
        return was_news

    def _failed(self, said: str) -> bool:
        self.counts.failed += 1
        if said != self._trouble:
            log.error("Alertmanager at %s was not told of %d alerts: %s", _shown(self._url), len(self._unsent), said)
        self._trouble = said
        return False


def _alert(notification: Notification, ends: float) -> dict[str, Any]:
    return {
        "labels": notification.sent_labels,
        "annotations": {name: value for name, value in notification.annotations.items() if value},
        "startsAt": rfc3339(notification.starts_at),
        "endsAt": rfc3339(ends if notification.ends_at is None else notification.ends_at),
        "generatorURL": notification.generator_url,
    }


def _shown(url: str) -> str:
    """An address without the user and password that may stand in it."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url
