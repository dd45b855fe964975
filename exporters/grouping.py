"""Which alerts are told together, to which channels, when, and when again. No I/O and no clock: time is an argument.

The words are Alertmanager's: a group waits `group_wait` for its first message, `group_interval` between two of them, and is
repeated after `repeat_interval`. Beyond it:

- what was told as firing is always told as resolved, also under a silence;
- an alert that begins to fire while its incident is over opens a new incident;
- an alert that was resolved before anybody was told is not told at all;
- what can wait for a channel's hours is told when they begin, if it fires still; its end is told at any hour.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stormwatch.exporters.flapping import USUAL, Damper, Damping
from stormwatch.exporters.hours import Hours
from stormwatch.exporters.message import Message, Why
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.silence import Silence

PAGE = "page"
INHIBITED = frozenset({"ticket", "info"})
"""Severities of which nobody is told while a page of the same objective fires: it says the same, louder."""

CAN_WAIT = frozenset({"ticket", "info"})
"""Severities that a channel with hours is told of in these hours only."""

Place = tuple[str, str]
"""A channel and the key of a group in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one channel is told, and how often."""

    channel: str
    severities: frozenset[str] = frozenset()
    """Empty: every severity."""
    match: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels that an alert must have."""
    group_by: tuple[str, ...] | None = ("alertname", "objective", "probe")
    """Labels by which alerts are told together. None: each alert on its own."""
    group_wait: float = 0.0
    """Seconds."""
    group_interval: float = 0.0
    """Seconds."""
    repeat_interval: float = 0.0
    """Seconds; 0: never."""
    acknowledgements: bool = False
    """Whether it is told who took an alert."""

    inhibition: bool = True
    """Whether a page mutes the tickets of its objective here."""
    hours: Hours | None = None
    """When it is told of what can wait. None: always."""
    damping: bool = True
    """Whether flapping is told as one here. Otherwise every beginning and every end is."""

    def wants(self, notification: Notification) -> bool:
        """Whether this channel is told of an alert."""
        labels = notification.sent_labels
        return (not self.severities or labels.get("severity") in self.severities) and (
            self.match.items() <= labels.items()
        )

    def waits(self, notification: Notification, now: float) -> bool:
        """Whether this channel is told of an alert in its hours, and not now. A page waits for nothing."""
        return (
            self.hours is not None and notification.labels.get("severity") in CAN_WAIT and not self.hours.open_at(now)
        )

    def labels_of(self, notification: Notification) -> dict[str, str]:
        """The labels that make its group."""
        labels = notification.sent_labels
        if self.group_by is None:
            return labels
        return {name: labels[name] for name in self.group_by if name in labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Somebody took an alert."""

    by: str
    until: float
    """Unix time at which people are told again, if it fires still."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"by": self.by, "until": self.until}


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A message that has to be told now."""

    place: Place
    message: Message


@dataclass(slots=True, kw_only=True)
class _Group:
    labels: dict[str, str]
    opened: float
    sequence: int = 0
    told_at: float = 0.0
    told: dict[str, str] = field(default_factory=dict[str, str])
    """What people know of each alert, by fingerprint: `firing`, `flapping` or `acknowledged`."""
    members: dict[str, Notification] = field(default_factory=dict[str, Notification])


class Grouping:
    """All groups of all channels. What changed is in `dirty_alerts` and `dirty_groups` until the owner has written it."""

    def __init__(self, routes: Iterable[Route], *, page: str = "", damping: Damping = USUAL) -> None:
        """`page` is the address of the status page, for the messages."""
        self.alerts: dict[str, Notification] = {}
        """What fires, by fingerprint."""
        self.acknowledged: dict[str, Acknowledgement] = {}
        """Who took what, by fingerprint."""
        self.silences: dict[str, Silence] = {}
        self.damper = Damper(damping)
        self.dirty_alerts: set[str] = set()
        self.dirty_groups: set[Place] = set()
        self._routes = {route.channel: route for route in routes}
        self._page = page
        self._groups: dict[Place, _Group] = {}
        self._due: dict[Place, float] = {}
        self._watched: set[Place] = set()
        """Groups with an alert that is muted or taken: time alone may change what there is to tell."""
        self._pages: dict[str, set[str]] = {}
        """Fingerprints of the pages that fire, by objective."""

    def take(self, notification: Notification, now: float) -> list[Due]:
        """An alert fires or is resolved. Gives what has to be told at once.

        To hear the same again, after a restart, changes nothing: its first start stays.
        """
        key, known = notification.fingerprint, self.alerts.get(notification.fingerprint)
        if notification.is_resolved:
            if known is None or self.damper.holds_already(key):
                return []
            if self.damper.holds(notification):
                return self._spread(notification, now, damping=False)
            return self._end(notification, now)
        if known is None:
            self.alerts[key] = notification
            self._count_page(notification, firing=True)
            self.dirty_alerts.add(key)
            self.damper.begins(key, now)
            return self._spread(notification, now)
        if not self.damper.holds_already(key):
            return []
        begins_to_flap = self.damper.begins(key, now)
        due = self._spread(notification, now, damping=False)
        return due + self._tell_of_flapping(key, now) if begins_to_flap else due

    def due(self, now: float) -> list[Due]:
        """What has to be told by now."""
        told = [each for end in self.damper.released(now) for each in self._end(end, now, damping=True)]
        for place in list(self._watched):
            if place not in self._due or self._due[place] > now:
                self._schedule(place, now, now)
        places = [place for place, at in self._due.items() if at <= now]
        return told + [each for place in places for each in self._tell(place, now)]

    def next_at(self, now: float) -> float:
        """Unix time at which `due` has to be asked again at the latest."""
        watched = now + 1.0 if self._watched else float("inf")
        return min(watched, self.damper.next_at(), min(self._due.values(), default=float("inf")))

    def acknowledge(self, fingerprint: str, taken: Acknowledgement | None, now: float) -> bool:
        """Somebody took an alert, or gives it back (None). False: it does not fire."""
        if fingerprint not in self.alerts:
            return False
        if taken is None:
            self.acknowledged.pop(fingerprint, None)
        else:
            self.acknowledged[fingerprint] = taken
        self.dirty_alerts.add(fingerprint)
        for place, group in self._groups.items():
            if fingerprint in group.members:
                self._due[place] = now
        return True

    def muted_by(self, notification: Notification, now: float, *, inhibition: bool = True) -> str:
        """Why nobody is told of an alert: `silence ID`, `page of OBJECTIVE`; empty when people are told."""
        for silence in self.silences.values():
            if silence.mutes(notification, now):
                return f"silence {silence.id}"
        objective = notification.labels.get("objective", "")
        if inhibition and notification.labels.get("severity") in INHIBITED and self._pages.get(objective):
            return f"page of {objective}"
        return ""

    def alert_record(self, fingerprint: str) -> dict[str, Any] | None:
        """What a later life needs of an alert."""
        if fingerprint not in self.alerts:
            return None
        taken = self.acknowledged.get(fingerprint)
        return {
            "notification": self.alerts[fingerprint].as_json(),
            "acknowledged": taken.as_json() if taken else None,
        }

    def group_record(self, place: Place) -> dict[str, Any] | None:
        """What a later life needs of a group."""
        group = self._groups.get(place)
        if group is None:
            return None
        return {
            "channel": place[0],
            "key": place[1],
            "labels": group.labels,
            "opened": group.opened,
            "sequence": group.sequence,
            "told_at": group.told_at,
            "told": group.told,
            "members": [each.as_json() for each in group.members.values()],
        }

    def restore(
        self,
        alerts: Iterable[Mapping[str, Any]],
        groups: Iterable[Mapping[str, Any]],
        silences: Iterable[Mapping[str, Any]],
        now: float,
        *,
        flaps: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Go on where an earlier life was. A group whose message was not written yet is told now."""
        self.damper.restore(flaps or {})
        for document in silences:
            silence = Silence.from_json(document)
            self.silences[silence.id] = silence
        for document in alerts:
            notification = Notification.from_json(document["notification"])
            self.alerts[notification.fingerprint] = notification
            self._count_page(notification, firing=True)
            if document["acknowledged"]:
                self.acknowledged[notification.fingerprint] = Acknowledgement(**document["acknowledged"])
        for document in groups:
            if document["channel"] not in self._routes:
                continue  # the channel was taken out of the configuration
            members = [Notification.from_json(each) for each in document["members"]]
            place = (document["channel"], document["key"])
            self._groups[place] = _Group(
                labels=dict(document["labels"]),
                opened=document["opened"],
                sequence=document["sequence"],
                told_at=document["told_at"],
                told=dict(document["told"]),
                members={each.fingerprint: each for each in members},
            )
            self._due[place] = now

    def _end(self, notification: Notification, now: float, *, damping: bool | None = None) -> list[Due]:
        """An alert is over, and people may know."""
        known = self.alerts.pop(notification.fingerprint, None)
        if known is None:
            return []
        self.acknowledged.pop(notification.fingerprint, None)
        self._count_page(known, firing=False)
        self.dirty_alerts.add(notification.fingerprint)
        return self._spread(notification, now, damping=damping)

    def _spread(self, notification: Notification, now: float, *, damping: bool | None = None) -> list[Due]:
        """Tell those who want to hear of it; with `damping` only those for whom flapping is one, or is not."""
        return [
            each
            for route in self._routes.values()
            if route.wants(notification) and (damping is None or route.damping is damping)
            for each in self._admit(route, notification, now)
        ]

    def _tell_of_flapping(self, key: str, now: float) -> list[Due]:
        """Tell those who know the alert as firing that it comes and goes."""
        due: list[Due] = []
        for place, group in list(self._groups.items()):
            route = self._routes[place[0]]
            if route.damping and key in group.members:
                self.dirty_groups.add(place)
                self._schedule(place, max(now, group.told_at + route.group_interval), now)
                due += self._tell(place, now) if self._due[place] <= now else []
        return due

    def _admit(self, route: Route, notification: Notification, now: float) -> list[Due]:
        labels = route.labels_of(notification)
        place = (route.channel, key_of(labels))
        group = self._groups.get(place)
        if group is None:
            if notification.is_resolved:
                return []
            group = self._groups[place] = _Group(labels=labels, opened=now)
        key = notification.fingerprint
        if (
            key in group.members
            and group.members[key].is_resolved
            and not notification.is_resolved
            and key in group.told
        ):
            # It fires again before its end was told. Both are worth a message, and in this order.
            told = self._tell(place, now)
            group = self._groups.setdefault(place, _Group(labels=labels, opened=now))
        else:
            told = []
        if notification.is_resolved and key not in group.told:
            group.members.pop(key, None)
            if not group.members:
                self._close(place)
                return told
        else:
            group.members[key] = notification
        self.dirty_groups.add(place)
        wait = now + route.group_wait if not group.told else max(now, group.told_at + route.group_interval)
        self._schedule(place, wait, now)
        return told + (self._tell(place, now) if self._due[place] <= now else [])

    def _schedule(self, place: Place, at: float, now: float) -> None:
        """Bring a group's next message forward, but never nearer than its interval allows."""
        route, group = self._routes[place[0]], self._groups[place]
        if group.told:
            at = max(at, group.told_at + route.group_interval)
        self._due[place] = min(at, self._due.get(place, float("inf"))) if at > now else at

    def _tell(self, place: Place, now: float) -> list[Due]:
        """Compare what people know with what is; a message when that differs, or when it is time to say it again."""
        route, group = self._routes[place[0]], self._groups[place]
        self._due.pop(place, None)
        states, held = self._states(route, group, now)
        news = {key for key, state in states.items() if group.told.get(key) != state}
        why = self._why(route, group, states, news, now)
        watched = held or any(key in self.acknowledged for key in group.members)
        self._watched.add(place) if watched else self._watched.discard(place)
        if why is None:
            if group.told and route.repeat_interval:
                self._due[place] = max(group.told_at + route.repeat_interval, now + 1.0)
            return []
        message = Message(
            incident=hashlib.sha256(f"{place}{group.opened!r}".encode()).hexdigest()[:20],
            sequence=group.sequence,
            why=why,
            group=group.labels,
            alerts=tuple(self._marked(route, group.members[key]) for key in states),
            news=frozenset(news),
            acknowledged={key: self.acknowledged[key].by for key in states if states[key] == "acknowledged"},
            page=self._page,
        )
        group.sequence += 1
        group.told_at = now
        group.told = {key: state for key, state in states.items() if state != "resolved"}
        group.members = {key: each for key, each in group.members.items() if not each.is_resolved}
        self.dirty_groups.add(place)
        if not group.members:
            self._close(place)
        elif (
            not group.told
        ):  # the incident is over; what is left is muted, and opens another one when it is not any more
            group.opened, group.sequence = now, 0
        elif route.repeat_interval:
            self._due[place] = now + route.repeat_interval
        return [Due(place=place, message=message)]

    def _marked(self, route: Route, notification: Notification) -> Notification:
        return notification if notification.is_resolved or not route.damping else self.damper.marked(notification)

    def _states(self, route: Route, group: _Group, now: float) -> tuple[dict[str, str], bool]:
        """What people should know of each alert, and whether something is held back."""
        states: dict[str, str] = {}
        held = False
        for key, each in group.members.items():
            if each.is_resolved:
                if key in group.told:
                    states[key] = "resolved"
                continue
            if self._is_held(route, each, now):
                held = True
                if key in group.told:
                    states[key] = group.told[key]
                continue
            taken = self.acknowledged.get(key)
            is_taken = taken is not None and now < taken.until
            if is_taken and route.acknowledgements:
                states[key] = "acknowledged"
            else:
                states[key] = "flapping" if route.damping and self.damper.is_flapping(key) else "firing"
        return states, held

    def _is_held(self, route: Route, notification: Notification, now: float) -> bool:
        return route.waits(notification, now) or bool(self.muted_by(notification, now, inhibition=route.inhibition))

    def _why(
        self, route: Route, group: _Group, states: Mapping[str, str], news: Iterable[str], now: float
    ) -> Why | None:
        changed = {states[key] for key in news}
        if not states:
            return None
        if not changed:
            taken = [self.acknowledged.get(key) for key in states if not route.waits(group.members[key], now)]
            lapsed = [each for each in taken if each and group.told_at < each.until <= now]
            if lapsed:
                return Why.LAPSED
            waits = any(each and now < each.until for each in taken) or any(
                self._is_held(route, group.members[key], now) for key in states
            )
            if route.repeat_interval and not waits and now >= group.told_at + route.repeat_interval:
                return Why.REPEAT
            return None
        if all(state == "resolved" for state in states.values()):
            return Why.RESOLVED
        if not group.told:
            return Why.FIRST
        if changed == {"acknowledged"}:
            return Why.ACKNOWLEDGED
        if changed == {"flapping"} and all(group.told.get(key) == "firing" for key in news):
            return Why.FLAPPING
        if changed <= {"firing", "flapping"} and all(group.told.get(key) == "acknowledged" for key in news):
            return Why.LAPSED
        return Why.NEWS

    def _close(self, place: Place) -> None:
        self._groups.pop(place, None)
        self._due.pop(place, None)
        self._watched.discard(place)
        self.dirty_groups.add(place)

    def _count_page(self, notification: Notification, *, firing: bool) -> None:
        objective = notification.labels.get("objective")
        if objective and notification.labels.get("severity") == PAGE:
            pages = self._pages.setdefault(objective, set())
            if firing:
                pages.add(notification.fingerprint)
            else:
                pages.discard(notification.fingerprint)


def key_of(labels: Mapping[str, str]) -> str:
    """A group's labels as one text: `{}:{alertname="ProbeDown", probe="shop"}`, as Alertmanager writes its group keys."""
    return "{}:{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def stale(known: Mapping[str, Notification], active: Sequence[str]) -> list[Notification]:
    """What fires as far as people know, and does not any more."""
    firing = set(active)
    return [each for key, each in known.items() if key not in firing]
