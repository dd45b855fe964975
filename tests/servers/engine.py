"""A container engine as far as the faults of containers go: the paths, answers and refusals of Docker's API on a Unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class Container:
    """One container."""

    id: str
    name: str
    status: str = "running"
    """`running`, `paused`, `exited`."""
    auto_remove: bool = False
    stubborn: bool = False
    """It does not end when it is told to."""

    def as_json(self) -> dict[str, Any]:
        """What inspecting it shows, as far as it is read."""
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            # As Docker has it: a paused container is running, too.
            "State": {
                "Status": self.status,
                "Running": self.status != "exited",
                "Paused": self.status == "paused",
            },
            "HostConfig": {"AutoRemove": self.auto_remove},
        }


@dataclass
class ContainerEngine:
    """What is known of a running engine."""

    socket: Path
    containers: list[Container] = field(default_factory=list[Container])
    asked: list[str] = field(default_factory=list[str])
    """Every order: its path with the query."""

    def find(self, name: str) -> Container | None:
        """By name, or by the beginning of the id."""
        return next((each for each in self.containers if each.name == name or each.id.startswith(name)), None)

    async def inspect(self, request: Request) -> Response:
        """GET /containers/{name}/json."""
        container = self.find(request.path_params["name"])
        return _missing(request) if container is None else JSONResponse(container.as_json())

    async def order(self, request: Request) -> Response:
        """POST /containers/{name}/{order}."""
        name, order = request.path_params["name"], request.path_params["order"]
        self.asked.append(f"{order}?{request.url.query}")
        container = self.find(name)
        if container is None:
            return _missing(request)
        if order == "start":
            return self._become(container, "running", unless="running", otherwise=304)
        if order == "unpause":
            return self._become(container, "running", only="paused")
        if order == "pause":
            return self._become(container, "paused", only="running")
        if order == "stop" and container.status == "exited":
            return Response(status_code=304)
        if container.stubborn and request.query_params.get("signal") == "SIGTERM":
            return Response(status_code=204)
        return self._become(container, "exited", unless="exited")

    @staticmethod
    def _become(
        container: Container, status: str, *, only: str = "", unless: str = "", otherwise: int = 409
    ) -> Response:
        if (only and container.status != only) or (unless and container.status == unless):
            if otherwise == 304:
                return Response(status_code=304)
            return JSONResponse({"message": f"container {container.name} is {container.status}"}, otherwise)
        container.status = status
        return Response(status_code=204)


def _missing(request: Request) -> Response:
    return JSONResponse({"message": f"No such container: {request.path_params['name']}"}, 404)


@contextlib.asynccontextmanager
async def engine_running(directory: Path, *containers: Container) -> AsyncGenerator[ContainerEngine]:
    """An engine on a socket in a directory, whose name is short enough for one."""
    known = ContainerEngine(directory / "engine.sock", list(containers))
    app = Starlette(
        routes=[
            Route("/containers/{name}/json", known.inspect, methods=["GET"]),
            Route("/containers/{name}/{order}", known.order, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, uds=str(known.socket), log_config=None, lifespan="off", ws="none"))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            assert not task.done(), "the engine ended at once"
        yield known
    finally:
        server.should_exit = True
        await task
