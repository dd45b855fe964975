"""The alerts of an Alertmanager, looked at about once a second: which arrived, and whether anybody will be told of them.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml: an alert is `active` with its receivers, or `suppressed`
by silences and inhibitions, or `unprocessed` for a moment. That it is active does not say that it was sent: it waits for
`group_wait` and goes on its way then, which only the receiver sees.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from stormwatch.chaos.feed import Feed
from stormwatch.probes.clock import Clock

Key = tuple[tuple[str, str], ...]


class AlertmanagerAlerts:
    """A source of notifications."""

    def __init__(self, client: httpx.AsyncClient, feed: Feed, clock: Clock, *, shown: str) -> None:
        """`client` has the address of Alertmanager as its base; `shown` is that address without secrets."""
        self.name = f"Alertmanager at {shown}"
        self._client = client
        self._feed = feed
        self._clock = clock
        self._known: Mapping[tuple[Key, str], str] = {}

    async def look(self) -> None:
        """Feed what arrived since the last look, and what is no longer held back, or is now."""
        answer = await self._client.get("/api/v2/alerts")
        answer.raise_for_status()
        at = self._clock.now()
        known: dict[tuple[Key, str], str] = {}
        for document in answer.json():
            if document["status"]["state"] == "unprocessed":
                continue  # inhibitions and silences have not been looked at yet: the next look tells
            labels, held_back = document["labels"], held_back_by(document)
            key = (tuple(sorted(labels.items())), document["startsAt"])
            known[key] = held_back
            if self._known.get(key) != held_back:
                since = datetime.fromisoformat(document["startsAt"]).timestamp()
                self._feed.notified(labels, at, since=since, held_back=held_back)
        self._known = known


def held_back_by(document: Mapping[str, Any]) -> str:
    """Why nobody will be told of an alert of `/api/v2/alerts`; empty when somebody will."""
    status = document["status"]
    causes = [
        *(f"silence {each}" for each in status["silencedBy"]),
        *(f"inhibited by alert {each}" for each in status["inhibitedBy"]),
        *(f"muted by time interval {each}" for each in status.get("mutedBy") or ()),
    ]
    if causes:
        return ", ".join(causes)
    return "" if document["receivers"] else "no receiver"
