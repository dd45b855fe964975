"""What a fault that is not on a proxy's route is put on: declared by name, so that nothing else can be hit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from stormwatch.chaos.option import Options


@dataclass(frozen=True, slots=True)
class TargetKind:
    """A kind of thing that faults can be put on."""

    name: str
    """The key in an entry of `targets:`."""
    options: type[Options]
    """What is said of one: a frozen dataclass that pydantic can validate."""
    summary: str
    """One line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that drills may break."""

    name: str
    kind: str
    """A key of `targets.TARGETS`."""
    options: Options

    def as_json(self) -> dict[str, Any]:
        """As users write it."""
        return {"name": self.name, self.kind: _adapter(type(self.options)).dump_python(self.options, mode="json")}

    @classmethod
    def from_json(cls, document: Mapping[str, Any], kinds: Mapping[str, TargetKind]) -> "Target":
        """Read what `as_json` wrote. Raises KeyError or ValueError for anything else."""
        kind = next(key for key in document if key != "name")
        return cls(
            name=document["name"],
            kind=kind,
            options=_adapter(kinds[kind].options).validate_python(document[kind]),
        )


@cache
def _adapter(options: type[Options]) -> TypeAdapter[Options]:
    return TypeAdapter(options)
