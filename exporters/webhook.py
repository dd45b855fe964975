"""A webhook: Alertmanager's payload (version 4), posted to an address; signed when there is a key.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
A receiver that may get a payload twice tells by group key, fingerprint, status and start that it has it already.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from stormwatch.exporters.channel import TIMEOUT, Receipt, Sending, post, said_of
from stormwatch.exporters.grouping import key_of
from stormwatch.exporters.message import Message
from stormwatch.exporters.notification import rfc3339

SIGNATURE = "Stormwatch-Signature"
"""The header of a signed request: `t=<Unix seconds>,v1=<hex digits>`."""


STORMWATCH = "stormwatch"
"""How payloads call a receiver that has no name of its own."""


class WebhookChannel:
    """One address."""

    pause = 0.0
    acknowledgements = False
    each_alert = False

    def __init__(self, name: str, url: str, *, secret: str = "", receiver: str = STORMWATCH) -> None:
        """`secret` signs; `receiver` is how the payload calls the receiver."""
        self.name = name
        self._url = url
        self._secret = secret
        self._receiver = receiver
        self._client = httpx.AsyncClient(timeout=TIMEOUT)

    async def send(self, sending: Sending) -> Receipt:
        """Post the group as it is."""
        body = json.dumps(payload(sending.message, receiver=self._receiver)).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE] = signature(body, self._secret, int(sending.now))
        answer = await post(self._client, self._url, now=sending.now, content=body, headers=headers)
        return Receipt(said=said_of(answer))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def signature(body: bytes, secret: str, at: int) -> str:
    """HMAC-SHA256 over the time, a dot and the body: whoever replays an old request cannot give it a new time."""
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def payload(message: Message, *, receiver: str) -> dict[str, Any]:
    """Alertmanager's webhook payload for one group."""
    return {
        "version": "4",
        "groupKey": key_of(message.group),
        "truncatedAlerts": 0,
        "status": "resolved" if message.is_resolved else "firing",
        "receiver": receiver,
        "groupLabels": dict(message.group),
        "commonLabels": _common([each.sent_labels for each in message.alerts]),
        "commonAnnotations": _common([each.annotations for each in message.alerts]),
        "externalURL": message.page,
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
            for each in message.alerts
        ],
    }


def _common(documents: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = documents
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
