"""Drills out of the audit journal alone: what was asked, what was seen, and the verdict, judged anew. Pure.

first line of a run ▸ the drill ▸ every line adds what was new ▸ verdict: as the report was
                                                      └▸ no verdict: it was killed, and the journal says how far it came
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.detection import Observation, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.record import grown
from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.verdict import judge

UNDONE = "undone"
"""The event of a fault that was taken back by somebody else than its drill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One run of a drill."""

    run: str
    """The hash of its first line."""
    actor: str
    """Who ran it."""
    ended: bool
    """Whether the drill itself came to its end."""
    report: Report


@dataclass(slots=True)
class _Run:
    actor: str
    drill: Drill
    record: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: list[Progress] = field(default_factory=list[Progress])
    in_place: bool = False
    last: float = 0.0
    """When the last line was written: until then it was watched."""
    event: str = ""
    undone: dict[str, str] = field(default_factory=dict[str, str])
    """Faults that somebody else took back, with what was said of each."""

    def take(self, event: str, at: float, data: Mapping[str, Any]) -> None:
        self.record = grown(self.record, data["record"])
        self.in_place, self.event, self.last = data["in_place"], event, at
        if "text" in data:
            self.steps.append(Progress(at=data["at"], step=event, text=data["text"]))

    def report(self) -> Report:
        observed = Observation.from_json(self._record_to_its_end())
        detection = detect(self.drill, observed)
        judgement = judge(self.drill, detection)
        return Report(drill=self.drill, detection=detection, judgement=judgement, steps=tuple(self.steps))

    def _record_to_its_end(self) -> Mapping[str, Any]:
        if self.event == "verdict":
            return self.record
        why = (
            "the drill was interrupted"
            if self.event == "interrupted"
            else "its journal ends before the drill does: it was killed, or runs still"
        )
        there = [] if not self.in_place else [what for what in map(str, self.drill.faults) if what not in self.undone]
        if self.in_place:
            why += "".join(f"; {said}" for said in self.undone.values())
        if there:
            faults = " and ".join(_the(what, self.drill) for what in there)
            why += f", and nothing says that {faults} {'was' if len(there) == 1 else 'were'} taken back"
        return {**self.record, "ended": max(self.last, self.record["ended"]), "gone": not there, "trouble": why}


def replay(entries: Iterable[Mapping[str, Any]]) -> tuple[Replayed, ...]:
    """Every run of a drill in a journal, in the order in which they began. Lines of others are passed over.

    Raises ValueError for a line of a drill that cannot be read, with its number.
    """
    runs: dict[str, _Run] = {}
    for entry in entries:
        try:
            _take(runs, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"line {entry.get('number')} cannot be replayed ({type(error).__name__}: {error}): "
                "it was written by another version, or by hand"
            ) from error
    return tuple(
        Replayed(run=identity, actor=run.actor, ended=run.event == "verdict", report=run.report())
        for identity, run in runs.items()
    )


def _take(runs: dict[str, _Run], entry: Mapping[str, Any]) -> None:
    data, event = entry["data"], entry["event"]
    if event == UNDONE:
        if data["gone"]:
            for run in runs.values():
                if run.in_place and run.event != "verdict" and data["what"] in map(str, run.drill.faults):
                    the = _the(data["what"], run.drill)
                    run.undone.setdefault(data["what"], f"{the} was taken back later: {data['state']}")
        return
    if "record" not in data:
        return
    identity = data["run"] or entry["hash"]
    if not data["run"]:
        runs[identity] = _Run(actor=entry["actor"], drill=Drill.from_json(data["spec"]))
    runs[identity].take(event, entry["at"], data)


def _the(what: str, drill: Drill) -> str:
    """By its name where there are several."""
    return what if drill.beside else "the fault"
