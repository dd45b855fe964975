"""What a drill saw, and when: the numbers that the verdict is about, with everything they were taken from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.feed import Delivered, Notified
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.slo.alert import AlertState, Transition

SKEW = 5.0
"""Seconds that the clock of another machine, whose unix times we are given, may differ from ours."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One result, as much of it as a verdict needs. `at` is the unix time at which the run was decided."""

    at: float
    probe: str
    outcome: Outcome
    reason: Reason
    message: str

    @classmethod
    def of(cls, result: Result) -> "Sighting":
        """The part of a result that a verdict needs."""
        return cls(result.finished, result.probe, result.outcome, result.reason, result.message)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "at": self.at,
            "probe": self.probe,
            "outcome": self.outcome.value,
            "reason": self.reason.value,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Sighting":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            document["at"],
            document["probe"],
            Outcome(document["outcome"]),
            Reason(document["reason"]),
            document["message"],
        )


@dataclass(frozen=True, slots=True)
class Link:
    """One stretch of the chain between two moments, in seconds."""

    name: str
    start: str
    end: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The raw record of a drill. Unix times in seconds; None: it did not come to that."""

    started: float
    ended: float
    """Until when results and transitions were watched, with a feed that was alive."""
    injected: float | None = None
    """When the injection began: no detection can look faster than it was."""
    watched_until: float | None = None
    """Until when the fault was in place and the feed alive: silence before this moment is silence."""
    reverted: float | None = None
    """When taking it back began: no recovery can look faster than it was."""
    gone: bool = True
    """Whether it is proved that no fault is in place."""
    evidence: Evidence = field(default_factory=Evidence)
    beside: tuple[Evidence, ...] = ()
    """The same of each fault beside, as far as any was injected."""
    baseline: str = ""
    """Why nothing was injected, if the drill did not get so far."""
    trouble: str = ""
    """What went wrong with the drill itself: the feed died, the fault ended by itself, somebody interrupted."""
    clock_step: float = 0.0
    """Seconds by which the wall clock was set while it was watched: what was seen before and after cannot be compared."""
    fired_before: tuple[Mapping[str, str], ...] = ()
    """Labels of the alerts that fired already before the injection."""
    sightings: tuple[Sighting, ...] = ()
    transitions: tuple[Transition, ...] = ()
    notifications: tuple[Notified, ...] = ()
    deliveries: tuple[Delivered, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "started": self.started,
            "ended": self.ended,
            "injected": self.injected,
            "watched_until": self.watched_until,
            "reverted": self.reverted,
            "gone": self.gone,
            "evidence": self.evidence.as_json(),
            "beside": [one.as_json() for one in self.beside],
            "baseline": self.baseline,
            "trouble": self.trouble,
            "clock_step": self.clock_step,
            "fired_before": [dict(labels) for labels in self.fired_before],
            "results": [sighting.as_json() for sighting in self.sightings],
            "transitions": [transition.as_json() for transition in self.transitions],
            "notifications": [notified.as_json() for notified in self.notifications],
            "deliveries": [delivered.as_json() for delivered in self.deliveries],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Observation":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            started=document["started"],
            ended=document["ended"],
            injected=document["injected"],
            watched_until=document["watched_until"],
            reverted=document["reverted"],
            gone=document["gone"],
            evidence=Evidence.from_json(document["evidence"]),
            beside=tuple(Evidence.from_json(one) for one in document.get("beside", ())),
            baseline=document["baseline"],
            trouble=document["trouble"],
            clock_step=document.get("clock_step", 0.0),
            fired_before=tuple(document["fired_before"]),
            sightings=tuple(Sighting.from_json(one) for one in document["results"]),
            transitions=tuple(Transition.from_json(one) for one in document["transitions"]),
            notifications=tuple(Notified.from_json(one) for one in document["notifications"]),
            deliveries=tuple(Delivered.from_json(one) for one in document.get("deliveries", ())),
        )


_DETECTION = (
    ("injected", "fault"),
    ("touched", "traffic meets the fault"),
    ("first_red", "probe turns red"),
    ("pending", "alert pending"),
    ("firing", "alert fires"),
    ("notified", "receiver told"),
    ("delivered", "arrived at the receiver"),
)
_RECOVERY = (
    ("reverted", "undo"),
    ("green", "probe green again"),
    ("resolved", "alert resolved"),
    ("cleared", "all-clear at the receiver"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The moments of a drill, each a unix time or None, and what they were read from."""

    injected: float | None
    touched: float | None
    """First traffic that met the fault: the proof that it bites."""
    first_red: float | None
    """The expected probe's first down result, of any reason."""
    pending: float | None
    firing: float | None
    notified: float | None
    """Somebody who tells people took the alert over, and holds it back for no reason."""
    delivered: float | None
    """It came to the receiver at the end of the way, if one is watched."""
    reverted: float | None
    green: float | None
    """The expected probe's first up result after its last down one, after the undo began."""
    resolved: float | None
    cleared: float | None
    """The receiver was told that the alert is over."""
    observed: Observation

    def detection_links(self) -> tuple[Link, ...]:
        """From the injection to the receiver, stretch by stretch."""
        return self._links(_DETECTION)

    def recovery_links(self) -> tuple[Link, ...]:
        """From the undo to the end of the alert, stretch by stretch."""
        return self._links(_RECOVERY)

    def slowest_link(self) -> Link | None:
        """The stretch of the detection that took longest: where it pays to become faster. None: nothing was seen."""
        return max(self.detection_links(), key=lambda link: link.seconds, default=None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object: the moments for readers, `observed` for `detect` to make the same Detection from."""
        slowest = self.slowest_link()
        return {
            **{name: getattr(self, name) for name, _ in (*_DETECTION, *_RECOVERY)},
            "links": [
                {"name": link.name, "seconds": link.seconds}
                for link in (*self.detection_links(), *self.recovery_links())
            ],
            "slowest_link": slowest.name if slowest else None,
            "observed": self.observed.as_json(),
        }

    def _links(self, moments: Iterable[tuple[str, str]]) -> tuple[Link, ...]:
        links: list[Link] = []
        last: tuple[str, float] | None = None
        for name, title in moments:
            at: float | None = getattr(self, name)
            if at is None:
                continue
            if last:
                # What was seen out of order (an alert before the expected probe) took no time of its own.
                links.append(Link(name=title, start=last[0], end=name, seconds=max(0.0, at - last[1])))
                at = max(at, last[1])
            last = (name, at)
        return tuple(links)


def detect(drill: Drill, observed: Observation) -> Detection:
    """Read the moments out of the record. Pure: the same record gives the same moments, years later."""
    injected, reverted = observed.injected, observed.reverted
    since = injected if injected is not None else float("inf")
    fired = [one for one in observed.transitions if one.at >= since and drill.expects(one.alert.labels)]
    firing = _first(one.at for one in fired if one.after is AlertState.FIRING)
    delivered = [
        one
        for one in observed.deliveries
        if drill.expects(one.labels) and is_of_this(one, injected=since, firing=firing)
    ]
    return Detection(
        injected=injected,
        touched=observed.evidence.first,
        first_red=_first(one.at for one in _of_probe(drill, observed, since) if one.outcome is Outcome.DOWN),
        # Not the pending of a later round: the one that led to the alert, or the first when it never fired.
        pending=_first(
            one.at for one in fired if one.after is AlertState.PENDING and (firing is None or one.at <= firing)
        ),
        firing=firing,
        notified=_first(
            one.at
            for one in observed.notifications
            if not one.held_back and drill.expects(one.labels) and is_of_this(one, injected=since, firing=firing)
        ),
        delivered=_first(one.at for one in delivered if not one.resolved),
        reverted=reverted,
        green=_green(drill, observed) if reverted is not None else None,
        resolved=_resolved(fired) if firing is not None else None,
        cleared=_first(one.at for one in delivered if one.resolved and one.at >= (reverted or since)),
        observed=observed,
    )


def is_of_this(told: Notified | Delivered, *, injected: float, firing: float | None) -> bool:
    """Whether a message is about what this drill broke: told before it fired is told of something earlier, or told again.

    Since when the alert fires is said by the clock that evaluated it; where that is not said, the message must have come
    after the alert was seen to fire. (A poll may see the alert after its message came.)
    """
    if told.since is None:
        return firing is not None and told.at >= firing
    return told.at >= injected and told.since >= injected - SKEW


def _green(drill: Drill, observed: Observation) -> float | None:
    green: float | None = None
    for sighting in _of_probe(drill, observed, observed.reverted or 0.0):
        if sighting.outcome is Outcome.DOWN:
            green = None
        elif sighting.outcome is Outcome.UP and green is None:
            green = sighting.at
    return green


def _resolved(fired: Iterable[Transition]) -> float | None:
    """When the last alert stopped firing: an alert that fires again has not resolved; several must all resolve."""
    firing: dict[tuple[tuple[str, str], ...], bool] = {}
    resolved: float | None = None
    for one in fired:
        if one.after is AlertState.FIRING:
            firing[one.alert.key] = True
        elif firing.get(one.alert.key):
            firing[one.alert.key] = False
            resolved = one.at
    return None if any(firing.values()) else resolved


def _of_probe(drill: Drill, observed: Observation, since: float) -> Iterable[Sighting]:
    name = drill.probe.name if drill.probe else ""
    return (one for one in observed.sightings if one.probe == name and one.at >= since)


def _first(moments: Iterable[float]) -> float | None:
    return min(moments, default=None)
