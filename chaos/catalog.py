"""The faults that exist, one row a fault: its options, what a probe sees of it; options read as users write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from stormwatch.chaos.http_options import HttpStatus
from stormwatch.chaos.option import Options
from stormwatch.chaos.tcp_options import TcpBlackhole, TcpLatency, TcpReset
from stormwatch.probes.result import Reason

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
