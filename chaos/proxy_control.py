"""The client of the fault proxy's control API, and the undoing of a proxy's fault from its record alone."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.process import ProcessId

SERVICE = "stormwatch-proxy"
"""How `/healthz` says that a fault proxy of ours serves there."""


class ProxyUnreachable(Exception):
    """The control API did not answer."""


class ProxyRefused(Exception):
    """The control API answered that it will not. One sentence."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A fault is not in place. `how` it ended and what it touched, if the proxy still knows."""

    how: str = ""
    evidence: Evidence | None = None


class ProxyControl:
    """`async with ProxyControl("http://127.0.0.1:8474") as control:` speaks to one proxy, two seconds a request."""

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        self.url = url
        # The API is on loopback and in the clear: no proxies of the environment, no certificate store to be read.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=timeout, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def process(self) -> ProcessId:
        """Which process serves there. Raises ProxyUnreachable, ProxyRefused when it is not a proxy of ours."""
        answer = await self._ask("GET", "/healthz")
        try:
            document = answer.json()
            if document["service"] == SERVICE:
                return ProcessId.from_json(document["process"])
        except (ValueError, KeyError, TypeError):
            pass
        raise ProxyRefused(f"{self.url} is not the control API of a stormwatch proxy")

    async def put(self, route: str, fault: str, body: Mapping[str, Any]) -> None:
        """Put a fault, or renew the lease of the same. Raises ProxyUnreachable, ProxyRefused."""
        answer = await self._ask("PUT", _path(route, fault), body)
        if answer.status_code not in (200, 201):
            raise ProxyRefused(f"{self.url} refused the fault: {_said(answer)}")

    async def renew(self, route: str, fault: str, lease: float) -> Gone | None:
        """Renew a lease; how the fault ended if it is gone. Raises ProxyUnreachable, ProxyRefused."""
        answer = await self._ask("POST", _path(route, fault) + "/renew", {"lease": lease})
        if answer.status_code == 404:
            return _gone(answer)
        if answer.status_code != 200:
            raise ProxyRefused(f"{self.url} refused to renew the lease: {_said(answer)}")
        return None

    async def evidence(self, route: str, fault: str) -> Evidence | Gone:
        """What a fault has touched, or how it ended. Raises ProxyUnreachable, ProxyRefused."""
        answer = await self._ask("GET", _path(route, fault))
        if answer.status_code == 404:
            return _gone(answer)
        if answer.status_code != 200:
            raise ProxyRefused(f"{self.url} did not tell about the fault: {_said(answer)}")
        return Evidence.from_json(answer.json()["evidence"])

    async def delete(self, route: str, fault: str) -> tuple[bool, Gone]:
        """Take a fault away: whether it was there, and how it ended. Raises ProxyUnreachable, ProxyRefused."""
        answer = await self._ask("DELETE", _path(route, fault))
        if answer.status_code == 404:
            return False, _gone(answer)
        if answer.status_code != 200:
            raise ProxyRefused(f"{self.url} did not take the fault away: {_said(answer)}")
        return True, Gone("reverted", Evidence.from_json(answer.json()["evidence"]))

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProxyUnreachable(f"{self.url} does not answer: {str(error) or type(error).__name__}") from error


async def take_back(control: ProxyControl, *, route: str, fault: str, holder: ProcessId | None) -> Absence:
    """Remove a fault and prove that it is gone, once. Raises ProxyUnreachable, ProxyRefused, UndoFailed.

    `holder` is the proxy's process at the time of the injection: when it is gone, its faults went with it.
    """
    try:
        serving = await control.process()
        if holder and serving != holder and holder.alive():
            raise UndoFailed(
                f"{control.url} is served by process {serving.pid} now, and process {holder.pid}, which holds the "
                "fault, still runs: stop that one"
            )
        was_there, gone = await control.delete(route, fault)
        left = await control.evidence(route, fault)
        if isinstance(left, Evidence):
            raise UndoFailed(f"{control.url} still has the fault after it was told to take it away")
    except (ProxyUnreachable, ProxyRefused):
        if holder and not holder.alive():
            return Absence(False, f"the proxy that held it (process {holder.pid}) is gone, and the fault with it")
        raise
    how = gone.how or ("it ended with an earlier proxy" if holder and serving != holder else "it is not in place")
    return Absence(
        was_there, "taken back, and the proxy has no such fault any more" if was_there else how, gone.evidence
    )


async def undo_proxy_fault(arguments: Mapping[str, Any], *, tries: int = 3, pause: float = 0.5) -> Absence:
    """Take back a proxy's fault by its record. Idempotent. Raises UndoFailed."""
    url, route, fault = str(arguments["control"]), str(arguments["route"]), str(arguments["fault"])
    holder = ProcessId.from_json(arguments["proxy"]) if arguments.get("proxy") else None
    async with ProxyControl(url) as control:
        for attempt in range(1, tries + 1):
            try:
                return await take_back(control, route=route, fault=fault, holder=holder)
            except (ProxyUnreachable, ProxyRefused) as error:
                if attempt == tries:
                    named = f"process {holder.pid}" if holder else "the proxy"
                    raise UndoFailed(
                        f"{error}; {named} may still hold the fault: stop it, or wait for the lease, and undo again"
                    ) from error
            await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _path(route: str, fault: str) -> str:
    return f"/routes/{route}/faults/{fault}"


def _gone(answer: httpx.Response) -> Gone:
    try:
        ended = answer.json()["ended"]
        return Gone(str(ended["ended"]), Evidence.from_json(ended["evidence"]))
    except (ValueError, KeyError, TypeError):
        return Gone()


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
