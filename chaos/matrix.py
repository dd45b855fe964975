"""The matrix as a value: every cell with what was seen, and what follows: score, survivors, and what the alerts are worth."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stormwatch.chaos.matrix_cell import (
    Alarm,
    Cell,
    Sight,
    State,
    catches,
    judge_cell,
    lost,
    told_after,
    way_of,
)
from stormwatch.chaos.matrix_plan import Skipped

VERSION = 1
"""Of the JSON form."""
Z = 1.959963984540054
"""The quantile of the normal distribution for an interval of 95 %."""
VAGUE = 0.5
"""An alert that fires for more than this share of the cells that were told of, of more than one dependency, says little."""

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A cell and what was seen of it."""

    cell: Cell
    sight: Sight
    repeats: tuple[Sight, ...] = ()
    """What was seen when it was run again."""

    @property
    def state(self) -> State:
        """How it ended; flaky when it did not end in the same way each time."""
        states = set(self.rounds)
        if State.UNSAFE in states:
            return State.UNSAFE
        return states.pop() if len(states) == 1 else State.FLAKY

    @property
    def rounds(self) -> tuple[State, ...]:
        """How it ended each time."""
        return tuple(judge_cell(self.cell, one) for one in (self.sight, *self.repeats))

    @property
    def caught(self) -> tuple[Alarm, ...]:
        """The alerts that said what is broken, whether that came to people or not."""
        return catches(self.cell, self.sight)

    @property
    def told_by(self) -> tuple[Alarm, ...]:
        """The alerts that people heard of, the first one first."""
        heard = [(after, one) for one in self.caught if (after := told_after(self.cell, one)) is not None]
        return tuple(one for _, one in sorted(heard, key=lambda pair: pair[0]))

    @property
    def told_after(self) -> float | None:
        """Seconds after the injection at which the first of them was heard of; None: nobody heard of anything."""
        return told_after(self.cell, self.told_by[0]) if self.told_by else None

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` judges it again from what was seen."""
        return {
            "state": self.state.value,
            "cell": self.cell.as_json(),
            "sight": self.sight.as_json(),
            "repeats": [one.as_json() for one in self.repeats],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Outcome":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        return cls(
            cell=Cell.from_json(document["cell"]),
            sight=Sight.from_json(document["sight"]),
            repeats=tuple(Sight.from_json(one) for one in document["repeats"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A while in which nothing was broken."""

    started: float
    seconds: float
    alarms: tuple[Alarm, ...] = ()
    """What fired all the same: false alarms."""
    trouble: str = ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "started": self.started,
            "seconds": self.seconds,
            "alarms": [one.as_json() for one in self.alarms],
            "trouble": self.trouble,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Control":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        return cls(
            started=document["started"],
            seconds=document["seconds"],
            alarms=tuple(Alarm.from_json(one) for one in document["alarms"]),
            trouble=document["trouble"],
        )


class Score(NamedTuple):
    """A share of cells, with the Wilson interval of 95 %."""

    killed: int
    of: int

    @property
    def share(self) -> float:
        """The share; 0 of nothing."""
        return self.killed / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies in 95 of 100 cases (Wilson 1927). Nothing known: 0 to 1."""
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.share
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return (0.0 if self.killed == 0 else max(0.0, middle - half)), (
            1.0 if self.killed == n else min(1.0, middle + half)
        )

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        low, high = self.interval
        return {"killed": self.killed, "of": self.of, "share": self.share, "low": low, "high": high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """The whole of it."""

    outcomes: tuple[Outcome, ...]
    alerts: tuple[Mapping[str, str], ...] = ()
    """The labels of every alert that a person would hear of, fired or not."""
    controls: tuple[Control, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    untimed: tuple[Mapping[str, str], ...] = ()
    """Alerts that take longer than a cell waits: nothing is said about them."""
    scale: str = "1"
    """The factor by which the windows of all rules were multiplied, as a fraction."""
    checks: tuple[Outcome, ...] = ()
    """Cells at full scale, one for each alert that was scaled: whether the scaled run tells the truth."""
    planned: int = 0
    """How many cells there were to run; fewer outcomes: it was interrupted."""
    repeat: int = 1
    """How often each cell was to be run."""
    seconds: float = 0.0
    """How long it took, over all parts of an interrupted one."""

    @property
    def score(self) -> Score:
        """The detection score: killed / (all - equivalent - inconclusive)."""
        return score_of(self.outcomes)

    def by(self, part: str) -> dict[str, Score]:
        """The score of each `dependency` or `family`, in the order in which they came."""
        groups: dict[str, list[Outcome]] = {}
        for one in self.outcomes:
            groups.setdefault(getattr(one.cell, part), []).append(one)
        return {name: score_of(group) for name, group in groups.items()}

    @property
    def states(self) -> Counter[State]:
        """How many cells ended how."""
        return Counter(one.state for one in self.outcomes)

    @property
    def runs(self) -> int:
        """How many cells were run, each as often as it was."""
        return sum(len(one.rounds) for one in self.outcomes)

    @property
    def complete(self) -> bool:
        """Whether every cell was run as often as it was to be."""
        return self.runs >= self.planned * self.repeat

    @property
    def survivors(self) -> tuple[Outcome, ...]:
        """The cells that nobody would have heard of, or the wrong people, or too late."""
        return tuple(one for one in self.outcomes if one.state.counts and not one.state.told)

    @property
    def end_of_way(self) -> str:
        """Where an alert has to come to, so that somebody counts as told: `receiver`, `Alertmanager`; empty: it has to fire."""
        ends = (one.way.end for outcome in self.outcomes for one in outcome.cell.catchers if one.way)
        return next(ends, "")

    def lost(self) -> dict[Key, tuple[str, ...]]:
        """Alerts that fired and came to nobody, with the cells: also where another one was heard of."""
        found: dict[Key, list[str]] = {}
        for one in self.outcomes:
            for key in dict.fromkeys(alarm.key for alarm in lost(one.cell, one.sight)):
                found.setdefault(key, []).append(one.cell.name)
        return {key: tuple(names) for key, names in found.items()}

    @property
    def false_alarms(self) -> tuple[Alarm, ...]:
        """What fired while nothing was broken."""
        return tuple(alarm for control in self.controls for alarm in control.alarms)

    def never_fired(self) -> tuple[Mapping[str, str], ...]:
        """Alerts that no fault made fire, of those that were given the time."""
        fired = {alarm.key for one in self.outcomes for alarm in one.sight.alarms}
        untimed = {_key(labels) for labels in self.untimed}
        return tuple(labels for labels in self.alerts if _key(labels) not in fired | untimed)

    def single_catchers(self) -> dict[Key, tuple[str, ...]]:
        """Alerts that alone told of a fault, with the cells: switched off, nobody would hear of these."""
        found: dict[Key, list[str]] = {}
        for one in self.outcomes:
            keys = {alarm.key for alarm in one.told_by}
            if one.state.told and len(keys) == 1:
                found.setdefault(keys.pop(), []).append(one.cell.name)
        return {key: tuple(names) for key, names in found.items()}

    def vague(self) -> dict[Key, float]:
        """Alerts that fire for everything, with the share of cells that they fired for."""
        told = [one for one in self.outcomes if one.state.told]
        if len({one.cell.dependency for one in told}) < 2:
            return {}
        counted = Counter(key for one in told for key in {alarm.key for alarm in one.told_by})
        shares = {key: count / len(told) for key, count in counted.items()}
        return {key: share for key, share in shares.items() if share > VAGUE}

    def smallest_set(self) -> tuple[Key, ...]:
        """Alerts that together tell of all that was told of: greedy, so at most a little larger than the smallest one."""
        open_cells = {one.cell.name: {alarm.key for alarm in one.told_by} for one in self.outcomes if one.state.told}
        chosen: list[Key] = []
        while open_cells:
            counted = Counter(key for keys in open_cells.values() for key in keys)
            best = min(counted, key=lambda key: (-counted[key], key))
            chosen.append(best)
            open_cells = {name: keys for name, keys in open_cells.items() if best not in keys}
        return tuple(chosen)

    @property
    def exit_code(self) -> int:
        """4 a fault may be in place; 1 something is not noticed as it should be, or false alarms; 3 not all is known; 0."""
        states, checks = self.states, Counter(one.state for one in self.checks)
        if states[State.UNSAFE] or checks[State.UNSAFE]:
            return 4
        untrue = any(state.counts and not state.told for state in checks)
        if self.false_alarms or untrue or any(state.counts and state is not State.KILLED for state in states):
            return 1
        unchecked = any(not state.counts for state in checks)
        unknown = states[State.INCONCLUSIVE] or unchecked or not self.complete or not self.score.of
        return 3 if unknown else 0

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` judges every cell again from what was seen."""
        return {
            "version": VERSION,
            "score": self.score.as_json(),
            "scale": self.scale,
            "planned": self.planned,
            "repeat": self.repeat,
            "seconds": self.seconds,
            "states": {state.value: count for state, count in self.states.items()},
            "dependencies": {name: one.as_json() for name, one in self.by("dependency").items()},
            "families": {name: one.as_json() for name, one in self.by("family").items()},
            "survivors": [{"cell": one.cell.name, "state": one.state.value, **explain(one)} for one in self.survivors],
            "end_of_way": self.end_of_way,
            "lost": [{"labels": dict(key), "cells": list(cells)} for key, cells in self.lost().items()],
            "never_fired": [dict(labels) for labels in self.never_fired()],
            "single_catchers": [
                {"labels": dict(key), "cells": list(cells)} for key, cells in self.single_catchers().items()
            ],
            "vague": [{"labels": dict(key), "share": share} for key, share in self.vague().items()],
            "smallest_set": [dict(key) for key in self.smallest_set()],
            "alerts": [dict(labels) for labels in self.alerts],
            "controls": [one.as_json() for one in self.controls],
            "skipped": [one.as_json() for one in self.skipped],
            "untimed": [dict(labels) for labels in self.untimed],
            "checks": [one.as_json() for one in self.checks],
            "outcomes": [one.as_json() for one in self.outcomes],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Matrix":
        """Read a report, or one of before there was `repeat` in it, and judge it anew. Raises KeyError or ValueError for anything that is not one of this version."""
        if document["version"] != VERSION:
            raise ValueError(f"a matrix of version {VERSION} is needed, this one has {document['version']!r}")
        return cls(
            outcomes=tuple(Outcome.from_json(one) for one in document["outcomes"]),
            alerts=tuple(document["alerts"]),
            controls=tuple(Control.from_json(one) for one in document["controls"]),
            skipped=tuple(Skipped(**one) for one in document["skipped"]),
            untimed=tuple(document["untimed"]),
            scale=document["scale"],
            checks=tuple(Outcome.from_json(one) for one in document["checks"]),
            planned=document["planned"],
            repeat=document.get("repeat", 1),
            seconds=document["seconds"],
        )


def score_of(outcomes: Iterable[Outcome]) -> Score:
    """Of some cells."""
    states = [one.state for one in outcomes]
    return Score(states.count(State.KILLED), sum(state.counts for state in states))


def merge(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Outcomes of the same cell become one with repeats, in the order in which cells came first."""
    found: dict[str, Outcome] = {}
    for one in outcomes:
        before = found.get(one.cell.name)
        found[one.cell.name] = (
            Outcome(cell=one.cell, sight=before.sight, repeats=(*before.repeats, one.sight)) if before else one
        )
    return tuple(found.values())


def explain(outcome: Outcome) -> dict[str, str]:
    """What happened, and what would catch it: a sentence each."""
    cell, sight, state = outcome.cell, outcome.sight, outcome.state
    fault = f"{cell.fault.kind} on {cell.dependency}"
    reds = ", ".join(f"{one.probe} ({one.reason.value})" for one in sight.reds)
    others = ", ".join(dict.fromkeys(catcher_name(one.labels) for one in sight.alarms if not cell.may_tell(one.labels)))
    if told := {State.LATE: _late, State.REACHED_NOBODY: _unheard}.get(state):
        return {"what": f"{fault}: {told(outcome)}", "remedy": _remedy(outcome)}
    what = {
        State.SURVIVED: f"{fault}: nothing turned red in {sight.watched or 0:.0f} s; nobody would have heard of this",
        State.NOTICED: f"{fault}: {reds} turned red, and no alert fired in {sight.watched or 0:.0f} s",
        State.MISATTRIBUTED: f"{fault}: only {others} fired, and says nothing of {cell.dependency}",
        State.NOISY: f"{fault}: {others} fired too, and nothing says that it depends on {cell.dependency}",
        State.NOT_RESOLVED: f"{fault}: not all was well and silent {cell.recovers:.0f} s after it was gone",
        State.FLAKY: f"{fault}: it ended differently when it was run again: {', '.join(outcome.rounds)}",
        State.INCONCLUSIVE: f"{fault}: {sight.trouble or 'alerts that might have told fired already'}",
        State.EQUIVALENT: f"{fault}: no traffic met it",
        State.UNSAFE: f"{fault}: {sight.trouble}",
    }.get(state, f"{fault}: {state.value}")
    return {"what": what, "remedy": _remedy(outcome)}


def _late(outcome: Outcome) -> str:
    first, told, limit = outcome.told_by[0], outcome.told_after or 0.0, outcome.cell.limit
    way = way_of(outcome.cell, first)
    if way and first.after <= limit:
        late = f"came to {show_end(way.end)} {told - first.after:.0f} s later"
        return f"fired after {first.after:.0f} s and {late}, the configuration promises {way.within:.0f} s"
    return f"told after {told:.0f} s, the configuration promises {limit:.0f} s"


def _unheard(outcome: Outcome) -> str:
    """What fired, and where it got lost."""
    fired = outcome.caught[0]
    said = f"{catcher_name(fired.labels)} fired after {fired.after:.0f} s, and reached nobody"
    way, arrival = way_of(outcome.cell, fired), fired.arrival
    if arrival and arrival.held_back:
        return f"{said}: Alertmanager holds it back: {arrival.held_back}"
    if way and way.closed:
        return f"{said}: {way.closed}"
    watched = f"in {(outcome.sight.watched or 0.0) - fired.after:.0f} s"
    if arrival is None or arrival.alertmanager is None:
        return f"{said}: Alertmanager did not get it {watched}"
    return f"{said}: Alertmanager has it, and no message came {watched}"


def _remedy_of_way(outcome: Outcome) -> str:
    fired = outcome.caught[0]
    way, arrival = way_of(outcome.cell, fired), fired.arrival
    if arrival and arrival.held_back:
        return "the end of what holds it back: `amtool silence query` and the `inhibit_rules` say what that is"
    if way and way.closed:
        return "a route for it: `amtool config routes test` with its labels says who is told"
    if arrival is None or arrival.alertmanager is None:
        return "see `alerting` and `alert_relabel_configs` of Prometheus, and `prometheus_notifications_dropped_total`"
    return "see `alertmanager_notifications_failed_total`, and what its log says of this receiver"


def _remedy(outcome: Outcome) -> str:
    cell, state = outcome.cell, outcome.state
    if state is State.REACHED_NOBODY:
        return _remedy_of_way(outcome)
    if state is State.NOTICED:
        return "give the probe's alert a severity that somebody hears of, or an objective with rules"
    if state is State.MISATTRIBUTED:
        return f"name who needs it under the route's `serves`, or give {cell.dependency} a probe of its own"
    if state is State.NOISY:
        return "name it under the route's `serves`, or give it `depends_on`, so that it stays silent"
    if state is State.LATE:
        return "see `stormwatch validate` for what takes so long"
    return _remedy_of_survivor(cell) if state is State.SURVIVED else ""


def _remedy_of_survivor(cell: Cell) -> str:
    kind = cell.fault.kind
    if kind == "tls-expires-soon":
        return f"a tls probe of {cell.dependency} with `expires_within`, or CertificateExpiring switched on for a probe that connects to it"
    if kind in {"tcp-latency", "tcp-bandwidth", "tcp-slicer", "tcp-slow-close", "http-delay", "dns-slow"}:
        return f"`slower_than` in the expectations of a probe that needs {cell.dependency}, or an objective with it"
    if kind in {"http-body", "http-header"}:
        return f"an expectation of the body (`body_matches`, `json`) in a probe that reads what {cell.dependency} says"
    if kind == "http-status":
        return f"take the status out of `expect: status` of the probe of {cell.dependency}, or add a probe that asks it"
    if kind.startswith("tls-"):
        return f"a probe that verifies the certificate of {cell.dependency}"
    if kind.startswith("dns-"):
        return "a dns probe of this name with `expect: answers`"
    return f"a probe that needs {cell.dependency} to do its work, not only to accept a connection"


def show_end(end: str) -> str:
    """The end of the way to people, in a sentence: `the receiver`."""
    return f"the {end}" if end == "receiver" else end


def catcher_name(labels: Mapping[str, str]) -> str:
    """An alert for people: `ProbeDown of front`, or its name alone where it says of nobody."""
    name, whom = labels.get("alertname", "alert"), labels.get("objective") or labels.get("probe")
    return f"{name} of {whom}" if whom else name


def _key(labels: Mapping[str, str]) -> Key:
    return tuple(sorted(labels.items()))
