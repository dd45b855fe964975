"""Which proxy a request goes through, if any: as it is configured, or as the environment says it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import unquote, urlsplit

from stormwatch.probes.authorization import Login
from stormwatch.probes.endpoint import Endpoint, check_host, is_address

Scheme = Literal["http", "https", "socks5h"]

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and who we are to it."""

    scheme: Scheme
    place: Endpoint
    login: Login | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    @property
    def socks(self) -> bool:
        """Whether it carries connections, and knows nothing of HTTP."""
        return self.scheme == "socks5h"

    @classmethod
    def parse(cls, text: str, login: Login | None = None, *, what: str = "proxy") -> "Proxy":
        """Read `http://proxy.example:3128`. Raises ValueError, beginning with `what`, and never shows a password."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError(f"{what} is not a URL like http://proxy.example:3128") from None
        if parts.scheme == "socks5":
            raise ValueError(f"{what}: write socks5h, and `proxy_resolves: false` where names are to be resolved here")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{what} is a URL like http://proxy.example:3128, https://… or socks5h://…")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"{what} is a scheme, a host and a port, and nothing behind them")
        if parts.username is not None or parts.password is not None:
            if login is not None or what == "proxy":
                raise ValueError(f"{what} has a user in its URL: give proxy_auth instead")
            login = Login(username=unquote(parts.username or ""), password=unquote(parts.password or ""))
        host = check_host(parts.hostname, what=what)
        scheme = cast("Scheme", parts.scheme)
        return cls(scheme=scheme, place=Endpoint(host, port or _PORTS[scheme]), login=login)


class Proxies:
    """For every target the proxy that leads there."""

    __slots__ = ("_around", "_plain", "_tls", "any")

    def __init__(self, plain: Proxy | None, tls: Proxy | None, around: Sequence[str] = (), *, what: str = "no_proxy"):
        """`around` is for whom no proxy is used. Raises ValueError, beginning with `what`, for what names nobody."""
        self._plain = plain
        self._tls = tls
        self._around = tuple(_Around(each, what) for each in around if each.strip())
        self.any = plain is not None or tls is not None

    def choose(self, place: Endpoint, *, tls: bool) -> Proxy | None:
        """None: no proxy, straight there."""
        proxy = self._tls if tls else self._plain
        return None if proxy is None or any(each.covers(place) for each in self._around) else proxy


NO_PROXIES: Final = Proxies(None, None)


def proxies_of_environment(environ: Mapping[str, str]) -> Proxies:
    """As curl reads it: http_proxy in lower case only, since HTTP_PROXY can come with a request to a CGI program.

    https://curl.se/docs/manpage.html, "ENVIRONMENT". Raises ValueError that names the variable.
    """
    everything = _variable(environ, "all_proxy")
    return Proxies(
        _variable(environ, "http_proxy", lower_only=True) or everything,
        _variable(environ, "https_proxy") or everything,
        (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(","),
        what="the environment's no_proxy",
    )


def _variable(environ: Mapping[str, str], name: str, *, lower_only: bool = False) -> Proxy | None:
    text = environ.get(name) or ("" if lower_only else environ.get(name.upper(), ""))
    if not text:
        return None
    return Proxy.parse(text if "://" in text else f"http://{text}", what=f"the environment's {name}")


class _Around:
    """`shop.example` and all below it, `.shop.example` only those below, an address, a network, `*`; with a port or not."""

    __slots__ = ("_everybody", "_name", "_network", "_port")

    def __init__(self, text: str, what: str) -> None:
        text = text.strip()
        self._everybody = text == "*"
        self._network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
        self._name, self._port = text.lower().removeprefix("*"), 0
        try:
            self._network = ipaddress.ip_network(text.strip("[]"), strict=False)
        except ValueError:
            if not self._everybody and ("/" in text or text.count(":") > 1):
                raise ValueError(f"{what}: {text!r} is not a name, an address or a network") from None
            name, colon, port = self._name.partition(":")
            if colon:
                place = Endpoint.parse(f"{name.removeprefix('.')}:{port}", what=what)
                self._name, self._port = name, place.port
                if is_address(place.host):
                    self._network = ipaddress.ip_network(place.host)

    def covers(self, place: Endpoint) -> bool:
        if self._everybody:
            return True
        if self._port and place.port != self._port:
            return False
        if is_address(place.host):
            address = ipaddress.ip_address(place.host)
            return self._network is not None and address.version == self._network.version and address in self._network
        if self._network is not None:
            return False
        host = place.host.lower().rstrip(".")
        return host.endswith(self._name) if self._name.startswith(".") else (f".{host}").endswith(f".{self._name}")
