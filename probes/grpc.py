"""The kind `grpc`: the standard health check, or a unary call, over HTTP/2 by libcurl; judged by status and message."""

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import pycurl
from pydantic import ConfigDict

from stormwatch.probes import certificate
from stormwatch.probes.answer import expiry_message
from stormwatch.probes.authorization import ClientCertificate
from stormwatch.probes.certificate import NOT_VERIFIED, Trust, load_trust
from stormwatch.probes.curl import CURVES, CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.detour import Way, connecting, refuse, resolver_of
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.grpc_wire import (
    CODES,
    SERVING,
    Code,
    Serving,
    Status,
    frame,
    has_status,
    health_request,
    metadata_line,
    read_health_response,
    read_message,
    read_status,
    serving_name,
    split_lines,
    timeout_header,
)
from stormwatch.probes.handshake import Handshake
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.request import USER_AGENT
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import Clocks, blame
from stormwatch.probes.units import Bytes, Seconds, show_duration, show_size
from stormwatch.probes.visit import Content
from stormwatch.probes.watch import Watch

TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]

HEALTH: Final = "grpc.health.v1.Health/Check"
"""The method of the standard health check."""
UNAVAILABLE: Final = CODES.index("UNAVAILABLE")
DEADLINE_EXCEEDED: Final = CODES.index("DEADLINE_EXCEEDED")

_ONE_FAMILY: Final[Mapping[Family, Family]] = {"prefer-4": "4", "prefer-6": "6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The bytes of a protobuf message, written in one of two ways."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    base64: str = field(default="", repr=False)
    """In base64 (RFC 4648 §4)."""
    hex: str = field(default="", repr=False)
    """As hexadecimal digits; spaces between bytes are passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectGrpc:
    """What the answer must be. Everything that is given must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    status: tuple[Serving, ...] = ("SERVING",)
    """What the health check may say of the service, any of them, when the call itself ends with `OK`."""
    code: tuple[Code, ...] = ("OK",)
    """Status codes by name, any of which the call may end with."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""
    certificate_expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcOptions:
    """Whom to call, how to connect, and what the answer must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    service: str = ""
    """Service whose health is asked for; that of the server as a whole when empty."""
    method: str = ""
    """Call this unary method, like `shop.v1.Orders/List`, instead of the health check."""
    message: Message | None = None
    """The message to send to `method`; an empty one when it is not given."""
    metadata: Mapping[str, str | tuple[str, ...]] = field(
        default_factory=dict[str, "str | tuple[str, ...]"], repr=False
    )
    """Metadata to send by name, one value or several; never kept as evidence. Values of names in `-bin` are sent in base64."""
    user_agent: str = ""
    """The user agent; Stormwatch and its version when empty."""
    tls: bool = False
    """Whether to speak TLS; without it, HTTP/2 from the first byte."""
    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    verify: bool = True
    """Whether the server's certificate must be valid. Its facts are exported either way."""
    server_name: str = ""
    """Name to ask for in the handshake, that the certificate must be for, and the call's authority; the target's host when empty."""
    client_certificate: ClientCertificate | None = None
    """Certificate and key for servers that ask for one."""
    tls_min: TlsVersion = "1.2"
    """Oldest TLS version to agree on."""
    tls_max: TlsVersion = "1.3"
    """Newest TLS version to agree on."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    connect_to: str = ""
    """`host` or `host:port` to connect to instead of the target's. Authority and certificate stay the target's."""
    ip: Family = "any"
    """Which addresses to use: `any` tries the others when one family does not answer; `prefer-4` and `prefer-6` use one."""
    ip_fallback: bool = True
    """With `prefer-4` and `prefer-6`, use the other family when the name has none of it."""
    max_message: Bytes = 4 * 2**20
    """Largest answer that is read. A larger one is a failure, and its rest is not read."""
    expect: ExpectGrpc = field(default_factory=ExpectGrpc)
    """What the answer must be."""


def build(target: str, options: GrpcOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place = Endpoint.parse(target)
    _check_call(options)
    _check_tls(options)
    if not options.expect.code:
        raise ValueError("expect.code: give at least one status code")
    if not options.expect.status:
        raise ValueError("expect.status: give at least one serving status")
    ca_file, trust = load_trust(options.ca_file) if options.tls and options.verify else ("", None)
    name = check_host(options.server_name, what="server_name") if options.server_name else place.host
    authority = name if options.server_name else str(place)
    return GrpcCheck(
        place=place,
        door=Endpoint.parse(options.connect_to, what="connect_to", default_port=place.port)
        if options.connect_to
        else place,
        name=name,
        options=options,
        ca_file=ca_file,
        trust=trust,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        request=tuple(_curl_options(place, name, options)),
        headers=(f"Host: {authority}", *_headers(options.metadata)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class GrpcCheck:
    """Makes one call. Everything that does not change between runs is made by `build`."""

    place: Endpoint
    door: Endpoint
    """Where connections go; all else is about `place`."""
    name: str
    options: GrpcOptions
    ca_file: str
    trust: Trust | None
    server: Endpoint | None
    request: tuple[tuple[int, Any], ...]
    headers: tuple[str, ...]

    async def __call__(self, watch: Watch) -> None:
        """Resolve, call, judge. Whatever was seen is written down, however it ends."""
        call = _Call(watch.clock.monotonic)
        try:
            with watch.phase("resolve"):
                addresses = await self._resolve(watch)
                call.address = addresses[0]
                addresses = watch.reach.permitted(addresses, self.door.host)
            call.address = addresses[0]
            await self._ask(watch, call, addresses)
            self._judge(watch, call)
        finally:
            self._write_down(watch, call)

    async def _resolve(self, watch: Watch) -> tuple[str, ...]:
        options, host = self.options, self.door.host
        if options.ip in _ONE_FAMILY and not options.ip_fallback and not is_address(host):
            only = _ONE_FAMILY[options.ip]
            return (await resolve(host, ip=only, server=self.server, clock=watch.clock.monotonic))[:1]
        return await resolve(host, ip=options.ip, server=self.server, clock=watch.clock.monotonic)

    async def _ask(self, watch: Watch, call: "_Call", addresses: tuple[str, ...]) -> None:
        engine = watch.resources.get(CurlEngine)
        handle = engine.take()
        began = watch.clock.monotonic()
        failed = True
        try:
            for option, value in self.request:
                handle.setopt(option, value)
            left = watch.remaining()
            handle.setopt(pycurl.HTTPHEADER, [*self.headers, f"grpc-timeout: {timeout_header(left)}"])
            handle.setopt(pycurl.HEADERFUNCTION, call.lines.append)
            call.content = Content(limit=self.options.max_message, keep=self.options.max_message)
            if self.options.tls:
                handle.setopt(pycurl.VERBOSE, 1)
                handle.setopt(pycurl.DEBUGFUNCTION, call.handshake.take)
            connect_to(handle, addresses, self.door.port)
            # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
            handle.setopt(pycurl.TIMEOUT_MS, int(left * 1000) + 250)
            call.code = DEADLINE_EXCEEDED
            try:
                ended = await engine.perform(handle, call.content.take, ca_file=self.ca_file)
            except asyncio.CancelledError:
                hello = call.handshake.began
                clocks = Clocks.read(handle)
                call.clocks = clocks.cut_off(watch.clock.monotonic() - began, None if hello is None else hello - began)
                raise
            call.clocks = Clocks.read(handle)
            self._read(call, handle, ended)
            failed = False
        finally:
            call.read(handle)
            engine.give_back(handle)
            seconds = call.clocks.ended
            watch.add_phase("check", seconds, offset=began - watch.began, failed=failed)
            watch.took(watch.phases[0].seconds + seconds)

    def _read(self, call: "_Call", handle: pycurl.Curl, ended: Ended) -> None:
        """How the call ended, as gRPC's own clients see it. Raises ProbeFailed for what is no answer at all."""
        call.code = UNAVAILABLE
        call.read(handle)
        http_status = handle.getinfo(pycurl.RESPONSE_CODE)
        # A server that is done may reset the stream behind its status: its word counts.
        if ended.code and not has_status(call.head, call.trailers):
            raise self._blame(call, handle, ended)
        if handle.getinfo(pycurl.INFO_HTTP_VERSION) != pycurl.CURL_HTTP_VERSION_2_0:
            raise ProbeFailed(
                Reason.PROTOCOL, f"{self.place} answered in HTTP/1.1, and gRPC needs HTTP/2", phase="check"
            )
        call.code = CODES.index("UNKNOWN")
        call.status = read_status(http_status, call.head, call.trailers)
        call.code = call.status.code

    def _blame(self, call: "_Call", handle: pycurl.Curl, ended: Ended) -> ProbeFailed | ProbeBroken:
        if call.content.too_large:
            size = show_size(self.options.max_message)
            return ProbeFailed(Reason.ASSERTION, f"the answer is larger than max_message, {size}", phase="check")
        if _NOT_HTTP_2.search(ended.message):
            return ProbeFailed(Reason.PROTOCOL, f"{self.place} does not speak HTTP/2, which gRPC needs", phase="check")
        if ended.code == pycurl.E_HTTP2 and _HUNG_UP.search(ended.message):
            said = f"{self.place} closed the connection before the answer was complete: {ended.message}"
            return ProbeFailed(Reason.RESET, said, phase="check")
        failure = blame(
            ended,
            target=str(self.place),
            phase=call.clocks.reached(tls=self.options.tls),
            os_errno=own_error(handle),
            alert=call.handshake.alert,
        )
        failure.phase = "check"
        return failure

    def _judge(self, watch: Watch, call: "_Call") -> None:
        expect, status = self.options.expect, call.status
        assert status is not None
        if status.name not in expect.code:
            raise self._wrong_code(status)
        if status.code == 0:
            message = read_message(bytes(call.content.kept))
            if not self.options.method:
                call.serving = serving_name(read_health_response(message))
                if call.serving not in expect.status:
                    of = f"service {self.options.service!r}" if self.options.service else "the server"
                    raise ProbeFailed(
                        Reason.ASSERTION, f"{of} is {call.serving}, wanted {' or '.join(expect.status)}", phase="check"
                    )
        within = expect.certificate_expires_within
        if within is not None:
            left = certificate.read_chain(call.handshake.chain).expires - watch.clock.now()
            if left < within:
                raise ProbeFailed(Reason.CERTIFICATE, expiry_message(left, within), phase="check")
        seconds = watch.seconds()
        if expect.slower_than is not None and seconds > expect.slower_than:
            slowest = max(self._parts(watch, call), key=lambda part: part[1])[0]
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(expect.slower_than)}; "
                f"slowest was {slowest}",
                phase="resolve" if slowest == "resolve" else "check",
            )

    def _wrong_code(self, status: Status) -> ProbeFailed:
        wanted = " or ".join(self.options.expect.code)
        if status.from_http:
            return ProbeFailed(
                Reason.STATUS,
                f"HTTP status {status.from_http} without a gRPC status, wanted {wanted}: see what stands before the server",
                phase="check",
            )
        said = f": {status.message}" if status.message else ""
        # A server gives up after the grpc-timeout that we sent, a moment before or after we do: one reason for both.
        reason = Reason.TIMEOUT if status.code == DEADLINE_EXCEEDED else Reason.STATUS
        return ProbeFailed(
            reason, f"{self._asked} ended with {status.name} ({status.code}), wanted {wanted}{said}", phase="check"
        )

    @property
    def _asked(self) -> str:
        return self.options.method or HEALTH

    def _parts(self, watch: Watch, call: "_Call") -> Iterator[tuple[str, float]]:
        yield "resolve", watch.phases[0].seconds
        for name, _, seconds in call.clocks.phases(tls=self.options.tls):
            yield name, seconds

    def _write_down(self, watch: Watch, call: "_Call") -> None:
        address = call.address
        watch.measure("probe_dns_lookup_time_seconds", watch.phases[0].seconds)
        watch.measure("probe_ip_protocol", family(address))
        if address:
            watch.measure("probe_ip_addr_hash", address_hash(address))
            watch.note("remote", str(Endpoint(address, self.door.port)))
        if len(watch.phases) > 1:
            for name, seconds in self._parts(watch, call):
                if name != "resolve":
                    watch.measure("stormwatch_grpc_check_part_seconds", seconds, part=name)
        secured = bool(call.clocks.secured)
        watch.measure("probe_grpc_ssl", secured)
        watch.measure("probe_grpc_status_code", call.code)
        for each in SERVING:
            watch.measure("probe_grpc_healthcheck_response", each == call.serving, serving_status=each)
        if self.options.tls:
            verified: float | None = None
            if secured:
                verified = NOT_VERIFIED
                if self.trust is not None:
                    verified = self.trust.expiry(call.handshake.chain, self.name, watch.clock.now())
            certificate.measure(watch, call.handshake, verified_expiry=verified)
        self._write_evidence(watch, call)

    def _write_evidence(self, watch: Watch, call: "_Call") -> None:
        if call.status is not None:
            watch.note("grpc_status", {"code": call.status.name, "message": call.status.message})
            if call.status.from_http:
                watch.note("http_status", call.status.from_http)
            watch.note("answer_bytes", call.content.size)
        if call.serving:
            watch.note("serving_status", call.serving)
        if call.status is None and len(watch.phases) > 1:
            watch.note("reached", call.clocks.reached(tls=self.options.tls))


_NOT_HTTP_2: Final = re.compile(r"expected SETTINGS frame|not support HTTP/2")
"""What libcurl says of a first answer that is not HTTP/2, with the code of a connection that broke."""

_HUNG_UP: Final = re.compile(r"Broken pipe|reset by peer")
"""What it says, with the code of wrong HTTP/2, when it could no longer send its part of the protocol."""


class _Call:
    """What one call saw, also when it was cancelled."""

    __slots__ = (
        "address",
        "clocks",
        "code",
        "content",
        "handshake",
        "head",
        "lines",
        "serving",
        "status",
        "trailers",
    )

    def __init__(self, clock: Any) -> None:
        self.address = ""
        self.code = 0
        """The status code that a client of gRPC would report; 0 before there was anything to report."""
        self.clocks = Clocks(lookup=0.0, connected=0.0, secured=0.0, first_byte=0.0, ended=0.0)
        self.content = Content(limit=0, keep=0)
        self.handshake = Handshake(clock)
        self.lines: list[bytes] = []
        self.head: list[bytes] = []
        self.trailers: list[bytes] = []
        self.status: Status | None = None
        self.serving = ""

    def read(self, handle: pycurl.Curl) -> None:
        """Take what libcurl knows of the connection and of the head."""
        self.address = handle.getinfo(pycurl.PRIMARY_IP) or self.address
        self.head, self.trailers = split_lines(self.lines)


def _check_call(options: GrpcOptions) -> None:
    if options.method:
        if not _METHOD.fullmatch(options.method):
            raise ValueError(f"method is written like shop.v1.Orders/List, not {options.method!r}")
        if options.service:
            raise ValueError("service is asked for by the health check: give service or method, not both")
        if options.expect.status != ExpectGrpc().status:
            raise ValueError("expect.status is what the health check says: with method, give expect.code")
    elif options.message is not None:
        raise ValueError("message is for a method: give method too")
    for name, values in options.metadata.items():
        if not _NAME.fullmatch(name) or name.startswith("grpc-") or name in _RESERVED:
            raise ValueError(
                f"metadata: {name!r} cannot be sent: a name is in lower case, and those of gRPC itself are reserved"
            )
        for value in (values,) if isinstance(values, str) else values:
            if not name.endswith("-bin") and not (value.isascii() and value.isprintable()):
                raise ValueError(f"metadata.{name}: a value is printable ASCII; for another, let the name end in -bin")


_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[0-9a-z_.-]+")
_RESERVED = frozenset({"content-type", "te", "host", "user-agent", "content-length", "connection"})


def _check_tls(options: GrpcOptions) -> None:
    if not options.tls:
        for name in ("ca_file", "server_name", "client_certificate"):
            if getattr(options, name):
                raise ValueError(f"{name} is for TLS: give `tls: true` too")
        if not options.verify:
            raise ValueError("verify is for TLS: give `tls: true` too")
        if options.expect.certificate_expires_within is not None:
            raise ValueError("expect.certificate_expires_within is for TLS: give `tls: true` too")
    if options.client_certificate is not None:
        options.client_certificate.check("client_certificate")
    if options.tls_min > options.tls_max:
        raise ValueError(f"tls_min {options.tls_min} is newer than tls_max {options.tls_max}")


def _curl_options(place: Endpoint, name: str, options: GrpcOptions) -> Iterator[tuple[int, Any]]:
    host = f"[{name}]" if ":" in name else name
    yield pycurl.URL, f"{'https' if options.tls else 'http'}://{host}:{place.port}/{options.method or HEALTH}"
    yield pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
    yield pycurl.POSTFIELDS, frame(_sent(options))
    yield pycurl.USERAGENT, options.user_agent or USER_AGENT
    yield pycurl.NOSIGNAL, 1
    yield pycurl.FRESH_CONNECT, 1
    yield pycurl.FORBID_REUSE, 1
    yield pycurl.SSL_SESSIONID_CACHE, 0
    yield pycurl.PROXY, ""  # or libcurl would take one from the environment
    yield pycurl.SSL_EC_CURVES, CURVES
    if options.tls:
        yield pycurl.SSLVERSION, _OLDEST[options.tls_min] | _NEWEST[options.tls_max]
        if not options.verify:
            yield pycurl.SSL_VERIFYPEER, 0
            yield pycurl.SSL_VERIFYHOST, 0
        if options.tls_min < "1.2":
            yield pycurl.SSL_CIPHER_LIST, "DEFAULT:@SECLEVEL=0"  # or OpenSSL does without TLS 1.1
        if options.client_certificate is not None:
            yield from options.client_certificate.settings()


_OLDEST: Final = {
    "1.0": pycurl.SSLVERSION_TLSv1_0,
    "1.1": pycurl.SSLVERSION_TLSv1_1,
    "1.2": pycurl.SSLVERSION_TLSv1_2,
    "1.3": pycurl.SSLVERSION_TLSv1_3,
}
_NEWEST: Final = {
    "1.0": pycurl.SSLVERSION_MAX_TLSv1_0,
    "1.1": pycurl.SSLVERSION_MAX_TLSv1_1,
    "1.2": pycurl.SSLVERSION_MAX_TLSv1_2,
    "1.3": pycurl.SSLVERSION_MAX_TLSv1_3,
}


def _sent(options: GrpcOptions) -> bytes:
    if not options.method:
        return health_request(options.service)
    message = options.message or Message()
    if message.base64 and message.hex:
        raise ValueError("message: give base64 or hex, not both")
    try:
        return base64.b64decode(message.base64, validate=True) if message.base64 else bytes.fromhex(message.hex)
    except (binascii.Error, ValueError) as error:
        how = "base64" if message.base64 else "hex"
        raise ValueError(f"message.{how} cannot be read: {error}") from None


def _headers(metadata: Mapping[str, str | tuple[str, ...]]) -> Iterator[str]:
    yield "Content-Type: application/grpc"
    yield "TE: trailers"
    yield "Expect:"
    yield "Accept:"
    for name, values in metadata.items():
        for value in (values,) if isinstance(values, str) else values:
            yield metadata_line(name, value)


def _way(target: str, options: GrpcOptions) -> Way:
    refuse(options, "connect_to")
    only = options.ip in _ONE_FAMILY and not options.ip_fallback
    ip = _ONE_FAMILY[options.ip] if only else options.ip
    return Way(place=Endpoint.parse(target), resolver=resolver_of(options.resolver), ip=ip, tls=options.tls)


KIND: Final = Kind(
    name="grpc",
    options=GrpcOptions,
    build=build,
    detour=connecting(_way),
    phases=("resolve", "check"),
    phase_metric=Metric("probe_grpc_duration_seconds", "Seconds of a gRPC call by phase; check begins with connecting"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_grpc_ssl", "1 when the call was made over TLS"),
        Metric("probe_grpc_status_code", "Status code that the call ended with; 14 and 4 also for what no server said"),
        Metric("probe_grpc_healthcheck_response", "1 for the serving status that the health check answered with"),
        Metric("stormwatch_grpc_check_part_seconds", "Seconds of connect, tls, processing and transfer within check"),
        *certificate.METRICS,
    ),
    reasons=frozenset(
        {
            Reason.DNS,
            Reason.REFUSED,
            Reason.UNREACHABLE,
            Reason.TIMEOUT,
            Reason.RESET,
            Reason.TLS,
            Reason.CERTIFICATE,
            Reason.STATUS,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
