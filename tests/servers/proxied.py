"""What the tests of the proxy share: a proxy over given routes, with a client of its control API."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from stormwatch.chaos.control import proxying
from stormwatch.chaos.route import Route


@dataclass
class Proxied:
    """A running proxy."""

    control: str
    routes: dict[str, str]
    api: httpx.AsyncClient
    clients: list[asyncio.StreamWriter]
    """Connections of `open`, closed after the proxy has stopped."""

    def port(self, route: str = "shop") -> int:
        """Where a route listens."""
        return int(self.routes[route].rpartition(":")[2])

    async def put(self, kind: str, *, fault: str = "f", route: str = "shop", lease: float = 30, **options: Any) -> None:
        """Put a fault on a route."""
        body = {"kind": kind, "options": options, "lease": lease}
        answer = await self.api.put(f"/routes/{route}/faults/{fault}", json=body)
        assert answer.status_code in (200, 201), answer.text

    async def delete(self, *, fault: str = "f", route: str = "shop") -> dict[str, Any]:
        """Take it away; its evidence."""
        answer = await self.api.delete(f"/routes/{route}/faults/{fault}")
        assert answer.status_code == 200, answer.text
        return answer.json()["evidence"]

    async def evidence(self, *, fault: str = "f", route: str = "shop") -> dict[str, Any]:
        """What it has touched."""
        answer = await self.api.get(f"/routes/{route}/faults/{fault}")
        assert answer.status_code == 200, answer.text
        return answer.json()["evidence"]

    async def open(self, route: str = "shop", **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection through a route."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port(route), **options)
        self.clients.append(writer)
        return reader, writer


@contextlib.asynccontextmanager
async def proxied(*routes: Route) -> AsyncGenerator[Proxied]:
    """A proxy on free ports."""
    free = [replace(route, listen="127.0.0.1:0") for route in routes]
    clients: list[asyncio.StreamWriter] = []
    try:
        async with (
            proxying(free, "127.0.0.1:0") as serving,
            httpx.AsyncClient(base_url=serving.control, trust_env=False, verify=False, timeout=60) as api,
        ):
            yield Proxied(serving.control, serving.routes, api, clients)
    finally:
        for writer in clients:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def route_to(port: int, *, name: str = "shop", **more: Any) -> Route:
    """A route to a port."""
    return Route(name=name, listen="127.0.0.1:0", upstream=f"127.0.0.1:{port}", **more)


async def until(condition: Callable[[], bool], *, what: str, seconds: float = 30) -> None:
    """Return when a condition holds; fail with what was waited for when it does not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.01)
