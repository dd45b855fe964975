"""Kinds of probes that other packages bring: entry points of the group `stormwatch.probes`.

A package that is broken must neither stop those who do not use it, nor be passed over silently by those who do.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from stormwatch.harness.entry import ProbeEntry
from stormwatch.harness.form import form_of
from stormwatch.probes.probe import Kind
from stormwatch.probes.result import BROKEN_REASONS, Reason

GROUP: Final = "stormwatch.probes"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,49}")
_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TAKEN = frozenset(each.name for each in fields(ProbeEntry))
"""What else stands beside `kind:` in a probe, so that no block of options can have that name."""


@dataclass(frozen=True, slots=True)
class InstalledKinds:
    """What the installed packages bring."""

    kinds: Mapping[str, Kind[Any]] = field(default_factory=dict[str, Kind[Any]])
    unusable: Mapping[str, str] = field(default_factory=dict[str, str])
    """By the name of the kind: a sentence that says why there is none, for whoever uses it, and a warning otherwise."""
    refused: tuple[str, ...] = ()
    """Sentences about kinds that want the name of one of ours."""


def installed_kinds(own: Collection[str], entries: Iterable[EntryPoint] | None = None) -> InstalledKinds:
    """Load every kind that an installed package brings; `own` are the names that are taken. Never raises for what a package does."""
    kinds: dict[str, Kind[Any]] = {}
    unusable: dict[str, str] = {}
    refused: list[str] = []
    bringers: dict[str, str] = {}
    for entry in entry_points(group=GROUP) if entries is None else entries:
        package = entry.dist.name if entry.dist else entry.module
        if entry.name in own:
            refused.append(
                f"the package {package} may not replace our kind {entry.name}; uninstall it, or rename its kind"
            )
        elif entry.name in bringers:
            kinds.pop(entry.name, None)
            unusable[entry.name] = (
                f"kind {entry.name} comes from two packages, {bringers[entry.name]} and {package}; uninstall one of them"
            )
        else:
            bringers[entry.name] = package
            try:
                kinds[entry.name] = _load(entry)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a foreign module may raise anything
                said = str(error) if isinstance(error, _Mistake) else f"{type(error).__name__}: {error}"
                unusable[entry.name] = (
                    f"kind {entry.name} of the package {package} cannot be used: {said}; repair or uninstall the package"
                )
    return InstalledKinds(kinds, unusable, tuple(refused))


class _Mistake(Exception):
    """What is wrong with a kind, in a sentence."""


def _load(entry: EntryPoint) -> Kind[Any]:
    loaded: object = entry.load()
    if not isinstance(loaded, Kind):
        raise _Mistake(f"{entry.value} is a {type(loaded).__name__}, and must be a Kind")
    kind: Kind[Any] = loaded
    if kind.name != entry.name:
        raise _Mistake(f"{entry.value} calls itself {kind.name!r}, and its entry point {entry.name!r}")
    if not _NAME.fullmatch(kind.name) or kind.name in _TAKEN:
        raise _Mistake(
            f"{kind.name!r} cannot be the name of a kind: it is a-z, 0-9, '_' and '-', and no key of a probe"
        )
    if not is_dataclass(kind.options):
        raise _Mistake(f"its options, {kind.options!r}, are no dataclass")
    for metric in (*kind.metrics, *([kind.phase_metric] if kind.phase_metric else ())):
        if not _METRIC.fullmatch(metric.name):
            raise _Mistake(f"{metric.name!r} is not the name of a metric")
    if kind.phases and kind.phase_metric is None:
        raise _Mistake("it has phases, and no phase_metric to export them under")
    allowed = frozenset(Reason) - {Reason.NONE}
    if not kind.reasons - BROKEN_REASONS or not kind.reasons <= allowed:
        raise _Mistake("its reasons must be those of Reason for which it can be down, and at least one")
    form_of(kind.options)  # raises what pydantic says of options that it cannot read
    return kind
