"""Microsoft Teams: an Adaptive Card, posted to the webhook of a workflow ("When a Teams webhook request is received").

https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
A workflow answers 202 before it has posted: what happens behind it is in its run history only. Nothing can be updated, and
there is no key by which a repeated card is known, so a crash at the wrong moment may show one twice.
"""

import json
from typing import Any

import httpx

from stormwatch.exporters.channel import TIMEOUT, Failed, Receipt, Refused, Sending, post, said_of
from stormwatch.exporters.message import Message, facts_of, shortened, subject_of

MOST_BYTES = 24_000
"""Bytes of a request: Teams takes 28 KB, what it adds itself included."""
MOST_ALERTS = 10
"""Alerts that one card shows."""
LONGEST_FACT = 500
LONGEST_TEXT = 5000
STYLE = {"firing": "attention", "acknowledged": "warning", "resolved": "good"}
"""Colour of the title, by the state."""
TOO_LARGE = 413


class TeamsChannel:
    """One workflow."""

    pause = 0.3
    """Teams takes four requests a second."""
    acknowledgements = True
    each_alert = False

    def __init__(self, name: str, *, url: str) -> None:
        """`url` is the address of the workflow, which is a secret."""
        self.name = name
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT)

    async def send(self, sending: Sending) -> Receipt:
        """Post a card; a smaller one when it is too large for them."""
        try:
            answer = await self._post(sending, request(sending))
        except Refused as refusal:
            if refusal.status != TOO_LARGE:
                raise
            answer = await self._post(sending, request(sending, alerts=0))
            return Receipt(said=f"{said_of(answer)}; the whole card was too large, its title was taken")
        return Receipt(said=said_of(answer), reference=answer.headers.get("x-ms-workflow-run-id", ""))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _post(self, sending: Sending, document: dict[str, Any]) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        answer = await post(self._client, self._url, now=sending.now, content=_encoded(document), headers=headers)
        # The connectors before the workflows said 200 to everything, and in words what went wrong behind them.
        if "error" in answer.text.lower():
            raise Failed(said_of(answer))
        return answer


def request(sending: Sending, *, alerts: int = MOST_ALERTS) -> dict[str, Any]:
    """A card with as many alerts as there is room for."""
    while True:
        document = _request(sending, alerts)
        if not alerts or len(_encoded(document)) <= MOST_BYTES:
            return document
        alerts //= 2


def _request(sending: Sending, alerts: int) -> dict[str, Any]:
    message = sending.message
    body: list[dict[str, Any]] = [
        {
            **_text(sending.headline, 500),
            "size": "Medium",
            "weight": "Bolder",
            "color": STYLE[message.status],
        }
    ]
    if sending.body and alerts:
        body.append(_text(sending.body, LONGEST_TEXT))
    else:
        body += [part for each in message.alerts[:alerts] for part in _alert(message, each)]
    if (more := len(message.alerts) - alerts) > 0 and not (sending.body and alerts):
        body.append({**_text(f"… and {more} more", 100), "isSubtle": True})
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": body,
                    "actions": _actions(message),
                },
            }
        ],
    }


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


def _alert(message: Message, notification: Any) -> list[dict[str, Any]]:
    what = f"{notification.labels.get('alertname', 'alert')}: {subject_of(notification)}"
    facts = [
        {"title": name, "value": escaped(shortened(value, LONGEST_FACT))}
        for name, value in facts_of(notification, message)
    ]
    return [{**_text(what, 300), "weight": "Bolder", "separator": True}, {"type": "FactSet", "facts": facts}]


def _actions(message: Message) -> list[dict[str, str]]:
    told = message.alerts[0]
    addresses = (
        ("Runbook", told.annotations.get("runbook_url", "") or told.annotations.get("runbook", "")),
        ("Dashboard", told.annotations.get("dashboard", "")),
        ("Status page", told.generator_url or message.page),
        ("Picture", told.annotations.get("picture", "")),
        ("Video", told.annotations.get("video", "")),
        ("Trace", told.annotations.get("trace", "")),
    )
    return [
        {"type": "Action.OpenUrl", "title": title, "url": address}
        for title, address in addresses
        if address.startswith(("https://", "http://"))
    ]


def _text(text: str, most: int) -> dict[str, Any]:
    return {"type": "TextBlock", "text": escaped(shortened(text, most)), "wrap": True}


def escaped(text: str) -> str:
    """What a target said is shown, and can neither hide a link behind other words nor be a heading."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("\n", "\n\n")
