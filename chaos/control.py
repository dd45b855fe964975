"""The control API of the fault proxy: JSON over HTTP on loopback. Faults are put with a lease, renewed, read, deleted.

    GET    /healthz                             who serves here
    GET    /routes, /routes/{route}             addresses, connections, faults
    PUT    /routes/{route}/faults/{id}          {"kind", "options", "lease", "owner"}: 201, or 200 when it was there
    POST   /routes/{route}/faults/{id}/renew    {"lease"}
    GET    /routes/{route}/faults/{id}          the fault with its evidence; 404 when it is not (any more) in place
    DELETE /routes/{route}/faults/{id}          its last evidence; 404 when it was gone already

Errors are {"error": sentence, "status": number}; the 404 of a fault that has ended adds {"ended": how, when, evidence}.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from stormwatch.chaos.address import parse_address, show_address
from stormwatch.chaos.catalog import read_options
from stormwatch.chaos.dns_gate import DnsGate
from stormwatch.chaos.door import bound_socket
from stormwatch.chaos.process import identify
from stormwatch.chaos.proxy import Conflict, Ended, Gate, Proxy, UnknownFault, UnknownRoute
from stormwatch.chaos.proxy_control import SERVICE
from stormwatch.chaos.route import Route
from stormwatch.chaos.toxiproxy_api import toxiproxy_paths
from stormwatch.probes.clock import Clock, SystemClock

KEEP_ALIVE: Final = 75
"""Seconds that a connection may be idle: longer than clients keep one (httpx: 5 s), so that it is they who end it.

With uvicorn's own 5 s a request could be sent at the very moment at which the connection was closed, and was lost.
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a running proxy is reached."""

    control: str
    """URL of the control API."""
    routes: dict[str, str]
    """`host:port` of each route."""
    toxiproxy: str = ""
    """URL of Toxiproxy's API; empty: it is not served."""


async def serve_proxy(
    routes: Sequence[Route],
    control: str,
    *,
    stop: asyncio.Event,
    ready: Callable[[Serving], None] = lambda _serving: None,
    toxiproxy: str = "",
    clock: Clock | None = None,
) -> None:
    """Serve the routes and the control API until `stop` is set. `ready` is called when every port is bound.

    `toxiproxy` is the `host:port` at which Toxiproxy's API is served too.

    Raises OSError for an address that cannot be had, ValueError for routes that cannot be served.
    """
    async with proxying(routes, control, toxiproxy=toxiproxy, clock=clock) as serving:
        ready(serving)
        await stop.wait()


@contextlib.asynccontextmanager
async def proxying(
    routes: Sequence[Route], control: str, *, toxiproxy: str = "", clock: Clock | None = None
) -> AsyncGenerator[Serving]:
    """Serve while the block lasts; leaving takes every fault away first. Raises as `serve_proxy`."""
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(routes, clock or SystemClock()))
        paths = toxiproxy_paths(proxy) if toxiproxy else []
        # The two have no path in common, so one address may serve both: 8474 is the usual one of both.
        shared = toxiproxy == control
        url = await stack.enter_async_context(controlling(proxy, control, more=paths if shared else ()))
        theirs = url if shared else ""
        if paths and not shared:
            theirs = await stack.enter_async_context(_listening(Starlette(routes=paths), toxiproxy))
        addresses = {name: gate.address for name, gate in proxy.gates.items()}
        yield Serving(control=url, routes=addresses, toxiproxy=theirs)


@contextlib.asynccontextmanager
async def controlling(proxy: Proxy, control: str, *, more: Sequence[Path] = ()) -> AsyncGenerator[str]:
    """Serve the control API of a proxy at `host:port` while the block lasts; its URL. Raises OSError, ValueError."""
    async with _listening(control_app(proxy, more), control) as url:
        yield url


@contextlib.asynccontextmanager
async def _listening(app: Starlette, control: str) -> AsyncGenerator[str]:
    host, _ = parse_address(control)
    if not (host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)):
        # Whoever reaches it can break things, and nobody is asked who he is.
        raise ValueError(f"the control API listens on loopback only, like 127.0.0.1:8474, not on {control}")
    bound = bound_socket(control)
    host, port = bound.getsockname()[:2]
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]), name="control API of the fault proxy")
    try:
        yield f"http://{show_address(host, port)}"
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        bound.close()  # a server that is told to end before it has begun leaves it open


def control_app(proxy: Proxy, more: Sequence[Path] = ()) -> Starlette:
    """The control API over a proxy, and more paths beside it."""
    me = identify()

    async def healthz(_request: Request) -> Response:
        return JSONResponse(
            {
                "service": SERVICE,
                "version": version("stormwatch"),
                "process": me.as_json(),
                "routes": len(proxy.gates),
                "faults": sum(len(gate.faults) for gate in proxy.gates.values()),
            }
        )

    async def routes(_request: Request) -> Response:
        return JSONResponse([_gate_as_json(gate, proxy) for gate in proxy.gates.values()])

    async def route(request: Request) -> Response:
        return JSONResponse(_gate_as_json(proxy.gate(request.path_params["route"]), proxy))

    async def read(request: Request) -> Response:
        there = proxy.find(request.path_params["route"], request.path_params["fault"])
        return JSONResponse(there.as_json(proxy.clock.monotonic()))

    async def put(request: Request) -> Response:
        body = await _body(request, ("kind", "lease"), ("options", "owner"))
        name, fault = request.path_params["route"], request.path_params["fault"]
        document = body.get("options", {})
        if not isinstance(document, dict):
            raise HTTPException(400, f"options are a JSON object, not {type(document).__name__}")
        try:
            options = read_options(str(body["kind"]), document)
        except ValueError as error:
            raise HTTPException(400, _one_line(error)) from error
        fresh = fault not in proxy.gate(name).faults
        there = proxy.put(
            route=name,
            fault=fault,
            kind=str(body["kind"]),
            options=options,
            lease=_lease(body),
            owner=str(body.get("owner", "")),
        )
        return JSONResponse(there.as_json(proxy.clock.monotonic()), 201 if fresh else 200)

    async def renew(request: Request) -> Response:
        body = await _body(request, ("lease",), ())
        there = proxy.renew(request.path_params["route"], request.path_params["fault"], _lease(body))
        return JSONResponse(there.as_json(proxy.clock.monotonic()))

    async def delete(request: Request) -> Response:
        return JSONResponse(_ended_as_json(proxy.take(request.path_params["route"], request.path_params["fault"])))

    return Starlette(
        routes=[
            Path("/healthz", healthz),
            Path("/routes", routes),
            Path("/routes/{route}", route),
            Path("/routes/{route}/faults/{fault}", read, methods=["GET"]),
            Path("/routes/{route}/faults/{fault}", _not_for_browsers(put), methods=["PUT"]),
            Path("/routes/{route}/faults/{fault}", _not_for_browsers(delete), methods=["DELETE"]),
            Path("/routes/{route}/faults/{fault}/renew", _not_for_browsers(renew), methods=["POST"]),
            *more,
        ],
        exception_handlers={
            HTTPException: _http_error,
            UnknownRoute: _unknown_route,
            UnknownFault: _unknown_fault,
            Conflict: _conflict,
            OSError: _stuck,
        },
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Whoever runs the proxy owns the signals: faults are taken away before anything stops.
        yield


def _not_for_browsers(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        # A page that somebody has open must not be able to break things on this machine.
        if "origin" in request.headers or request.headers.get("user-agent", "").startswith("Mozilla/"):
            raise HTTPException(403, "faults are not put by browsers")
        return await endpoint(request)

    return guarded


async def _body(request: Request, needed: tuple[str, ...], possible: tuple[str, ...]) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise HTTPException(400, f"the body must be a JSON object: {error}") from error
    if not isinstance(body, dict):
        raise HTTPException(400, f"the body must be a JSON object, not {type(body).__name__}")
    if missing := [key for key in needed if key not in body]:
        raise HTTPException(400, f"the body lacks {', '.join(missing)}")
    if unknown := [key for key in body if key not in (*needed, *possible)]:
        raise HTTPException(
            400, f"unknown in the body: {', '.join(unknown)}; there are {', '.join((*needed, *possible))}"
        )
    return body


def _lease(body: dict[str, Any]) -> float:
    lease = body["lease"]
    if isinstance(lease, bool) or not isinstance(lease, int | float):
        raise HTTPException(400, f"lease is a number of seconds, not {lease!r}")
    return float(lease)


def _gate_as_json(gate: Gate | DnsGate, proxy: Proxy) -> dict[str, Any]:
    return {
        **gate.route.as_json(),
        "listen": gate.address,
        "connections": {"open": len(gate.links), "accepted": gate.accepted},
        "faults": [injection.as_json(proxy.clock.monotonic()) for injection in gate.faults.values()],
    }


def _ended_as_json(ended: Ended) -> dict[str, Any]:
    return {
        "id": ended.id,
        "route": ended.route,
        "ended": ended.how,
        "at": ended.at,
        "evidence": ended.evidence.as_json(),
    }


async def _http_error(_request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return JSONResponse({"error": detail, "status": status}, status)


async def _unknown_route(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "status": 404}, 404)


async def _unknown_fault(_request: Request, error: Exception) -> Response:
    ended = error.ended if isinstance(error, UnknownFault) else None
    body: dict[str, Any] = {"error": str(error), "status": 404}
    return JSONResponse(body | ({"ended": _ended_as_json(ended)} if ended else {}), 404)


async def _conflict(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error), "status": 409}, 409)


async def _stuck(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the fault is still in place: {error}; try again", "status": 503}, 503)


def _one_line(error: ValueError) -> str:
    errors: Callable[[], list[dict[str, Any]]] | None = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'options'}: {one['msg']}" for one in errors())
