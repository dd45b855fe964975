"""A visitor of the sample platform: asks its name server for addresses, trusts its CA, keeps cookies, follows redirects."""

import ssl
from html.parser import HTMLParser
from typing import Any

import dns.resolver
import httpx

from stormwatch.demo.platform import Platform


class _Resolved(httpx.BaseTransport):
    """Connects to what the platform's name server says; the handshake and the Host header keep the name."""

    def __init__(self, platform: Platform, address: str) -> None:
        host, _, port = platform.dns.rpartition(":")
        self._address = address
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = [host]
        self._resolver.port = int(port)
        self._below = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=str(platform.ca)))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host
        address = self._address or next(iter(self._resolver.resolve(name, "A"))).to_text()
        return self._below.handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": name},
            )
        )

    def close(self) -> None:
        self._below.close()


def visitor(platform: Platform, *, address: str = "") -> httpx.Client:
    """A client whose relative addresses are those of the shop. With an `address` it needs no name server."""
    return httpx.Client(
        transport=_Resolved(platform, address),
        base_url=platform.shop,
        follow_redirects=True,
        timeout=20,
        trust_env=False,
    )


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.alert = ""
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth:
            self._depth += 1
        elif ("role", "alert") in attrs:
            self._depth = 1

    def handle_endtag(self, tag: str) -> None:
        self._depth = max(0, self._depth - 1)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
        if self._depth:
            self.alert += data


def text_of(response: httpx.Response) -> str:
    """What a person reads on a page, blanks collapsed."""
    parser = _Text()
    parser.feed(response.text)
    return " ".join(" ".join(parser.parts).split())


def alert_of(response: httpx.Response) -> str:
    """What the page says in its element with the role alert."""
    parser = _Text()
    parser.feed(response.text)
    return parser.alert.strip()


def register(client: httpx.Client, mail: str, *, name: str = "Ada Lovelace", **query: str) -> httpx.Response:
    """Fill in the form for a new account."""
    fields: dict[str, Any] = {"name": name, "email": mail, "password": "correct horse"}
    return client.post("/register", data=fields, params=query)
