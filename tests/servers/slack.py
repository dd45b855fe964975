"""Slack's Web API: chat.postMessage, chat.update, conversations.history, with its errors."""

import json
from typing import Any

from tests.servers.service import Answer, AnyService, Request

TOKEN = "xoxb-canary-91c2"
CHANNEL = "C0123456789"


class Slack(AnyService):
    """`messages` are those in the channel, by their ts; those in threads carry `thread_ts`."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.before: list[Answer] = []
        """What is answered first, before anything is understood."""
        super().__init__(decide=self._take)

    @property
    def roots(self) -> list[dict[str, Any]]:
        """The messages that stand in the channel itself."""
        return [each for each in self.messages.values() if "thread_ts" not in each]

    def _take(self, request: Request) -> Answer:
        if self.before:
            return self.before.pop(0)
        method, body = request.path.strip("/"), request.json
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return said(error="invalid_auth")
        if body.get("channel") != CHANNEL:
            return said(error="channel_not_found")
        if method == "conversations.history":
            return said(messages=[{"ts": ts, **each} for ts, each in self.messages.items() if "thread_ts" not in each])
        if not body.get("text"):
            return said(error="no_text")
        for attachment in body.get("attachments", ()):
            if len(attachment["blocks"]) > 50 or any(len(each["text"]["text"]) > 3000 for each in attachment["blocks"]):
                return said(error="invalid_blocks")
        if method == "chat.postMessage":
            ts = f"1795229110.{len(self.messages):06d}"
            self.messages[ts] = body
            return said(ts=ts, channel=CHANNEL)
        if method == "chat.update":
            if body.get("ts") not in self.messages:
                return said(error="message_not_found")
            self.messages[body["ts"]] = body
            return said(ts=body["ts"], channel=CHANNEL)
        return said(error="unknown_method")


def said(*, error: str = "", **values: Any) -> Answer:
    """As Slack answers: status 200, and `ok` tells."""
    return Answer(200, json.dumps({"ok": False, "error": error} if error else {"ok": True, **values}))
