"""One HTTP request: where to, how, with which headers, and what becomes of it when the answer is a redirect."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import pycurl

from stormwatch.probes.url import Url


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. Its headers are kept as libcurl wants them: lines, for home and for away."""

    url: Url
    method: str = "GET"
    """In upper case."""
    home: list[str] = field(default_factory=list[str], repr=False)
    """Header lines for the origin that the request was made for."""
    away: list[str] = field(default_factory=list[str], repr=False)
    """Header lines for where else redirects lead: without credentials, and without a Host of our own."""
    body: bytes | None = field(default=None, repr=False)

    def redirected(self, status: int, url: Url) -> "Request":
        """The request that follows a redirect, as browsers make it and RFC 9110 §15.4 allows.

        Only 307 and 308 promise to keep the method.
        """
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            return replace(self, url=url, method="HEAD" if self.method == "HEAD" else "GET", body=None)
        return replace(self, url=url)

    def set_method(self, handle: pycurl.Curl) -> None:
        """Tell libcurl method and body, whatever the handle was used for before."""
        handle.setopt(pycurl.HTTPGET, 1)
        if self.method == "GET" and self.body is None:
            handle.unsetopt(pycurl.CUSTOMREQUEST)
            return
        if self.body is not None:
            handle.setopt(pycurl.POSTFIELDS, self.body)
        elif self.method == "HEAD":
            handle.setopt(pycurl.NOBODY, 1)
        elif self.method in ("POST", "PUT", "PATCH"):
            handle.setopt(pycurl.POSTFIELDS, b"")
        handle.setopt(pycurl.CUSTOMREQUEST, self.method)


Headers = Mapping[str, str | Sequence[str]]
"""Values by the name of their header; several values are sent as several headers, in their order."""

CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that only the target's own origin may see."""

NO_HEADERS: Final[Mapping[str, str | Sequence[str]]] = {}


def make_request(
    url: Url,
    *,
    method: str = "GET",
    headers: Headers = NO_HEADERS,
    body: bytes | None = None,
    login: Iterable[str] = (),
) -> Request:
    """A request from what people write; `login` are header lines with the credentials of the origin.

    Raises ValueError for headers that cannot be sent.
    """
    check_headers(headers)
    public: list[str] = []
    secret = list(login)
    names: set[str] = set()
    for name, value in headers.items():
        known = name.lower()
        names.add(known)
        lines = secret if known in CREDENTIALS else public
        lines += [_line(name, one) for one in ((value,) if isinstance(value, str) else value)]
    if "connection" not in names:
        # The server closes first, and keeps the port's waiting time on its side: ours would run out of ports.
        public.append("Connection: close")
    if "content-type" not in names:
        public.append("Content-Type:")  # libcurl's guess for a body would be a form
    if "expect" not in names:
        public.append("Expect:")
    away = [line for line in public if not line.lower().startswith("host:")]
    return Request(url=url, method=method.upper(), home=[*public, *secret], away=away, body=body)


def header_lines(headers: Headers, where: str = "headers") -> list[str]:
    """As libcurl wants them. Raises ValueError, beginning with `where`, for headers that cannot be sent."""
    check_headers(headers, where)
    return [
        _line(name, one) for name, value in headers.items() for one in ((value,) if isinstance(value, str) else value)
    ]


def check_headers(headers: Headers, where: str = "headers") -> None:
    """Raises ValueError, beginning with `where`, for a name or a value that no request can have."""
    for name, value in headers.items():
        if not name or not set(name) <= _TOKEN:
            raise ValueError(f"{where}: {name!r} is not the name of a header")
        if any(sign in one for one in ((value,) if isinstance(value, str) else value) for sign in "\r\n\0"):
            raise ValueError(f"{where}.{name}: a value has no line breaks")


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""RFC 9110 §5.6.2."""


def _line(name: str, value: str) -> str:
    return f"{name}: {value}" if value else f"{name};"  # libcurl's way to send a header without a value


def _user_agent() -> str:
    try:
        return f"Stormwatch/{version('stormwatch')}"
    except PackageNotFoundError:
        return "Stormwatch"


USER_AGENT: Final = _user_agent()
"""What the probe calls itself unless it is told otherwise."""

Settings = tuple[tuple[int, Any], ...]
"""Options of libcurl and their values, set in this order."""
