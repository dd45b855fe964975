"""PagerDuty's Events API v2: refuses what it would refuse, and makes incidents of the rest."""

import json
from typing import Any

from tests.servers.service import Answer, AnyService, Request

KEY = "R0ut1ngKeyCanary5f3a000000000000"


class PagerDuty(AnyService):
    """`incidents` are (dedup key, states) in the order in which they were opened."""

    def __init__(self) -> None:
        self.incidents: list[tuple[str, list[str]]] = []
        self.events: list[dict[str, Any]] = []
        self.before: list[Answer] = []
        """What is answered first, before anything is understood."""
        super().__init__(decide=self._take)

    def _take(self, request: Request) -> Answer:
        if self.before:
            return self.before.pop(0)
        event = request.json
        if said := wrong(event):
            return Answer(
                400, json.dumps({"status": "invalid event", "message": "Event object is invalid", "errors": [said]})
            )
        self.events.append(event)
        self._open(event["event_action"], event["dedup_key"])
        taken = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return Answer(202, json.dumps(taken))

    def _open(self, action: str, key: str) -> None:
        found = next((states for known, states in reversed(self.incidents) if known == key), None)
        if action == "trigger" and (found is None or found[-1] == "resolve"):
            self.incidents.append((key, ["trigger"]))
        elif found is not None and found[-1] not in {"resolve", action}:
            found.append(action)


def wrong(event: Any) -> str:
    """Why PagerDuty would refuse an event; empty if it would not."""
    if event.get("routing_key") != KEY:
        return "'routing_key' is invalid"
    if event.get("event_action") not in {"trigger", "acknowledge", "resolve"}:
        return "'event_action' is invalid"
    if not 0 < len(event.get("dedup_key", "")) <= 255:
        return "'dedup_key' is missing or too long"
    if event["event_action"] != "trigger":
        return ""
    payload = event.get("payload", {})
    for name in ("summary", "source", "severity"):
        if not payload.get(name):
            return f"'payload.{name}' is missing or blank"
    if payload["severity"] not in {"critical", "error", "warning", "info"}:
        return "'payload.severity' is invalid"
    if len(payload["summary"]) > 1024:
        return "'payload.summary' is too long"
    if not all(link.get("href", "").startswith("http") for link in event.get("links", ())):
        return "'links' is invalid"
    return ""
