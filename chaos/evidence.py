"""What a fault really touched: without it, silence of the monitoring proves nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    what: str = ""
    """One sentence of a fault that is not about connections: `process 4711 ended`."""

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
            **({"what": self.what} if self.what else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Evidence":
        """Read what `as_json` wrote. Raises KeyError for anything else."""
        counted = {key: document[key] for key in ("connections", "requests", "bytes", "first", "last")}
        return cls(**counted, what=document.get("what", ""))
