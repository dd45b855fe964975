"""What one run says over HTTP: a request, and the redirects that it is answered with, each on a connection of its own.

    with Session(client, watch) as session:       one handle of libcurl, and so one jar of cookies
        await session.fetch(request, visit)

What was seen stands in the `Visit`, also when `fetch` raises.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pycurl

from stormwatch.probes.client import Client
from stormwatch.probes.curl import CurlEngine, Ended, alias, connect_to, own_error, resolve_entry
from stormwatch.probes.endpoint import Endpoint, family, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.proxy import Proxy
from stormwatch.probes.request import Request
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.token import MARGIN, OAuth2, Token, Tokens, read_token
from stormwatch.probes.transfer import blame, blame_proxy
from stormwatch.probes.units import show_size
from stormwatch.probes.url import Url
from stormwatch.probes.visit import HEAD_LIMIT, Visit
from stormwatch.probes.watch import Watch


class Session:
    """What one run says to its target and to where redirects lead. Cookies live as long as it."""

    __slots__ = ("_client", "_engine", "_handle", "_only", "_used", "_watch")

    def __init__(self, client: Client, watch: Watch) -> None:
        self._client = client
        self._watch = watch
        self._engine = watch.resources.get(CurlEngine)
        self._handle = self._engine.take()
        self._only = ""
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.give_back(self._handle)

    async def fetch(self, request: Request, visit: Visit, *, only: str = "") -> None:
        """Ask, and go where redirects lead; `visit` holds the last answer then.

        `only` is the one address to use for the host of the client's home. Raises ProbeFailed and ProbeBroken; being
        cancelled closes the connection. `visit.failed_phase` says where.
        """
        self._only = only
        try:
            oauth2 = self._client.options.oauth2
            if oauth2 is None or request.url.origin != self._client.home.origin:
                await self._follow(request, visit)
            else:
                await self._follow_with_token(request, visit, oauth2)
        except BaseException as error:
            visit.failed_phase = getattr(error, "phase", "") or visit.phase
            raise

    async def _follow(self, request: Request, visit: Visit) -> None:
        options, home = self._client.options, request.url
        while True:
            await self._ask(request, visit, at_home=request.url is home or request.url.origin == home.origin)
            location = visit.location
            if not location:
                return
            visit.redirected(followed=options.follow_redirects)
            if not options.follow_redirects:
                return
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
        name = client.options.server_name
        same_host = url.place.host == client.home.place.host
        visit.begin(url, watch.clock.monotonic, server_name=name if name and url.tls and same_host else "")
        if self._used:
            handle.reset()  # forgets what was set for the request before, and keeps the cookies
        self._used = True
        for option, setting in client.settings:
            handle.setopt(option, setting)
        proxy = client.proxies.choose(url.place, tls=url.tls) if client.proxies.any else None
        if proxy is None:
            await self._find_way(url, visit)
        else:
            await self._find_way_through(proxy, url, visit)
        began = watch.clock.monotonic()
        self._say(request, visit, at_home=at_home)
        self._listen(visit, behind_tls=proxy is not None and proxy.scheme == "https")

        visit.phase = "connect"
        try:
            ended = await self._engine.perform(
                handle, visit.receive(client.options.max_body).take, ca_file=client.ca_file if url.tls else ""
            )
        except asyncio.CancelledError:
            visit.ended(handle, began, began - watch.began, cancelled=watch.clock.monotonic())
            raise
        visit.ended(handle, began, began - watch.began)
        if ended.code:
            raise self._blame(ended, visit, url, proxy)

    def _say(self, request: Request, visit: Visit, *, at_home: bool) -> None:
        """Tell libcurl what to send."""
        client, handle, url = self._client, self._handle, request.url
        lines = request.home if at_home else request.away
        if not visit.renamed:
            handle.setopt(pycurl.URL, url.text)
        else:  # libcurl takes the name for TLS from the URL, so the Host header has to be said
            handle.setopt(pycurl.URL, _renamed(url, visit.server_name))
            if not any(line.lower().startswith("host:") for line in lines):
                lines = [*lines, f"Host: {urlsplit(url.text).netloc}"]
        request.set_method(handle)
        handle.setopt(pycurl.HTTP_VERSION, _VERSIONS[client.options.version, url.tls])
        handle.setopt(pycurl.HTTPHEADER, lines)
        digest = client.options.digest_auth
        if digest is not None and url.origin == client.home.origin:
            handle.setopt(pycurl.HTTPAUTH, pycurl.HTTPAUTH_DIGEST)
            handle.setopt(pycurl.USERNAME, digest.username)
            handle.setopt(pycurl.PASSWORD, digest.password)

    def _listen(self, visit: Visit, *, behind_tls: bool) -> None:
        """Have the visit told of everything that comes. `behind_tls`: the first handshake is that of a proxy."""
        handle = self._handle
        if visit.secure:
            take = visit.handshake.take
            handle.setopt(pycurl.VERBOSE, 1)
            handle.setopt(pycurl.DEBUGFUNCTION, _BehindProxy(take).take if behind_tls else take)
        handle.setopt(pycurl.HEADERFUNCTION, visit.heads.take)
        # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
        handle.setopt(pycurl.TIMEOUT_MS, int(self._watch.remaining() * 1000) + 250)

    def _blame(self, ended: Ended, visit: Visit, url: Url, proxy: Proxy | None) -> ProbeFailed | ProbeBroken:
        if visit.heads.too_large:
            message = f"the head of the answer is larger than {show_size(HEAD_LIMIT)}"
            return ProbeFailed(Reason.PROTOCOL, message, phase="processing")
        if visit.content.too_large:
            message = f"the body is larger than max_body, {show_size(self._client.options.max_body)}"
            return ProbeFailed(Reason.ASSERTION, message, phase="transfer")
        failure = None
        if proxy is not None:
            failure = blame_proxy(self._handle, ended, proxy=str(proxy), target=url.origin)
        return failure or blame(
            ended,
            target=url.origin,
            phase=visit.phase,
            os_errno=own_error(self._handle),
            alert=visit.handshake.alert,
        )

    async def _find_way(self, url: Url, visit: Visit) -> None:
        """Resolve, ask whether we may connect there, and have libcurl connect to just those addresses."""
        client = self._client
        detour = client.detour
        place = detour if detour is not None and url.place.host == client.home.place.host else url.place
        addresses = await self._addresses(place, url, visit)
        if place is not url.place or addresses != (url.place.host,) or visit.renamed:
            connect_to(self._handle, addresses, place.port)

    async def _addresses(self, place: Endpoint, url: Url, visit: Visit) -> tuple[str, ...]:
        """Those that may be connected to, the look-up timed."""
        watch = self._watch
        addresses: tuple[str, ...]
        began = watch.clock.monotonic()
        try:
            if self._only and url.place.host == self._client.home.place.host:
                addresses = (self._only,)
            else:
                addresses = await find_addresses(self._client, place, clock=watch.clock.monotonic)
        except BaseException:
            visit.resolved(watch.clock.monotonic() - began, began - watch.began, "")
            raise
        visit.resolved(watch.clock.monotonic() - began, began - watch.began, addresses[0])
        return watch.reach.permitted(addresses, place.host)

    async def _find_way_through(self, proxy: Proxy, url: Url, visit: Visit) -> None:
        """The proxy is resolved and asked about as a target is. The target's name is the proxy's to resolve, or ours."""
        client, watch, handle = self._client, self._watch, self._handle
        if not client.options.proxy_resolves:
            address = (await self._addresses(url.place, url, visit))[0]
            if url.tls or proxy.socks:
                handle.setopt(pycurl.CONNECT_TO, [f"::{Endpoint(address, url.place.port)}"])
            else:
                parts = urlsplit(url.text)
                there = parts._replace(netloc=str(Endpoint(address, url.place.port)), path=parts.path or "/")
                handle.setopt(pycurl.REQUEST_TARGET, there.geturl())
        elif is_address(url.place.host):
            watch.reach.check(url.place.host)
        visit.proxy = str(proxy)
        began = watch.clock.monotonic()
        try:
            found = await resolve(proxy.place.host, server=client.server, clock=watch.clock.monotonic)
        except ProbeFailed as failure:
            raise ProbeFailed(Reason.DNS, f"the proxy {proxy}: {failure.message}", phase="resolve") from failure
        finally:
            visit.waited("resolve", watch.clock.monotonic() - began, began - watch.began)
        found = watch.reach.permitted(found, proxy.place.host)
        # The certificate of a proxy is for its name, so that libcurl has to know it by it; others are known by an alias.
        host = proxy.place.host if proxy.scheme == "https" else alias(found)
        handle.setopt(pycurl.RESOLVE, [resolve_entry(host, proxy.place.port, found)])
        handle.setopt(pycurl.PROXY, f"{proxy.scheme}://{Endpoint(host, proxy.place.port)}")
        if proxy.login is not None:
            handle.setopt(pycurl.PROXYUSERNAME, proxy.login.username)
            handle.setopt(pycurl.PROXYPASSWORD, proxy.login.password)

    async def _follow_with_token(self, request: Request, visit: Visit, oauth2: OAuth2) -> None:
        """With a token. One that had been kept may have been revoked: then another is fetched, once."""
        lines = [line for line in request.home if not line.lower().startswith("authorization:")]
        token, kept = await self._token(oauth2)
        while True:
            visit.secret = token.value
            await self._follow(replace(request, home=[*lines, f"Authorization: Bearer {token.value}"]), visit)
            if not kept or visit.status != 401:
                return
            self._watch.resources.get(Tokens).drop(self._token_key(oauth2), token)
            self._watch.note("token", "the one that had been kept was refused with status 401: another was fetched")
            visit.forget()
            token, kept = (await self._token(oauth2))[0], False

    def _token_key(self, oauth2: OAuth2) -> tuple[Any, ...]:
        return (oauth2.identity, self._watch.reach)

    async def _token(self, oauth2: OAuth2) -> tuple[Token, bool]:
        watch = self._watch
        try:
            return await watch.resources.get(Tokens).get(
                self._token_key(oauth2),
                lambda: self._fetch_token(oauth2),
                now=watch.clock.monotonic(),
                within=watch.remaining() - MARGIN,
            )
        except (ProbeBroken, ProbeFailed) as failure:
            ours = failure.reason in (Reason.RESOURCES, Reason.NETWORK, Reason.POLICY)
            reason = failure.reason if ours else Reason.CREDENTIALS
            message = f"no token from {oauth2.token_url}: {failure.message}"
            raise ProbeBroken(reason, message, phase="resolve") from failure

    async def _fetch_token(self, oauth2: OAuth2) -> Token:
        """For all runs that wait for it, so with a watch of its own: this run may end before."""
        client, watch = self._client.authorizer, self._watch
        assert client is not None
        login = oauth2.login()
        request = client.request(
            client.home,
            method="POST",
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
                **({"Authorization": login} if login else {}),
            },
            body=oauth2.form(),
        )
        own = Watch(
            clock=watch.clock,
            resources=watch.resources,
            timeout=oauth2.timeout,
            probe=watch.probe,
            trace_id=watch.trace_id,
            reach=watch.reach,
        )
        visit = Visit(keep=2**20)
        with Session(client, own) as session:
            try:
                async with asyncio.timeout(oauth2.timeout):
                    await session.fetch(request, visit)
            except TimeoutError:
                raise ProbeFailed(Reason.TIMEOUT, f"it did not answer within {oauth2.timeout:g} s") from None
        return read_token(visit.status, bytes(visit.content.kept), watch.clock.monotonic())


async def find_addresses(client: Client, place: Endpoint, *, clock: Callable[[], float]) -> tuple[str, ...]:
    """The addresses that a client may use for a host, the one to try first in front. Raises ProbeFailed(dns)."""
    ip, host = client.options.ip, place.host
    if is_address(host) and ip in ("any", "every"):
        return _of_source(client, (host,))
    if ip == "every":
        return _of_source(client, await _both_families(client, host, clock=clock))
    if ip in ("any", "4", "6"):
        return _of_source(client, await resolve(host, ip=ip, server=client.server, clock=clock))
    # Each family is asked for itself: an answer that came late must not make us prefer the other.
    wanted, other = _PREFERRED[ip]
    try:
        return (await resolve(host, ip=wanted, server=client.server, clock=clock))[:1]
    except ProbeFailed:
        if not client.options.ip_fallback:
            raise
        return (await resolve(host, ip=other, server=client.server, clock=clock))[:1]


def is_absence(failure: ProbeFailed) -> bool:
    """Whether a failed look-up says that there is no such name, or no address; not that nobody could say."""
    cause = failure.__cause__
    if isinstance(cause, socket.gaierror):
        return cause.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    return failure.message.endswith(": NXDOMAIN") or " has no " in failure.message


async def _both_families(client: Client, host: str, *, clock: Callable[[], float]) -> tuple[str, ...]:
    asked = [resolve(host, ip=each, server=client.server, clock=clock) for each in _FAMILIES]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for each in answers:
        if isinstance(each, BaseException) and not isinstance(each, ProbeFailed):
            raise each
    # Name servers rotate their answers: sorted, the same address is asked, and told of, in the same place.
    found = [address for each in answers if isinstance(each, tuple) for address in sorted(each, key=ip_address)]
    if not found and isinstance(answers[0], ProbeFailed):
        raise answers[0]
    return tuple(dict.fromkeys(found))


def _of_source(client: Client, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can be reached from the address to connect from."""
    source = client.options.source
    if not source:
        return addresses
    kept = tuple(address for address in addresses if family(address) == family(source))
    if not kept:
        raise ProbeFailed(
            Reason.DNS, f"no address of {', '.join(addresses)} can be connected to from {source}", phase="resolve"
        )
    return kept


_FAMILIES: Final[tuple[Family, Family]] = ("4", "6")
_PREFERRED: Final[Mapping[str, tuple[Family, Family]]] = {"prefer-4": ("4", "6"), "prefer-6": ("6", "4")}

_VERSIONS: Final = {
    ("any", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("any", True): pycurl.CURL_HTTP_VERSION_2TLS,
    ("1.1", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("1.1", True): pycurl.CURL_HTTP_VERSION_1_1,
    ("2", False): pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    ("2", True): pycurl.CURL_HTTP_VERSION_2TLS,
    ("3", False): pycurl.CURL_HTTP_VERSION_1_1,
    ("3", True): 31,  # CURL_HTTP_VERSION_3ONLY: never by TCP instead
}


def _renamed(url: Url, name: str) -> str:
    """The same URL at another host."""
    parts = urlsplit(url.text)
    return parts._replace(netloc=str(Endpoint(name, url.place.port))).geturl()


class _BehindProxy:
    """Passes on the messages of the second handshake, that with the target: the first was with the proxy."""

    __slots__ = ("_asked", "_take")

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._asked = False

    def take(self, kind: int, data: bytes) -> None:
        if self._asked:
            self._take(kind, data)
        elif kind == pycurl.INFOTYPE_HEADER_OUT and data.startswith(b"CONNECT "):
            self._asked = True
