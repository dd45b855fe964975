"""What became of the mutants, with the lines that they stand on: for people, for machines, for code hosts."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stormwatch.chaos.mutant import Mutant, Operator
from stormwatch.chaos.mutation import Examination, Fate, Redundant, State
from stormwatch.chaos.rejudged import Place
from stormwatch.harness.document import Document
from stormwatch.probes.units import parse_duration

VERSION = 1
"""Of the JSON form."""
SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
REDUNDANT = "redundant-expectation"

MEANING = {
    Operator.RULE_REMOVED: "An alert rule can be removed, and no drill notices",
    Operator.SEVERITY: "An alert can go to other people, and no drill notices",
    Operator.FOR_LONGER: "An alert can fire later, and no drill notices",
    Operator.FOR_ZERO: "An alert can fire at once, and no drill notices",
    Operator.KEEP_REMOVED: "An alert can resolve at once, and no drill notices",
    Operator.FACTOR: "The factor of a burn rate can change, and no drill notices",
    Operator.WINDOW: "The windows of a burn rate can change, and no drill notices",
    Operator.PAIR_REMOVED: "A pair of windows can be removed, and no drill notices",
    Operator.THRESHOLD: "A threshold can change, and no drill notices",
    Operator.TARGET: "The target of an objective can change, and no drill notices",
    Operator.OBJECTIVE_WINDOW: "The window of an objective can change, and no drill notices",
    Operator.SLOWER_THAN: "What counts as too slow can change, and no drill notices",
    Operator.PROBE_REMOVED: "An objective can lose a probe, and no drill notices",
    Operator.CONFIRM: "The number of confirming attempts can change, and no drill notices",
    Operator.EXPECTATION_REMOVED: "An expectation of a probe can be removed, and no drill notices",
    Operator.DEPENDENCY_REMOVED: "A dependency can be removed, and no drill notices",
    Operator.MAINTENANCE_REMOVED: "Planned work can be removed, and no drill notices",
    Operator.MATCHER_REMOVED: "Planned work can be about more probes, and no drill notices",
    Operator.ROUTE_REMOVED: "A channel can be told of nothing, and no drill notices",
    Operator.ROUTE_SEVERITY: "A channel can miss a severity, and no drill notices",
    Operator.ROUTE_MATCHER: "A channel can be told of other alerts, and no drill notices",
}
"""What it means that a mutant of each operator survives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place in the configuration's file."""

    line: int
    path: str


class Located:
    """An examination, and where in the file everything stands."""

    def __init__(self, examined: Examination, document: Document, *, base: Path, mask: Callable[[Any], Any]) -> None:
        """`base` is the directory that file names are shown relative to; `mask` takes secrets out of JSON values."""
        self.examined = examined
        self.mask = mask
        self._document = document
        self.file = document.file
        self.uri = _uri(Path(document.file), base)

    @property
    def killed(self) -> str:
        """The score in words."""
        score = self.examined.score
        if score is None:
            return "no mutant could be held against a recording"
        # Rounded down: a mutant that survived must not make a full score.
        tenths = score.numerator * 1000 // score.denominator
        counted = self.examined.count(State.KILLED)
        of = counted + len(self.examined.survivors)
        return f"{counted} of {of} mutants are killed, {tenths // 10}.{tenths % 10}%"

    def of(self, mutant: Mutant) -> Spot:
        """Where a mutant stands: the item of `burns` that it is about, or the innermost part that was written."""
        place = mutant.place
        if len(place) > 2 and place[2] == "burns":
            place = (*place[:3], *_burn(self._document.data, mutant), *place[3:])
        return self.at(place)

    def at(self, place: Place) -> Spot:
        """A place as far as it was written: what is a default stands where its entry does."""
        there: Place = ()
        value = self._document.data
        for part in place:
            value = _part(value, part)
            if value is None:
                break
            there = (*there, part)
        return Spot(line=self._document.line(there), path=self._document.show(there))

    def survivors(self) -> list[tuple[Spot, Fate]]:
        """The mutants that recordings are about and do not tell apart, in the order of the file."""
        found = [(self.of(fate.mutant), fate) for fate in self.examined.fates if fate.state is State.SURVIVED]
        return sorted(found, key=lambda each: each[0].line)

    def unreached(self) -> list[tuple[Spot, str, int]]:
        """What no recording is about: where it stands, what it is, how many mutants it has."""
        fates = [fate for fate in self.examined.fates if fate.state is State.UNREACHED]
        counts = Counter(_entry(fate.mutant) for fate in fates)
        names = {_entry(fate.mutant): fate.mutant.subject for fate in fates}
        return sorted(
            ((self.at(place), names[place], count) for place, count in counts.items()), key=lambda each: each[0].line
        )

    def redundant(self) -> list[tuple[Spot, Redundant]]:
        """What drills ask for without need."""
        return [(self.at(one.place), one) for one in self.examined.redundant]


def _entry(mutant: Mutant) -> Place:
    """Where the entry stands that it is about: a probe, an objective, a window, a channel."""
    return mutant.routed.place if mutant.routed else mutant.place[:2]


def as_text(located: Located) -> str:
    """For the terminal."""
    return "\n".join(located.mask(line) for line in _lines(located)) + "\n"


def as_json(located: Located) -> str:
    """For a machine: every mutant with what became of it."""
    examined = located.examined
    score = examined.score
    document = {
        "version": VERSION,
        "file": located.file,
        "score": {
            "share": None if score is None else float(score),
            **{state.value: examined.count(state) for state in State},
        },
        "recordings": {
            "used": list(examined.used),
            "unused": [{"name": name, "why": why} for name, why in examined.unused],
            "changed": [{"name": name, "then": then, "now": now} for name, then, now in examined.changed],
        },
        "mutants": [_fate(located, fate) for fate in examined.fates],
        "redundant": [
            {"drill": one.drill, "expectation": one.sentence, "line": spot.line, "path": spot.path}
            for spot, one in located.redundant()
        ],
    }
    return json.dumps(located.mask(document), indent=2, ensure_ascii=False) + "\n"


def as_sarif(located: Located) -> str:
    """SARIF 2.1.0: survivors are warnings on their lines, redundant expectations are notes."""
    rules = [
        *((operator.value, MEANING[operator]) for operator in Operator),
        (REDUNDANT, "A drill asks for something that tells no mutant apart"),
    ]
    numbers = {name: number for number, (name, _) in enumerate(rules)}
    results = [
        _sarif_result(
            located,
            spot,
            fate.mutant.operator.value,
            f"{spot.path}: {fate.mutant.sentence}, and no recorded drill notices. "
            f"{'No recording is about it. ' if fate.state is State.UNREACHED else ''}"
            f"What would: {fate.mutant.test}.",
            level="warning",
        )
        for fate in located.examined.survivors
        for spot in (located.of(fate.mutant),)
    ]
    results += [
        _sarif_result(located, spot, REDUNDANT, _without_need(spot, one), level="note")
        for spot, one in located.redundant()
    ]
    for result in results:
        result["ruleIndex"] = numbers[result["ruleId"]]
    document = {
        "$schema": SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "stormwatch mutate",
                        "version": version("stormwatch"),
                        "rules": [{"id": name, "shortDescription": {"text": f"{told}."}} for name, told in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(located.mask(document), indent=2, ensure_ascii=False) + "\n"


def as_markdown(located: Located) -> str:
    """For a comment on a pull request."""
    lines = [f"### Monitoring: {located.killed}", ""]
    survivors = located.survivors()
    if survivors:
        lines += ["| line | nobody would notice | what would |", "|---:|---|---|"]
        lines += [
            f"| {spot.line} | {_code(fate.mutant.sentence)} | {_code(fate.mutant.test)} |" for spot, fate in survivors
        ]
        lines.append("")
    lines += [
        f"- line {spot.line}: no recording is about {_code(name)} ({_counted(count)})"
        for spot, name, count in located.unreached()
    ]
    lines += [f"- line {spot.line}: {_code(_without_need(spot, one))}" for spot, one in located.redundant()]
    lines += [f"- {_code(line)}" for line in _about_recordings(located)]
    return "\n".join(located.mask(line) for line in lines) + "\n"


def _lines(located: Located) -> Iterator[str]:
    examined = located.examined
    for spot, fate in located.survivors():
        yield f"{located.file}:{spot.line}: {spot.path}: {fate.mutant.sentence}: no drill notices"
        yield f"    what would: {fate.mutant.test}"
    for spot, name, count in located.unreached():
        yield f"{located.file}:{spot.line}: {spot.path}: no recording is about {name} ({_counted(count)})"
    for spot, one in located.redundant():
        yield f"{located.file}:{spot.line}: {_without_need(spot, one)}"
    if examined.survivors or examined.redundant:
        yield ""
    yield f"{'mutants':<26}{'killed':>8}{'survived':>10}{'unreached':>11}{'equivalent':>12}"
    for operator in Operator:
        counts = Counter(fate.state for fate in examined.fates if fate.mutant.operator is operator)
        if counts:
            yield (
                f"{operator.value:<26}{counts[State.KILLED]:>8}{counts[State.SURVIVED]:>10}"
                f"{counts[State.UNREACHED]:>11}{counts[State.EQUIVALENT]:>12}"
            )
    yield ""
    yield from _about_recordings(located)
    yield f"{located.killed}, by {len(examined.used)} recording{'' if len(examined.used) == 1 else 's'}"


def _about_recordings(located: Located) -> Iterator[str]:
    for name, why in located.examined.unused:
        yield f"the recording of {name} proves nothing, and is left out: {why}"
    for name, then, now in located.examined.changed:
        yield f"the recording of {name} was {then} and is {now} with this configuration: record it anew"


def _without_need(spot: Spot, one: Redundant) -> str:
    return f"{spot.path}: without {one.sentence!r} the drill {one.drill} tells the same mutants apart"


def _fate(located: Located, fate: Fate) -> dict[str, Any]:
    mutant, spot = fate.mutant, located.of(fate.mutant)
    return {
        "operator": mutant.operator.value,
        "subject": mutant.subject,
        "change": mutant.sentence,
        "line": spot.line,
        "path": spot.path,
        "state": fate.state.value,
        "by": fate.by or None,
        "told": fate.told or None,
        "equivalent_because": mutant.equivalent or None,
        "what_would_kill_it": mutant.test,
    }


def _sarif_result(located: Located, spot: Spot, rule: str, text: str, *, level: str) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": located.uri},
                    "region": {"startLine": spot.line},
                },
                "logicalLocations": [{"fullyQualifiedName": spot.path}],
            }
        ],
    }


def _burn(data: Any, mutant: Mutant) -> Place:
    """The number of the pair in `burns` that a mutant is about, where somebody wrote them."""
    written = _part(_part(_part(data, "objectives"), mutant.place[1]), "burns")
    severities = {rule.severity.value for rule in mutant.before}
    for number, item in enumerate(written if isinstance(written, list) else ()):
        long = item.get("long")
        if item.get("severity", "page") in severities and (
            mutant.pair is None or (isinstance(long, str) and parse_duration(long) == mutant.pair.long)
        ):
            return (number,)
    return ()


def _part(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _uri(file: Path, base: Path) -> str:
    """A file for a code host: relative to where the command runs, if it is below."""
    path = Path(os.path.normpath(base / file))
    return quote(path.relative_to(base).as_posix()) if path.is_relative_to(base) else path.as_uri()


def _counted(count: int) -> str:
    return f"{count} mutant{'' if count == 1 else 's'}"


def _code(text: str) -> str:
    return f"<code>{escape(text).replace('|', '&#124;')}</code>"
