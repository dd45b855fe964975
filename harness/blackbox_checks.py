"""The checks that modules and targets were translated into: built once, kept while they are used, rebuilt when a file changes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from stormwatch.harness.blackbox_module import Module, Prober
from stormwatch.harness.blackbox_translation import Draft, Materials, Translation, translate
from stormwatch.harness.catalog import KINDS
from stormwatch.harness.form import form_of
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.probe import Check, Kind
from stormwatch.probes.result import Reason
from stormwatch.probes.watch import Watch

KEPT: Final = 4096
"""Checks that are kept at most. A Prometheus with more targets than this compiles again what it asks for rarely."""
_KINDS: Final[Mapping[str, Kind[Any]]] = {name: KINDS[name] for name in get_args(Prober)}
"""All that modules translate to, imported with this module: the first scrape of a kind must not hold up the others."""


@dataclass(frozen=True, slots=True, eq=False)
class Impossible:
    """The check of what cannot be probed at all. It says why in every run."""

    reason: Reason
    sentence: str

    async def __call__(self, watch: Watch) -> None:
        """Raise ProbeBroken: nothing was learnt about the target."""
        raise ProbeBroken(self.reason, self.sentence)


@dataclass(frozen=True, slots=True)
class Built:
    """A check that can be run, and what a result of it is called."""

    kind: Kind[Any]
    target: str
    check: Check
    secrets: frozenset[str]
    stamps: tuple[tuple[str, int, int], ...]
    """The files that went into it, as they were: path, time of the last change, size."""


class BlackboxChecks:
    """Keeps the checks of one set of modules."""

    def __init__(self, materials: Materials, kept: int = KEPT) -> None:
        self._materials = materials
        self._kept = kept
        self._built: OrderedDict[tuple[str, str, str], Built] = OrderedDict()

    def __len__(self) -> int:
        return len(self._built)

    def get(self, name: str, module: Module, target: str, hostname: str = "") -> Built:
        """The check of a module and a target; never raises for what either of them says."""
        key = (name, target, hostname)
        built = self._built.get(key)
        if built is None or built.stamps != tuple(_stamp(path) for path, _, _ in built.stamps):
            built = self._built[key] = build(module, target, hostname, self._materials)
            if len(self._built) > self._kept:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        return built


def build(module: Module, target: str, hostname: str, materials: Materials) -> Built:
    """Translate and build. What cannot be built becomes a check that says so."""
    try:
        translation = translate(module, target, hostname, Draft(materials))
    except (ValueError, OSError) as error:
        reason = Reason.CREDENTIALS if isinstance(error, OSError) else Reason.INTERNAL
        return Built(_KINDS[module.prober], target, Impossible(reason, _said(error)), frozenset(), ())
    kind = _KINDS[translation.kind]
    stamps = tuple(_stamp(path) for path in translation.files)
    return Built(kind, translation.target, _check(kind, translation), translation.secrets, stamps)


def _check(kind: Kind[Any], translation: Translation) -> Check:
    reading = form_of(kind.options).read(translation.options)
    if reading.value is None:
        place, sentence = reading.faults[0]
        where = ".".join(str(part) for part in place)
        return Impossible(Reason.INTERNAL, f"{where}: {sentence}" if where else sentence)
    try:
        return kind.build(translation.target, reading.value)
    except (ValueError, OSError) as error:
        return Impossible(Reason.INTERNAL, _said(error))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read: {error.strerror}"
    return str(error)


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return path, 0, 0
    return path, stat.st_mtime_ns, stat.st_size
