"""The faults that exist: their options as users write them, and what a probe sees of each. One table, one row a fault."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

from stormwatch.probes.result import Reason
from stormwatch.probes.units import Ratio, Seconds

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Way(StrEnum):
    """A direction through the proxy, by the names that Toxiproxy gave them."""

    UPSTREAM = "upstream"
    """From the client to the service: requests."""
    DOWNSTREAM = "downstream"
    """From the service to the client: answers."""
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLatency:
    """Every chunk arrives `delay` later than it would have, plus or minus `jitter`; order and throughput are kept."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    delay: Seconds
    """How much later."""
    jitter: Seconds = 0.0
    """Each chunk's delay is drawn evenly from delay - jitter to delay + jitter; a chunk never overtakes another."""
    stream: Way = Way.DOWNSTREAM
    """One way, so that one question and its answer take `delay` longer. With `both`, twice the delay."""
    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same connections and delays again, in the same order."""

    def __post_init__(self) -> None:
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        if self.jitter > self.delay:
            raise ValueError(f"jitter ({self.jitter:g} s) must not be more than delay ({self.delay:g} s)")
        _share_is_some(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBlackhole:
    """Connections are accepted and nothing is answered; standing connections stall, both ways."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        _share_is_some(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpReset:
    """Connections end with RST: new ones as soon as they are accepted, standing ones at the injection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    share: Ratio = Fraction(1)
    """The share of connections that it is drawn for, once for each connection."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        _share_is_some(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatus:
    """Matching requests are answered by the proxy and never reach the service."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: Annotated[int, Field(ge=200, le=599)] = 503
    """The status of the answer."""
    body: str = ""
    """The body of the answer."""
    content_type: str = "text/plain; charset=utf-8"
    """The media type of the body."""
    path: str = "*"
    """A glob over the path without its query: `*` is any text, also with slashes, `?` one character."""
    method: str = "*"
    """`*` for all, or one method (`POST`), or several with commas (`GET,HEAD`)."""
    share: Ratio = Fraction(1)
    """The share of matching requests that it is drawn for, once for each request."""
    seed: int = 0
    """The same seed draws the same ones again, in the same order."""

    def __post_init__(self) -> None:
        if self.status in (204, 304) and self.body:
            raise ValueError(f"an answer with status {self.status} has no body (RFC 9110, 15.3.5 and 15.4.5)")
        if self.method != "*" and not re.fullmatch(r"[A-Za-z-]+(,\s*[A-Za-z-]+)*", self.method):
            raise ValueError(f"method is written like *, POST or GET,HEAD, not {self.method!r}")
        if not (self.content_type.isascii() and self.content_type.isprintable()):
            raise ValueError(f"content_type is a media type like text/html, not {self.content_type!r}")
        _share_is_some(self.share)

    def matches(self, method: str, target: str) -> bool:
        """Whether a request with this method and request-target is meant (before the share is drawn)."""
        methods = {one.strip().upper() for one in self.method.split(",")}
        return (methods == {"*"} or method.upper() in methods) and bool(
            re.fullmatch(_glob(self.path), path_of(target), re.DOTALL)
        )


Options = TcpLatency | TcpBlackhole | TcpReset | HttpStatus
"""The options of any fault."""

O_co = TypeVar("O_co", bound=Options, covariant=True)

BEHIND = frozenset({Reason.STATUS, Reason.ASSERTION, Reason.STEP, Reason.TIMEOUT, Reason.TOO_SLOW})
"""What a probe may see of any fault that hits a dependency of its target, and not the target itself."""


@dataclass(frozen=True, slots=True)
class FaultKind(Generic[O_co]):
    """What is known of a kind of fault."""

    name: str
    """As users write it after `kind:`."""
    options: type[O_co]
    """A frozen dataclass that pydantic can validate: the options that stand beside `kind` and `target`."""
    summary: str
    """One line for people."""
    reasons: frozenset[Reason]
    """What a probe that goes straight through the route normally sees. One behind a service also sees `BEHIND`."""
    looks_inside: bool = False
    """Whether it needs a route that is looked into: one with `tls`, or with `http: true`."""
    reason_note: str = ""
    """When the reasons need a word of explanation."""


FAULTS: Mapping[str, FaultKind[Options]] = {
    kind.name: kind
    for kind in (
        FaultKind(
            "tcp-latency",
            TcpLatency,
            "what passes arrives later",
            frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
            reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
        ),
        FaultKind(
            "tcp-blackhole",
            TcpBlackhole,
            "connections are accepted and nothing is answered",
            frozenset({Reason.TIMEOUT}),
        ),
        FaultKind("tcp-reset", TcpReset, "connections end with RST", frozenset({Reason.RESET})),
        FaultKind(
            "http-status",
            HttpStatus,
            "matching requests are answered with a status of your choice",
            frozenset({Reason.STATUS, Reason.ASSERTION, Reason.STEP}),
            looks_inside=True,
            reason_note="assertion when the status is an accepted one and the body is not",
        ),
    )
}
"""Every fault, by the name that users write."""

_ADAPTERS: Mapping[str, TypeAdapter[Options]] = {name: TypeAdapter(kind.options) for name, kind in FAULTS.items()}


def read_options(kind: str, document: Mapping[str, Any]) -> Options:
    """Options from what users write (`{"delay": "2s"}`). Raises ValueError: unknown kind, key or value."""
    if kind not in FAULTS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
    return _ADAPTERS[kind].validate_python(dict(document))


def write_options(kind: str, options: Options) -> dict[str, Any]:
    """What `read_options` reads back equal; JSON values only."""
    return _ADAPTERS[kind].dump_python(options, mode="json")


def path_of(target: str) -> str:
    """The path of a request-target, without query; also of the absolute form (RFC 9112, 3.2.2)."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target.partition("?")[0]


def _glob(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern)


def _share_is_some(share: Fraction) -> None:
    if share <= 0:
        raise ValueError("share must be more than 0%: a fault that is never drawn proves nothing")
