"""A route of the fault proxy: where it listens, where it leads to, and whether it is looked into."""

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from stormwatch.chaos.address import parse_address
from stormwatch.chaos.fault_kind import FaultKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTls:
    """The proxy ends the client's TLS and opens its own to the service, so that faults can look at what passes."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    certificate: Path
    """PEM, leaf first: what clients are shown."""
    key: Path
    """PEM, its private key."""
    ca: Path | None = None
    """PEM, who may sign the service's certificate. None: whom the machine trusts."""
    server_name: str = ""
    """The name asked for in the handshake and looked for in the service's certificate. Empty: the upstream's host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteIssuer:
    """Who signs what faults of TLS show, so that nothing but what they are about is wrong with it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    certificate: Path
    """PEM of an authority that the clients of the route trust."""
    key: Path
    """PEM, its private key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What comes in at `listen` goes on to `upstream`, unchanged as long as no fault is put on it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    """What drills call it."""
    listen: str
    """`host:port`; port 0 takes a free one."""
    upstream: str
    """`host:port`."""
    tls: RouteTls | None = None
    """End TLS here and open it anew, so that requests can be looked at."""
    issuer: RouteIssuer | None = None
    """Who signs the certificates that faults of TLS show. None: an authority that nobody trusts, made for each fault."""
    http: bool = False
    """Look for HTTP requests on a route without `tls` too. Streams that are not HTTP pass all the same."""
    dns: bool = False
    """Pass on questions to a name server, over UDP and TCP. For the faults of names, and for no others."""
    serves: tuple[str, ...] = ()
    """Probes and objectives that need it through something else: for the matrix. Those that connect to it are known."""

    def __post_init__(self) -> None:
        parse_address(self.listen)
        host, _ = parse_address(self.upstream)
        if not self.dns:
            return
        if self.tls or self.http or self.issuer:
            raise ValueError(
                "dns passes on plain DNS: leave `tls`, `issuer` and `http` out, or make a route of its own for them"
            )
        try:
            ip_address(host)
        except ValueError:
            # A name would have to be looked up, most likely by the very server that is about to be broken.
            raise ValueError(f"the upstream of a dns route is an address like 127.0.0.1:53, not {host!r}") from None

    @property
    def looked_into(self) -> bool:
        """Whether faults that need HTTP requests can be put on it."""
        return self.http or self.tls is not None

    def as_json(self) -> dict[str, Any]:
        """For the control API."""
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "tls": self.tls is not None,
            "looked_into": self.looked_into,
            "dns": self.dns,
        }


def misplaced(kind: FaultKind[Any], route: Route) -> str:
    """Why a route cannot have a fault of this kind, and the remedy; empty when it can."""
    if kind.of_names and not route.dns:
        return f"{kind.name} is about questions to a name server, and the route {route.name} is not one for them; give it `dns: true`"
    if route.dns and not kind.of_names:
        return (
            f"{kind.name} is about connections, and the route {route.name} passes on DNS; take one of the dns- faults"
        )
    return ""


def server_context(tls: RouteTls) -> ssl.SSLContext:
    """What clients meet. Raises ValueError, naming the file, when certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"cannot use the certificate {tls.certificate} with the key {tls.key}: {said}") from error
    # Only HTTP/1.1 is looked into: a client that is offered nothing else speaks it.
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(tls: RouteTls) -> ssl.SSLContext:
    """What the proxy demands of the service: a certificate for its name, from the CA. Raises ValueError as above."""
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"cannot use the CA file {tls.ca}: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context
