"""A service that another one needs, and what may happen when it is called.

    Unavailable   no answer, or one that only a broken service gives: the caller cannot do its work
    Refused       an answer: no (a declined card, a wrong password, a mistake in the input)

Every call makes a new connection to an address that was just resolved: whatever happens to the network, to the name server
or to the service is felt by the next call, and so is the moment when it is well again.
"""

import asyncio
import json
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote, urlencode, urlsplit

import httpcore

from stormwatch.demo.resolver import NotResolved

HEALTH_PATIENCE = 1.5
"""Seconds that a health check may take: a readiness check answers before its caller loses patience."""


class Unavailable(Exception):
    """A service could not do what it was asked. `service` is the one to blame, which may stand behind the called one."""

    def __init__(self, service: str, why: str) -> None:
        super().__init__(f"{service} is not available: {why}")
        self.service = service
        self.why = why


class Refused(Exception):
    """A service said no. `code` is for programs, `message` a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Resolves(Protocol):
    """Finds addresses."""

    async def address_of(self, name: str) -> str:
        """An IP address. Raises NotResolved."""
        ...


class Network:
    """How a service reaches the others: how it finds them, the CA that it trusts, and nothing else."""

    def __init__(self, *, ca: Path, resolver: Resolves) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["http/1.1"])
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_keepalive_connections=0,
            network_backend=_Resolving(resolver),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self.pool.aclose()


class Dependency:
    """One service, by its name and base URL. `patience`: seconds that a call may take from resolving to the last byte."""

    def __init__(self, name: str, url: str, network: Network, *, patience: float = 3.0) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._host = urlsplit(url).netloc
        self._pool = network.pool
        self._patience = patience

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, bearer: str = "") -> Any:
        """The JSON value at a path. Raises Unavailable, Refused."""
        suffix = f"?{urlencode(query)}" if query else ""
        return await self._call("GET", path + suffix, None, bearer)

    async def post(self, path: str, document: Mapping[str, Any], *, bearer: str = "") -> Any:
        """The JSON value that answers a document. Raises Unavailable, Refused."""
        return await self._call("POST", path, document, bearer)

    async def delete(self, path: str, *, bearer: str = "") -> None:
        """Delete what is at a path. Raises Unavailable, Refused."""
        await self._call("DELETE", path, None, bearer)

    async def check(self) -> str:
        """Ask for its health: an empty text when it is well, otherwise what is wrong with it."""
        try:
            async with asyncio.timeout(HEALTH_PATIENCE):
                await self.get("/healthz")
        except TimeoutError:
            return f"no answer from {self._host} in {HEALTH_PATIENCE:g} s"
        except Unavailable as error:
            return error.why
        except Refused as error:
            return f"{self._host} answered its health check with {error.status}"
        return ""

    async def _call(self, method: str, path: str, document: Mapping[str, Any] | None, bearer: str) -> Any:
        headers: dict[str | bytes, str | bytes] = {"host": self._host, "accept": "application/json"}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        content = b""
        if document is not None:
            content = json.dumps(document).encode()
            headers |= {"content-type": "application/json", "content-length": str(len(content))}
        try:
            async with asyncio.timeout(self._patience):
                response = await self._pool.request(method, self._url + path, headers=headers, content=content)
        except TimeoutError as error:
            raise Unavailable(self.name, f"no answer from {self._host} in {self._patience:g} s") from error
        except NotResolved as error:
            raise Unavailable(self.name, str(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unavailable(self.name, f"{self._host}: {_said(error)}") from error
        return self._value(response)

    def _value(self, response: httpcore.Response) -> Any:
        value: Any = None
        try:
            value = json.loads(response.content) if response.content else None
        except ValueError:
            if response.status < 400:
                raise Unavailable(self.name, f"{self._host} answered {response.status} without JSON") from None
        if response.status < 400:
            return value
        error: Mapping[str, Any] = value.get("error", {}) if isinstance(value, dict) else {}
        if response.status >= 500:
            why = error.get("message") or f"{self._host} answered {response.status}"
            raise Unavailable(error.get("service") or self.name, why)
        raise Refused(
            response.status,
            error.get("code", "refused"),
            error.get("message", f"{self.name} answered {response.status}"),
        )


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def _said(error: Exception) -> str:
    return str(error) or {"ReadError": "the connection broke", "ConnectError": "no connection"}.get(
        type(error).__name__, type(error).__name__
    )


class _Resolving(httpcore.AsyncNetworkBackend):
    """Resolves before it connects; the TLS handshake above still asks for, and verifies, the name."""

    def __init__(self, resolver: Resolves) -> None:
        self._resolver = resolver
        self._below = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._resolver.address_of(host)
        return await self._below.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._below.sleep(seconds)
