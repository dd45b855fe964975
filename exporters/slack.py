"""Slack: one message for each incident, kept up to date, with its changes in the thread below.

With a bot's token: chat.postMessage, chat.update (scopes `chat:write`, and `channels:history` to find a message that was
posted just before a crash). With an incoming webhook nothing can be updated, so each change is a message.
https://docs.slack.dev/reference/methods/chat.postMessage
"""

from typing import Any

import httpx

from stormwatch.exporters.channel import TIMEOUT, Failed, Receipt, Refused, Sending, post, retry_after, said_of
from stormwatch.exporters.message import Message, facts_of, shortened, subject_of

API = "https://slack.com/api"
EVENT = "stormwatch_incident"
"""Type of the metadata by which a message is found again."""
COLOR = {"firing": "#c0392b", "acknowledged": "#d68910", "resolved": "#1e8449"}
LONGEST_TEXT = 2900
"""Characters of one section: Slack takes 3,000."""
MOST_ALERTS = 20
"""Alerts that one message shows: it may have 50 blocks."""
LATER = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
"""Errors after which the same call may succeed."""


class SlackChannel:
    """One channel of Slack, by a bot's token."""

    pause = 1.0
    acknowledgements = True
    each_alert = False

    def __init__(self, name: str, *, token: str, channel: str, api: str = API) -> None:
        """`channel` is an id like C0123456789, or #name; `api` is where the methods are."""
        self.name = name
        self._channel = channel
        self._api = api.rstrip("/")
        self._client = httpx.AsyncClient(timeout=TIMEOUT, headers={"Authorization": f"Bearer {token}"})

    async def send(self, sending: Sending) -> Receipt:
        """Post the incident, or bring its message up to date and say below it what changed."""
        message, thread = sending.message, dict(sending.thread)
        if "ts" not in thread and sending.in_doubt:
            thread = await self._found(sending)
        if "ts" not in thread:
            answer = await self._call(
                "chat.postMessage", sending, channel=self._channel, metadata=_metadata(message), **content(sending)
            )
            return Receipt(
                said=f"ok, ts {answer['ts']}",
                reference=str(answer["ts"]),
                thread={"ts": answer["ts"], "channel": answer["channel"]},
            )
        place = {"channel": thread["channel"], "ts": thread["ts"]}
        await self._call("chat.update", sending, **place, metadata=_metadata(message), **content(sending))
        if message.sequence:
            await self._call(
                "chat.postMessage",
                sending,
                channel=thread["channel"],
                thread_ts=thread["ts"],
                text=f"{escaped(sending.headline)} ({message.why})",
            )
        return Receipt(said=f"ok, updated ts {thread['ts']}", reference=str(thread["ts"]), thread=thread)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _found(self, sending: Sending) -> dict[str, Any]:
        """Where an earlier try put the message of this incident; empty when it did not, or nobody may look."""
        try:
            answer = await self._call(
                "conversations.history", sending, channel=self._channel, include_all_metadata=True, limit=100
            )
        except Refused:
            return {}
        for each in answer.get("messages", ()):
            metadata = each.get("metadata", {})
            known = metadata.get("event_payload", {}).get("incident")
            if metadata.get("event_type") == EVENT and known == sending.message.incident:
                return {"ts": each["ts"], "channel": self._channel}
        return {}

    async def _call(self, method: str, sending: Sending, **values: Any) -> dict[str, Any]:
        answer = await post(self._client, f"{self._api}/{method}", now=sending.now, json=values)
        try:
            document = answer.json()
            is_ok = document["ok"]
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"{method}: {said_of(answer)}: no answer of Slack") from error
        if is_ok:
            return document
        said = f"{method}: {document.get('error', 'no reason given')}"
        if document.get("error") in LATER:
            raise Failed(said, retry_after=retry_after(answer.headers.get("retry-after", ""), sending.now))
        raise Refused(said)


class SlackWebhookChannel:
    """An incoming webhook of Slack."""

    pause = 1.0
    acknowledgements = True
    each_alert = False

    def __init__(self, name: str, *, url: str) -> None:
        """`url` is the webhook's address, which is a secret."""
        self.name = name
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT)

    async def send(self, sending: Sending) -> Receipt:
        """Post the incident as it is now."""
        answer = await post(self._client, self._url, now=sending.now, json=content(sending))
        if answer.text.strip() != "ok":
            raise Failed(f"{said_of(answer)}: no answer of Slack")
        return Receipt(said="ok")

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def content(sending: Sending) -> dict[str, Any]:
    """What is shown: the title as text (for notifications on a phone), an attachment in the colour of the state."""
    message = sending.message
    blocks = [_section(f"*{escaped(sending.headline)}*")]
    blocks += [_section(escaped(sending.body))] if sending.body else _alerts(message)
    return {
        "text": shortened(escaped(sending.headline), LONGEST_TEXT),
        "attachments": [{"color": COLOR[message.status], "blocks": blocks}],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _alerts(message: Message) -> list[dict[str, Any]]:
    """Each alert with all that is known of it."""
    blocks: list[dict[str, Any]] = []
    for each in message.alerts[:MOST_ALERTS]:
        lines = "\n".join(f"• {escaped(name)}: {escaped(value)}" for name, value in facts_of(each, message))
        blocks.append(
            _section(f"*{escaped(each.labels.get('alertname', 'alert'))}* {escaped(subject_of(each))}\n{lines}")
        )
    if (more := len(message.alerts) - MOST_ALERTS) > 0:
        blocks.append(_section(f"… and {more} more: {escaped(message.page)}"))
    return blocks


def escaped(text: str) -> str:
    """What a target said is shown, and can neither mention a channel nor hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": shortened(text, LONGEST_TEXT)}}


def _metadata(message: Message) -> dict[str, Any]:
    return {"event_type": EVENT, "event_payload": {"incident": message.incident}}
