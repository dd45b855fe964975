"""The kind `tcp`: a connection, TLS if asked for, and a dialogue of lines."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import certificate
from stormwatch.probes.certificate import NOT_VERIFIED, Trust, load_trust
from stormwatch.probes.curl import CurlEngine
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.handshake import cipher_name
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.tls import Hands, shake_hands
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

LINE: Final = 2**16
"""Bytes of the longest line that is read."""
SHOWN: Final = 2048
"""Bytes of the dialogue that are kept as evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a dialogue: say something, wait for a line, or both in this order."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    send: str = field(default="", repr=False)
    """What to send, exactly: write the line's end into it, like `"QUIT\\r\\n"`. It is never kept as evidence."""
    expect: str = ""
    """An RE2 expression. Lines are read until one matches; their ends are cut off first."""
    within: Seconds | None = None
    """How long the step may wait; the rest of the probe's time when it is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectTcp:
    """What must come of the connection."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    refused: bool = False
    """The connection must be refused."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpOptions:
    """How to connect, and what to talk about."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use. They are tried one after the other."""
    tls: bool = False
    """Shake hands before the dialogue."""
    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    server_name: str = ""
    """Name to ask for in the handshake, and that the certificate must be for; the target's host when empty."""
    verify: bool = True
    """Whether the server's certificate must be valid."""
    dialogue: tuple[Step, ...] = ()
    """What is said and heard, step by step."""
    expect: ExpectTcp = field(default_factory=ExpectTcp)
    """What must come of it."""


def build(target: str, options: TcpOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place = Endpoint.parse(target)
    if options.expect.refused and (options.dialogue or options.tls):
        raise ValueError("expect.refused: a connection that must be refused has no TLS and no dialogue")
    if not options.tls and (options.ca_file or options.server_name or not options.verify):
        raise ValueError("ca_file, server_name and verify are for TLS: give `tls: true` too")
    name = check_host(options.server_name, what="server_name") if options.server_name else place.host
    patterns: list[Pattern | None] = []
    for number, step in enumerate(options.dialogue):
        if not step.send and not step.expect:
            raise ValueError(f"dialogue[{number}]: give send, expect or both")
        patterns.append(compile_pattern(step.expect, f"dialogue[{number}].expect") if step.expect else None)
    return TcpCheck(
        place=place,
        name=name,
        options=options,
        dialogue=tuple(zip(options.dialogue, patterns, strict=True)),
        context=_context(options) if options.tls else None,
        trust=load_trust(options.ca_file)[1] if options.tls and options.verify else None,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


def _context(options: TcpOptions) -> ssl.SSLContext:
    if options.verify:
        return ssl.create_default_context(cafile=load_trust(options.ca_file)[0])
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True, eq=False)
class TcpCheck:
    """Connects to one endpoint and talks to it."""

    place: Endpoint
    name: str
    options: TcpOptions
    dialogue: tuple[tuple[Step, Pattern | None], ...]
    context: ssl.SSLContext | None
    trust: Trust | None
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, connect, shake hands, talk."""
        address = ""
        regex_failed = False
        try:
            with watch.phase("resolve"):
                addresses = await resolve(
                    self.place.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                )
            address = addresses[0]
            addresses = watch.reach.permitted(addresses, self.place.host)
            with watch.phase("connect"):
                connection = await self._connect(addresses)
            if connection is None:
                return
            address = str(connection.getpeername()[0])
            try:
                await self._talk(watch, connection, addresses)
            except _NoMatch:
                regex_failed = True
                raise
            self._judge(watch)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", watch.phases[0].seconds)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.place.port)))
            watch.measure("probe_failed_due_to_regex", regex_failed)

    async def _connect(self, addresses: Sequence[str]) -> socket.socket | None:
        """A connected socket; None when it was refused as it must be."""
        failure: ProbeFailed | ProbeBroken | None = None
        for address in addresses:
            try:
                connection = await _connect(address, self.place.port)
            except OSError as error:
                failure = explain_connection(error, Endpoint(address, self.place.port))
                continue
            if self.options.expect.refused:
                connection.close()
                raise ProbeFailed(Reason.ASSERTION, f"{self.place} accepted the connection, wanted it refused")
            return connection
        if failure is None or (self.options.expect.refused and failure.reason is Reason.REFUSED):
            return None
        raise failure

    async def _talk(self, watch: Watch, connection: socket.socket, addresses: tuple[str, ...]) -> None:
        """The rest of the run on a connected socket, which is closed in every case."""
        try:
            if self.context is not None:
                with watch.phase("tls"):
                    try:
                        reader, writer = await asyncio.open_connection(
                            sock=connection, ssl=self.context, server_hostname=self.name, limit=LINE
                        )
                    except ssl.SSLCertVerificationError:
                        await self._show_certificates(watch, addresses)
                        raise
                self._write_session(watch, writer)
            else:
                reader, writer = await asyncio.open_connection(sock=connection, limit=LINE)
        except BaseException:
            connection.close()
            raise
        try:
            if self.dialogue:
                with watch.phase("dialogue"):
                    await self._converse(watch, reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, watch: Watch, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = _Heard()
        try:
            for number, (step, pattern) in enumerate(self.dialogue, start=1):
                if step.send:
                    writer.write(step.send.encode())
                    await writer.drain()
                if pattern is not None:
                    heard.nothing_yet()
                    await self._wait_for(reader, step, pattern, number, heard)
        finally:
            if heard.text:
                watch.note("heard", heard.text.decode("utf-8", "replace"))

    async def _wait_for(
        self, reader: asyncio.StreamReader, step: Step, pattern: Pattern, number: int, heard: "_Heard"
    ) -> None:
        limit = asyncio.timeout(step.within)
        wanted = f"step {number} of the dialogue wanted a line that matches {step.expect!r}"
        try:
            async with limit:
                while True:
                    line = await _read_line(reader)
                    heard.add(line)
                    if line and pattern.search(line.rstrip(b"\r\n")):
                        return
                    if not line.endswith(b"\n"):
                        raise _NoMatch(Reason.ASSERTION, f"{wanted}; the connection was closed after {heard.last}")
        except TimeoutError:
            if not limit.expired():
                raise
            after = show_duration(step.within or 0.0)
            if heard.last != _NOTHING:
                raise _NoMatch(Reason.ASSERTION, f"{wanted} within {after}; last came {heard.last}") from None
            raise ProbeFailed(Reason.TIMEOUT, f"{wanted} within {after}; nothing came") from None

    def _write_session(self, watch: Watch, writer: asyncio.StreamWriter) -> None:
        session = writer.get_extra_info("ssl_object")
        leaf = session.getpeercert(binary_form=True)
        assert self.context is not None
        name = session.cipher()[0]
        suite = next(each["id"] & 0xFFFF for each in self.context.get_ciphers() if each["name"] == name)
        shown = _Session(
            version=session.version().replace("TLSv", "TLS "),
            cipher=cipher_name(suite),
            chain=(leaf,) if leaf else (),
        )
        verified = NOT_VERIFIED
        if self.trust is not None:
            verified = self.trust.expiry(shown.chain, self.name, watch.clock.now())
        certificate.measure(watch, shown, verified_expiry=verified)

    async def _show_certificates(self, watch: Watch, addresses: tuple[str, ...]) -> None:
        """Python's TLS shows no certificate that it does not accept: one more handshake fetches them as evidence."""
        hands = Hands(watch.clock.monotonic)
        with suppress(ProbeFailed, ProbeBroken):
            engine = watch.resources.get(CurlEngine)
            await shake_hands(
                engine,
                hands,
                addresses,
                self.place.port,
                name=self.name,
                timeout=watch.remaining(),
                clock=watch.clock.monotonic,
            )
        certificate.measure(watch, hands.seen, verified_expiry=None)

    def _judge(self, watch: Watch) -> None:
        most, seconds = self.options.expect.slower_than, watch.seconds()
        if most is not None and seconds > most:
            slowest = max(watch.phases, key=lambda phase: phase.seconds).name
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(most)}; slowest was phase {slowest}",
                phase=slowest,
            )


class _NoMatch(ProbeFailed):
    """A line was waited for that did not come: `probe_failed_due_to_regex`."""


@dataclass(frozen=True, slots=True)
class _Session:
    version: str
    cipher: str
    chain: tuple[bytes, ...]
    alert: str = ""


async def _connect(address: str, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line with its end; without it, what came before the connection was closed."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        raise ProbeFailed(Reason.PROTOCOL, f"a line is longer than {LINE} bytes") from None


_NOTHING: Final = "nothing"


class _Heard:
    """The beginning of what the server said, and its last line since the step began."""

    def __init__(self) -> None:
        self.text = b""
        self.last = _NOTHING

    def nothing_yet(self) -> None:
        self.last = _NOTHING

    def add(self, line: bytes) -> None:
        self.text += line[: max(0, SHOWN - len(self.text))]
        if line:
            self.last = repr(line.rstrip(b"\r\n")[:200].decode("utf-8", "replace"))


KIND: Final = Kind(
    name="tcp",
    options=TcpOptions,
    build=build,
    phases=("resolve", "connect", "tls", "dialogue"),
    phase_metric=Metric("stormwatch_tcp_duration_seconds", "Seconds of a TCP dialogue by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
        *certificate.METRICS,
    ),
)
