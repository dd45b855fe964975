"""The objects of the OpenSLO files that are read together, found by kind and name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stormwatch.slo.openslo import Object


@dataclass(frozen=True, slots=True)
class Library:
    """Every object, by kind and name."""

    objects: Mapping[tuple[str, str], Object] = field(default_factory=dict[tuple[str, str], Object])


def missing(kind: str, name: str) -> str:
    """What to say about a reference that leads nowhere."""
    return f"no {kind} is called {name} in the files that are read; name the file too that has it"
