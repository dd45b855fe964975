"""The addresses of blackbox_exporter, served by `stormwatch run --blackbox`.

`/probe` answers as it does, in its order of checks and with its status codes; what differs stands in
docs/reference/blackbox.md.
"""

import math
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from stormwatch.exporters import exposition
from stormwatch.exporters.exposition import CONTENT_TYPE, Family, GzipStream, accepts_gzip
from stormwatch.exporters.process import ProcessMetrics
from stormwatch.harness import telemetry
from stormwatch.harness.blackbox_page import debug_text, history_page
from stormwatch.harness.blackbox_prober import DEFAULT_MODULE, BlackboxProber
from stormwatch.harness.blackbox_translation import host_header_of
from stormwatch.harness.mistake import ConfigError

SCRAPE_TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"


def blackbox_app(prober: BlackboxProber, *, prefix: str = "") -> Starlette:
    """All of its addresses, for a process that serves nothing else. `prefix` stands before each of them."""
    web = _Web(prober)
    routes = [
        *blackbox_routes(prober),
        Route("/", web.history),
        Route("/config", web.config),
        Route("/metrics", web.metrics),
        Route("/-/healthy", web.healthy),
    ]
    return Starlette(routes=[Mount(f"/{prefix.strip('/')}", routes=routes)] if prefix.strip("/") else routes)


def blackbox_routes(prober: BlackboxProber) -> Sequence[Route]:
    """What goes beside the pages and the API of a whole service, which has a first page and metrics of its own."""
    web = _Web(prober)
    return [
        Route("/probe", web.probe),
        Route("/logs", web.logs),
        Route("/-/reload", web.reload, methods=["POST"]),
        Route("/blackbox", web.history),
        Route("/blackbox/config", web.config),
    ]


class _Web:
    def __init__(self, prober: BlackboxProber) -> None:
        self._prober = prober
        self._process = ProcessMetrics()

    async def probe(self, request: Request) -> Response:
        """One run of one module against one target."""
        query, prober = request.query_params, self._prober
        name = query.get("module") or DEFAULT_MODULE
        module = prober.module(name)
        if module is None:
            return _said(f'Unknown module "{name}"', 400)
        asked = request.headers.get(SCRAPE_TIMEOUT_HEADER, "")
        try:
            scrape_timeout = _seconds(asked)
        except ValueError:
            return _said(f"Failed to parse timeout from Prometheus header: {asked!r} is not a number of seconds", 500)
        target = unquote_again(query.get("target", ""))
        if not target:
            return _said("Target parameter is missing", 400)
        hostname = query.get("hostname", "")
        if module.prober == "http" and hostname:
            own = host_header_of(module)
            if own not in ("", hostname):
                return _said(
                    f"host header defined both in module configuration ({own}) and with URL-parameter 'hostname' "
                    f"({hostname})",
                    400,
                )
        entry = await prober.probe(
            name, module, target, hostname=hostname, timeout=prober.timeout(module, scrape_timeout)
        )
        if query.get("debug") == "true":
            return PlainTextResponse(debug_text(entry, prober.modules.shown.get(name, {})))
        return _exposition(entry.page, request)

    async def logs(self, request: Request) -> Response:
        """The debug text of a run that is remembered: by its number, or the last one of a target."""
        number, target = request.query_params.get("id", ""), request.query_params.get("target", "")
        if bool(number) == bool(target):
            return _said("give id or target, and not both", 400)
        if number and not number.isdecimal():
            return _said(f"id is the number of a run, not {number!r}", 400)
        history = self._prober.history
        module = request.query_params.get("module", "")
        entry = history.by_number(int(number)) if number else history.by_target(target, module)
        if entry is None:
            return _said("no such run is remembered", 404)
        return PlainTextResponse(debug_text(entry, self._prober.modules.shown.get(entry.module, {})))

    async def reload(self, _request: Request) -> Response:
        """Read the modules again."""
        try:
            await self._prober.reload()
        except ConfigError as error:
            return _said("failed to reload config: " + "\n".join(error.lines), 500)
        return PlainTextResponse("")

    async def config(self, _request: Request) -> Response:
        """The modules as they were written, secrets masked."""
        document = {"modules": dict(self._prober.modules.shown)}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
        return PlainTextResponse(text)

    async def history(self, request: Request) -> Response:
        """The last runs."""
        config = "blackbox/config" if request.url.path.endswith("/blackbox") else "config"
        return HTMLResponse(history_page(self._prober, config=config))

    async def metrics(self, request: Request) -> Response:
        """What this process says about itself."""
        return _exposition(exposition.render(self.families()), request)

    def families(self) -> list[Family]:
        prober = self._prober
        return [*self._process(), *telemetry.loop(prober.lag, prober.clock), *prober.families()]

    async def healthy(self, _request: Request) -> Response:
        """That we answer."""
        return PlainTextResponse("Healthy")


def unquote_again(target: str) -> str:
    """A target without the URL encoding that it still has: `http%3A%2F%2Fh` is `http://h`.

    blackbox_exporter does so since 0.28 with every target, and breaks those whose path or query is encoded. So a target
    that is a URL already is left as it is, and a `+` stays what it is.
    """
    return target if "://" in target else unquote(target)


def _seconds(text: str) -> float:
    seconds = float(text) if text else 0.0
    if not math.isfinite(seconds):
        raise ValueError(text)
    return seconds


def _said(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status, headers={"X-Content-Type-Options": "nosniff"})


def _exposition(text: bytes, request: Request) -> Response:
    headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        stream = GzipStream()
        text = stream.compress(text) + stream.flush()
        headers["Content-Encoding"] = "gzip"
    return Response(text, headers=headers)
