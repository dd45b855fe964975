"""What a journey's pages asked of whom, and what came back: requests by type, failures, the slowest, third parties.

Addresses are kept without query and fragment: those are where sessions and tokens stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

TYPES: Final = ("document", "stylesheet", "script", "image", "font", "media", "xhr", "fetch", "websocket", "other")
"""What a request can be for, by Playwright's words; whatever else it says is `other`."""
SLOWEST: Final = 5
"""How many of the slowest requests of a run are told."""
FAILURES: Final = 20
"""How many failed requests of a run are told; all are counted."""
DOMAINS: Final = 50
"""How many third parties of a run are told apart; the rest is counted as one."""
OTHERS: Final = "others"
ADDRESS: Final = 300
"""Characters of an address that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it."""

    url: str
    method: str = "GET"
    type: str = "other"
    seconds: float | None = None
    """From its start to the last byte of the answer; None: it did not end, or came from a cache."""
    size: int | None = None
    """Bytes of the answer's body as they were sent; None: the answer does not say."""
    status: int = 0
    """0: there was no answer."""
    failure: str = ""
    """Why there was no answer, in the browser's words (`net::ERR_CONNECTION_REFUSED`)."""

    @property
    def failed(self) -> bool:
        """Whether nothing good came of it. What the page itself cancelled is none of it."""
        return bool(self.failure) or self.status >= 400

    def as_json(self) -> dict[str, Any]:
        """For evidence: what is known, for people."""
        found: dict[str, Any] = {"url": self.url, "method": self.method, "type": self.type}
        for name, value in (("seconds", self.seconds), ("bytes", self.size), ("status", self.status or None)):
            if value is not None:
                found[name] = round(value, 4)
        return found | ({"failure": self.failure} if self.failure else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one domain, or one type of request, had of a run."""

    requests: int = 0
    bytes: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Of all its requests together: they overlap."""

    def with_(self, exchange: Exchange) -> "Share":
        """One request more."""
        return Share(
            requests=self.requests + 1,
            bytes=self.bytes + (exchange.size or 0),
            failed=self.failed + exchange.failed,
            seconds=self.seconds + (exchange.seconds or 0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """The traffic of one run."""

    by_type: Mapping[str, Share] = field(default_factory=dict[str, Share])
    third_parties: Mapping[str, Share] = field(default_factory=dict[str, Share])
    """By host name: every one that is not that of the first page, and not below it."""
    slowest: tuple[Exchange, ...] = ()
    failures: tuple[Exchange, ...] = ()
    """The first ones."""

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(share.requests for share in self.by_type.values())

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TrafficReport":
        """Read what `as_json` wrote. Raises KeyError or TypeError for anything else."""
        return cls(
            by_type={name: Share(**share) for name, share in document["by_type"].items()},
            third_parties={name: Share(**share) for name, share in document["third_parties"].items()},
            slowest=tuple(Exchange(**each) for each in document["slowest"]),
            failures=tuple(Exchange(**each) for each in document["failures"]),
        )


class Traffic:
    """Takes each request of a run as it ends. Memory does not grow with their number."""

    def __init__(self) -> None:
        self._home = ""
        self._by_type: dict[str, Share] = {}
        self._hosts: dict[str, Share] = {}
        self._slowest: list[Exchange] = []
        self._failures: list[Exchange] = []

    def take(self, exchange: Exchange) -> None:
        """Count one."""
        if not self._home and exchange.type == "document":
            self._home = (urlsplit(exchange.url).hostname or "").removeprefix("www.")
        _add(self._by_type, exchange.type if exchange.type in TYPES else "other", exchange)
        host = urlsplit(exchange.url).hostname or ""
        _add(self._hosts, host if host in self._hosts or len(self._hosts) < DOMAINS else OTHERS, exchange)
        if exchange.failed and len(self._failures) < FAILURES:
            self._failures.append(exchange)
        if exchange.seconds is not None:
            self._slowest.append(exchange)
            self._slowest = _slowest(self._slowest)

    def report(self) -> TrafficReport:
        """What came together."""
        return TrafficReport(
            by_type=dict(self._by_type),
            third_parties={host: share for host, share in self._hosts.items() if not self._is_home(host)},
            slowest=tuple(self._slowest),
            failures=tuple(self._failures),
        )

    def _is_home(self, host: str) -> bool:
        return host == self._home or host.endswith(f".{self._home}") or not host


def shown(url: str) -> str:
    """An address without what may be secret in it: user, query, fragment."""
    parts = urlsplit(url)
    if not parts.netloc:
        return f"{parts.scheme}:…"  # data:, blob:
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"[:ADDRESS]


def _slowest(exchanges: Sequence[Exchange]) -> list[Exchange]:
    return sorted(exchanges, key=lambda each: -(each.seconds or 0.0))[:SLOWEST]


def _add(shares: dict[str, Share], name: str, exchange: Exchange) -> None:
    shares[name] = shares.get(name, Share()).with_(exchange)
