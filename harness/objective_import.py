"""What other tools promise, as a configuration of ours: objectives, and the probes that they need, with comments.

    their files ──▶ Promise or Refusal ──▶ Imported ──▶ YAML with comments, or a summary as JSON

Where a configuration is there already, objectives are about its probes; what it lacks is written as a probe to be completed.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from stormwatch.harness.document import Document, Place
from stormwatch.harness.entry import RESERVED
from stormwatch.harness.mistake import Mistake
from stormwatch.probes.probe import Probe
from stormwatch.probes.units import parse_ratio, show_ratio
from stormwatch.slo.document import yaml_text
from stormwatch.slo.openslo_annotation import exact_duration
from stormwatch.slo.policy import POLICIES, Burn
from stormwatch.slo.promise import Promise, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a file says about one objective, and where."""

    document: Document
    place: Place
    said: Promise | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the configuration has already that is added to."""

    probes: Sequence[Probe] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """What `match` can select a probe by, by its name."""
    objectives: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item of the configuration, with what is to be said about it."""

    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**self.data, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What comes of an import."""

    tool: str
    probes: tuple[Entry, ...]
    """Probes that the objectives need and nobody has."""
    objectives: tuple[Entry, ...]
    refused: tuple[Mistake, ...]
    """What cannot be carried over, and why."""

    def text(self) -> str:
        """The configuration, with comments."""
        lines = [
            f"# Objectives of {self.tool}, as objectives of stormwatch. `stormwatch validate` says whether they can be used.",
            *(f"# Not carried over: {_line(str(mistake))}" for mistake in self.refused),
        ]
        for section, entries in (("probes", self.probes), ("objectives", self.objectives)):
            if entries:
                lines += [f"{section}:", *(line for entry in entries for line in _written(entry))]
        return "\n".join([*lines, ""])

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "tool": self.tool,
            "probes": [entry.as_json() for entry in self.probes],
            "objectives": [entry.as_json() for entry in self.objectives],
            "refused": [
                {"file": each.file, "line": each.line, "path": each.path, "reason": each.sentence}
                for each in self.refused
            ],
        }


def imported(tool: str, found: Iterable[Found], known: Known) -> Imported:
    """Objectives for what is promised, in the order of the files; reasons for what cannot be one."""
    drafts = _Probes(known)
    objectives: list[Entry] = []
    refused: list[Mistake] = []
    names = set(known.objectives)
    for each in found:
        said = each.said
        if isinstance(said, Promise):
            try:
                entry = _objective(said, drafts, names)
                objectives.append(entry)
                names.add(entry.data["name"])
            except _NotWritten as reason:
                said = Refusal(name=said.name, place=said.place, sentence=str(reason))
        if isinstance(said, Refusal):
            refused.append(each.document.mistake((*each.place, *said.place), f"{said.name}: {said.sentence}"))
    return Imported(
        tool=tool,
        probes=tuple(drafts.made.values()),
        objectives=tuple(objectives),
        refused=tuple(refused),
    )


class _NotWritten(Exception):
    """A promise cannot be written as an objective."""


def _objective(promise: Promise, probes: "_Probes", taken: Container[str]) -> Entry:
    notes = list(promise.notes)
    data: dict[str, Any] = {
        "name": _free_name(promise, taken, notes),
        **probes.judged(promise, notes),
        "target": _percent(promise.target),
        **dict(_counted(promise)),
    }
    if promise.policy:
        if promise.policy not in POLICIES:
            raise _NotWritten(f"no policy is called {promise.policy}; there are {', '.join(POLICIES)}")
        data["policy"] = promise.policy
    if promise.burns:
        data["burns"] = [_burn(burn, promise.window) for burn in promise.burns]
    if labels := _labels(promise.labels, notes):
        data["labels"] = labels
    if promise.runbook:
        data["runbook"] = promise.runbook
    return Entry(data=data, notes=tuple(notes))


def _free_name(promise: Promise, taken: Container[str], notes: list[str]) -> str:
    if promise.name not in taken:
        return promise.name
    name = promise.or_name
    if not name or name in taken:
        raise _NotWritten(f"another objective is called {promise.name} too; rename one of them")
    notes.append(f"another objective is called {promise.name} too, so this one and its sloth_slo are called {name}")
    return name


def _counted(promise: Promise) -> Iterator[tuple[str, str]]:
    """What is counted, and over which window."""
    indicator = promise.indicator
    if promise.calendar:
        yield from (("window", promise.calendar), ("timezone", promise.timezone))
    else:
        yield "window", exact_duration(promise.window)
    if indicator.slower_than is not None:
        yield "slower_than", exact_duration(float(indicator.slower_than))
    if indicator.step:
        yield "step", indicator.step
    if indicator.expires_within is not None:
        yield "certificate_expires_within", exact_duration(float(indicator.expires_within))
    if promise.slice_seconds is not None and promise.slice_target is not None:
        yield "method", "timeslices"
        yield "slice", exact_duration(promise.slice_seconds)
        yield "slice_target", _percent(promise.slice_target)


def _burn(burn: Burn, period: float) -> dict[str, Any]:
    """A burn rate as it is written: by its factor, or where that is no decimal by its share of the budget."""
    data: dict[str, Any] = {
        "severity": burn.severity.value,
        "long": exact_duration(burn.long),
        "short": exact_duration(burn.short),
    }
    if burn.share is None and burn.factor is not None and Fraction(repr(float(burn.factor))) == burn.factor:
        data["factor"] = int(burn.factor) if burn.factor.denominator == 1 else float(burn.factor)
    else:
        share = burn.share or (burn.factor or 0) * Fraction(burn.long) / Fraction(period)
        data["share"] = _percent(Fraction(share))
    if burn.lasting:
        data["for"] = exact_duration(burn.lasting)
    return data


def _percent(share: Fraction) -> str:
    """Exactly. Raises _NotWritten for what has no end as a decimal."""
    text = show_ratio(share)
    if parse_ratio(text) != share:
        text = f"{Decimal(repr(float(share * 100))):f}%"
    if parse_ratio(text) != share:
        raise _NotWritten(f"{share} is no share that can be written in percent")
    return text


def _labels(given: Mapping[str, str], notes: list[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in given.items():
        plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
        plain = f"_{plain}" if plain[:1].isdigit() else plain
        if plain in RESERVED or plain.startswith("__") or not value or plain in kept:
            notes.append(
                f"the label {name} is not carried over: stormwatch sets it itself, or it is empty or given twice"
            )
            continue
        if plain != name:
            notes.append(f"the label {name} is called {plain}, as Prometheus has it")
        kept[plain] = value
    return kept


class _Probes:
    """Finds the probes that promises are about, and drafts those that nobody has."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._names = {probe.name for probe in known.probes}
        self.made: dict[str, Entry] = {}

    def judged(self, promise: Promise, notes: list[str]) -> dict[str, Any]:
        """`probe:` or `match:` of an objective."""
        indicator = promise.indicator
        certificate = indicator.expires_within is not None
        if indicator.probes:
            return self._named(indicator.probes, certificate=certificate)
        match = indicator.match
        if "probe" in match:
            others = [label for label in match if label != "probe"]
            if others:
                notes.append(f"the name of the probe says which one, so {', '.join(others)} is not asked about")
            return {"probe": self._one(match["probe"], match.get("instance", ""), certificate=certificate)}
        if "instance" in match:
            instance = match["instance"]
            at = [probe.name for probe in self._known.probes if probe.target == instance]
            if len(at) > 1:
                raise _NotWritten(f'the probes {", ".join(at)} all look at {instance}; name one with probe="…"')
            return {"probe": at[0] if at else self._one(_name_of(instance), instance, certificate=certificate)}
        if not self._selected(match):
            labels = {label: value for label, value in match.items() if label not in RESERVED}
            if not labels:
                raise _NotWritten(f"no probe has {', '.join(f'{key}={value}' for key, value in match.items())}")
            self._draft(_name_of("-".join(match.values())), "", labels)
        return {"match": dict(match)}

    def _named(self, names: tuple[str, ...], *, certificate: bool) -> dict[str, Any]:
        if len(names) == 1:
            return {"probe": self._one(names[0], "", certificate=certificate)}
        if strangers := [name for name in names if name not in self._known.labels]:
            raise _NotWritten(
                f"it judges several probes together, of which {', '.join(strangers)} are not known; "
                "name the configuration that has them with -c"
            )
        first, *others = (self._known.labels[name] for name in names)
        shared = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
        if set(self._selected(shared)) != set(names):
            raise _NotWritten(f"the probes {', '.join(names)} have no label that only they share; give them one")
        # Labels that somebody gave say more than kind and location, which go first.
        for key in sorted(shared, key=lambda label: label not in RESERVED):
            fewer = {other: value for other, value in shared.items() if other != key}
            if fewer and set(self._selected(fewer)) == set(names):
                shared = fewer
        return {"match": shared}

    def _selected(self, match: Mapping[str, str]) -> list[str]:
        return [
            name
            for name, labels in self._known.labels.items()
            if all(labels.get(key) == value for key, value in match.items())
        ]

    def _one(self, name: str, target: str, *, certificate: bool) -> str:
        if name not in self._names:
            self._draft(name, target, {}, certificate=certificate)
        return name

    def _draft(self, name: str, target: str, labels: Mapping[str, str], *, certificate: bool = False) -> None:
        if name in self.made:
            return
        kind = next((kind for kind, pattern in _TARGETS.items() if pattern.fullmatch(target)), "")
        if kind == "tcp" and certificate:
            kind = "tls"
        data: dict[str, Any] = {"name": name, "kind": kind or "http", "target": target if kind else _EXAMPLE}
        if labels:
            data["labels"] = dict(labels)
        said = (
            "its kind is guessed from its target"
            if kind
            else "of which nothing else is known: write its kind and target"
        )
        self.made[name] = Entry(data=data, notes=(f"a probe that the objectives need; {said}",))
        self._names.add(name)


_EXAMPLE: Final = "https://example.org/"
_TARGETS: Final[Mapping[str, re.Pattern[str]]] = {
    "http": re.compile(r"https?://[^\s/]+(?:/\S*)?"),
    "tcp": re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}"),
    "icmp": re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"),
}
"""What the target of a kind looks like."""


def _name_of(text: str) -> str:
    plain = re.sub(r"^https?://", "", text)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:100].strip("-._") or "probe"


def _written(entry: Entry) -> list[str]:
    text = yaml_text([_escaped(entry.data)])
    return [
        *(f"  # {_line(note)}" for note in entry.notes),
        # Only these end a line: Unicode knows more that do, and texts may hold them.
        *(f"  {line}" for line in text.rstrip("\n").split("\n")),
    ]


def _line(text: str) -> str:
    """One line of a comment, whatever a foreign file had in it."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split()) + (
        "" if text.rstrip().endswith((".", "!", "?")) else "."
    )


def _escaped(value: Any) -> Any:
    """Texts as they stand in a configuration of ours, where `${` begins a reference."""
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
