"""Sloth's specifications from files: `prometheus/v1`, `PrometheusServiceLevel` and `AlertWindows`, each read strictly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from stormwatch.harness.document import Document, Place, read_documents
from stormwatch.harness.form import form_of, show
from stormwatch.harness.mistake import ConfigError, Mistake
from stormwatch.harness.openslo_files import without_nothing
from stormwatch.slo.sloth import (
    FILE_VERSION,
    RESOURCE_VERSION,
    AlertWindows,
    Breach,
    Resource,
    ResourceSpec,
    Spec,
    breaches,
    breaches_of_windows,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Standing:
    """A specification and where it stands."""

    document: Document
    place: Place
    spec: Spec | ResourceSpec


@dataclass(frozen=True, slots=True)
class Sloth:
    """All that the files hold."""

    specs: Sequence[Standing]
    windows: Sequence[AlertWindows]


@dataclass(slots=True)
class _Draft:
    specs: list[Standing] = field(default_factory=list[Standing])
    windows: list[AlertWindows] = field(default_factory=list[AlertWindows])
    mistakes: list[Mistake] = field(default_factory=list[Mistake])


def read_sloth(paths: Sequence[Path]) -> Sloth:
    """Read files of sloth. Raises ConfigError with every mistake in them."""
    draft = _Draft()
    for path in paths:
        try:
            documents, mistakes = read_documents(path)
        except ConfigError as error:
            draft.mistakes += error.mistakes
            continue
        draft.mistakes += mistakes
        for document in documents:
            _read(document, draft)
    if draft.mistakes:
        raise ConfigError(draft.mistakes)
    return Sloth(draft.specs, draft.windows)


def _read(document: Document, draft: _Draft) -> None:
    data = document.data
    if not isinstance(data, dict):
        draft.mistakes.append(
            document.mistake((), f"wanted a mapping that begins with version or apiVersion, not {show(data)}")
        )
        return
    members = cast("dict[str, Any]", data)
    head = (members.get("apiVersion"), members.get("kind"))
    if head == (RESOURCE_VERSION, "PrometheusServiceLevel"):
        resource = _formed(document, Resource, _body(members), ("apiVersion", "kind"), draft)
        if resource and not _told(document, ("spec",), breaches(resource.spec), draft):
            draft.specs.append(Standing(document, ("spec",), resource.spec))
    elif head == (RESOURCE_VERSION, "AlertWindows"):
        windows = _formed(document, AlertWindows, _body(members), ("apiVersion", "kind"), draft)
        if windows and not _told(document, (), breaches_of_windows(windows), draft):
            draft.windows.append(windows)
    elif "version" in members:
        if members["version"] != FILE_VERSION:
            wanted = f"wanted {FILE_VERSION}, not {show(members['version'])}; no other version is read"
            draft.mistakes.append(document.mistake(("version",), wanted))
            return
        spec = _formed(document, Spec, _with_texts(document, members, ()), (), draft)
        if spec and not _told(document, (), breaches(spec), draft):
            draft.specs.append(Standing(document, (), spec))
    else:
        draft.mistakes.append(document.mistake(("apiVersion",), _unknown(members)))


def _with_texts(document: Document, data: Any, place: Place, *, texts: bool = False) -> Any:
    """Labels and annotations as texts: sloth takes `tier: 2` for "2", as it stands in the file. Kubernetes does not."""
    if isinstance(data, dict):
        return {
            key: _with_texts(document, value, (*place, key), texts=texts or key in ("labels", "annotations"))
            for key, value in cast("dict[str, Any]", data).items()
        }
    if isinstance(data, list):
        items = enumerate(cast("list[Any]", data))
        return [_with_texts(document, item, (*place, index), texts=texts) for index, item in items]
    return document.written(place) if texts and isinstance(data, bool | int | float) else data


def _unknown(members: dict[str, Any]) -> str:
    if str(members.get("apiVersion", "")).startswith("openslo"):
        return "is OpenSLO; read it with `stormwatch import openslo`"
    if "apiVersion" in members:
        return (
            f"wanted {RESOURCE_VERSION} with kind PrometheusServiceLevel or AlertWindows, "
            f"not {show(members['apiVersion'])} with {show(members.get('kind'))}"
        )
    return f"is no file of sloth; it begins with `version: {FILE_VERSION}` or `apiVersion: {RESOURCE_VERSION}`"


def _body(members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key not in ("apiVersion", "kind")}


def _formed(document: Document, model: type[T], data: Any, also: tuple[str, ...], draft: _Draft) -> T | None:
    reading = form_of(model).read(without_nothing(data), also=also, written=document.written)
    draft.mistakes += [document.mistake(place, sentence) for place, sentence in reading.faults]
    return reading.value


def _told(document: Document, place: Place, found: Iterable[Breach], draft: _Draft) -> bool:
    """Whether any rule is broken; each is complained about."""
    mistakes = [document.mistake((*place, *where), sentence) for where, sentence in found]
    draft.mistakes += mistakes
    return bool(mistakes)
