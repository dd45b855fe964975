"""OpenSLO v1 from files: every object read strictly, every mistake with its file and line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from stormwatch.harness.document import Document, Place, read_documents
from stormwatch.harness.form import form_of, show
from stormwatch.harness.mistake import ConfigError, Mistake
from stormwatch.harness.remedy import did_you_mean
from stormwatch.slo.openslo import KINDS, SLO, VERSION, Object
from stormwatch.slo.openslo_library import Library
from stormwatch.slo.openslo_rules import breaches


@dataclass(frozen=True, slots=True)
class Standing:
    """An SLO and where it stands."""

    document: Document
    place: Place
    slo: SLO


@dataclass(frozen=True, slots=True)
class OpenSLO:
    """All that the files hold."""

    library: Library
    slos: Sequence[Standing]


@dataclass(slots=True)
class _Draft:
    """What is read so far, and every mistake on the way."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict[tuple[str, str], Object])
    places: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    slos: list[Standing] = field(default_factory=list[Standing])
    mistakes: list[Mistake] = field(default_factory=list[Mistake])


def read_openslo(paths: Sequence[Path]) -> OpenSLO:
    """Read files of OpenSLO v1 that belong together. Raises ConfigError with every mistake in them."""
    draft = _Draft()
    for path in paths:
        try:
            documents, mistakes = read_documents(path)
        except ConfigError as error:
            draft.mistakes += error.mistakes
            continue
        draft.mistakes += mistakes
        for document in documents:
            for place, data in _objects(document, draft):
                _read(document, place, data, draft)
    if draft.mistakes:
        raise ConfigError(draft.mistakes)
    return OpenSLO(Library(draft.objects), draft.slos)


def _objects(document: Document, draft: _Draft) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The objects of a document, which is one of them or a list of them."""
    data = document.data
    items = enumerate(cast("list[Any]", data)) if isinstance(data, list) else [(None, data)]
    for index, item in items:
        place: Place = () if index is None else (index,)
        if isinstance(item, dict):
            yield place, cast("dict[str, Any]", item)
        else:
            draft.mistakes.append(
                document.mistake(place, f"wanted an object that begins with apiVersion and kind, not {show(item)}")
            )


def _read(document: Document, place: Place, data: dict[str, Any], draft: _Draft) -> None:
    head = _head(data)
    if head:
        draft.mistakes.append(document.mistake((*place, head[0]), head[1]))
        return
    kind = data["kind"]
    body = {key: value for key, value in data.items() if key not in ("apiVersion", "kind")}
    reading = form_of(KINDS[kind]).read(
        without_nothing(body),
        written=lambda where: document.written((*place, *where)),
    )
    found = list(reading.faults) or (list(breaches(reading.value)) if reading.value else [])
    draft.mistakes += [document.mistake((*place, *where), sentence) for where, sentence in found]
    if reading.value is None:
        return
    key = (kind, reading.value.metadata.name)
    here = f"{document.file}:{document.line((*place, 'metadata', 'name'))}"
    if key in draft.places:
        sentence = f"another {kind} is called {key[1]} too, {draft.places[key]}; give each its own name"
        draft.mistakes.append(document.mistake((*place, "metadata", "name"), sentence))
        return
    draft.places[key] = here
    draft.objects[key] = reading.value
    if isinstance(reading.value, SLO):
        draft.slos.append(Standing(document, place, reading.value))


def _head(data: dict[str, Any]) -> tuple[str, str] | None:
    """What is wrong with version and kind, and under which key; None when they are known."""
    version, kind = data.get("apiVersion"), data.get("kind")
    if version != VERSION:
        if "apiVersion" not in data:
            return "apiVersion", f"apiVersion is missing; add `apiVersion: {VERSION}`"
        older = isinstance(version, str) and "openslo" in version
        remedy = f"; only {VERSION} is read" if older else f"; write {VERSION}"
        return "apiVersion", f"wanted {VERSION}, not {show(version)}{remedy}"
    if not isinstance(kind, str) or kind not in KINDS:
        if "kind" not in data:
            return "kind", f"kind is missing; add `kind:` with one of {', '.join(KINDS)}"
        written = {each.lower(): each for each in KINDS}.get(str(kind).lower(), str(kind))
        near = f"did you mean {written}?" if written in KINDS else did_you_mean(written, KINDS)
        return "kind", f"no kind of OpenSLO v1 is called {show(kind)}; {near}"
    return None


_FREE = frozenset({"connectionDetails"})
"""Where nothing may be something: OpenSLO allows any YAML there."""


def without_nothing(data: Any, key: str = "") -> Any:
    """The data without keys that have no value: to Kubernetes and OpenSLO's SDK they are not there."""
    if isinstance(data, dict) and key not in _FREE:
        members = cast("dict[str, Any]", data)
        return {name: without_nothing(value, name) for name, value in members.items() if value is not None}
    if isinstance(data, list) and key not in _FREE:
        return [without_nothing(item) for item in cast("list[Any]", data)]
    return data
