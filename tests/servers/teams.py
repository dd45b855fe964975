"""A workflow of Microsoft Teams: refuses what it would refuse, and shows the cards of the rest."""

from typing import Any

from tests.servers.service import Answer, AnyService, Request

MOST_BYTES = 28 * 1024
COLORS = frozenset({"default", "dark", "light", "accent", "good", "warning", "attention"})


class Teams(AnyService):
    """`cards` are the Adaptive Cards that were posted, in order."""

    def __init__(self) -> None:
        self.cards: list[dict[str, Any]] = []
        self.before: list[Answer] = []
        """What is answered first, before anything is understood."""
        self.most_bytes = MOST_BYTES
        super().__init__(decide=self._take)

    def texts(self, number: int) -> str:
        """Everything that a person reads on a card."""
        card = self.cards[number]
        lines = [part["text"] for part in card["body"] if part["type"] == "TextBlock"]
        lines += [f"{fact['title']}: {fact['value']}" for part in card["body"] for fact in part.get("facts", ())]
        return "\n".join(lines)

    def _take(self, request: Request) -> Answer:
        if self.before:
            return self.before.pop(0)
        if len(request.body) > self.most_bytes:
            return Answer(413, "RequestEntityTooLarge")
        if said := wrong(request.json):
            return Answer(400, f'{{"error": {{"code": "TriggerInputSchemaMismatch", "message": "{said}"}}}}')
        self.cards.append(request.json["attachments"][0]["content"])
        return Answer(202, "", {"x-ms-workflow-run-id": f"0858{len(self.cards):06d}"})


def wrong(document: Any) -> str:
    """Why the trigger or the card would be refused; empty if it would not."""
    if document.get("type") != "message" or len(document.get("attachments", ())) != 1:
        return "attachments"
    (attachment,) = document["attachments"]
    if attachment.get("contentType") != "application/vnd.microsoft.card.adaptive":
        return "contentType"
    card = attachment["content"]
    if card.get("type") != "AdaptiveCard" or card.get("version", "9") > "1.5" or not card.get("body"):
        return "AdaptiveCard"
    for part in card["body"]:
        if part["type"] == "TextBlock":
            if not part.get("text") or part.get("color", "default").lower() not in COLORS:
                return "TextBlock"
        elif part["type"] != "FactSet" or not all(set(fact) == {"title", "value"} for fact in part["facts"]):
            return part["type"]
    for action in card.get("actions", ()):
        if action["type"] != "Action.OpenUrl" or not action["url"].startswith("http"):
            return "actions"
    return ""
