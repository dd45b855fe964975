"""A game day: drills in an order, people with roles, and what they must notice themselves, with how long it took them.

All that happens is a line of a journal; where the day stands, and what was found, is read from those lines alone. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.verdict import Answer, Verdict, show_seconds
from stormwatch.probes.units import show_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Something that people must come to, and say."""

    name: str
    """`acknowledge`, `diagnose`."""
    who: str = ""
    """The role that says it; empty: anybody."""
    within: float | None = None
    """Seconds after the injection; None: it is measured, and not judged."""
    ask: str = ""
    """The question on the page, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One drill of the day."""

    drill: str
    briefing: str = ""
    pause: float = 0.0
    """Seconds before it begins."""
    hold: float = 0.0
    """Seconds that the failure stays in place at most, until every checkpoint is reached."""
    checkpoints: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GameDay:
    """What is planned."""

    title: str
    briefing: str = ""
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Who has each role."""
    acts: tuple[Act, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "title": self.title,
            "briefing": self.briefing,
            "roles": dict(self.roles),
            "acts": [
                {
                    "drill": act.drill,
                    "briefing": act.briefing,
                    "pause": act.pause,
                    "hold": act.hold,
                    "checkpoints": [
                        {"name": one.name, "who": one.who, "within": one.within, "ask": one.ask}
                        for one in act.checkpoints
                    ],
                }
                for act in self.acts
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "GameDay":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        return cls(
            title=document["title"],
            briefing=document["briefing"],
            roles=document["roles"],
            acts=tuple(
                Act(
                    drill=act["drill"],
                    briefing=act["briefing"],
                    pause=act["pause"],
                    hold=act["hold"],
                    checkpoints=tuple(Checkpoint(**one) for one in act["checkpoints"]),
                )
                for act in document["acts"]
            ),
        )


_GIVES_AWAY: Final = frozenset({"baseline", "injecting", "injected", "reverting"})
"""The steps of a drill whose text names what is broken."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Somebody came to a checkpoint."""

    at: float
    by: str
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Played:
    """How far an act is. Unix times; None: it did not come to that."""

    act: Act
    begins: float | None = None
    """When its pause is over."""
    injected: float | None = None
    fired: float | None = None
    mended: float | None = None
    """When the failure was taken back."""
    report: Report | None = None
    reached: dict[str, Reached] = field(default_factory=dict[str, Reached])
    steps: list[Progress] = field(default_factory=list[Progress])
    trouble: str = ""
    """Why there is no report, when it was ended without one."""

    @property
    def told(self) -> list[Progress]:
        """The steps that may be shown: while people look for it, none that says what is broken."""
        return [one for one in self.steps if self.mended is not None or one.step not in _GIVES_AWAY]

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.report is not None or bool(self.trouble)

    def took(self, checkpoint: Checkpoint) -> float | None:
        """Seconds from the injection until people came to a checkpoint."""
        reached = self.reached.get(checkpoint.name)
        return None if reached is None or self.injected is None else max(0.0, reached.at - self.injected)

    def heard(self, checkpoint: Checkpoint) -> float | None:
        """Seconds from the alert until then: the part of it that is people's. None: no alert had fired."""
        reached = self.reached.get(checkpoint.name)
        return None if reached is None or self.fired is None else reached.at - self.fired

    def kept(self, checkpoint: Checkpoint) -> Answer:
        """Whether a checkpoint was reached in time; not known where no failure was in place."""
        took = self.took(checkpoint)
        if took is None:
            return Answer.INCONCLUSIVE if self.injected is None else Answer.NO
        return Answer.YES if checkpoint.within is None or took <= checkpoint.within else Answer.NO


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody wants to be remembered."""

    at: float
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the day has shown, and what to do about it."""

    text: str
    follow_up: str


@dataclass(slots=True, kw_only=True)
class Course:
    """Where a game day stands."""

    day: GameDay
    began: float
    played: list[Played]
    notes: list[Note] = field(default_factory=list[Note])
    ended: float | None = None

    @property
    def present(self) -> Played | None:
        """The act that is on now, or that comes next. None: the day is over."""
        return None if self.ended is not None else next((one for one in self.played if not one.over), None)

    def findings(self) -> list[Finding]:
        """In the order of the day."""
        return [
            *(finding for one in self.played for finding in _of_act(self.day, one)),
            *(Finding(f"{note.by}: {note.text}", "talk about it") for note in self.notes),
        ]

    def exit_code(self) -> int:
        """0: all proved and every checkpoint in time. 4 beats 1, which beats 3."""
        codes = [one.report.verdict.exit_code if one.report else 3 for one in self.played]
        codes += [
            {Answer.YES: 0, Answer.NO: 1, Answer.INCONCLUSIVE: 3}[one.kept(each)]
            for one in self.played
            for each in one.act.checkpoints
        ]
        return max(codes, key=(0, 3, 1, 4).index, default=0)


FOLLOW_UP: Final[Mapping[Verdict, str]] = {
    Verdict.MISSED: "add a probe or a rule that notices it, and run this drill again",
    Verdict.LATE: "make the slowest link of the chain faster, or agree on more time",
    Verdict.MISATTRIBUTED: "let the right probe or alert say it: whoever is called is led elsewhere",
    Verdict.NOISY: "let dependants be muted while what they depend on is down (`depends_on`)",
    Verdict.NOT_RESOLVED: "find out why it stayed broken, or said so, after it was mended",
    Verdict.INCONCLUSIVE: "mend what kept the drill from saying anything, and run it again",
    Verdict.UNSAFE: "run `stormwatch undo` now, and find out why the failure could not be taken back",
    Verdict.PROVED: "",
}


def _of_act(day: GameDay, played: Played) -> Iterable[Finding]:
    name = played.act.drill
    if played.report is None:
        yield Finding(
            f"{name}: was not run to its end{f': {played.trouble}' if played.trouble else ''}", "run it again"
        )
        return
    verdict = played.report.verdict
    for clause in played.report.judgement.clauses:
        if clause.answer is not Answer.YES:
            yield Finding(f"{name}: {clause.asked}: {clause.seen}", FOLLOW_UP[verdict])
    for one in played.act.checkpoints:
        if played.kept(one) is not Answer.NO:
            continue
        who = f"{one.who} ({day.roles[one.who]}) never" if one.who in day.roles else "nobody"
        took = played.took(one)
        wanted = f", asked within {show_duration(one.within)}" if one.within is not None else ""
        if took is None:
            yield Finding(
                f"{name}: {who} came to `{one.name}`{wanted}",
                "find out what people did not see, or could not reach",
            )
        else:
            yield Finding(
                f"{name}: `{one.name}` took {show_seconds(took)}{wanted}",
                "find out what people waited for: access, a runbook, each other",
            )


def course(entries: Iterable[Mapping[str, Any]]) -> Course | None:
    """Where a game day stands, by its journal; None before it began. Raises ValueError for lines that are none of one."""
    found: Course | None = None
    for entry in entries:
        try:
            found = _after(found, entry["event"], entry["at"], entry["data"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"line {entry.get('number')} is none of a game day: {error}") from error
    return found


def _after(found: Course | None, event: str, at: float, data: Mapping[str, Any]) -> Course:
    if event == "began":
        day = GameDay.from_json(data["gameday"])
        return Course(day=day, began=at, played=[Played(act=act) for act in day.acts])
    if found is None:
        raise ValueError("nothing began before it")
    if event == "note":
        found.notes.append(Note(at, data["by"], data["text"]))
    elif event == "ended":
        found.ended = at
    else:
        _play(found.played[data["act"]], event, at, data)
    return found


def _play(played: Played, event: str, at: float, data: Mapping[str, Any]) -> None:
    if event == "act":
        # Of an act that was cut short by a crash and begins anew only what people said is kept.
        played.begins, played.injected, played.fired, played.mended = data["begins"], None, None, None
        played.steps.append(Progress(at, event, "it begins"))
    elif event == "step":
        played.steps.append(Progress(data["at"], data["step"], data["text"]))
        moment = {"injected": "injected", "firing": "fired", "reverted": "mended"}.get(data["step"])
        if moment:
            setattr(played, moment, data["at"])
    elif event == "checkpoint":
        played.reached.setdefault(data["checkpoint"], Reached(at, data["by"], data["note"]))
        said = ": ".join(part for part in (data["by"], data["checkpoint"], data["note"]) if part)
        played.steps.append(Progress(at, event, said))
    elif event == "report":
        played.report = Report.from_json(data["report"])
        played.injected = played.report.detection.injected
        played.fired = played.report.detection.firing
    elif event == "trouble":
        played.trouble = data["text"]
    else:
        raise ValueError(f"there is no event {event!r}")
