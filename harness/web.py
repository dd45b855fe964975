"""What `stormwatch run` serves: metrics, the status page, and the same as JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from stormwatch.harness.artifact_web import artifact_routes
from stormwatch.harness.notify_web import notify_routes
from stormwatch.probes.units import parse_duration

if TYPE_CHECKING:
    from stormwatch.harness.service import Service

MOST_RESULTS = 10_000
"""How many results one answer of the API may hold."""


def web_app(service: "Service", *, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The pages and the API of one service.

    `/metrics`, `/` and `/probes/NAME` for people; `/api/v1/probes`, `/api/v1/results`, `/api/v1/journeys/NAME`,
    `/api/v1/alerts`, `/api/v1/objectives`, `/api/v1/transitions`, `/config` as JSON; `/-/healthy` and `/-/ready`; `/artifacts/…` of journeys;
    `/ping/…` where heartbeats are waited for.
    """
    web = _Web(service)
    return Starlette(
        routes=[
            *routes,
            *service.routes,
            *notify_routes(service),
            Route("/", web.overview),
            Route("/probes/{name}", web.probe),
            Route("/metrics", web.metrics),
            Route("/api/v1/probes", web.probes),
            Route("/api/v1/results", web.results),
            Route("/api/v1/journeys/{name}", web.journey),
            Route("/api/v1/alerts", web.alerts),
            Route("/api/v1/objectives", web.objectives),
            Route("/api/v1/transitions", web.transitions),
            Route("/config", web.config),
            Route("/-/healthy", web.healthy),
            Route("/-/ready", web.ready),
            *artifact_routes(service.artifacts),
        ]
    )


class _Web:
    def __init__(self, service: "Service") -> None:
        self._service = service

    async def metrics(self, request: Request) -> Response:
        accepted = request.headers.get("accept-encoding", "")
        exporter = self._service.exporter
        return StreamingResponse(exporter.chunks(accepted), headers=exporter.headers(accepted))

    async def overview(self, _request: Request) -> Response:
        return HTMLResponse(await self._service.overview_page())

    async def probe(self, request: Request) -> Response:
        name = request.path_params["name"]
        page = await self._service.probe_page(name)
        if page is None:
            return PlainTextResponse(f"no probe is called {name}\n", status_code=404)
        return HTMLResponse(page)

    async def probes(self, _request: Request) -> Response:
        return JSONResponse({"probes": self._service.probe_documents()})

    async def results(self, request: Request) -> Response:
        query = request.query_params
        try:
            since = _since(query, self._service.clock.now())
            limit = min(int(query.get("limit", "1000")), MOST_RESULTS)
        except ValueError as error:
            return _bad_request(str(error))
        found = await self._service.results(query.get("probe"), since, limit)
        return JSONResponse({"results": [result.as_json() for result in found]})

    async def journey(self, request: Request) -> Response:
        name = request.path_params["name"]
        view = await self._service.journey(name)
        if view is None:
            return JSONResponse({"error": f"no journey is called {name}"}, status_code=404)
        return JSONResponse(view.as_json())

    async def alerts(self, _request: Request) -> Response:
        return JSONResponse({"alerts": [transition.as_json() for transition in self._service.evaluator.active()]})

    async def objectives(self, _request: Request) -> Response:
        return JSONResponse({"objectives": [standing.as_json() for standing in self._service.standings()]})

    async def transitions(self, request: Request) -> Response:
        try:
            since = _since(request.query_params, self._service.clock.now())
        except ValueError as error:
            return _bad_request(str(error))
        return JSONResponse({"transitions": await self._service.transitions(since)})

    async def config(self, _request: Request) -> Response:
        return JSONResponse(self._service.effective_config())

    async def healthy(self, _request: Request) -> Response:
        return PlainTextResponse("Healthy\n")

    async def ready(self, _request: Request) -> Response:
        missing = [p.name for p in self._service.config.probes if self._service.latest.result(p.name) is None]
        if missing:
            return PlainTextResponse(f"not yet run: {', '.join(missing)}\n", status_code=503)
        return PlainTextResponse("Ready\n")


def _since(query: Mapping[str, str], now: float) -> float:
    """`since=` as unix seconds or as a duration before now; an hour ago if it is not given."""
    text = query.get("since", "1h")
    try:
        return float(text)
    except ValueError:
        return now - parse_duration(text)


def _bad_request(said: str) -> Response:
    return JSONResponse({"error": said}, status_code=400)
