"""How a probe is led another way without asking another question: through a fault that it alone is to meet.

What a kind gives is made of its own options, so that a check knows nothing of detours: the name in TLS, the Host header
and everything that is judged stay what they were, and only where the connection goes is another place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import dns.exception

from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.resolve import Family

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where the runs of a probe go, and how they find it."""

    place: Endpoint
    resolver: Endpoint | None = None
    """The name server that is asked for the place's addresses; None: the system's resolver."""
    ip: Family = "any"
    """Which of these addresses are used."""
    tls: bool = False
    """Whether TLS begins with the first byte."""
    http: bool = False
    """Whether what passes without TLS can be requests of HTTP/1, which faults of HTTP look into."""
    asks_names: bool = False
    """Whether what passes are questions to a name server."""
    datagrams: bool = False
    """Whether it goes without a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detour(Generic[Options]):
    """How probes of a kind are led another way: pure functions of target and options, beside the kind's `build`."""

    way: Callable[[str, Options], Way]
    """Where they go. Raises ValueError, one sentence that begins with the option, for a probe that cannot be led
    another way: its options lead elsewhere already, or what they mean through a detour is not plain."""
    via: Callable[[str, Options, str], tuple[str, Options]] | None = None
    """Target and options of the same probe that goes to `address:port`, and nowhere else; None: what it sends are
    datagrams that nothing passes on."""
    names_via: Callable[[str, Options, str], tuple[str, Options]] | None = None
    """The same of one that asks the name server at `address:port` for its target's addresses; None: it asks for none."""


def connecting(way: Callable[[str, Any], Way]) -> Detour[Any]:
    """How probes are led another way whose options have `connect_to`, `ip` and `resolver`: nothing else changes."""
    return Detour(way=way, via=_connect_to, names_via=_resolve_by)


def asking_names(way: Callable[[str, Any], Way]) -> Detour[Any]:
    """How probes that send datagrams are led another way: the question for their target's address alone is."""
    return Detour(way=way, names_via=_resolve_by)


def _connect_to(target: str, options: Any, via: str) -> tuple[str, Any]:
    return target, replace(options, connect_to=via, ip="any")


def _resolve_by(target: str, options: Any, via: str) -> tuple[str, Any]:
    return target, replace(options, resolver=via)


def refuse(options: Any, *names: str) -> None:
    """Raise ValueError for the first of these options that is given."""
    for name in names:
        if getattr(options, name):
            raise ValueError(f"{name}: what it means on the way through a detour is not plain; leave it out")


def resolver_of(text: str) -> Endpoint | None:
    """The name server of an option `resolver`."""
    return Endpoint.parse(text, what="resolver", default_port=53) if text else None


def system_name_server() -> Endpoint:
    """The first name server of this machine. Raises ValueError when it has none."""
    from dns.resolver import Resolver  # only here, because DNS over QUIC comes with it, and all that it stands on

    try:
        servers = [str(each) for each in Resolver().nameservers]
    except (dns.exception.DNSException, OSError) as error:
        raise ValueError(f"this machine has no name server to ask ({str(error) or type(error).__name__})") from None
    found = next((each for each in servers if is_address(each)), None)
    if found is None:
        raise ValueError("this machine has no name server to ask")
    return Endpoint(found, 53)
