"""A silence: for some time nobody is told of alerts with certain labels. Told resolves stay told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.exporters.notification import Notification


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Labels, all of which an alert must have, and a span of time."""

    id: str
    match: Mapping[str, str]
    starts_at: float
    """Unix time."""
    ends_at: float
    """Unix time."""
    created_by: str = ""
    comment: str = ""

    def mutes(self, notification: Notification, now: float) -> bool:
        """Whether nobody is told of this alert now."""
        return self.starts_at <= now < self.ends_at and self.match.items() <= notification.sent_labels.items()

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "id": self.id,
            "match": dict(self.match),
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "created_by": self.created_by,
            "comment": self.comment,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Silence":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        names = ("id", "match", "starts_at", "ends_at", "created_by", "comment")
        return cls(**{name: document[name] for name in names})
