"""The central type of chaos: a fault is an async context manager. Entering injects, leaving reverts and proves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from stormwatch.chaos.catalog import read_options, write_options
from stormwatch.chaos.option import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a fault really touched: the proof that it reached traffic."""

    connections: int = 0
    requests: int = 0
    """HTTP requests, or questions to a name server, where the fault looks at those."""
    bytes: int = 0
    """Bytes held, delayed or swallowed."""
    first: float | None = None
    """Unix time of the first touch."""
    last: float | None = None

    @property
    def touched(self) -> bool:
        """Whether any traffic met the fault."""
        return self.first is not None

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "connections": self.connections,
            "requests": self.requests,
            "bytes": self.bytes,
            "first": self.first,
            "last": self.last,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Evidence":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        return cls(**{key: document[key] for key in ("connections", "requests", "bytes", "first", "last")})


class Fault(Protocol):
    """Something bad that is done to a dependency, for as long as the block lasts.

    Entering raises FaultNotInjected when nothing was (or is any more) in place. Leaving takes the fault back, whatever
    happens, also when it is cancelled meanwhile, and proves that it is gone; it raises FaultNotReverted when it cannot.
    """

    @property
    def spec(self) -> "FaultSpec":
        """What is done to what."""
        ...

    async def __aenter__(self) -> Self:
        """Inject."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Revert, and prove that nothing is left."""
        ...

    async def evidence(self) -> Evidence:
        """What it touched until now, or until it was taken back. Raises FaultLost when it ended by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """Which fault on which target, with which options: a value that can be written down and read again."""

    kind: str
    target: str
    options: Options

    def as_json(self) -> dict[str, Any]:
        """As users write it: kind, target, and the options beside them."""
        return {"kind": self.kind, "target": self.target, **write_options(self.kind, self.options)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "FaultSpec":
        """Read what `as_json` wrote or a user did. Raises KeyError or ValueError for anything else."""
        options = {key: value for key, value in document.items() if key not in ("kind", "target")}
        kind = str(document["kind"])
        return cls(kind=kind, target=str(document["target"]), options=read_options(kind, options))


class FaultNotInjected(Exception):
    """The fault could not be injected, and it is certain that none is in place. One sentence: asked, seen, remedy."""


class FaultLost(Exception):
    """The fault ended before it was taken back: its lease ran out, or what held it was restarted."""

    def __init__(self, message: str, evidence: Evidence | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence
        """What it had touched, if that is known."""


class FaultNotReverted(Exception):
    """It could not be proved that the fault is gone: one may still be in place. One sentence: asked, seen, remedy."""
