"""The TLS that clients meet while a fault of TLS is in place on a route: certificates minted for the name they ask for."""

import asyncio
import datetime
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from stormwatch.chaos.address import parse_address
from stormwatch.chaos.route import Route, RouteIssuer
from stormwatch.chaos.tls_mint import Identity, Issuer, LeafKey, Mint, new_issuer, read_issuer
from stormwatch.chaos.tls_revoker import Revoker

NAMES: Final = 64
"""For so many names certificates are kept; others are made anew."""
ALERTS: Final = {"UNSUPPORTED_PROTOCOL": 70, "NO_SHARED_CIPHER": 40, "VERSION_TOO_LOW": 70}
"""Alert (RFC 8446 §6) by OpenSSL's reason for a handshake that failed for what the client offers."""


@runtime_checkable
class SpoilsHandshakes(Protocol):
    """What the options of a fault of TLS implement."""

    def new_key(self) -> LeafKey:
        """The key of the certificates that are shown. May take long."""
        ...

    def identity(self, mint: Mint, name: str) -> Identity:
        """What a client is shown that asks for this name."""
        ...

    def adapt(self, context: ssl.SSLContext) -> None:
        """What else the handshake is like."""
        ...


@runtime_checkable
class RevokesCertificates(Protocol):
    """A fault of TLS whose certificates are revoked by whoever is asked about them."""

    def revokes(self) -> bool:
        """Whether they are."""
        ...


class Forgery:
    """What one fault of TLS shows on one route, for as long as it is in place."""

    def __init__(self, options: SpoilsHandshakes, route: Route, now: float) -> None:
        self._options = options
        self._route = route
        self._now = datetime.datetime.fromtimestamp(now, datetime.UTC)
        self._mint: Mint | None = None
        self._making: asyncio.Future[Mint] | None = None
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._revoker: Revoker | None = None
        self._closed = False

    async def ready(self) -> None:
        """Keys are made, in a thread, once. Raises ValueError when the route's issuer cannot be used."""
        if self._making is None:
            self._making = asyncio.ensure_future(self._make())
        # Shielded: one client that hangs up must not take the keys of the others with it.
        self._mint = await asyncio.shield(self._making)

    def close(self) -> None:
        """The fault is over: nobody is told any more that a certificate is revoked."""
        self._closed = True
        if self._revoker:
            self._revoker.close()

    def context(self, asked: Callable[[str], None]) -> ssl.SSLContext:
        """For one handshake; `asked` is told which name it is for when the client has said hello."""
        context = self._new_context()

        def choose(shaking: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
            wanted = (name or "").lower() or self._fallback()
            asked(wanted)
            shaking.context = self._for(wanted)

        context.sni_callback = choose
        return context

    def towards_service(self) -> ssl.SSLContext:
        """For a route that ends TLS for this fault only: trusts whom the machine trusts, and the issuer."""
        context = ssl.create_default_context()
        if self._route.issuer:
            context.load_verify_locations(self._route.issuer.certificate)
        return context

    def _fallback(self) -> str:
        """The name for clients that ask for none."""
        return (self._route.tls.server_name if self._route.tls else "") or parse_address(self._route.upstream)[0]

    async def _make(self) -> Mint:
        mint = await asyncio.to_thread(self._new_mint)
        if isinstance(self._options, RevokesCertificates) and self._options.revokes() and not self._closed:
            self._revoker = await Revoker.begin(mint.issuer, self._now)
            if self._closed:  # meanwhile
                self._revoker.close()
            mint = replace(mint, revoker=self._revoker.url)
        return mint

    def _new_mint(self) -> Mint:
        issuer = (
            issuer_of(self._route.issuer) if self._route.issuer else new_issuer("Stormwatch throw-away CA", self._now)
        )
        return Mint(issuer, self._now, self._options.new_key())

    def _for(self, name: str) -> ssl.SSLContext:
        if name in self._contexts:
            self._contexts.move_to_end(name)
            return self._contexts[name]
        assert self._mint is not None
        context = self._contexts[name] = self._new_context()
        # OpenSSL's API of Python takes files only; this one is read by its owner alone, and gone at once.
        with tempfile.NamedTemporaryFile(prefix="stormwatch-", suffix=".pem") as file:
            identity = self._options.identity(self._mint, name)
            if self._revoker:
                self._revoker.revoke(identity.chain[0])
            file.write(identity.pem)
            file.flush()
            context.load_cert_chain(file.name)
        while len(self._contexts) > NAMES:
            self._contexts.popitem(last=False)
        return context

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self._route.tls:
            context.set_alpn_protocols(["http/1.1"])
        self._options.adapt(context)
        return context


def issuer_of(files: RouteIssuer) -> Issuer:
    """The authority in these files. Raises ValueError, naming them."""
    try:
        return read_issuer(Path(files.certificate).read_bytes(), Path(files.key).read_bytes())
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"cannot sign with {files.certificate} and the key {files.key}: {said}") from error


def alert(reason: str) -> bytes:
    """The record that tells a client why its hello was refused; empty when it has no name.

    asyncio drops the connection before OpenSSL's own alert is sent, and the client would see a reset.
    """
    return bytes([21, 3, 1, 0, 2, 2, ALERTS[reason]]) if reason in ALERTS else b""
