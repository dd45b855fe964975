"""`probes:` in the configuration: from what was written to frozen probes with their checks built."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from typing import Any

from stormwatch.harness.catalog import REFUSED, UNUSABLE
from stormwatch.harness.document import Place, file_beside
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import ConfirmEntry, DefaultsEntry, ProbeAlertEntry, ProbeEntry
from stormwatch.harness.form import form_of, show
from stormwatch.harness.remedy import did_you_mean
from stormwatch.probes.probe import Check, Confirm, Kind, Probe, Told, Variant
from stormwatch.probes.units import show_duration

log = logging.getLogger(__name__)

Kinds = Mapping[str, Kind[Any]]


@dataclass(frozen=True, slots=True)
class ProbeSection:
    """The probes that are right, and what other sections may know of the others."""

    probes: Mapping[str, Probe]
    alerts: Mapping[str, ProbeAlertEntry]
    """What each probe's own alert is, by the probe's name."""
    places: Mapping[str, Place]
    """Where each probe stands, by its name, also those with mistakes in them."""
    quorums: Mapping[str, int]
    """How many locations must see each probe down, by the probe's name."""
    labels: Mapping[str, Mapping[str, Any]]
    """What a match looks at, by the probe's name, also of those with mistakes in them."""

    def matching(self, match: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the probes that have all of these labels, in the order of the file."""
        return tuple(name for name, labels in self.labels.items() if match.items() <= labels.items())


def read_probes(
    draft: Draft, data: Any, *, defaults: DefaultsEntry | None, location: str, kinds: Kinds
) -> ProbeSection:
    """Read the section; every mistake in it is complained about."""
    probes: dict[str, Probe] = {}
    alerts: dict[str, ProbeAlertEntry] = {}
    quorums: dict[str, int] = {}
    named: dict[Place, str] = {}
    places: dict[str, Place] = {}
    labels: dict[str, Mapping[str, Any]] = {}
    shown: dict[str, Mapping[str, Any]] = {}
    refused: set[Place] = set()
    for place, item in _each(draft, data, kinds, named, refused):
        name = item.get("name")
        if isinstance(name, str):
            places.setdefault(name, place)
            labels.setdefault(name, _labels(item, location))
        entry, check, settings, options = _read_probe(draft, place, item, kinds, shown, refused=refused)
        if entry is None:
            continue
        if defaults is None:
            continue
        _check_time(draft, place, item, entry, defaults)
        if check is None or entry.name in probes:
            continue
        confirm = _confirm(entry.confirm or defaults.confirm)
        alerts[entry.name] = entry.alert
        quorums[entry.name] = entry.quorum or defaults.quorum
        probes[entry.name] = Probe(
            name=entry.name,
            kind=entry.kind,
            target=entry.target,
            check=check,
            every=entry.every or defaults.every,
            timeout=entry.timeout or defaults.timeout,
            location=location,
            confirm=confirm,
            depends_on=entry.depends_on,
            labels=entry.labels,
            runbook=entry.runbook,
            dashboard=entry.dashboard,
            options=options,
            settings=settings,
        )
    draft.unique(named, "probe")
    _check_variants(draft, named)
    _check_dependencies(draft, named, places)
    _warn_of_packages(data)
    return ProbeSection(probes, alerts, places, quorums, labels)


def _each(
    draft: Draft, data: Any, kinds: Kinds, named: dict[Place, str], refused: set[Place]
) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """The entries of the section, and the probes that one stands for. What each is called goes to `named`.

    `refused` gets the places of entries about whose target all is said.
    """
    for place, item in draft.items(data, ("probes",)):
        name = item.get("name")
        if isinstance(name, str):
            named[place] = name
        before = len(draft.mistakes)
        for each in _stood_for(draft, place, item, kinds, refused):
            yield place, each
            # What is wrong with one is mostly wrong with all, and stands in one place.
            if len(draft.mistakes) > before:
                break


def _stood_for(
    draft: Draft, place: Place, item: Mapping[str, Any], kinds: Kinds, refused: set[Place]
) -> Sequence[Mapping[str, Any]]:
    """The entry itself, or what it stands for: by its target, by its matrix, by both."""
    kind, name = kinds.get(str(item.get("kind"))), item.get("name")
    if kind is None or not isinstance(name, str):
        return (item,)
    told, several = _told(draft, place, item, kind, refused), _variants(draft, place, item, kind)
    labels = item.get("labels", {})
    many = [each for each in told if each.suffix]
    if not isinstance(labels, dict) or not (many or several):
        return [_with_rhythm(item, each) for each in told] or (item,)
    own = {**({"journeys": name} if many else {}), **({"matrix": name} if several else {})}
    for label in sorted({*own, *(several[0].labels if several else ())} & labels.keys()):
        setter = "target" if label == "journeys" else "matrix"
        draft.complain((*place, "labels", label), f"the {setter} sets the label {label} itself; choose another name")
    found: list[Mapping[str, Any]] = []
    for journey in told or (Told(),):
        for variant in several or (None,):
            full = ".".join(filter(None, (name, journey.suffix, variant.suffix if variant else "")))
            more = {**own, **(variant.labels if variant else {})}
            options = {kind.name: variant.options} if variant else {}
            found.append({**_with_rhythm(item, journey), "name": full, "labels": {**labels, **more}, **options})
    draft.stands_for[name] = tuple(each["name"] for each in found)
    draft.stands_by[name] = "target" if many else "matrix"
    return found


def _told(draft: Draft, place: Place, item: Mapping[str, Any], kind: Kind[Any], refused: set[Place]) -> Sequence[Told]:
    target = item.get("target")
    if kind.told is None or not isinstance(target, str) or not target:
        return ()
    file, separator, rest = target.partition("::")
    try:
        return kind.told(f"{file_beside(draft.directory, file)}{separator}{rest}")
    except (ValueError, OSError) as error:
        draft.complain((*place, "target"), str(error))
        refused.add(place)
        return ()


def _with_rhythm(item: Mapping[str, Any], told: Told) -> Mapping[str, Any]:
    """The entry with the target's own rhythm where it does not say one itself."""
    rhythm = {"every": told.every, "timeout": told.timeout}
    given = {key: show_duration(seconds) for key, seconds in rhythm.items() if seconds is not None and key not in item}
    behind = {"target": f"{str(item['target']).rstrip('/')}{told.behind}"} if told.behind else {}
    return {**item, **given, **behind}


def _variants(draft: Draft, place: Place, item: Mapping[str, Any], kind: Kind[Any]) -> Sequence[Variant]:
    block = item.get(kind.name)
    if kind.variants is None or not isinstance(block, dict):
        return ()
    try:
        return kind.variants(block)
    except ValueError as error:
        where, sentence = _blame(str(error), block, kind)
        draft.complain((*place, kind.name, *where), sentence)
        return ()


def _shared(options: Mapping[str, Any], shown: dict[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """One mapping for all probes whose options are the same: they are only shown, and most are the defaults."""
    return shown.setdefault(json.dumps(options, sort_keys=True, default=str), options)


def _read_probe(
    draft: Draft,
    place: Place,
    item: Mapping[str, Any],
    kinds: Kinds,
    shown: dict[str, Mapping[str, Any]],
    *,
    refused: set[Place],
) -> tuple[ProbeEntry | None, Check | None, object, Mapping[str, Any]]:
    kind = _kind(draft, place, item, kinds)
    if kind is not None and kind.module and find_spec(kind.module) is None:
        draft.complain(
            (*place, "kind"),
            f"kind {kind.name} needs the extra {kind.extra}; install it: pip install 'stormwatch[{kind.extra}]'",
        )
        kind = None
    blocks = [key for key in item if key in kinds or key in UNUSABLE]
    for key in blocks:
        if kind is not None and key != kind.name:
            draft.complain(
                (*place, key), f"options of kind {key} on a probe of kind {kind.name}; move them to `{kind.name}:`"
            )
    also = (kind.name,) if kind else tuple(kinds)
    entry = draft.read(ProbeEntry, {key: value for key, value in item.items() if key not in blocks}, place, also=also)
    if kind is None:
        return entry, None, None, {}
    block = (*place, kind.name)
    options = draft.read(kind.options, item.get(kind.name, {}), block, secret=True)
    if entry is None or options is None or place in refused:
        return entry, None, None, {}
    target = entry.target
    file, separator, rest = target.partition("::")
    if kind.target_is_file and separator:
        target = f"{file_beside(draft.directory, file)}{separator}{rest}"
    try:
        check = kind.build(target, options)
    except (ValueError, OSError) as error:
        where, sentence = _blame(str(error), item.get(kind.name), kind)
        draft.complain((*block, *where) if where else (*place, "target"), sentence)
        return entry, None, None, {}
    return entry, check, options, _shared(draft.secrets.mask(form_of(kind.options).write(options)), shown)


def _kind(draft: Draft, place: Place, item: Mapping[str, Any], kinds: Kinds) -> Kind[Any] | None:
    written = item.get("kind")
    if isinstance(written, str) and written in UNUSABLE:
        draft.complain((*place, "kind"), UNUSABLE[written])
    elif isinstance(written, str) and written not in kinds:
        draft.complain((*place, "kind"), f"there is no kind {show(written)}; {did_you_mean(written, kinds)}")
    return kinds.get(written) if isinstance(written, str) else None


def _warn_of_packages(data: Any) -> None:
    """Tell of installed kinds that nobody has: whoever uses a broken one has a mistake in the configuration instead."""
    used = [item.get("kind") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    for told in (*REFUSED, *(told for name, told in UNUSABLE.items() if name not in used)):
        log.warning("%s", told)


_BEGINNING = re.compile(r"(\w+)((?:\.\w+|\[\d+\])*)(:? *)")


def _blame(sentence: str, block: Any, kind: Kind[Any]) -> tuple[Place, str]:
    """The option that a kind's sentence begins with, if any, and the sentence without it where it was a prefix."""
    match = _BEGINNING.match(sentence)
    if match is None or match[1] not in form_of(kind.options).shape.keys or not isinstance(block, dict):
        return (), sentence
    place: list[str | int] = [match[1]]
    place += [int(part) if part.isdigit() else part for part in re.findall(r"\w+", match[2])]
    return tuple(place), sentence[match.end() :] if match[3].startswith(":") else sentence


def _labels(item: Mapping[str, Any], location: str) -> Mapping[str, Any]:
    labels = item.get("labels")
    own = {"probe": item["name"], "kind": item.get("kind"), "location": location}
    return {**labels, **own} if isinstance(labels, dict) else own


def _confirm(entry: ConfirmEntry) -> Confirm:
    return Confirm(attempts=entry.attempts, after=entry.after if entry.attempts > 1 else 0.0)


def _check_time(
    draft: Draft, place: Place, item: Mapping[str, Any], entry: ProbeEntry, defaults: DefaultsEntry
) -> None:
    """A run must be over before the next one is due, whatever the target does."""
    every, timeout = entry.every or defaults.every, entry.timeout or defaults.timeout
    confirm = _confirm(entry.confirm or defaults.confirm)
    longest = confirm.attempts * timeout + (confirm.attempts - 1) * confirm.after
    where = next((key for key in ("timeout", "confirm", "every") if key in item), "")
    at = (*place, where) if where else place
    if timeout >= every:
        draft.complain(
            at,
            f"timeout {show_duration(timeout)} is not less than every {show_duration(every)}; "
            "shorten timeout, or raise every",
        )
    elif longest > every:
        between = f" with {show_duration(confirm.after)} between" if confirm.after else ""
        draft.complain(
            at,
            f"{confirm.attempts} attempts of {show_duration(timeout)}{between} take up to {show_duration(longest)}, "
            f"more than every {show_duration(every)}; shorten timeout, confirm less, or raise every",
        )


def _first_places(named: Mapping[Place, str]) -> Mapping[str, Place]:
    first: dict[str, Place] = {}
    for place, name in named.items():
        first.setdefault(name, place)
    return first


def _check_variants(draft: Draft, named: Mapping[Place, str]) -> None:
    """No two probes have one name, whether it was written or made by a matrix."""
    written = _first_places(named)
    seen: dict[str, str] = {}
    for name, several in draft.stands_for.items():
        for each in several:
            other = each if each in written else seen.setdefault(each, name)
            if other != name:
                line = draft.document.line(written[other])
                draft.complain(
                    (*written[name], "name"),
                    f"its {draft.stands_by[name]} makes a probe {each}, as the entry on line {line} does; give one of them another name",
                )


def _check_dependencies(draft: Draft, named: Mapping[Place, str], places: Mapping[str, Place]) -> None:
    graph: dict[str, list[str]] = {}
    entry_of = {each: name for name, several in draft.stands_for.items() for each in several}
    where = _first_places(named)
    for place, name in named.items():
        index = place[-1]
        assert isinstance(index, int)
        needed = draft.document.data["probes"][index].get("depends_on", [])
        for number, other in enumerate(needed if isinstance(needed, list) else []):
            if isinstance(other, str) and draft.refer(other, places, (*place, "depends_on", number), "probe"):
                graph.setdefault(name, []).append(entry_of.get(other, other))
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = list(reversed(error.args[1][1:]))
            first = min(range(len(circle)), key=lambda number: where[circle[number]])
            circle = [*circle[first:], *circle[:first]]
            told = " → ".join([*circle, circle[0]])
            draft.complain(
                (*where[circle[0]], "depends_on"),
                f"{circle[0]} depends on itself; take it out"
                if len(circle) == 1
                else f"probes depend on each other in a circle: {told}; take one of them out",
            )
            graph[circle[-1]] = [other for other in graph[circle[-1]] if other != circle[0]]
        else:
            return
