"""Flapping: an alert that comes and goes is told as one, with how often, until it has been quiet for a while. Pure.

Prometheus can keep an alert firing (`keep_firing_for`), which delays the end of every outage; Alertmanager can tell a group less
often (`group_interval`), and tells each of its ends all the same. Here the first outages are told as they are. Whoever comes back
too often is said to be flapping: once, then its ends are held back until it has been stable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stormwatch.exporters.notification import Notification, rfc3339

ANNOTATION = "flapping"
"""Says since when, and how often."""
PRUNING = 60.0
"""Seconds between two looks for what nobody needs to remember any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """When an alert flaps, and when it has recovered."""

    after: int = 3
    """The number of times that it must begin to fire within `within` to be flapping; 0: never."""
    within: float = 900.0
    """Seconds."""
    stable: float = 300.0
    """Seconds for which a flapping alert must be quiet before its end is told."""
    recovery: float = 0.0
    """The same for one that does not flap: its end is told so much later."""


USUAL = Damping()
"""Unless the configuration says otherwise."""


@dataclass(slots=True, kw_only=True)
class _Story:
    starts: list[float] = field(default_factory=list[float])
    """When it began to fire: those within the window, or all since it flaps."""
    is_flapping: bool = False
    held: Notification | None = None
    """Its end, which nobody was told yet."""

    def as_json(self) -> dict[str, Any]:
        return {
            "starts": self.starts,
            "flapping": self.is_flapping,
            "held": self.held.as_json() if self.held else None,
        }


class Damper:
    """What each alert did lately. What changed is in `dirty` until the owner has written it."""

    def __init__(self, damping: Damping) -> None:
        self.dirty: set[str] = set()
        self._damping = damping
        self._stories: dict[str, _Story] = {}
        self._held: dict[str, float] = {}
        """Unix time at which an end may be told, by fingerprint."""
        self._pruned = 0.0

    def begins(self, key: str, now: float) -> bool:
        """An alert begins to fire. Whether it begins to flap by this."""
        damping = self._damping
        if not damping.after and not damping.recovery:
            return False
        story = self._stories.setdefault(key, _Story())
        if self._held.pop(key, None) is not None:
            story.held = None
        if not story.is_flapping:
            story.starts = [at for at in story.starts if at > now - damping.within]
        story.starts.append(now)
        self.dirty.add(key)
        if story.is_flapping or not damping.after or len(story.starts) < damping.after:
            return False
        story.is_flapping = True
        return True

    def holds(self, end: Notification) -> bool:
        """An alert is over. Whether that is held back for now."""
        story = self._stories.get(end.fingerprint)
        wait = self._wait(story)
        if story is None or wait <= 0 or end.ends_at is None:
            return False
        story.held = end
        self._held[end.fingerprint] = end.ends_at + wait
        self.dirty.add(end.fingerprint)
        return True

    def holds_already(self, key: str) -> bool:
        """Whether an alert is over and nobody was told."""
        return key in self._held

    def held_since(self, key: str) -> float | None:
        """Unix time since when it is over, if nobody was told."""
        story = self._stories.get(key)
        return story.held.ends_at if story and story.held else None

    def released(self, now: float) -> list[Notification]:
        """The ends that have to be told now."""
        self._prune(now)
        ends: list[Notification] = []
        for key in [key for key, at in self._held.items() if at <= now]:
            story = self._stories[key]
            if story.held:
                ends.append(self.marked(story.held))
            self._forget(key)
        return ends

    def next_at(self) -> float:
        """Unix time at which an end may be told."""
        return min(self._held.values(), default=float("inf"))

    def is_flapping(self, key: str) -> bool:
        """Whether it comes and goes."""
        story = self._stories.get(key)
        return story is not None and story.is_flapping

    def marked(self, notification: Notification) -> Notification:
        """With what there is to say about its flapping."""
        story = self._stories.get(notification.fingerprint)
        if story is None or not story.is_flapping:
            return notification
        text = f"{len(story.starts)} times since {rfc3339(story.starts[0])}"
        return replace(notification, annotations={**notification.annotations, ANNOTATION: text})

    def record(self, key: str) -> dict[str, Any] | None:
        """What a later life needs; None: nothing."""
        story = self._stories.get(key)
        return story.as_json() if story else None

    def restore(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on where an earlier life was."""
        for key, document in documents.items():
            held = Notification.from_json(document["held"]) if document["held"] else None
            story = _Story(starts=list(document["starts"]), is_flapping=document["flapping"], held=held)
            self._stories[key] = story
            if held and held.ends_at is not None:
                self._held[key] = held.ends_at + max(0.0, self._wait(story))

    def _wait(self, story: _Story | None) -> float:
        return self._damping.stable if story and story.is_flapping else self._damping.recovery

    def _forget(self, key: str) -> None:
        """Its end is told. Who flapped begins anew, so that the next outage is one; who did not is still counted."""
        self._held.pop(key, None)
        story = self._stories[key]
        story.held = None
        if story.is_flapping:
            del self._stories[key]
        self.dirty.add(key)

    def _prune(self, now: float) -> None:
        if now < self._pruned + PRUNING and now >= self._pruned:
            return
        self._pruned = now
        for key, story in list(self._stories.items()):
            if not story.is_flapping and not story.held and story.starts[-1] <= now - self._damping.within:
                del self._stories[key]
                self.dirty.add(key)
