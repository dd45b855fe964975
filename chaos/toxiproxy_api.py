"""The paths of Toxiproxy's HTTP API.

    GET    /proxies                                    every proxy by its name
    POST   /proxies, /populate                         open one; open or replace several
    GET    /proxies/{proxy}                            also POST and PATCH: other addresses, enabled or not; DELETE
    GET    /proxies/{proxy}/toxics                     POST adds one
    GET    /proxies/{proxy}/toxics/{toxic}             also POST and PATCH: other attributes; DELETE
    POST   /reset                                      enable every proxy, remove every toxic
    GET    /version, /metrics

Of ours: GET /proxies/{proxy}/evidence, and what `toxiproxy` says of `ttl` and `seed`.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Path

from stormwatch.chaos.proxy import Proxy
from stormwatch.chaos.toxic import BadToxic
from stormwatch.chaos.toxiproxy import VERSION, Toxiproxy, check_required

Endpoint = Callable[[Request], Awaitable[Response]]


def toxiproxy_paths(proxy: Proxy) -> list[Path]:
    """The paths of the API over a fault proxy."""
    api = _Api(Toxiproxy(proxy))
    return [
        _path("/proxies", api.proxies, "GET", "POST"),
        _path("/populate", api.populate, "POST"),
        _path("/reset", api.reset, "POST"),
        _path("/version", api.version, "GET"),
        _path("/metrics", api.metrics, "GET"),
        _path("/proxies/{proxy}", api.proxy, "GET", "POST", "PATCH", "DELETE"),
        _path("/proxies/{proxy}/evidence", api.evidence, "GET"),
        _path("/proxies/{proxy}/toxics", api.toxics, "GET", "POST"),
        _path("/proxies/{proxy}/toxics/{toxic}", api.toxic, "GET", "POST", "PATCH", "DELETE"),
    ]


class _Api:
    """An endpoint a path."""

    def __init__(self, toxiproxy: Toxiproxy) -> None:
        self._toxiproxy = toxiproxy

    async def proxies(self, request: Request) -> Response:
        me = self._toxiproxy
        if request.method == "POST":
            return JSONResponse(me.proxy_as_json(await me.create(await _body(request))), 201)
        return JSONResponse({name: me.proxy_as_json(gate) for name, gate in me.gates().items()})

    async def populate(self, request: Request) -> Response:
        documents = await _body(request)
        if not isinstance(documents, list):
            raise BadToxic("bad request body: it is not a list of proxies")
        for number, document in enumerate(documents, 1):
            check_required(document, f" at proxy {number}")
        done: list[dict[str, Any]] = []
        try:
            for document in documents:
                gate = await self._toxiproxy.create(document, populating=True)
                done.append(self._toxiproxy.proxy_as_json(gate))
        except (BadToxic, OSError) as error:
            status = error.status if isinstance(error, BadToxic) else 500
            return JSONResponse({"error": _said(error), "status": status, "proxies": done}, status)
        return JSONResponse({"proxies": done}, 201)

    async def proxy(self, request: Request) -> Response:
        name = request.path_params["proxy"]
        if request.method == "DELETE":
            await self._toxiproxy.delete(name)
            return Response(status_code=204)
        gate = self._toxiproxy.gate(name)
        if request.method in ("POST", "PATCH"):
            gate = await self._toxiproxy.update(name, await _body(request))
        return JSONResponse(self._toxiproxy.proxy_as_json(gate))

    async def toxics(self, request: Request) -> Response:
        name = request.path_params["proxy"]
        gate = self._toxiproxy.gate(name)
        if request.method == "POST":
            added = self._toxiproxy.add_toxic(name, await _body(request))
            return JSONResponse(self._toxiproxy.toxic_as_json(added))
        return JSONResponse(self._toxiproxy.toxics(gate))

    async def toxic(self, request: Request) -> Response:
        name, toxic = request.path_params["proxy"], request.path_params["toxic"]
        if request.method == "DELETE":
            self._toxiproxy.remove_toxic(name, toxic)
            return Response(status_code=204)
        there = self._toxiproxy.toxic(name, toxic)
        if request.method in ("POST", "PATCH"):
            there = self._toxiproxy.change_toxic(name, toxic, await _body(request))
        return JSONResponse(self._toxiproxy.toxic_as_json(there))

    async def evidence(self, request: Request) -> Response:
        toxics = self._toxiproxy.toxics(self._toxiproxy.gate(request.path_params["proxy"]))
        return JSONResponse({one["name"]: one["evidence"] for one in toxics})

    async def reset(self, _request: Request) -> Response:
        self._toxiproxy.reset()
        return Response(status_code=204)

    async def version(self, _request: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def metrics(self, _request: Request) -> Response:
        return PlainTextResponse(self._toxiproxy.metrics(), media_type="text/plain; version=0.0.4")


def _path(path: str, endpoint: Endpoint, *methods: str) -> Path:
    return Path(path, _as_toxiproxy(endpoint), methods=list(methods))


def _as_toxiproxy(endpoint: Endpoint) -> Endpoint:
    """Refuses browsers, and says errors as Toxiproxy does."""

    async def guarded(request: Request) -> Response:
        agent = request.headers.get("user-agent", "")
        if agent.startswith("Mozilla/") or (request.method != "GET" and "origin" in request.headers):
            return PlainTextResponse("User agent not allowed\n", 403)
        try:
            answer = await endpoint(request)
        except BadToxic as error:
            answer = JSONResponse({"error": str(error), "status": error.status}, error.status)
        except OSError as error:
            answer = JSONResponse({"error": _said(error), "status": 500}, 500)
        answer.headers["X-Toxiproxy-Request-Id"] = secrets.token_hex(10)
        return answer

    return guarded


async def _body(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise BadToxic(f"bad request body: {error}") from error


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
