"""The file of a game day: read as strictly as a configuration, every mistake with its line and its remedy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from stormwatch.chaos.gameday import Act, Checkpoint, GameDay
from stormwatch.harness.config import Config
from stormwatch.harness.document import read_document
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import ENTRY, Name, Positive
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.secret import Secrets
from stormwatch.probes.units import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEntry:
    """Something that people must come to, and say."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    name: Name
    """What it is called: `acknowledge`, `diagnose`."""
    who: str = ""
    """The role that says it; anybody when not given."""
    within: Positive | None = None
    """Time after the injection; measured and not judged when not given."""
    ask: str = ""
    """The question that the page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActEntry:
    """One drill of the day."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    drill: Name
    """A drill of the configuration."""
    briefing: str = ""
    """What people are told before it."""
    pause: Seconds = 0.0
    """Time before it begins."""
    hold: Seconds = 0.0
    """Time that the failure stays in place at most, until every checkpoint is reached."""
    checkpoints: tuple[CheckpointEntry, ...] = ()
    """What people must come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameDayEntry:
    """A game day."""

    __pydantic_config__: ClassVar[ConfigDict] = ENTRY

    title: Annotated[str, Field(min_length=1)]
    """What the page and the report are called."""
    briefing: str = ""
    """What it is about, for people."""
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Who has each role."""
    drills: Annotated[tuple[ActEntry, ...], Field(min_length=1)]
    """The drills, in their order."""


def read_gameday(path: Path, config: Config) -> GameDay:
    """Read the file. Raises ConfigError with every mistake in it."""
    document, mistakes = read_document(path)
    draft = Draft(document, Secrets({}, path.absolute().parent), path.absolute().parent, mistakes)
    entry = draft.read(GameDayEntry, document.data, ())
    if entry is None or draft.mistakes:
        raise ConfigError(draft.mistakes)
    known = [drill.name for drill in config.drills]
    for index, act in enumerate(entry.drills):
        draft.refer(act.drill, known, ("drills", index, "drill"), "drill")
        named: set[str] = set()
        for number, one in enumerate(act.checkpoints):
            place = ("drills", index, "checkpoints", number)
            if one.who:
                draft.refer(one.who, entry.roles, (*place, "who"), "role")
            if one.name in named:
                draft.complain(
                    (*place, "name"), f"another checkpoint of this drill is called {one.name}; give each its own name"
                )
            named.add(one.name)
            if one.within is not None and one.within > act.hold:
                draft.complain(
                    (*place, "within"),
                    "is longer than `hold`, so that the failure may be gone before people have had their time; make `hold` as long",
                )
    if draft.mistakes:
        raise ConfigError(draft.mistakes)
    return GameDay(
        title=entry.title,
        briefing=entry.briefing,
        roles=dict(entry.roles),
        acts=tuple(
            Act(
                drill=act.drill,
                briefing=act.briefing,
                pause=act.pause,
                hold=act.hold,
                checkpoints=tuple(
                    Checkpoint(name=one.name, who=one.who, within=one.within, ask=one.ask) for one in act.checkpoints
                ),
            )
            for act in entry.drills
        ),
    )
