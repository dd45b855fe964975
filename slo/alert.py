"""An alert and its life: inactive ▸ pending ▸ firing ▸ resolved. A transition is the only thing that others are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class AlertState(StrEnum):
    """Where an alert is in its life. `resolved` is the moment after firing; it is inactive from then on."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """Who is told, and how fast."""

    PAGE = "page"
    HIGH = "high"
    TICKET = "ticket"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What identifies an alert and what it tells. Two alerts are the same when their labels are the same.

    `labels` include `alertname` and `severity` and never a value that changes while it fires: receivers deduplicate
    by labels.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """The label `alertname`."""
        return self.labels["alertname"]

    @property
    def severity(self) -> Severity:
        """The label `severity`."""
        return Severity(self.labels["severity"])

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Identity: the sorted labels."""
        return tuple(sorted(self.labels.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An alert changed its state."""

    alert: Alert
    before: AlertState
    after: AlertState
    at: float
    """Unix time in seconds of the evaluation that found it."""
    since: float
    """Unix time since when the condition holds (pending, firing), or held (resolved)."""
    value: float
    """The number that decided: a burn rate, a ratio of budget left, seconds without evidence."""
    reason: str = ""
    """Reason of the last bad result that it judges, as in `Result.reason`; empty if none was seen."""
    message: str = ""
    """Message of that result."""
    probe: str = ""
    """Its probe."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "labels": dict(self.alert.labels),
            "annotations": dict(self.alert.annotations),
            "before": self.before.value,
            "after": self.after.value,
            "at": self.at,
            "since": self.since,
            "value": self.value,
            "reason": self.reason,
            "message": self.message,
            "probe": self.probe,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Transition":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            alert=Alert(labels=document["labels"], annotations=document["annotations"]),
            before=AlertState(document["before"]),
            after=AlertState(document["after"]),
            at=document["at"],
            since=document["since"],
            value=document["value"],
            reason=document["reason"],
            message=document["message"],
            probe=document["probe"],
        )
