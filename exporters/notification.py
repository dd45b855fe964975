"""What notifiers are told: an alert that fires or is resolved, as plain values; and what a notifier is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from stormwatch.exporters.exposition import Family, Sample, label_name

Delivered = Callable[["Notification", float], None]
"""Called with a notification and the Unix time at which its receiver said that it has it."""

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """An alert at a moment of its life. Two are about the same alert when their labels are the same."""

    labels: Mapping[str, str]
    """With `alertname`; never a value that changes while the alert fires."""
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    starts_at: float
    """Unix time since when it fires."""
    ends_at: float | None = None
    """Unix time at which it was resolved. None: it fires."""
    generator_url: str = ""
    """Where a person can look: the status page, a dashboard."""

    @property
    def is_resolved(self) -> bool:
        """Whether the alert is over."""
        return self.ends_at is not None

    @property
    def status(self) -> str:
        """`firing` or `resolved`, as Alertmanager says it."""
        return "resolved" if self.is_resolved else "firing"

    @property
    def sent_labels(self) -> dict[str, str]:
        """The labels as receivers get them: valid names (characters that are not allowed are `_`), no empty values."""
        return {label_name(name): value for name, value in self.labels.items() if value}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the labels: the same that Alertmanager gives this alert.

        FNV-1a of 64 bits over the sorted labels, a byte 255 after each name and each value.
        """
        value = _OFFSET
        for name, text in sorted(self.sent_labels.items()):
            for byte in (*name.encode(errors="replace"), 255, *text.encode(errors="replace"), 255):
                value = ((value ^ byte) * _PRIME) & _MASK
        return f"{value:016x}"

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "generator_url": self.generator_url,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        return cls(
            **{name: document[name] for name in ("labels", "annotations", "starts_at", "ends_at", "generator_url")}
        )


class Notifier(Protocol):
    """Delivers notifications. `run` is a task of its own that the owner starts and cancels; then comes `aclose`."""

    counts: "Counts"

    def notify(self, notification: Notification) -> None:
        """Accept a notification. Never waits and never fails; what cannot be delivered is tried again by `run`."""
        ...

    async def run(self) -> None:
        """Deliver until cancelled."""
        ...

    async def aclose(self) -> None:
        """Try once more to deliver what waits, and let go of the connections."""
        ...


@dataclass(slots=True)
class Counts:
    """What one notifier did so far."""

    notifier: str
    sent: int = 0
    """Notifications that a receiver took; one that is sent again counts again."""
    failed: int = 0
    """Requests that failed. Each is tried again unless the receiver refused it for good."""
    refused: int = 0
    """Notifications that a receiver refused for good (a status 4xx), or that were given up because too many waited."""
    waiting: int = 0
    """Notifications that no receiver has yet."""
    oldest: float = 0.0
    """Seconds that the oldest of them waits."""
    fallback_active: bool = False
    """Whether another channel tells what this one does not deliver."""


def families(counts: Iterable[Counts]) -> list[Family]:
    """The metrics of all notifiers."""
    every = list(counts)

    def samples(values: Callable[[Counts], float]) -> list[Sample]:
        return [Sample(values(each), {"notifier": each.notifier}) for each in every]

    return [
        Family(
            "stormwatch_notifications_sent_total",
            "Notifications that a receiver took.",
            "counter",
            samples(lambda each: each.sent),
        ),
        Family(
            "stormwatch_notifications_failed_total",
            "Requests with notifications that failed, to be tried again.",
            "counter",
            samples(lambda each: each.failed),
        ),
        Family(
            "stormwatch_notifications_refused_total",
            "Notifications that were given up: refused by the receiver, or too many waited.",
            "counter",
            samples(lambda each: each.refused),
        ),
        Family(
            "stormwatch_notifications_waiting",
            "Notifications that no receiver has yet.",
            "gauge",
            samples(lambda each: each.waiting),
        ),
        Family(
            "stormwatch_notifications_oldest_seconds",
            "How long the oldest notification waits that no receiver has yet.",
            "gauge",
            samples(lambda each: each.oldest),
        ),
        Family(
            "stormwatch_notifications_fallback_active",
            "Whether another channel tells what this one does not deliver.",
            "gauge",
            samples(lambda each: int(each.fallback_active)),
        ),
    ]


def rfc3339(moment: float) -> str:
    """A Unix time as Alertmanager writes it: `2026-07-24T12:00:00.000000Z`."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def is_worth_retrying(status: int) -> bool:
    """Whether a request with this HTTP status may succeed later: server errors, time-outs, too many requests."""
    return status >= 500 or status in {408, 425, 429}
