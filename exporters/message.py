"""A message: the alerts of one group at one moment, and why somebody is told. What it says in words, for every channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stormwatch.exporters.notification import Notification, rfc3339

SEVERITIES = ("page", "high", "ticket", "info")
"""The most urgent first."""
FACTS = (
    "summary",
    "description",
    "flapping",
    "last_failure",
    "picture",
    "video",
    "trace",
    "runbook_url",
    "runbook",
    "dashboard",
    "windows",
    "value",
)
"""Annotations in the order in which people read them; others follow."""


class Why(StrEnum):
    """Why people are told."""

    FIRST = "first"
    """The group fires and did not before."""
    NEWS = "news"
    """More alerts fire, or some of several were resolved."""
    RESOLVED = "resolved"
    """All is over."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody took it."""
    FLAPPING = "flapping"
    """It comes and goes; its next ends are held back until it is stable."""
    LAPSED = "acknowledgement lapsed"
    """Somebody took it, the time for that is over, and it fires still."""
    REPEAT = "repeat"
    """Nothing changed for the repeat interval."""
    TEST = "test"
    """Somebody wants to know whether this channel works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The alerts of one group at one moment."""

    incident: str
    """Stands for the group from its first alert to the end of its last: the same in every message about it."""
    sequence: int
    """0 for the first message of an incident; with `incident` it stands for this message, however often it is sent."""
    why: Why
    group: Mapping[str, str]
    """The labels that all of its alerts share and that make them a group."""
    alerts: tuple[Notification, ...]
    """What fires, and what was resolved since the last message."""
    news: frozenset[str] = frozenset()
    """Fingerprints of the alerts whose state people were not told before."""
    acknowledged: Mapping[str, str] = field(default_factory=dict[str, str])
    """Who took which alert, by fingerprint."""
    page: str = ""
    """Address of the status page."""

    @property
    def is_resolved(self) -> bool:
        """Whether nothing of it fires any more."""
        return all(each.is_resolved for each in self.alerts)

    @property
    def is_acknowledged(self) -> bool:
        """Whether somebody took everything that fires."""
        return not self.is_resolved and all(
            each.is_resolved or each.fingerprint in self.acknowledged for each in self.alerts
        )

    @property
    def status(self) -> str:
        """`firing`, `acknowledged` or `resolved`."""
        return "resolved" if self.is_resolved else "acknowledged" if self.is_acknowledged else "firing"

    @property
    def severity(self) -> str:
        """The most urgent of its alerts that fire, or of all when none does."""
        found = {each.labels.get("severity", "info") for each in self.alerts if not each.is_resolved} or {
            each.labels.get("severity", "info") for each in self.alerts
        }
        return next((each for each in SEVERITIES if each in found), "info")

    @property
    def title(self) -> str:
        """One line: state, severity, what, where."""
        firing = [each for each in self.alerts if not each.is_resolved]
        shown = firing or list(self.alerts)
        subjects = list(dict.fromkeys(subject_of(each) for each in shown))
        what = ", ".join(subjects[:3]) + (f" and {len(subjects) - 3} more" if len(subjects) > 3 else "")
        names = "/".join(dict.fromkeys(each.labels.get("alertname", "alert") for each in shown))
        test = "[TEST] " if any(each.labels.get("test") for each in self.alerts) else ""
        flapping = " (flapping)" if any("flapping" in each.annotations for each in firing) else ""
        return f"{test}[{self.status.upper()}] {self.severity}: {names}: {what}{flapping}"

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "incident": self.incident,
            "sequence": self.sequence,
            "why": self.why.value,
            "group": dict(self.group),
            "alerts": [each.as_json() for each in self.alerts],
            "news": sorted(self.news),
            "acknowledged": dict(self.acknowledged),
            "page": self.page,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Message":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            incident=document["incident"],
            sequence=document["sequence"],
            why=Why(document["why"]),
            group=document["group"],
            alerts=tuple(Notification.from_json(each) for each in document["alerts"]),
            news=frozenset(document["news"]),
            acknowledged=document["acknowledged"],
            page=document["page"],
        )


def subject_of(notification: Notification) -> str:
    """What an alert is about: its objective or its probe."""
    labels = notification.labels
    return labels.get("objective") or labels.get("probe") or labels.get("alertname", "alert")


def facts_of(notification: Notification, message: Message) -> Sequence[tuple[str, str]]:
    """Everything that there is to say about one alert, in the order in which people read it."""
    told = {name: value for name, value in notification.annotations.items() if value}
    facts = [("status", notification.status), ("severity", notification.labels.get("severity", ""))]
    facts += [(name, told.pop(name)) for name in FACTS if name in told]
    facts += sorted(told.items())
    hidden = {"alertname", "severity"}
    facts += [(name, value) for name, value in sorted(notification.labels.items()) if name not in hidden]
    facts.append(("since", rfc3339(notification.starts_at)))
    if notification.ends_at is not None:
        facts.append(("until", rfc3339(notification.ends_at)))
    if by := message.acknowledged.get(notification.fingerprint):
        facts.append(("acknowledged by", by))
    facts.append(("link", notification.generator_url or message.page))
    if not notification.is_resolved and notification.fingerprint not in message.acknowledged:
        facts.append(("acknowledge with", f"stormwatch notify ack {notification.fingerprint}"))
    return [(name, value) for name, value in facts if value]


def text_of(message: Message) -> str:
    """The message as plain text, an alert after the other."""
    blocks = [
        "\n".join(
            [
                f"{each.labels.get('alertname', 'alert')}: {subject_of(each)}",
                *(f"  {name}: {value}" for name, value in facts_of(each, message)),
            ]
        )
        for each in message.alerts
    ]
    return "\n\n".join(blocks) + "\n"


def shortened(text: str, most: int) -> str:
    """At most so many characters; `…` says that there was more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
