"""PagerDuty, Events API v2: each alert is an incident that is triggered, acknowledged and resolved by its own key.

https://developer.pagerduty.com/docs/events-api-v2/overview/
"""

from typing import Any

import httpx

from stormwatch.exporters.channel import TIMEOUT, Failed, Receipt, Sending, post
from stormwatch.exporters.message import Message, facts_of, shortened, subject_of
from stormwatch.exporters.notification import Notification, rfc3339

EVENTS = "https://events.pagerduty.com/v2/enqueue"
"""Accounts in the EU have `https://events.eu.pagerduty.com/v2/enqueue`."""
SEVERITY = {"page": "critical", "high": "error", "ticket": "warning", "info": "info"}
LONGEST_SUMMARY = 1024
LONGEST_FACT = 1024
"""Characters of one detail: an event may hold 512 KB in all."""


class PagerDutyChannel:
    """One service of PagerDuty, by its routing key."""

    pause = 0.0
    acknowledgements = True
    each_alert = True

    def __init__(self, name: str, *, routing_key: str, url: str = EVENTS) -> None:
        """`url` is where events go."""
        self.name = name
        self._routing_key = routing_key
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT)

    async def send(self, sending: Sending) -> Receipt:
        """Send an event for each alert; there is one, because each alert is a group of its own."""
        said = reference = ""
        for each in sending.message.alerts:
            answer = await post(
                self._client,
                self._url,
                now=sending.now,
                json=_worded(event(each, sending.message, self._routing_key), sending),
            )
            try:
                document = answer.json()
                reference = str(document["dedup_key"])
                said = f"{document['status']}: {document.get('message', '')}, dedup_key {reference}"
            except (ValueError, KeyError, TypeError) as error:
                raise Failed(f"status {answer.status_code} without PagerDuty's answer, so nothing is known") from error
        return Receipt(said=said, reference=reference)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def event(notification: Notification, message: Message, routing_key: str) -> dict[str, Any]:
    """The event that says how an alert stands."""
    key = dedup_key(notification)
    if notification.is_resolved:
        return {"routing_key": routing_key, "event_action": "resolve", "dedup_key": key}
    if notification.fingerprint in message.acknowledged:
        return {"routing_key": routing_key, "event_action": "acknowledge", "dedup_key": key}
    labels, told = notification.sent_labels, notification.annotations
    links = [
        {"href": address, "text": text}
        for text, address in (
            ("Runbook", told.get("runbook_url", "") or told.get("runbook", "")),
            ("Dashboard", told.get("dashboard", "") or told.get("dashboard_url", "")),
            ("Status page", notification.generator_url or message.page),
            ("Picture of the failure", told.get("picture", "")),
            ("Video of the failure", told.get("video", "")),
            ("Trace of the failure", told.get("trace", "")),
        )
        if address.startswith(("https://", "http://"))
    ]
    test = "[TEST] " if labels.get("test") else ""
    summary = told.get("summary") or message.title
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": key,
        "payload": {
            "summary": shortened(f"{test}{labels.get('alertname', 'alert')}: {summary}", LONGEST_SUMMARY),
            "source": subject_of(notification),
            "severity": SEVERITY.get(labels.get("severity", ""), "info"),
            "timestamp": rfc3339(notification.starts_at),
            "component": labels.get("probe") or labels.get("objective", ""),
            "group": labels.get("team") or labels.get("service", ""),
            "class": labels.get("alertname", ""),
            "custom_details": {name: shortened(value, LONGEST_FACT) for name, value in facts_of(notification, message)},
        },
        "links": links,
        "client": "stormwatch",
        "client_url": notification.generator_url or message.page,
    }


def _worded(document: dict[str, Any], sending: Sending) -> dict[str, Any]:
    """With what the channel's templates say."""
    if payload := document.get("payload"):
        if sending.title:
            payload["summary"] = shortened(sending.title, LONGEST_SUMMARY)
        if sending.body:
            payload["custom_details"]["text"] = shortened(sending.body, LONGEST_FACT)
    return document


def dedup_key(notification: Notification) -> str:
    """The same for every event about an alert, of this life and the next: PagerDuty makes one incident of them."""
    return f"stormwatch-{notification.fingerprint}"
