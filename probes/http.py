"""The kind `http`: one request on a connection of its own, phases by libcurl's clocks, the answer judged."""

import asyncio
import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import pycurl
from pydantic import ConfigDict, Field

from stormwatch.probes import certificate
from stormwatch.probes.answer import (
    Answer,
    Expectations,
    ExpectHttp,
    show_head,
    show_version,
)
from stormwatch.probes.certificate import NOT_VERIFIED, Trust, check_key_pair, load_trust
from stormwatch.probes.curl import CURVES, CurlEngine, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint, address_hash, family, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Measure, Reason
from stormwatch.probes.transfer import blame
from stormwatch.probes.units import Bytes, show_size
from stormwatch.probes.url import Url
from stormwatch.probes.visit import Content, Visit
from stormwatch.probes.watch import Watch

PHASES: Final = ("resolve", "connect", "tls", "processing", "transfer")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """User name and password, sent as RFC 7617 says, to the target's own origin only."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    username: str
    """The user's name."""
    password: Secret = field(repr=False)
    """Write it as `${env:NAME}` or `${file:PATH}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What the probe proves its identity with in the TLS handshake."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    certificate: File
    """A PEM file with the certificate, its intermediates behind it."""
    key: File
    """A PEM file with its private key, not encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How to ask, and what the answer must be."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    method: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "GET"
    """The request's method."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Request headers. They are never kept as evidence."""
    body: str | None = None
    """The request's body. Its type is not guessed: give a Content-Type header."""
    user_agent: str = ""
    """The User-Agent header; Stormwatch and its version when empty."""
    basic_auth: BasicAuth | None = None
    """Log in with name and password."""
    bearer: Secret = field(default="", repr=False)
    """Log in with a token: write it as `${env:NAME}` or `${file:PATH}`."""
    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    verify: bool = True
    """Whether the server's certificate must be valid. Its facts are exported either way."""
    client_certificate: ClientCertificate | None = None
    """Certificate and key for servers that ask for one."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    connect_to: str = ""
    """`host` or `host:port` to connect to instead of the target's. Host header and certificate stay the target's."""
    ip: Family = "any"
    """Which addresses to use: `any` tries the others when one family does not answer."""
    version: Literal["any", "1.1", "2"] = "any"
    """HTTP version to ask for. `2` on a plain http target means HTTP/2 from the first byte (RFC 9113 §3.3)."""
    follow_redirects: bool = True
    """Go where a redirect leads, at most `max_redirects` times. Credentials stay with the target's own origin."""
    max_redirects: Annotated[int, Field(ge=0, le=100)] = 10
    """One redirect more than this is a failure."""
    max_body: Bytes = 10 * 2**20
    """Largest body that is read, after decompression. A larger one is a failure, and its rest is not read."""
    compression: Literal["", "any", "gzip", "br", "deflate", "identity"] = ""
    """The Accept-Encoding to send; the body is decompressed before it is looked at. Empty sends none."""
    expect: ExpectHttp = field(default_factory=ExpectHttp)
    """What the answer must be."""


def build(target: str, options: HttpOptions) -> Check:
    """A check of one URL. Raises ValueError for a URL or an option that cannot work."""
    url = Url.parse(target)
    if options.basic_auth and options.bearer:
        raise ValueError("give basic_auth or bearer, not both: a request has one Authorization header")
    _check_headers(options.headers)
    if options.client_certificate is not None:
        check_key_pair(options.client_certificate.certificate, options.client_certificate.key)
    ca_file, trust = ("", None)
    if options.verify and (options.ca_file or url.tls or options.follow_redirects):
        ca_file, trust = _trust(options.ca_file, needed=url.tls or bool(options.ca_file))
    return HttpCheck(
        url=url,
        options=options,
        expectations=Expectations(options.expect),
        ca_file=ca_file,
        trust=trust,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        detour=_read_detour(options.connect_to, url.place.port),
        request=_request_options(options),
        home_headers=[*_public_headers(options), *_secret_headers(options)],
        away_headers=_without_host(_public_headers(options)),
    )


@dataclass(frozen=True, slots=True)
class _Request:
    url: Url
    method: str
    body: str | None


@dataclass(frozen=True, slots=True, eq=False)
class HttpCheck:
    """Looks at one URL. Everything that does not change between runs is made by `build`."""

    url: Url
    options: HttpOptions
    expectations: Expectations
    ca_file: str
    trust: Trust | None
    server: Endpoint | None
    detour: Endpoint | None
    request: tuple[tuple[int, Any], ...]
    """libcurl's options that are the same for every request of every run."""
    home_headers: list[str]
    """Headers for the target's own origin."""
    away_headers: list[str]
    """Headers for where else redirects lead: without credentials."""

    async def __call__(self, watch: Watch) -> None:
        """Ask, follow, judge. Whatever was seen is written down, however it ends."""
        visit = Visit()
        engine = watch.resources.get(CurlEngine)
        handle = engine.take()
        try:
            if self.options.expect.refused:
                await self._must_be_refused(watch, engine, handle, visit)
            else:
                await self._follow(watch, engine, handle, visit)
                self._judge(watch, visit)
        except BaseException as error:
            visit.failed_phase = error.phase if isinstance(error, ProbeFailed | ProbeBroken) else visit.phase
            raise
        finally:
            engine.give_back(handle)
            self._write_down(watch, visit)

    async def _must_be_refused(self, watch: Watch, engine: CurlEngine, handle: pycurl.Curl, visit: Visit) -> None:
        request = _Request(self.url, self.options.method.upper(), self.options.body)
        try:
            await self._ask(watch, engine, handle, visit, request)
        except ProbeFailed as failure:
            if failure.reason is Reason.REFUSED:
                return
            if visit.phase in ("resolve", "connect"):
                raise
        raise ProbeFailed(
            Reason.ASSERTION, f"{visit.remote} accepted the connection, wanted it refused", phase="connect"
        )

    async def _follow(self, watch: Watch, engine: CurlEngine, handle: pycurl.Curl, visit: Visit) -> None:
        request = _Request(self.url, self.options.method.upper(), self.options.body)
        while True:
            await self._ask(watch, engine, handle, visit, request)
            location = visit.location
            if not location or not self.options.follow_redirects:
                return
            visit.redirects.append({"status": visit.status, "location": location})
            if len(visit.redirects) > self.options.max_redirects:
                raise ProbeFailed(
                    Reason.STATUS,
                    f"still redirected, to {location}, after {self.options.max_redirects} redirects",
                    phase="processing",
                )
            try:
                url = Url.parse(location)
            except ValueError as error:
                raise ProbeFailed(
                    Reason.PROTOCOL, f"redirected to where no probe can go: {error}", phase="processing"
                ) from error
            # As browsers do it, and RFC 9110 §15.4 allows: only 307 and 308 promise to keep the method.
            if visit.status == 303 or (visit.status in (301, 302) and request.method == "POST"):
                request = _Request(url, "HEAD" if request.method == "HEAD" else "GET", None)
            else:
                request = replace(request, url=url)

    async def _ask(
        self,
        watch: Watch,
        engine: CurlEngine,
        handle: pycurl.Curl,
        visit: Visit,
        request: "_Request",
    ) -> None:
        """One request and its answer, on a connection of its own."""
        url = request.url
        visit.begin(url, watch.clock.monotonic)
        place = self.detour if self.detour is not None and url.place.host == self.url.place.host else url.place
        began = watch.clock.monotonic()
        try:
            if self.options.ip == "any" and is_address(place.host):
                addresses: tuple[str, ...] = (place.host,)
            else:
                addresses = await resolve(
                    place.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                )
        except BaseException:
            visit.resolved(watch.clock.monotonic() - began, began - watch.began, "")
            raise
        resolved = watch.clock.monotonic()
        first = addresses[0]
        visit.resolved(resolved - began, began - watch.began, first)

        handle.setopt(pycurl.URL, url.text)
        for option, value in self.request:
            handle.setopt(option, value)
        _set_method(handle, request.method, request.body)
        handle.setopt(pycurl.HTTP_VERSION, _VERSIONS[self.options.version, url.tls])
        at_home = url is self.url or url.origin == self.url.origin
        headers = self.home_headers if at_home else self.away_headers
        handle.setopt(pycurl.HTTPHEADER, headers)
        if place is not url.place or len(addresses) > 1 or first != place.host:
            connect_to(handle, addresses, place.port)
        if url.tls:
            handle.setopt(pycurl.VERBOSE, 1)
            handle.setopt(pycurl.DEBUGFUNCTION, visit.handshake.take)
        content = visit.content = Content(
            limit=self.options.max_body, keep=self.options.max_body if self.expectations.needs_body else 2048
        )
        handle.setopt(pycurl.WRITEFUNCTION, content.take)
        handle.setopt(pycurl.HEADERFUNCTION, visit.lines.append)
        # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
        handle.setopt(pycurl.TIMEOUT_MS, int(watch.remaining() * 1000) + 250)

        visit.phase = "connect"
        try:
            ended = await engine.perform(handle, ca_file=self.ca_file if url.tls else "")
        except asyncio.CancelledError:
            visit.ended(handle, resolved, resolved - watch.began, cancelled=watch.clock.monotonic())
            raise
        visit.ended(handle, resolved, resolved - watch.began)
        if content.too_large:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the body is larger than max_body, {show_size(self.options.max_body)}",
                phase="transfer",
            )
        if ended.code:
            raise blame(
                ended,
                target=url.origin,
                phase=visit.phase,
                os_errno=own_error(handle),
                alert=visit.handshake.alert,
            )

    def _judge(self, watch: Watch, visit: Visit) -> None:
        expires = certificate.read_chain(visit.handshake.chain).expires if visit.secure else math.inf
        visit.complaints = self.expectations.judge(
            Answer(
                status=visit.status,
                version=visit.version,
                head=visit.head,
                body=bytes(visit.content.kept) if self.expectations.needs_body else b"",
                seconds=visit.seconds,
                slowest_phase=visit.slowest,
                expires_in=expires - watch.clock.now(),
            )
        )
        if visit.complaints:
            raise visit.complaints[0].as_failure()

    def _write_down(self, watch: Watch, visit: Visit) -> None:
        for name, (offset, seconds) in visit.phases.items():
            watch.add_phase(name, seconds, offset=offset, failed=name == visit.failed_phase)
        watch.took(visit.seconds)
        watch.measure("probe_dns_lookup_time_seconds", visit.lookup)
        watch.measures.extend(
            _measures(
                _Seen(
                    address=visit.address,
                    status=visit.status,
                    version=visit.version,
                    tls=visit.secure and visit.status > 0,
                    redirects=len(visit.redirects),
                    content_length=visit.content_length if visit.status else 0,
                    size=visit.content.size,
                    regex=any(each.regex for each in visit.complaints),
                    last_modified=visit.last_modified,
                )
            )
        )
        if visit.address:
            watch.note("remote", visit.remote)
        if visit.secure:
            self._write_certificates(watch, visit)
        self._write_evidence(watch, visit)

    def _write_certificates(self, watch: Watch, visit: Visit) -> None:
        assert visit.url is not None
        verified: float | None = None
        if visit.phases.get("processing") is not None:  # only then the handshake was completed
            verified = NOT_VERIFIED
            if self.trust is not None:
                verified = self.trust.expiry(visit.handshake.chain, visit.url.place.host, watch.clock.now())
        certificate.measure(watch, visit.handshake, verified_expiry=verified)

    def _write_evidence(self, watch: Watch, visit: Visit) -> None:
        if visit.redirects:
            watch.note("redirects", visit.redirects)
            watch.note("url", visit.url.text if visit.url else "")
        head = visit.head
        if head:
            watch.note("status_line", head[0].decode("latin-1").strip())
            watch.note("response_head", show_head(head))
            watch.note("http_version", show_version(visit.version))
        if visit.complaints:
            watch.note("complaints", [each.message for each in visit.complaints])
        if visit.content.kept and (visit.complaints or visit.content.too_large):
            watch.note("body", bytes(visit.content.kept[:2048]).decode("utf-8", "replace"))


class _Seen(NamedTuple):
    """What a run measures besides its times."""

    address: str
    status: int
    version: float
    tls: bool
    redirects: int
    content_length: float
    size: int
    regex: bool
    last_modified: float


@lru_cache(maxsize=8192)
def _measures(seen: _Seen) -> tuple[Measure, ...]:
    """The same in nearly every run of a probe: remembered, not made again."""
    found = [
        Measure("probe_ip_protocol", float(family(seen.address))),
        Measure("probe_http_status_code", float(seen.status)),
        Measure("probe_http_version", seen.version),
        Measure("probe_http_ssl", float(seen.tls)),
        Measure("probe_http_redirects", float(seen.redirects)),
        Measure("probe_http_content_length", float(seen.content_length)),
        Measure("probe_http_uncompressed_body_length", float(seen.size)),
        Measure("probe_failed_due_to_regex", float(seen.regex)),
    ]
    if seen.address:
        found.append(Measure("probe_ip_addr_hash", float(address_hash(seen.address))))
    if seen.last_modified >= 0:
        found.append(Measure("probe_http_last_modified_timestamp_seconds", seen.last_modified))
    return tuple(found)


_VERSIONS = {
    ("any", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("any", True): pycurl.CURL_HTTP_VERSION_2TLS,
    ("1.1", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("1.1", True): pycurl.CURL_HTTP_VERSION_1_1,
    ("2", False): pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    ("2", True): pycurl.CURL_HTTP_VERSION_2TLS,
}


def _user_agent() -> str:
    try:
        return f"Stormwatch/{version('stormwatch')}"
    except PackageNotFoundError:
        return "Stormwatch"


USER_AGENT: Final = _user_agent()
"""What the probe calls itself unless it is told otherwise."""


def _request_options(options: HttpOptions) -> tuple[tuple[int, Any], ...]:
    found: list[tuple[int, Any]] = [
        (pycurl.NOSIGNAL, 1),
        (pycurl.FRESH_CONNECT, 1),
        (pycurl.FORBID_REUSE, 1),
        (pycurl.SSL_SESSIONID_CACHE, 0),
        (pycurl.PROXY, ""),  # or libcurl would take one from the environment
        (pycurl.OPT_FILETIME, 1),
        (pycurl.USERAGENT, options.user_agent or USER_AGENT),
        (pycurl.SSL_EC_CURVES, CURVES),
    ]
    if not options.verify:
        found += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
    if options.client_certificate is not None:
        found += [
            (pycurl.SSLCERT, options.client_certificate.certificate),
            (pycurl.SSLKEY, options.client_certificate.key),
        ]
    if options.compression:
        found.append((pycurl.ACCEPT_ENCODING, "" if options.compression == "any" else options.compression))
    return tuple(found)


def _set_method(handle: pycurl.Curl, method: str, body: str | None) -> None:
    if method == "GET" and body is None:
        handle.setopt(pycurl.HTTPGET, 1)
        handle.unsetopt(pycurl.CUSTOMREQUEST)
        return
    handle.setopt(pycurl.HTTPGET, 1)
    if body is not None:
        handle.setopt(pycurl.POSTFIELDS, body.encode())
    elif method == "HEAD":
        handle.setopt(pycurl.NOBODY, 1)
    elif method in ("POST", "PUT", "PATCH"):
        handle.setopt(pycurl.POSTFIELDS, b"")
    handle.setopt(pycurl.CUSTOMREQUEST, method)


def _secret_headers(options: HttpOptions) -> tuple[str, ...]:
    """What only the target's own origin may see: credentials."""
    found = [_header_line(name, value) for name, value in options.headers.items() if name.lower() in _CREDENTIALS]
    if options.basic_auth is not None:
        pair = f"{options.basic_auth.username}:{options.basic_auth.password}".encode()
        found.append(f"Authorization: Basic {base64.b64encode(pair).decode()}")
    if options.bearer:
        found.append(f"Authorization: Bearer {options.bearer}")
    return tuple(found)


_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


def _public_headers(options: HttpOptions) -> tuple[str, ...]:
    names = {name.lower() for name in options.headers}
    found = [_header_line(name, value) for name, value in options.headers.items() if name.lower() not in _CREDENTIALS]
    if "connection" not in names:
        # The server closes first, and keeps the port's waiting time on its side: ours would run out of ports.
        found.append("Connection: close")
    if "content-type" not in names:
        found.append("Content-Type:")  # libcurl's guess for a body would be a form
    if "expect" not in names:
        found.append("Expect:")
    return tuple(found)


def _without_host(headers: tuple[str, ...]) -> list[str]:
    return [line for line in headers if not line.lower().startswith("host:")]


def _header_line(name: str, value: str) -> str:
    return f"{name}: {value}" if value else f"{name};"  # libcurl's way to send a header without a value


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not name or not set(name) <= _TOKEN:
            raise ValueError(f"headers: {name!r} is not the name of a header")
        if any(sign in value for sign in "\r\n\0"):
            raise ValueError(f"headers.{name}: a value has no line breaks")


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _read_detour(text: str, port: int) -> Endpoint | None:
    return Endpoint.parse(text, what="connect_to", default_port=port) if text else None


def _trust(ca_file: str, *, needed: bool) -> tuple[str, Trust | None]:
    try:
        return load_trust(ca_file)
    except ValueError:
        if needed:
            raise
        return "", None  # a plain target that may redirect to https: verification will fail then, and say so


KIND: Final = Kind(
    name="http",
    options=HttpOptions,
    build=build,
    phases=PHASES,
    phase_metric=Metric("probe_http_duration_seconds", "Seconds of an HTTP request by phase, summed over redirects"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_http_status_code", "Status code of the last answer, 0 for none"),
        Metric("probe_http_version", "HTTP version of the last answer, 0 for none"),
        Metric("probe_http_ssl", "1 when the last answer came over TLS"),
        Metric("probe_http_redirects", "How many redirects were answered"),
        Metric("probe_http_content_length", "Content-Length of the last answer in bytes, -1 when it has none"),
        Metric("probe_http_uncompressed_body_length", "Bytes of the last body after decompression"),
        Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
        Metric("probe_http_last_modified_timestamp_seconds", "Last-Modified of the last answer as a Unix time"),
        *certificate.METRICS,
    ),
)
