"""How the servers that services stand on (databases, caches, brokers) are reached: options, connection, TLS, judgement.

Their drivers get a connection that is already there: they never look up a name, never follow a server elsewhere, and
what they are sent is counted, so that no answer can fill the memory. Phases and failures of the way are the same for all.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import ConfigDict, Field

from stormwatch.probes import certificate
from stormwatch.probes.certificate import NOT_VERIFIED, Trust, check_key_pair, load_trust
from stormwatch.probes.detour import Detour, Way, connecting, refuse, resolver_of
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain, explain_connection
from stormwatch.probes.handshake import cipher_name
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.probe import Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.units import show_duration, show_size
from stormwatch.probes.watch import Watch

MOST: Final = 4 * 2**20
"""Bytes that a server may send in one run."""
UNIX: Final = "unix:"
"""What the target of a Unix socket begins with."""
SHOWN: Final = 300
"""Characters of a server's own words that are shown."""

METRICS: Final = (
    Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
    Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
    Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
    *certificate.METRICS,
)
"""What `Backend.connect` and `Backend.secure` measure."""

REASONS: Final = frozenset(
    {
        Reason.DNS,
        Reason.REFUSED,
        Reason.UNREACHABLE,
        Reason.TIMEOUT,
        Reason.RESET,
        Reason.TLS,
        Reason.CERTIFICATE,
        Reason.ASSERTION,
        Reason.PROTOCOL,
        Reason.TOO_SLOW,
    }
)
"""What can be wrong on the way to any server, and with any answer."""

T = TypeVar("T")


def _told(description: str) -> Any:
    """A field's description. pydantic does not see the docstrings of inherited fields."""
    return Field(description=description)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """How to connect and who to log in as: what the options of all these kinds begin with."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    resolver: Annotated[str, _told("Name server to resolve by, `host:port`; the system's resolver when empty.")] = ""
    ip: Annotated[Family, _told("Which addresses to use. They are tried one after the other.")] = "any"
    connect_to: Annotated[
        str, _told("`host` or `host:port` to connect to instead of the target's. The certificate stays the target's.")
    ] = ""
    username: Annotated[str, _told("Who to log in as.")] = ""
    password: Annotated[Secret, _told("Write it as `${env:NAME}` or `${file:PATH}`.")] = field(default="", repr=False)
    tls: Annotated[bool, _told("Demand TLS: a server without it is down, and is never sent the password.")] = False
    ca_file: Annotated[File, _told("PEM file of the certificate authorities to trust; the system's when empty.")] = ""
    server_name: Annotated[
        str, _told("Name to ask for, and that the certificate must be for; the target's host when empty.")
    ] = ""
    verify: Annotated[bool, _told("Whether the server's certificate must be valid.")] = True
    certificate: Annotated[File, _told("PEM file of a client certificate, for servers that ask for one.")] = ""
    key: Annotated[File, _told("PEM file of its private key, not encrypted.")] = ""


@dataclass(frozen=True, slots=True)
class Streams:
    """A connection for a driver."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str
    """The address that was connected to; empty for a Unix socket."""


Prelude = Callable[[Streams], Awaitable[None]]
"""What is said before the handshake where TLS begins within a protocol."""


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """One server. Made once; every run opens a connection of its own by it."""

    kind: str
    place: Endpoint
    path: str
    """Of a Unix socket; then `place` says nothing."""
    name: str
    """What the certificate must be for."""
    username: str
    password: str = field(repr=False)
    ip: Family
    context: ssl.SSLContext | None
    trust: Trust | None
    server: Endpoint | None
    detour: Endpoint | None
    """Where connections go instead of to `place`, which is what is asked for and told of."""

    @classmethod
    def of(cls, kind: str, target: str, options: BackendOptions, *, port: int, unix: bool = False) -> Self:
        """Raises ValueError for a target or an option that cannot work. `port` is the one that the kind has by default."""
        path = target.removeprefix(UNIX) if unix and target.startswith(UNIX) else ""
        if path and not path.startswith("/"):
            raise ValueError(f"target of a Unix socket is written like unix:/run/server.sock, not {target!r}")
        place = Endpoint("localhost", port) if path else Endpoint.parse(target, default_port=port)
        if not options.tls and (
            options.ca_file or options.server_name or not options.verify or options.certificate or options.key
        ):
            raise ValueError("ca_file, server_name, verify, certificate and key are for TLS: give `tls: true` too")
        if options.tls and path:
            raise ValueError("tls: a Unix socket has none")
        if options.connect_to and path:
            raise ValueError("connect_to: a target that is a Unix socket is connected to itself")
        if bool(options.certificate) != bool(options.key):
            raise ValueError("certificate and key belong together: give both or none")
        if options.certificate:
            check_key_pair(options.certificate, options.key)
        return cls(
            kind=kind,
            place=place,
            path=path,
            name=check_host(options.server_name, what="server_name") if options.server_name else place.host,
            username=options.username,
            password=options.password,
            ip=options.ip,
            context=tls_context(options) if options.tls else None,
            trust=load_trust(options.ca_file)[1] if options.tls and options.verify else None,
            server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
            detour=Endpoint.parse(options.connect_to, what="connect_to", default_port=place.port)
            if options.connect_to
            else None,
        )

    def __str__(self) -> str:
        return UNIX + self.path if self.path else str(self.place)

    @property
    def door(self) -> Endpoint:
        """Where connections go."""
        return self.detour or self.place

    async def connect(self, watch: Watch, attempt: Callable[[str], Awaitable[T]]) -> tuple[T, str]:
        """What `attempt` made of the first address that it did not raise OSError for, and that address.

        Only addresses that may be connected to are tried; for a Unix socket, which is of this machine, it is given "".
        """
        if self.path:
            watch.reach.check("127.0.0.1")
            with watch.phase("connect"):
                return await self._first(("",), attempt)
        address = ""
        began = watch.clock.monotonic()
        looked_up = began
        try:
            try:
                with watch.phase("resolve"):
                    addresses = await resolve(
                        self.door.host, ip=self.ip, server=self.server, clock=watch.clock.monotonic
                    )
            finally:
                looked_up = watch.clock.monotonic()
            addresses = watch.reach.permitted(addresses, self.door.host)
            address = addresses[0]
            with watch.phase("connect"):
                made, address = await self._first(addresses, attempt)
            return made, address
        finally:
            watch.measure("probe_dns_lookup_time_seconds", looked_up - began)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.door.port)))

    async def _first(self, addresses: tuple[str, ...], attempt: Callable[[str], Awaitable[T]]) -> tuple[T, str]:
        failure: ProbeFailed | ProbeBroken | None = None
        for address in addresses:
            try:
                return await attempt(address), address
            except OSError as error:
                failure = explain_connection(error, Endpoint(address, self.door.port) if address else self)
        assert failure is not None
        raise failure

    @asynccontextmanager
    async def opened(self, watch: Watch) -> AsyncGenerator[Streams]:
        """A connection without TLS. It is gone when the block is left, however that happens."""
        connection, address = await self.connect(watch, self._dial)
        streams = await streams_of(connection, address)
        try:
            yield streams
        finally:
            await hang_up(streams.writer)

    async def secure(self, watch: Watch, streams: Streams, *, prelude: Prelude | None = None) -> None:
        """Shake hands, in phase `tls`, and write down what the certificate says, also when it is not accepted.

        Python's TLS shows no certificate that it does not accept: one more connection fetches it as evidence, and says
        the `prelude` before its handshake.
        """
        assert self.context is not None
        with watch.phase("tls"):
            try:
                await _shake(streams, self.context, self.name)
            except ssl.SSLError as error:
                if isinstance(error, ssl.SSLCertVerificationError):
                    await self._show_certificate(watch, streams.address, prelude)
                raise explain(error) from error
            except (EOFError, ConnectionError) as error:
                said = "the connection was closed during the TLS handshake: does the server speak TLS there?"
                raise ProbeFailed(Reason.TLS, said) from error
            session = _session(streams, self.context)
            verified = NOT_VERIFIED
            if self.trust is not None:
                verified = self.trust.expiry(session.chain, self.name, watch.clock.now())
            certificate.measure(watch, session, verified_expiry=verified)

    async def _show_certificate(self, watch: Watch, address: str, prelude: Prelude | None) -> None:
        assert self.context is not None
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with suppress(OSError, EOFError, ProbeFailed):
            async with asyncio.timeout(watch.remaining() / 2):
                streams = await streams_of(await self._dial(address), address)
                try:
                    if prelude is not None:
                        await prelude(streams)
                    await _shake(streams, trusting, self.name)
                    certificate.measure(watch, _session(streams, trusting), verified_expiry=None)
                finally:
                    await hang_up(streams.writer)

    async def _dial(self, address: str) -> socket.socket:
        if not address:
            return await _dial(socket.AF_UNIX, self.path)
        return await _dial(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, self.door.port))

    def refused_login(self, said: str) -> ProbeBroken:
        """The server is there and answers; it does not take what we hold. That is a mistake on our side."""
        who = f"the login of {self.username!r}" if self.username else "a run without username"
        return ProbeBroken(
            Reason.CREDENTIALS,
            f"{self.kind} at {self} refused {who}: {show_words(said)}; check username and password, "
            "and what that user may do",
            phase="login",
        )

    @contextmanager
    def talking(self) -> Generator[None]:
        """Connections that end while a driver talks, in whatever way it tells, are down with reason reset."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise self.hung_up(error) from error

    def hung_up(self, error: BaseException | None = None) -> ProbeFailed:
        """Why the connection ended before its time: what is behind a driver's exception, or just that it was closed."""
        while error is not None:
            if isinstance(error, ProbeFailed):
                return error
            if isinstance(error, ssl.SSLError):  # TLS 1.3 tells only after the handshake that it wants another client
                return ProbeFailed(Reason.TLS, f"{self} ended the TLS session: {error.reason or error}", phase="tls")
            error = error.__cause__ or error.__context__
        return ProbeFailed(Reason.RESET, f"{self} closed the connection before its answer was complete")

    def garbled(self, detail: object) -> ProbeFailed:
        """What came is no message of the protocol."""
        return ProbeFailed(Reason.PROTOCOL, f"what {self} answered is not {self.kind}: {show_words(str(detail))}")


def detour_of(port: int, *, tls_port: int | None = None) -> Detour[Any]:
    """How probes are led another way whose options are `BackendOptions`. `port` is the one that their kind has by default.

    `tls_port` is the same with TLS, where that begins with the first byte; None: it is asked for first.
    """

    def way(target: str, options: BackendOptions) -> Way:
        refuse(options, "connect_to")
        if target.startswith(UNIX):
            raise ValueError(
                "target: a Unix socket is on this machine, and a detour passes on connections to addresses"
            )
        tls = options.tls and tls_port is not None
        return Way(
            place=Endpoint.parse(target, default_port=tls_port if tls else port),
            resolver=resolver_of(options.resolver),
            ip=options.ip,
            tls=tls,
        )

    return connecting(way)


def judge_speed(watch: Watch, most: float | None) -> None:
    """Raise ProbeFailed when the run took longer than that, naming the slowest phase."""
    seconds = watch.seconds()
    if most is not None and seconds > most:
        slowest = max(watch.phases, key=lambda phase: phase.seconds).name
        raise ProbeFailed(
            Reason.TOO_SLOW,
            f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(most)}; slowest was phase {slowest}",
            phase=slowest,
        )


def show_words(said: str) -> str:
    """A server's own words on one line, without what terminals and pages would obey, cut where they get long."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split()).rstrip(".")
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once, whatever is still under way on it.

    `wait_closed` would wait for ever after a handshake that failed: then nobody tells the stream of the end.
    """
    writer.transport.abort()
    await asyncio.sleep(0)


def tls_context(options: BackendOptions) -> ssl.SSLContext:
    """Raises ValueError for files that cannot be used."""
    if options.verify:
        context = ssl.create_default_context(cafile=load_trust(options.ca_file)[0])
    else:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if options.certificate:
        context.load_cert_chain(options.certificate, options.key)
    return context


class _CountingReader(asyncio.StreamReader):
    """Ends a connection on which more comes than a run may receive."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MOST
        self.transport: asyncio.BaseTransport | None = None

    def feed_data(self, data: Any) -> None:
        self._left -= len(data)
        if self._left >= 0:
            super().feed_data(data)
        elif self.exception() is None:
            self.set_exception(ProbeFailed(Reason.PROTOCOL, f"the server sent more than {show_size(MOST)} in one run"))
            if isinstance(self.transport, asyncio.Transport):
                self.transport.abort()

    def set_exception(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionError):  # asyncio would forget what came before the reset: often the reason for it
            self.feed_eof()
        else:
            super().set_exception(exc)


async def streams_of(connection: socket.socket, address: str = "") -> Streams:
    """Like asyncio.open_connection, with a reader that counts. Closes the socket when it fails."""
    loop = asyncio.get_running_loop()
    reader = _CountingReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.create_connection(lambda: protocol, sock=connection)
    except BaseException:
        connection.close()
        raise
    reader.transport = transport
    return Streams(reader, asyncio.StreamWriter(transport, protocol, reader, loop), address)


async def _shake(streams: Streams, context: ssl.SSLContext, name: str) -> None:
    await streams.writer.start_tls(context, server_hostname=name)


def _session(streams: Streams, context: ssl.SSLContext) -> "_Session":
    session = streams.writer.get_extra_info("ssl_object")
    leaf = session.getpeercert(binary_form=True)
    name = session.cipher()[0]
    suite = next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), 0)
    return _Session(
        version=session.version().replace("TLSv", "TLS "), cipher=cipher_name(suite), chain=(leaf,) if leaf else ()
    )


@dataclass(frozen=True, slots=True)
class _Session:
    version: str
    cipher: str
    chain: tuple[bytes, ...]
    alert: str = ""


async def _dial(kind: socket.AddressFamily, address: Any) -> socket.socket:
    connection = socket.socket(kind, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        if kind is not socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection
