"""Faults of containers, by the Docker Engine's API on its Unix socket, which Podman speaks too.

https://docs.docker.com/reference/api/engine/: /containers/{id}/json, /pause, /unpause, /kill, /stop, /start.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import httpx
from pydantic import ConfigDict, Field

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import Breakage, CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.option import STRICT, Options
from stormwatch.chaos.target import Target, TargetKind
from stormwatch.probes.options import File
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds

SOCKET = "/var/run/docker.sock"
TIMEOUT = 10.0
"""Seconds that one request may take, besides the time that a container is given to end."""
LOOK = 0.1
"""Seconds between two looks at a container that is to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerTarget:
    """A container of Docker or Podman."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    """Its name or id."""
    socket: File = SOCKET
    """The Unix socket of the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPause:
    """The container's processes are frozen: its ports are open, and nothing is answered."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerKill:
    """The container is ended by a signal. The engine's restart policy does not bring it back: the undo does."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    signal: Literal["KILL", "TERM"] = "KILL"
    """`KILL`: as when it crashed, or memory ran out. `TERM`: as when it is told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStop:
    """The container is told to end, and killed when it does not."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    grace: Seconds = 10.0
    """How long it has to end by itself."""


class EngineRefused(Exception):
    """The engine does not answer, or will not. One sentence."""


@dataclass(frozen=True, slots=True)
class State:
    """What the engine says of a container."""

    id: str
    running: bool
    paused: bool
    removes_itself: bool
    """Whether it is removed when it ends."""


class Engine:
    """A client of one engine."""

    def __init__(self, client: httpx.AsyncClient, socket: str) -> None:
        self._client = client
        self._socket = socket

    @classmethod
    @asynccontextmanager
    async def at(cls, socket: str, *, patience: float = TIMEOUT) -> "AsyncGenerator[Engine]":
        """A client of the engine that listens at a Unix socket."""
        transport = httpx.AsyncHTTPTransport(uds=socket)
        # Unversioned paths are those of the newest version that the engine speaks; these calls are the same in all.
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=patience) as client:
            yield cls(client, socket)

    async def state(self, container: str) -> State | None:
        """How a container is; None when there is none. Raises EngineRefused."""
        answer = await self._ask("GET", f"/containers/{container}/json")
        if answer.status_code == 404:
            return None
        try:
            document = answer.json()
            now = document["State"]
            return State(
                id=document["Id"],
                running=now["Running"],
                paused=now["Paused"],
                removes_itself=bool(document.get("HostConfig", {}).get("AutoRemove")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EngineRefused(f"{self._socket} is not the API of a container engine") from error

    async def order(self, container: str, order: str, **query: str) -> None:
        """Tell the engine to do something; that it is done already is as well. Raises EngineRefused."""
        answer = await self._ask("POST", f"/containers/{container}/{order}", query)
        if answer.status_code not in (204, 304):
            raise EngineRefused(f"the engine at {self._socket} did not {order} {container}: {_said(answer)}")

    async def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, params=query)
        except httpx.HTTPError as error:
            raise EngineRefused(
                f"no container engine answers at {self._socket}: {str(error) or type(error).__name__}"
            ) from error


@dataclass(slots=True)
class Containing:
    """A container that is paused or ended."""

    name: str
    socket: str
    order: str
    query: Mapping[str, str]
    patience: float = TIMEOUT
    method: str = "container"
    id: str = ""
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        state = await self._state()
        if state is None:
            raise CannotBreak(f"the engine at {self.socket} has no container {self.name}; correct the target's `name`")
        if not state.running or state.paused:
            seen = "paused already" if state.paused else "not running"
            raise CannotBreak(f"the container {self.name} is {seen}; start it before it is broken")
        if state.removes_itself and self.order != "pause":
            raise CannotBreak(
                f"the container {self.name} is removed when it ends, and could not be brought back: pause it, or start "
                "it without --rm"
            )
        self.id = state.id
        # The id, and not the name, which another container may have by then.
        return {"socket": self.socket, "container": state.id, "name": self.name, "order": self.order}

    async def inject(self) -> None:
        try:
            async with Engine.at(self.socket, patience=self.patience) as engine:
                await engine.order(self.id, self.order, **self.query)
        except EngineRefused as error:
            raise CannotBreak(str(error)) from error
        self.at = time.time()
        deadline = time.monotonic() + self.patience
        state = await self._state()
        while not self._broken(state) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)  # a signal is answered before it has done its work
            state = await self._state()
        await self.evidence()

    def _broken(self, state: State | None) -> bool:
        return state is None or (state.paused if self.order == "pause" else not state.running)

    async def evidence(self) -> Evidence:
        state = await self._state()
        if state is None:
            raise CannotBreak(f"the container {self.name} is gone: somebody removed it")
        if not self._broken(state):
            raise CannotBreak(f"the container {self.name} runs: somebody started it, or it did not end in time")
        seen = "is paused" if state.paused else "has ended"
        return Evidence(first=self.at, last=time.time(), what=f"container {self.name} ({state.id[:12]}) {seen}")

    async def _state(self) -> State | None:
        try:
            async with Engine.at(self.socket) as engine:
                return await engine.state(self.id or self.name)
        except EngineRefused as error:
            raise CannotBreak(str(error)) from error


async def undo_container(arguments: Mapping[str, Any]) -> Absence:
    """Let a container run again. Idempotent. Raises UndoFailed."""
    socket, container, name = str(arguments["socket"]), str(arguments["container"]), str(arguments["name"])
    try:
        async with Engine.at(socket) as engine:
            before = await engine.state(container)
            if before is None:
                raise UndoFailed(f"the container {name} was removed: make it anew, then remove the record")
            if before.paused:
                await engine.order(container, "unpause")
            elif not before.running and arguments["order"] != "pause":
                await engine.order(container, "start")
            elif not before.running:
                return Absence(False, f"the container {name} has ended, and is not paused any more")
            after = await engine.state(container)
    except EngineRefused as error:
        raise UndoFailed(f"{error}; start the engine, and undo again") from error
    if after is None or not after.running or after.paused:
        raise UndoFailed(f"the container {name} does not run after it was started; look at its log")
    was_there = before.paused or not before.running
    return Absence(was_there, f"the container {name} runs" + ("" if was_there else " already"))


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _breaking(order: str, query: Callable[[Any], Mapping[str, str]]) -> Callable[[str, Any, Target], Breakage]:
    def make(_identity: str, options: Any, target: Target) -> Breakage:
        container = cast("ContainerTarget", target.options)
        patience = TIMEOUT + (options.grace if isinstance(options, ContainerStop) else 0.0)
        return Containing(container.name, container.socket, order, query(options), patience)

    return make


_ENDED = frozenset({Reason.REFUSED, Reason.RESET, Reason.TIMEOUT, Reason.UNREACHABLE, Reason.STATUS})

CONTAINER_TARGETS: tuple[TargetKind, ...] = (
    TargetKind("container", ContainerTarget, "a container of Docker or Podman"),
)

CONTAINER_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "container-pause",
        ContainerPause,
        "a container is frozen, and keeps its ports",
        frozenset({Reason.TIMEOUT}),
        on="container",
        breakage=_breaking("pause", lambda _options: {}),
    ),
    FaultKind(
        "container-kill",
        ContainerKill,
        "a container is ended by a signal",
        _ENDED,
        reason_note="status or timeout where a proxy answers in its place",
        on="container",
        breakage=_breaking("kill", lambda options: {"signal": f"SIG{options.signal}"}),
    ),
    FaultKind(
        "container-stop",
        ContainerStop,
        "a container is told to end",
        _ENDED,
        reason_note="status or timeout where a proxy answers in its place",
        on="container",
        breakage=_breaking("stop", lambda options: {"t": f"{options.grace:.0f}"}),
    ),
)
