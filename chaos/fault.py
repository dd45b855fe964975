"""The central type of chaos: a fault is an async context manager. Entering injects, leaving reverts and proves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

from stormwatch.chaos.catalog import read_options, write_options
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.option import Options


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

    def __str__(self) -> str:
        return f"{self.kind} on {self.target}"

    def as_json(self) -> dict[str, Any]:
        """As users write it: kind, target, and the options beside them."""
        return {"kind": self.kind, "target": self.target, **write_options(self.kind, self.options)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "FaultSpec":
        """Read what `as_json` wrote or a user did. Raises KeyError or ValueError for anything else."""
        options = {key: value for key, value in document.items() if key not in ("kind", "target")}
        kind = str(document["kind"])
        return cls(kind=kind, target=str(document["target"]), options=read_options(kind, options))


class Step(StrEnum):
    """Where an injection is, told to `on_step` when it gets there."""

    BEGUN = "begun"
    RECORDED = "recorded"
    """The undo record is on disk; nothing is injected."""
    INJECTED = "injected"
    HELD = "held"
    """It is seen to be in place; the lease is being renewed."""
    REVERTING = "reverting"
    REVERTED = "reverted"
    """Absence is proved; the record is still on disk."""
    FORGOTTEN = "forgotten"


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
