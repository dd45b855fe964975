"""A client of the HTTP API of a Toxiproxy that runs elsewhere: what its drills need, and no more.

https://github.com/Shopify/toxiproxy#http-api; METRICS.md there for what `toxiproxy-server -proxy-metrics` counts.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

TIMEOUT = 5.0
"""Seconds that one request may take."""
_RECEIVED = re.compile(r"toxiproxy_proxy_received_bytes_total\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class ToxiproxyFailed(Exception):
    """It does not answer, or will not. One sentence."""


@dataclass(frozen=True, slots=True)
class ProxySeen:
    """What a Toxiproxy says of one of its proxies."""

    listen: str
    """`host:port` as it sees its own machine: `[::]:18080`."""
    enabled: bool
    toxics: frozenset[str]
    """Their names."""


class ToxiproxyClient:
    """`async with ToxiproxyClient("http://127.0.0.1:8474") as client:` speaks to one Toxiproxy."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # A proxy of the environment is for the world outside; a fault must not depend on it.
        verify = True if self.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT, trust_env=False, verify=verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def proxy(self, name: str) -> ProxySeen | None:
        """One of its proxies; None when it has none of this name. Raises ToxiproxyFailed."""
        answer = await self._ask("GET", _path(name), missing=True)
        if answer is None:
            return None
        try:
            document = answer.json()
            toxics = frozenset(str(one["name"]) for one in document["toxics"])
            return ProxySeen(str(document["listen"]), bool(document["enabled"]), toxics)
        except (ValueError, KeyError, TypeError) as error:
            raise ToxiproxyFailed(f"{self.url} is not the API of a Toxiproxy") from error

    async def put(self, proxy: str, toxic: Mapping[str, Any]) -> None:
        """Add a toxic. Raises ToxiproxyFailed."""
        await self._ask("POST", f"{_path(proxy)}/toxics", toxic)

    async def remove(self, proxy: str, toxic: str) -> None:
        """Take a toxic away; that it is gone already is as well. Raises ToxiproxyFailed."""
        await self._ask("DELETE", f"{_path(proxy)}/toxics/{quote(toxic, safe='')}", missing=True)

    async def enable(self, proxy: str, *, enabled: bool) -> None:
        """Let a proxy listen, or not. Raises ToxiproxyFailed."""
        # PATCH came with 2.6, and POST still does the same: it is what every version has.
        await self._ask("POST", _path(proxy), {"enabled": enabled})

    async def received(self, proxy: str) -> Mapping[str, int]:
        """Bytes that a proxy received since it began, by direction; without any that is counted. Raises ToxiproxyFailed.

        Toxiproxy counts those of a connection when that ends.
        """
        answer = await self._ask("GET", "/metrics", missing=True)
        found: dict[str, int] = {}
        for written, value in _RECEIVED.findall(answer.text if answer else ""):
            labels = {name: _ESCAPED.sub(_unescaped, text) for name, text in _LABEL.findall(written)}
            if labels.get("proxy") == proxy:
                # Of a proxy that was given another address there is a series for each.
                way = labels.get("direction", "")
                found[way] = found.get(way, 0) + int(float(value))
        return {way: count for way, count in found.items() if count}

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing: bool = False
    ) -> httpx.Response | None:
        """The answer; None for one that says that it is not there, where that may be."""
        try:
            answer = await self._client.request(method, path, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToxiproxyFailed(
                f"no Toxiproxy answers at {self.url}: {str(error) or type(error).__name__}"
            ) from error
        if missing and answer.status_code == 404:
            return None
        if not answer.is_success:
            raise ToxiproxyFailed(f"the Toxiproxy at {self.url} refused {method} {path}: {_said(answer)}")
        return answer


def _path(proxy: str) -> str:
    return f"/proxies/{quote(proxy, safe='')}"


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
