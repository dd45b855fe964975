"""How HTTP is spoken to a target, made once from what people write: `Session` speaks it, run by run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pycurl
from cryptography import x509

from stormwatch.probes.certificate import Trust, load_trust
from stormwatch.probes.client_options import ClientOptions
from stormwatch.probes.curl import CURVES
from stormwatch.probes.detour import Way, connecting, refuse, resolver_of
from stormwatch.probes.endpoint import Endpoint, check_host, family, is_address
from stormwatch.probes.proxy import NO_PROXIES, Proxies, Proxy, proxies_of_environment
from stormwatch.probes.request import NO_HEADERS, USER_AGENT, Headers, Request, Settings, header_lines, make_request
from stormwatch.probes.url import Url


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """Speaks HTTP as its options say. Everything that does not change between runs is made by `build_client`."""

    home: Url
    """Credentials are for its origin; `connect_to` and `server_name` are in the place of its host."""
    options: ClientOptions = field(repr=False)
    ca_file: str
    """The file of authorities to verify against; empty for none, and for those that stand in `settings`."""
    trust: Trust | None
    """The same authorities, read; None when certificates are not verified."""
    server: Endpoint | None
    """The name server that is asked instead of the system's resolver."""
    detour: Endpoint | None
    proxies: Proxies
    settings: Settings = field(repr=False)
    """libcurl's options that are the same for every request of every run."""
    login: tuple[str, ...] = field(repr=False)
    """Header lines with the credentials of the home origin."""
    authorizer: "Client | None" = None
    """Fetches the tokens that `oauth2` asks for."""

    def request(
        self, url: Url, *, method: str = "GET", headers: Headers = NO_HEADERS, body: bytes | None = None
    ) -> Request:
        """A request with the credentials that belong to where it goes. Raises ValueError for a header that cannot be.

        Cheap enough to be made in each run, but a request that is always the same is better made once.
        """
        login = self.login if url.origin == self.home.origin else ()
        return make_request(url, method=method, headers=headers, body=body, login=login)


def build_client(home: Url, options: ClientOptions, *, environ: Mapping[str, str] = os.environ) -> Client:
    """A client for a target, from what people write. Raises ValueError for what cannot work."""
    _check_logins(options)
    if options.tls_min > options.tls_max:
        raise ValueError(f"tls_max: {options.tls_max} is older than tls_min, {options.tls_min}")
    if options.version == "3" and (not home.tls or options.tls_max != "1.3"):
        raise ValueError("version: HTTP/3 needs an https target and TLS 1.3")
    if options.server_name:
        check_host(options.server_name, what="server_name")
    if options.source and (not is_address(options.source) or options.ip in _other_family(options.source)):
        raise ValueError(f"source: {options.source!r} is not an address of a family that `ip` allows")
    ca_file, trust = _authorities(home, options)
    return Client(
        home=home,
        options=options,
        ca_file=ca_file,
        trust=trust,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        detour=_detour(options.connect_to, home.place.port),
        proxies=_proxies(options, environ),
        settings=tuple(_settings(options)),
        login=tuple(_login(options)),
        authorizer=_authorizer(options, environ),
    )


def _check_logins(options: ClientOptions) -> None:
    given = [name for name in ("basic_auth", "digest_auth", "bearer", "oauth2") if getattr(options, name)]
    if len(given) > 1:
        raise ValueError(f"give {given[0]} or {given[1]}, not both: a request has one Authorization header")
    if options.client_certificate is not None:
        options.client_certificate.check("client_certificate")


def _other_family(source: str) -> tuple[str, ...]:
    return ("6", "prefer-6") if family(source) == 4 else ("4", "prefer-4")


def _authorities(home: Url, options: ClientOptions) -> tuple[str, Trust | None]:
    if options.ca and options.ca_file:
        raise ValueError("ca: give the authorities here or in ca_file, not in both")
    if options.ca:
        try:
            return "", Trust(x509.load_pem_x509_certificates(options.ca.encode()))
        except ValueError as error:
            raise ValueError(f"ca holds no certificates in PEM form: {error}") from error
    if not options.verify or not (options.ca_file or home.tls or options.follow_redirects):
        return "", None
    try:
        return load_trust(options.ca_file)
    except ValueError:
        if home.tls or options.ca_file:
            raise
        return "", None  # a plain target that may redirect to https: verification will fail then, and say so


def _settings(options: ClientOptions) -> list[tuple[int, Any]]:
    oldest = "" if options.tls_min in ("1.2", "1.3") else "DEFAULT:@SECLEVEL=0"  # or OpenSSL does without TLS 1.1
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
    if (options.tls_min, options.tls_max) != ("1.2", "1.3"):
        found.append((pycurl.SSLVERSION, _OLDEST[options.tls_min] | _NEWEST[options.tls_max]))
    if oldest:
        found.append((pycurl.SSL_CIPHER_LIST, oldest))
    if options.ca:
        found.append((pycurl.CAINFO_BLOB, options.ca.encode()))
    if not options.verify:
        found += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
    if options.client_certificate is not None:
        found += options.client_certificate.settings()
    if options.source:
        found.append((pycurl.INTERFACE, f"host!{options.source}"))
    if options.compression:
        found.append((pycurl.ACCEPT_ENCODING, "" if options.compression == "any" else options.compression))
    if options.proxy or options.proxy_from_environment:
        found += _proxy_settings(options)
    return found


_SUPPRESS_CONNECT_HEADERS: Final = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl has no name for: the head of an answer is the target's, not a proxy's."""


def _proxy_settings(options: ClientOptions) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = [
        (_SUPPRESS_CONNECT_HEADERS, 1),
        (pycurl.NOPROXY, ""),  # it is decided before libcurl is asked
        (pycurl.PROXYHEADER, header_lines(options.proxy_headers, "proxy_headers")),
        (pycurl.HEADEROPT, 1),  # CURLHEADER_SEPARATE: what is for the target is not for the proxy
    ]
    if options.proxy_ca_file:
        load_trust(options.proxy_ca_file)
        found.append((pycurl.PROXY_CAINFO, options.proxy_ca_file))
    return found


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


def _login(options: ClientOptions) -> list[str]:
    if options.basic_auth is not None:
        return [f"Authorization: {options.basic_auth.basic()}"]
    return [f"Authorization: Bearer {options.bearer}"] if options.bearer else []


def _authorizer(options: ClientOptions, environ: Mapping[str, str]) -> Client | None:
    oauth2 = options.oauth2
    if oauth2 is None:
        return None
    oauth2.check()
    try:
        home = Url.parse(oauth2.token_url)
    except ValueError as error:
        raise ValueError(f"oauth2.token_url: {error}") from None
    return build_client(
        home,
        ClientOptions(
            user_agent=options.user_agent,
            ca_file=oauth2.ca_file,
            verify=oauth2.verify,
            client_certificate=oauth2.client_certificate,
            resolver=options.resolver,
            source=options.source,
            proxy=options.proxy,
            proxy_auth=options.proxy_auth,
            proxy_headers=options.proxy_headers,
            proxy_ca_file=options.proxy_ca_file,
            proxy_resolves=options.proxy_resolves,
            proxy_from_environment=options.proxy_from_environment,
            no_proxy=options.no_proxy,
            follow_redirects=False,
            max_body=2**20,
        ),
        environ=environ,
    )


def _detour(text: str, port: int) -> Endpoint | None:
    return Endpoint.parse(text, what="connect_to", default_port=port) if text else None


def _proxies(options: ClientOptions, environ: Mapping[str, str]) -> Proxies:
    given = [name for name in ("proxy_auth", "proxy_headers", "proxy_ca_file", "no_proxy") if getattr(options, name)]
    if not options.proxy and not options.proxy_from_environment:
        if given:
            raise ValueError(f"{given[0]}: there is no proxy")
        return NO_PROXIES
    if options.proxy and options.proxy_from_environment:
        raise ValueError("proxy_from_environment: a proxy is given already")
    if options.connect_to:
        raise ValueError("connect_to: where a proxy connects to is for the proxy to say")
    if options.version == "3":
        raise ValueError("version: HTTP/3 does not go through a proxy")
    if options.ip == "every" and options.proxy_resolves:
        raise ValueError("ip: through a proxy there are addresses only with `proxy_resolves: false`")
    if options.proxy_from_environment:
        if options.proxy_auth or options.no_proxy:
            raise ValueError(f"{given[0]}: it stands in the environment, where the proxy does")
        return proxies_of_environment(environ)
    proxy = Proxy.parse(options.proxy, options.proxy_auth)
    return Proxies(proxy, proxy, options.no_proxy)


def _way(target: str, options: ClientOptions) -> Way:
    refuse(options, "proxy", "proxy_from_environment", "connect_to", "source")
    if options.ip == "every":
        raise ValueError("ip: every: a detour has one address; choose another")
    if options.version == "3":
        raise ValueError("version: HTTP/3 is spoken over datagrams, and a detour passes on connections")
    url = Url.parse(target)
    return Way(
        place=url.place,
        resolver=resolver_of(options.resolver),
        ip=options.ip,
        tls=url.tls,
        http=options.version != "2",  # without TLS that is HTTP/2 from the first byte
    )


DETOUR: Final = connecting(_way)
"""How probes whose options are `ClientOptions` are led another way."""
