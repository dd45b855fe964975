"""How HTTP is spoken to a target: which connections are made, with which rights, and where redirects may lead.

    with client.session(watch) as session:        one run: one handle of libcurl, one jar of cookies
        await session.fetch(request, visit)       one request, and the redirects that it is answered with

A `Client` is made once; a `Session` belongs to one run; what was seen stands in the `Visit`, also when `fetch` raises.
Each request has a connection of its own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated, ClassVar, Final, Literal, Self

import pycurl
from pydantic import ConfigDict, Field

from stormwatch.probes.authorization import ClientCertificate, Login
from stormwatch.probes.certificate import Trust, check_key_pair, load_trust
from stormwatch.probes.curl import CURVES, CurlEngine, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT, File, Secret
from stormwatch.probes.request import NO_HEADERS, USER_AGENT, Headers, Request, Settings, make_request
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import blame
from stormwatch.probes.units import Bytes, show_size
from stormwatch.probes.url import Url
from stormwatch.probes.visit import Visit
from stormwatch.probes.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What the kinds that speak HTTP have in common.

    Descriptions are arguments here, not docstrings: pydantic does not read docstrings of inherited fields.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    user_agent: Annotated[str, Field(description="The User-Agent header; Stormwatch and its version when empty.")] = ""
    basic_auth: Annotated[Login | None, Field(description="Log in with name and password.")] = None
    bearer: Annotated[
        Secret, Field(description="Log in with a token: write it as `${env:NAME}` or `${file:PATH}`.")
    ] = field(default="", repr=False)
    ca_file: Annotated[
        File, Field(description="PEM file of the certificate authorities to trust; the system's when empty.")
    ] = ""
    verify: Annotated[
        bool,
        Field(description="Whether the server's certificate must be valid. Its facts are exported either way."),
    ] = True
    client_certificate: Annotated[
        ClientCertificate | None, Field(description="Certificate and key for servers that ask for one.")
    ] = None
    resolver: Annotated[
        str, Field(description="Name server to resolve by, `host:port`; the system's resolver when empty.")
    ] = ""
    connect_to: Annotated[
        str,
        Field(
            description="`host` or `host:port` to connect to instead of the target's. "
            "Host header and certificate stay the target's."
        ),
    ] = ""
    ip: Annotated[
        Family,
        Field(description="Which addresses to use: `any` tries the others when one family does not answer."),
    ] = "any"
    version: Annotated[
        Literal["any", "1.1", "2"],
        Field(
            description="HTTP version to ask for. "
            "`2` on a plain http target means HTTP/2 from the first byte (RFC 9113 §3.3)."
        ),
    ] = "any"
    follow_redirects: Annotated[
        bool,
        Field(
            description="Go where a redirect leads, at most `max_redirects` times. "
            "Credentials stay with the target's own origin."
        ),
    ] = True
    max_redirects: Annotated[int, Field(ge=0, le=100, description="One redirect more than this is a failure.")] = 10
    max_body: Annotated[
        Bytes,
        Field(
            description="Largest body that is read, after decompression. "
            "A larger one is a failure, and its rest is not read."
        ),
    ] = 10 * 2**20
    compression: Annotated[
        Literal["", "any", "gzip", "br", "deflate", "identity"],
        Field(
            description="The Accept-Encoding to send; the body is decompressed before it is looked at. "
            "Empty sends none."
        ),
    ] = ""


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """Speaks HTTP as its options say. Everything that does not change between runs is made by `build_client`."""

    home: Url
    """Credentials are for its origin, and `connect_to` is in the place of its host."""
    options: ClientOptions = field(repr=False)
    ca_file: str
    trust: Trust | None
    """The authorities that certificates are verified against; None when they are not."""
    server: Endpoint | None
    """The name server that is asked instead of the system's resolver."""
    detour: Endpoint | None
    settings: Settings = field(repr=False)
    """libcurl's options that are the same for every request of every run."""
    login: tuple[str, ...] = field(repr=False)
    """Header lines with the credentials of the home origin."""

    def request(
        self, url: Url, *, method: str = "GET", headers: Headers = NO_HEADERS, body: bytes | None = None
    ) -> Request:
        """A request with the credentials that belong to where it goes. Raises ValueError for a header that cannot be.

        Cheap enough to be made in each run, but a request that is always the same is better made once.
        """
        login = self.login if url.origin == self.home.origin else ()
        return make_request(url, method=method, headers=headers, body=body, login=login)

    def session(self, watch: Watch) -> "Session":
        """For one run: a context manager."""
        return Session(self, watch)


class Session:
    """What one run says to its target and to where redirects lead. Cookies live as long as it."""

    __slots__ = ("_client", "_detoured", "_engine", "_handle", "_watch")

    def __init__(self, client: Client, watch: Watch) -> None:
        self._client = client
        self._watch = watch
        self._engine = watch.resources.get(CurlEngine)
        self._handle = self._engine.take()
        self._detoured = False

    def __enter__(self) -> Self:
        for option, value in self._client.settings:
            self._handle.setopt(option, value)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.give_back(self._handle)

    async def fetch(self, request: Request, visit: Visit) -> None:
        """Ask, and go where redirects lead; `visit` holds the last answer then.

        Raises ProbeFailed and ProbeBroken; being cancelled closes the connection. `visit.failed_phase` says where.
        """
        try:
            await self._follow(request, visit)
        except BaseException as error:
            visit.failed_phase = getattr(error, "phase", "") or visit.phase
            raise

    async def _follow(self, request: Request, visit: Visit) -> None:
        options, home = self._client.options, request.url
        while True:
            await self._ask(request, visit, at_home=request.url is home or request.url.origin == home.origin)
            location = visit.location
            if not location or not options.follow_redirects:
                return
            visit.redirected()
            if len(visit.redirects) > options.max_redirects:
                raise ProbeFailed(
                    Reason.STATUS,
                    f"still redirected, to {location}, after {options.max_redirects} redirects",
                    phase="processing",
                )
            try:
                url = Url.parse(location)
            except ValueError as error:
                raise ProbeFailed(
                    Reason.PROTOCOL, f"redirected to where no probe can go: {error}", phase="processing"
                ) from error
            request = request.redirected(visit.status, url)

    async def _ask(self, request: Request, visit: Visit, *, at_home: bool) -> None:
        """One request and its answer, on a connection of its own."""
        client, watch, handle, url = self._client, self._watch, self._handle, request.url
        visit.begin(url, watch.clock.monotonic)
        detour = client.detour
        place = detour if detour is not None and url.place.host == client.home.place.host else url.place
        began = watch.clock.monotonic()
        try:
            addresses = await self._resolve(place)
        except BaseException:
            visit.resolved(watch.clock.monotonic() - began, began - watch.began, "")
            raise
        resolved = watch.clock.monotonic()
        visit.resolved(resolved - began, began - watch.began, addresses[0])
        addresses = watch.reach.permitted(addresses, place.host)

        handle.setopt(pycurl.URL, url.text)
        request.set_method(handle)
        handle.setopt(pycurl.HTTP_VERSION, _VERSIONS[client.options.version, url.tls])
        handle.setopt(pycurl.HTTPHEADER, request.home if at_home else request.away)
        self._connect_to(place, url.place, addresses)
        if url.tls:
            handle.setopt(pycurl.VERBOSE, 1)
            handle.setopt(pycurl.DEBUGFUNCTION, visit.handshake.take)
        content = visit.receive(client.options.max_body)
        handle.setopt(pycurl.WRITEFUNCTION, content.take)
        handle.setopt(pycurl.HEADERFUNCTION, visit.lines.append)
        # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
        handle.setopt(pycurl.TIMEOUT_MS, int(watch.remaining() * 1000) + 250)

        visit.phase = "connect"
        try:
            ended = await self._engine.perform(handle, ca_file=client.ca_file if url.tls else "")
        except asyncio.CancelledError:
            visit.ended(handle, resolved, resolved - watch.began, cancelled=watch.clock.monotonic())
            raise
        visit.ended(handle, resolved, resolved - watch.began)
        if content.too_large:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the body is larger than max_body, {show_size(client.options.max_body)}",
                phase="transfer",
            )
        if ended.code:
            raise blame(
                ended, target=url.origin, phase=visit.phase, os_errno=own_error(handle), alert=visit.handshake.alert
            )

    async def _resolve(self, place: Endpoint) -> tuple[str, ...]:
        client = self._client
        if client.options.ip == "any" and is_address(place.host):
            return (place.host,)
        return await resolve(place.host, ip=client.options.ip, server=client.server, clock=self._watch.clock.monotonic)

    def _connect_to(self, place: Endpoint, named: Endpoint, addresses: Sequence[str]) -> None:
        if place is not named or len(addresses) > 1 or addresses[0] != place.host:
            connect_to(self._handle, addresses, place.port)
            self._detoured = True
        elif self._detoured:  # by an earlier request of this run
            self._handle.setopt(pycurl.CONNECT_TO, [])
            self._detoured = False


_VERSIONS: Final = {
    ("any", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("any", True): pycurl.CURL_HTTP_VERSION_2TLS,
    ("1.1", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("1.1", True): pycurl.CURL_HTTP_VERSION_1_1,
    ("2", False): pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    ("2", True): pycurl.CURL_HTTP_VERSION_2TLS,
}


def build_client(home: Url, options: ClientOptions) -> Client:
    """A client for a target, from what people write. Raises ValueError for what cannot work."""
    if options.basic_auth and options.bearer:
        raise ValueError("give basic_auth or bearer, not both: a request has one Authorization header")
    if options.client_certificate is not None:
        check_key_pair(options.client_certificate.certificate, options.client_certificate.key)
    ca_file, trust = ("", None)
    if options.verify and (options.ca_file or home.tls or options.follow_redirects):
        ca_file, trust = _trust(options.ca_file, needed=home.tls or bool(options.ca_file))
    return Client(
        home=home,
        options=options,
        ca_file=ca_file,
        trust=trust,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        detour=_detour(options.connect_to, home.place.port),
        settings=tuple(_settings(options)),
        login=tuple(_login(options)),
    )


def _settings(options: ClientOptions) -> Settings:
    found: list[tuple[int, object]] = [
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


def _login(options: ClientOptions) -> list[str]:
    if options.basic_auth is not None:
        return [f"Authorization: {options.basic_auth.basic()}"]
    return [f"Authorization: Bearer {options.bearer}"] if options.bearer else []


def _detour(text: str, port: int) -> Endpoint | None:
    return Endpoint.parse(text, what="connect_to", default_port=port) if text else None


def _trust(ca_file: str, *, needed: bool) -> tuple[str, Trust | None]:
    try:
        return load_trust(ca_file)
    except ValueError:
        if needed:
            raise
        return "", None  # a plain target that may redirect to https: verification will fail then, and say so
