"""What the mail kinds share: how a server is reached, when TLS begins, and the connection as lines.

The connection, its address and its TLS are those of every server (`backend`); what is said before STARTTLS differs.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast

from pydantic import ConfigDict, Field

from stormwatch.probes.answer import expiry_message
from stormwatch.probes.backend import Backend, BackendOptions, Streams
from stormwatch.probes.certificate import EARLIEST
from stormwatch.probes.detour import Detour, Way, connecting, refuse, resolver_of
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.resolve import Family
from stormwatch.probes.result import Reason
from stormwatch.probes.starttls import Upgrade, shown
from stormwatch.probes.units import show_size
from stormwatch.probes.watch import Watch

Begin = Literal["auto", "starttls", "implicit", "none"]
"""When TLS begins."""
Mechanism = Literal["auto", "plain", "login", "xoauth2"]
"""How a login is said."""
MailProtocol = Literal["smtp", "imap"]

IMPLICIT_PORTS: Final = {"smtp": 465, "imap": 993}
"""RFC 8314 §3: TLS from the first byte."""

_CHUNK: Final = 2**16


def _told(description: str) -> Any:
    """A field's description. pydantic does not see the docstrings of inherited fields."""
    return Field(description=description)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailOptions:
    """How to connect and who to log in as: what the options of the mail kinds begin with."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: Annotated[str, _told("Name server to resolve by, `host:port`; the system's resolver when empty.")] = ""
    ip: Annotated[Family, _told("Which addresses to use. They are tried one after the other.")] = "any"
    connect_to: Annotated[
        str, _told("`host` or `host:port` to connect to instead of the target's. The certificate stays the target's.")
    ] = ""
    tls: Annotated[
        Begin,
        _told(
            "When TLS begins: `implicit` from the first byte, `starttls` before anything is said that matters (a server "
            "without it is down), `none` never. `auto` is `implicit` on the port for it (465, 993) and `starttls` elsewhere."
        ),
    ] = "auto"
    ca_file: Annotated[File, _told("PEM file of the certificate authorities to trust; the system's when empty.")] = ""
    server_name: Annotated[
        str, _told("Name to ask for, and that the certificate must be for; the target's host when empty.")
    ] = ""
    verify: Annotated[bool, _told("Whether the server's certificate must be valid.")] = True
    certificate: Annotated[File, _told("PEM file of a client certificate, for servers that ask for one.")] = ""
    key: Annotated[File, _told("PEM file of its private key, not encrypted.")] = ""
    username: Annotated[str, _told("Who to log in as; nobody when empty.")] = ""
    password: Annotated[
        Secret, _told("Password, or the token for `xoauth2`. Write it as `${env:NAME}` or `${file:PATH}`.")
    ] = field(default="", repr=False)
    mechanism: Annotated[
        Mechanism, _told("How to log in; `auto` is PLAIN where it is offered, and LOGIN where that is not.")
    ] = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class MailServer:
    """One server, and how to begin with it."""

    backend: Backend
    protocol: MailProtocol
    tls: Literal["starttls", "implicit", "none"]
    mechanism: Mechanism

    @classmethod
    def of(cls, protocol: MailProtocol, target: str, options: MailOptions, *, port: int) -> Self:
        """Raises ValueError for a target or an option that cannot work. `port` is the one that the kind has by default."""
        if options.tls == "none" and (
            options.ca_file or options.server_name or not options.verify or options.certificate or options.key
        ):
            raise ValueError("ca_file, server_name, verify, certificate and key are for TLS: leave out `tls: none`")
        if bool(options.username) != bool(options.password):
            raise ValueError("username and password belong together: give both or none")
        backend = Backend.of(
            protocol,
            target,
            BackendOptions(
                resolver=options.resolver,
                ip=options.ip,
                connect_to=options.connect_to,
                username=options.username,
                password=options.password,
                tls=options.tls != "none",
                ca_file=options.ca_file,
                server_name=options.server_name,
                verify=options.verify,
                certificate=options.certificate,
                key=options.key,
            ),
            port=port,
        )
        begin = _begin(protocol, backend.place, options)
        return cls(backend=backend, protocol=protocol, tls=begin, mechanism=options.mechanism)

    @asynccontextmanager
    async def opened(self, watch: Watch) -> AsyncGenerator["Wire"]:
        """A connection, in TLS already where that is implicit."""
        async with self.backend.opened(watch) as streams:
            if self.tls == "implicit":
                await self.backend.secure(watch, streams)
            with self.backend.talking():
                yield Wire(streams)

    async def secure(self, watch: Watch, wire: "Wire") -> None:
        """Shake hands after the server agreed to STARTTLS."""
        wire.must_be_empty()
        await self.backend.secure(watch, wire.streams, prelude=self._ask_for_tls)

    async def _ask_for_tls(self, streams: Streams) -> None:
        upgrade = Upgrade(self.protocol, self.backend.name)
        streams.writer.write(upgrade.hello())
        while not upgrade.done:
            data = await streams.reader.read(_CHUNK)
            if not data:
                raise upgrade.ended()
            streams.writer.write(upgrade.feed(data))


def _begin(protocol: MailProtocol, place: Endpoint, options: MailOptions) -> Literal["starttls", "implicit", "none"]:
    if options.tls != "auto":
        return options.tls
    return "implicit" if place.port == IMPLICIT_PORTS[protocol] else "starttls"


def detour_of(protocol: MailProtocol, *, port: int) -> Detour[Any]:
    """How probes are led another way whose options are `MailOptions`. A mailbox that a message arrives in is not."""

    def way(target: str, options: MailOptions) -> Way:
        refuse(options, "connect_to")
        place = Endpoint.parse(target, default_port=port)
        return Way(
            place=place,
            resolver=resolver_of(options.resolver),
            ip=options.ip,
            tls=_begin(protocol, place, options) == "implicit",
        )

    return connecting(way)


class Wire:
    """A connection that is read by lines. Raises EOFError when it ends before one is complete."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """Write. That the connection is gone is told by the next read, after what the server said before it went."""
        self.streams.writer.write(data)
        with suppress(ConnectionError):
            await self.streams.writer.drain()

    async def line(self, most: int) -> bytes:
        """The next line, with its end. Raises ProbeFailed when it is longer than that many bytes."""
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0 and len(self._buffer) <= most:
            scanned = len(self._buffer)
            await self._more()
        if end < 0 or end >= most:
            raise ProbeFailed(
                Reason.PROTOCOL, f"a line is longer than {show_size(most)}: {shown(bytes(self._buffer[:120]))}"
            )
        return self._take(end + 1)

    async def exactly(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    def must_be_empty(self) -> None:
        """Bytes that were not protected would be read as if they were: CVE-2011-0411. Raises ProbeFailed."""
        left = bytes(self._buffer) + bytes(cast("bytearray", vars(self.streams.reader)["_buffer"]))
        if left:
            raise ProbeFailed(
                Reason.PROTOCOL,
                f"the server sent {len(left)} bytes too many in plain text before TLS: {shown(left)}",
                phase="tls",
            )

    async def _more(self) -> None:
        data = await self.streams.reader.read(_CHUNK)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def judge_certificate(watch: Watch, within: float | None) -> None:
    """Raise ProbeFailed when the server's certificate, as it was measured in this run, expires sooner than that."""
    if within is None:
        return
    for measure in watch.measures:
        left = measure.value - watch.clock.now()
        if measure.name == EARLIEST.name and left < within:
            raise ProbeFailed(Reason.CERTIFICATE, expiry_message(left, within), phase="tls")


def xoauth2(username: str, token: str) -> bytes:
    """The first message of the mechanism, as Google and Microsoft define it."""
    return f"user={username}\x01auth=Bearer {token}\x01\x01".encode()


def plain(username: str, password: str) -> bytes:
    """RFC 4616: no other identity to act for, the user, the password."""
    return f"\x00{username}\x00{password}".encode()
