"""Every fault that is put by an API, or by a file that journeys read, with something to put it on: see `host_examples.py`.

A Toxiproxy, a container engine and a cluster are ours, in this process; owners in other processes put faults on them.
"""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from stormwatch.chaos.browser_faults import BROWSER_FAULTS
from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.container_faults import CONTAINER_FAULTS
from stormwatch.chaos.control import proxying
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.toxiproxy_faults import TOXIPROXY_FAULTS
from stormwatch.chaos.undo import UndoJournal
from stormwatch.chaos.workload_faults import WORKLOAD_FAULTS
from stormwatch.journeys.browser_fault import fault_directory
from tests.chaos.deaths import Nursery
from tests.chaos.host_examples import Victim, reapers
from tests.servers.cluster import cluster_running
from tests.servers.engine import Container, engine_running
from tests.servers.upstream import keeping_alive

BY_API = tuple(kind.name for kind in (*TOXIPROXY_FAULTS, *CONTAINER_FAULTS, *WORKLOAD_FAULTS, *BROWSER_FAULTS))
"""The faults."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "toxiproxy-latency": {"delay": "10ms"},
    "toxiproxy-bandwidth": {"rate": "1MB"},
    "toxiproxy-slow-close": {"delay": "10ms"},
    "toxiproxy-slicer": {"average_size": "100B"},
    "toxiproxy-limit-data": {"bytes": "1MB"},
    "browser-blocked": {"urls": "**/*.js"},
    "browser-status": {"urls": "**/api/*"},
}
"""Options of the faults that cannot do without."""


@dataclass(slots=True)
class Reached:
    """One thing that is reached by an API, one fault of it, and what of it is not as it was."""

    kind: str
    name: str
    document: Mapping[str, Any]
    look: Callable[["Reached"], Awaitable[list[str]]]

    @property
    def id(self) -> str:
        """The fault's id."""
        return f"{self.kind}-{self.name}"

    @property
    def spec(self) -> FaultSpec:
        """The fault."""
        return FaultSpec.from_json({"kind": self.kind, "target": self.name, **OPTIONS.get(self.kind, {})})

    @property
    def target(self) -> Target:
        """What it is put on."""
        return Target.from_json({"name": self.name, FAULTS[self.kind].on: dict(self.document)}, TARGETS)

    async def left(self) -> list[str]:
        """What of the fault is left, in words."""
        return [f"{self.id}: {what}" for what in await self.look(self)]


@contextlib.asynccontextmanager
async def reached(kinds: Sequence[str], *, toxiproxy: str = "") -> AsyncGenerator[list[Reached]]:
    """One thing of its own for each, which may name a kind several times; `toxiproxy`: the API of one that runs already."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[Reached] = []
        # Short: the name of a socket has at most 107 bytes.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sw")))
        names = {on: [kind for kind in kinds if FAULTS[kind].on == on] for on in (FAULTS[kind].on for kind in kinds)}
        for on, those in names.items():
            made += await stack.enter_async_context(_MAKERS[on](those, directory, toxiproxy))
        # In the order that was asked for.
        yield [made.pop(next(at for at, one in enumerate(made) if one.kind == kind)) for kind in kinds]


async def kill_each(
    nursery: Nursery, owners: Sequence[Reached], steps: Sequence[str], journal: Path, **how: Any
) -> None:
    """An owner for each, killed when it is at its step, while the APIs go on answering."""
    await asyncio.to_thread(nursery.kill_each, cast("Sequence[Victim]", owners), steps, journal, **how)


async def left_in_the_end(owners: Sequence[Reached], journal: UndoJournal, *, seconds: float = 30) -> list[str]:
    """What is left of faults, records and reapers after so many seconds; empty as soon as nothing is."""
    async with asyncio.timeout(seconds + 30):
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            left = [what for one in owners for what in await one.left()]
            left += [str(path) for path in journal.directory.iterdir()]
            left += [f"reaper {pid}" for pid in await asyncio.to_thread(reapers, journal.directory)]
            if not left or asyncio.get_running_loop().time() > deadline:
                return left
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _proxies(kinds: Sequence[str], _directory: Path, api: str) -> AsyncGenerator[list[Reached]]:
    async with keeping_alive() as upstream, contextlib.AsyncExitStack() as stack:
        if not api:
            api = (await stack.enter_async_context(proxying([], "127.0.0.1:0", toxiproxy="127.0.0.1:0"))).toxiproxy
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=api, trust_env=False, verify=False, timeout=60)
        )

        async def look(one: Reached) -> list[str]:
            seen = (await http.get(f"/proxies/{one.name}")).json()
            return [f"the toxic {toxic['name']}" for toxic in seen["toxics"]] + ["disabled"] * (not seen["enabled"])

        made: list[Reached] = []
        for kind in kinds:
            name = f"v{secrets.token_hex(4)}"
            opened = await http.post(
                "/proxies", json={"name": name, "listen": "127.0.0.1:0", "upstream": upstream.address}
            )
            stack.push_async_callback(http.delete, f"/proxies/{name}")
            host, _, port = opened.json()["listen"].rpartition(":")
            # A proxy that nobody has used is not broken.
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
                await client.get(f"http://{host}:{port}/")
            made.append(Reached(kind, name, {"api": api, "proxy": name}, look))
        yield made


@contextlib.asynccontextmanager
async def _containers(kinds: Sequence[str], directory: Path, _api: str) -> AsyncGenerator[list[Reached]]:
    names = [f"c{secrets.token_hex(4)}" for _ in kinds]
    async with engine_running(directory, *(Container(secrets.token_hex(32), name) for name in names)) as engine:

        async def look(one: Reached) -> list[str]:
            seen = engine.find(one.name)
            return [] if seen and seen.status == "running" else [f"it is {seen.status if seen else 'gone'}"]

        yield [
            Reached(kind, name, {"name": name, "socket": str(engine.socket)}, look)
            for kind, name in zip(kinds, names, strict=True)
        ]


@contextlib.asynccontextmanager
async def _workloads(kinds: Sequence[str], directory: Path, _api: str) -> AsyncGenerator[list[Reached]]:
    async with contextlib.AsyncExitStack() as stack:
        made: list[Reached] = []
        for kind in kinds:
            cluster, name = await stack.enter_async_context(cluster_running()), f"w{secrets.token_hex(4)}"
            cluster.write_kubeconfig(directory / f"{name}.yaml")
            before = cluster.replicas

            async def look(_one: Reached, cluster: Any = cluster, before: int = before) -> list[str]:
                scaled = [f"{cluster.replicas} replicas"] if cluster.replicas != before else []
                missing = [f"{len(cluster.pods)} pods"] if len(cluster.pods) != before else []
                return [*scaled, *missing, *(f"the policy {policy}" for policy in cluster.policies)]

            made.append(Reached(kind, name, {"name": "payments", "kubeconfig": str(directory / f"{name}.yaml")}, look))
        yield made


@contextlib.asynccontextmanager
async def _journeys(kinds: Sequence[str], directory: Path, _api: str) -> AsyncGenerator[list[Reached]]:
    file = directory / "test_journey.py"
    await asyncio.to_thread(file.write_text, "def test_it(page):\n    pass\n")

    async def look(one: Reached) -> list[str]:
        return [path.name for path in fault_directory().glob(f"*{one.id}*") if await asyncio.to_thread(path.exists)]

    yield [Reached(kind, f"j{secrets.token_hex(4)}", {"file": str(file)}, look) for kind in kinds]


_MAKERS = {"toxiproxy": _proxies, "container": _containers, "workload": _workloads, "journey": _journeys}
