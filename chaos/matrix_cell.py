"""A cell of the matrix: one fault on one dependency, and who should hear of it. What was seen of it, and how it ended."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.matrix_last_mile import Arrival, Way
from stormwatch.probes.result import Outcome, Reason, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Catcher:
    """An alert that would say that the fault was noticed."""

    labels: Mapping[str, str]
    within: float
    """Seconds after the injection in which it fires at the latest, by the configuration. Infinite: that is not known."""
    recovers: float
    """Seconds after the undo in which it is resolved at the latest."""
    way: Way | None = None
    """How it comes to people; None: that is not watched, and it is enough that it fires."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The identity of the alert, as `Alert.key`."""
        return tuple(sorted(self.labels.items()))

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal. What is infinite is null."""
        return {
            "labels": dict(self.labels),
            "within": _finite(self.within),
            "recovers": _finite(self.recovers),
            "way": self.way.as_json() if self.way else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Catcher":
        """Read what `as_json` wrote, or an older version of it. Raises KeyError for anything else."""
        within, recovers = (math.inf if document[key] is None else document[key] for key in ("within", "recovers"))
        way = document.get("way")
        return cls(labels=document["labels"], within=within, recovers=recovers, way=Way.from_json(way) if way else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault on one dependency."""

    name: str
    """`payments/tcp-blackhole`."""
    fault: FaultSpec
    probes: tuple[str, ...]
    """Who depends on it: these must be well before, and may fail."""
    subjects: tuple[str, ...]
    """The names of all probes and objectives whose alerts may fire. Empty: it is not known who depends on it, all may."""
    catchers: tuple[Catcher, ...]
    """Any one of these alerts means that it was noticed."""
    limit: float
    """Seconds after the injection that the quickest alert of each way to fail is given."""
    recovers: float
    """Seconds after the undo in which all must be silent and well again."""
    slow: tuple[str, ...] = ()
    """Those of `probes` that take long to be well again: nobody waits for them where others can tell."""

    @property
    def dependency(self) -> str:
        """The route or target that it breaks."""
        return self.fault.target

    @property
    def family(self) -> str:
        """What sort of fault it is: `tcp`, `tls`, `http`, `dns`, `process` and so on."""
        return self.fault.kind.partition("-")[0]

    @property
    def alone(self) -> bool:
        """Whether nothing else may be broken at the same time, because everything may fail of it."""
        return not self.subjects

    def disturbs(self, other: "Cell") -> bool:
        """Whether it would not be certain of which of the two an alert speaks."""
        return self.alone or other.alone or bool({*self.subjects, *self.probes} & {*other.subjects, *other.probes})

    def may_tell(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is about somebody who depends on what is broken."""
        about = {labels.get("probe"), labels.get("objective")} & set(self.subjects)
        return self.alone or bool(about) or any(one.labels.items() <= labels.items() for one in self.catchers)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "name": self.name,
            "fault": self.fault.as_json(),
            "probes": list(self.probes),
            "subjects": list(self.subjects),
            "catchers": [one.as_json() for one in self.catchers],
            "limit": self.limit,
            "recovers": self.recovers,
            "slow": list(self.slow),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Cell":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            name=document["name"],
            fault=FaultSpec.from_json(document["fault"]),
            probes=tuple(document["probes"]),
            subjects=tuple(document["subjects"]),
            catchers=tuple(Catcher.from_json(one) for one in document["catchers"]),
            limit=document["limit"],
            recovers=document["recovers"],
            slow=tuple(document["slow"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alert that fired during a cell."""

    labels: Mapping[str, str]
    after: float
    """Seconds after the injection (in a control: after its beginning)."""
    stale: bool = False
    """Whether what it told of is a run that began before the cell did: then it says nothing about this fault."""
    arrival: Arrival | None = None
    """What became of it on its way to people; None: nothing was heard of it, or nobody watched that."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The identity of the alert."""
        return tuple(sorted(self.labels.items()))

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "labels": dict(self.labels),
            "after": self.after,
            "stale": self.stale,
            "arrival": self.arrival.as_json() if self.arrival else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Alarm":
        """Read what `as_json` wrote, or an older version of it. Raises KeyError for anything else."""
        arrival = document.get("arrival")
        return cls(
            labels=document["labels"],
            after=document["after"],
            stale=document["stale"],
            arrival=Arrival.from_json(arrival) if arrival else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Red:
    """A probe that was down during a cell: its first such run."""

    probe: str
    reason: Reason
    message: str
    after: float
    """Seconds after the injection."""

    @classmethod
    def of(cls, result: Result, injected: float) -> "Red":
        """From a run that was down."""
        assert result.outcome is Outcome.DOWN
        return cls(probe=result.probe, reason=result.reason, message=result.message, after=result.finished - injected)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"probe": self.probe, "reason": self.reason.value, "message": self.message, "after": self.after}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Red":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            probe=document["probe"],
            reason=Reason(document["reason"]),
            message=document["message"],
            after=document["after"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen of one run of a cell. Plain facts: the judgement is a function of them (`judge_cell`)."""

    started: float
    """Unix time."""
    took: float
    """Seconds from the beginning to the end, waiting for all to be well before and after included."""
    watched: float | None = None
    """Seconds after the injection until which nothing escaped us; None: nothing was injected."""
    held: float | None = None
    """Seconds for which the fault was in place; None when it is not known to be gone."""
    recovered: float | None = None
    """Seconds after the undo at which all was well and silent; None: it was not, as long as it was watched."""
    gone: bool = True
    """Whether the fault was proved to be gone."""
    evidence: Evidence = field(default_factory=Evidence)
    alarms: tuple[Alarm, ...] = ()
    """Alerts that fired, in their order."""
    reds: tuple[Red, ...] = ()
    busy: tuple[Mapping[str, str], ...] = ()
    """Catchers that fired already before, and that saw something bad now, too: they might have told."""
    trouble: str = ""
    """Why it is no evidence: not well before, the fault could not be injected, we were blind."""
    company: tuple[str, ...] = ()
    """Cells that ran at the same time."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "started": self.started,
            "took": self.took,
            "watched": self.watched,
            "held": self.held,
            "recovered": self.recovered,
            "gone": self.gone,
            "evidence": self.evidence.as_json(),
            "alarms": [one.as_json() for one in self.alarms],
            "reds": [one.as_json() for one in self.reds],
            "busy": [dict(one) for one in self.busy],
            "trouble": self.trouble,
            "company": list(self.company),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Sight":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            started=document["started"],
            took=document["took"],
            watched=document["watched"],
            held=document["held"],
            recovered=document["recovered"],
            gone=document["gone"],
            evidence=Evidence.from_json(document["evidence"]),
            alarms=tuple(Alarm.from_json(one) for one in document["alarms"]),
            reds=tuple(Red.from_json(one) for one in document["reds"]),
            busy=tuple(document["busy"]),
            trouble=document["trouble"],
            company=tuple(document["company"]),
        )


class State(StrEnum):
    """How a cell ended. The words are those of mutation testing: the fault is the mutant, the monitoring the test suite."""

    KILLED = "killed"
    """Somebody who depends on it was told in time, nobody else was, and all was well again afterwards."""
    NOISY = "noisy"
    """It was told of in time, and alerts of others fired too that do not depend on it."""
    NOT_RESOLVED = "not-resolved"
    """It was told of in time, and not all was well and silent again in time after the fault was gone."""
    LATE = "late"
    """It was told of, later than the configuration promises."""
    REACHED_NOBODY = "reached-nobody"
    """The right alert fired in time, and did not come to the end of the way to people, where that is watched."""
    MISATTRIBUTED = "misattributed"
    """Only alerts of others fired: somebody was told the wrong thing."""
    NOTICED = "noticed-only"
    """A probe was down, and no alert fired."""
    SURVIVED = "survived"
    """Nothing was seen: nobody would have heard of this."""
    EQUIVALENT = "equivalent"
    """No traffic met the fault, so it changed nothing."""
    INCONCLUSIVE = "inconclusive"
    """Nothing is proved either way."""
    FLAKY = "flaky"
    """It ended differently when it was repeated."""
    UNSAFE = "unsafe"
    """It could not be proved that the fault is gone."""

    @property
    def counts(self) -> bool:
        """Whether it is a part of what the score is a share of."""
        return self not in {State.EQUIVALENT, State.INCONCLUSIVE, State.UNSAFE}

    @property
    def told(self) -> bool:
        """Whether somebody was told in time by an alert of what is broken."""
        return self in {State.KILLED, State.NOISY, State.NOT_RESOLVED}


def judge_cell(cell: Cell, seen: Sight) -> State:
    """A pure function from what was asked and what was seen to how it ended."""
    if not seen.gone:
        return State.UNSAFE
    if seen.trouble or seen.watched is None:
        return State.INCONCLUSIVE
    caught = catches(cell, seen)
    others = [one for one in seen.alarms if not one.stale and not cell.may_tell(one.labels)]
    told = [one for one in caught if told_after(cell, one) is not None]
    if any(one.after <= cell.limit and _promptly(cell, one) for one in told):
        if others:
            return State.NOISY
        return State.KILLED if seen.recovered is not None else State.NOT_RESOLVED
    if not seen.evidence.touched and not any(one.after <= cell.limit for one in caught):
        return State.EQUIVALENT
    if told:
        return State.LATE
    if caught:
        return State.REACHED_NOBODY if waited_for(cell, seen) else State.INCONCLUSIVE
    if others:
        return State.MISATTRIBUTED
    if seen.watched < cell.limit or seen.busy:
        return State.INCONCLUSIVE
    return State.NOTICED if seen.reds else State.SURVIVED


def catches(cell: Cell, seen: Sight) -> tuple[Alarm, ...]:
    """The alerts that said what is broken, in the order in which they came."""
    wanted = {one.key for one in cell.catchers}
    return tuple(sorted((one for one in seen.alarms if one.key in wanted and not one.stale), key=lambda one: one.after))


def told_after(cell: Cell, alarm: Alarm) -> float | None:
    """Seconds after the injection at which somebody was told by an alert that says what is broken; None: nobody was.

    Where its way to people is not watched, that is when it fired.
    """
    way = way_of(cell, alarm)
    if way is None:
        return alarm.after
    return alarm.arrival.at(way.end) if alarm.arrival else None


def still_on_the_way(cell: Cell, alarm: Alarm) -> float:
    """Until when, in seconds after the injection, an alert that has not arrived may still do so; 0: nothing is to be waited for."""
    way = way_of(cell, alarm)
    held_back = alarm.arrival is not None and alarm.arrival.held_back
    if way is None or way.closed or held_back or told_after(cell, alarm) is not None:
        return 0.0
    return alarm.after + way.within


def waited_for(cell: Cell, seen: Sight) -> bool:
    """Whether all that fired was given the time to arrive."""
    return all((seen.watched or 0.0) >= still_on_the_way(cell, one) for one in catches(cell, seen))


def lost(cell: Cell, seen: Sight) -> tuple[Alarm, ...]:
    """The alerts that said what is broken, and did not come to people in the time that this takes, or cannot."""
    return tuple(
        one
        for one in catches(cell, seen)
        if told_after(cell, one) is None and (seen.watched or 0.0) >= still_on_the_way(cell, one)
    )


def way_of(cell: Cell, alarm: Alarm) -> Way | None:
    """The way to people of an alert, where it is watched."""
    return next((one.way for one in cell.catchers if one.key == alarm.key), None)


def _promptly(cell: Cell, alarm: Alarm) -> bool:
    """Whether it came to people as soon after it fired as it should."""
    way, after = way_of(cell, alarm), told_after(cell, alarm)
    return way is None or (after is not None and after <= alarm.after + way.within)


def _finite(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds
