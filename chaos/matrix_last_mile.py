"""The last mile of an alert in a matrix: how it should come to people, and what became of it. Pure.

fires ──▶ Alertmanager has it, and holds it back for no reason ──▶ the receiver is told, with which labels
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.feed import Delivered, Notified

CLOSE = 1.0
"""Seconds by which two programs may say differently since when an alert fires: Alertmanager cuts off what is below a millisecond,
and an evaluation lies between the condition and the alert."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The way of an alert to the last place that is watched, as Alertmanager is configured now."""

    end: str
    """`receiver` or `Alertmanager`: where somebody counts as told."""
    within: float
    """Seconds after it fired in which it is there at the latest."""
    closed: str = ""
    """Why it cannot come there: no route of Alertmanager leads to the receiver. Empty: one does."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"end": self.end, "within": self.within, "closed": self.closed}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Way":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        return cls(end=document["end"], within=document["within"], closed=document["closed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How far an alert came. Times are seconds after the injection."""

    alertmanager: float | None = None
    """When Alertmanager had it and held it back for no reason; None: that was not seen."""
    held_back: str = ""
    """Why Alertmanager tells nobody, as it was seen last: `silence 6f1c…`."""
    receiver: float | None = None
    """When the message came; None: none did."""
    labels: Labels = field(default_factory=dict[str, str])
    """With which it came as far as it came."""
    told_by: str = ""
    """Whom Alertmanager calls the receiver."""

    def at(self, end: str) -> float | None:
        """When it was at this end of its way."""
        return self.receiver if end == "receiver" else self.alertmanager

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "alertmanager": self.alertmanager,
            "held_back": self.held_back,
            "receiver": self.receiver,
            "labels": dict(self.labels),
            "told_by": self.told_by,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Arrival":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        return cls(
            alertmanager=document["alertmanager"],
            held_back=document["held_back"],
            receiver=document["receiver"],
            labels=document["labels"],
            told_by=document["told_by"],
        )


def arrival_of(
    labels: Labels,
    since: float,
    *,
    injected: float,
    notifications: Iterable[Notified],
    deliveries: Iterable[Delivered],
) -> Arrival | None:
    """What became of an alert that fires with these labels since this unix time; None: nothing was heard of it.

    A message is of this alert when it has its labels, whatever others it has besides, and says that it fires since then: one that
    says so of an earlier time repeats what an earlier cell broke.
    """

    def mine(one: Notified | Delivered) -> bool:
        fresh = one.at >= injected and (one.since is None or one.since >= since - CLOSE)
        return fresh and labels.items() <= one.labels.items()

    had = [one for one in notifications if mine(one)]
    came = [one for one in deliveries if mine(one) and not one.resolved]
    if not had and not came:
        return None
    taken = next((one for one in had if not one.held_back), None)
    first = came[0] if came else None
    return Arrival(
        alertmanager=taken.at - injected if taken else None,
        held_back=had[-1].held_back if had else "",
        receiver=first.at - injected if first else None,
        labels=dict(first.labels if first else had[-1].labels),
        told_by=first.receiver if first else "",
    )


def still_told(labels: Iterable[Labels], told: Sequence[Labels]) -> Labels | None:
    """Of alerts with these labels one of which the receiver was told that it fires, and not yet that it is over.

    Alertmanager says nothing of such an alert when it comes back: for the receiver it has never been away.
    """
    return next((each for one in labels for each in told if one.items() <= each.items()), None)
