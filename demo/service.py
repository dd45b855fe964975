"""What every service has: settings from its environment, health and readiness, errors as JSON, one access line a request."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from stormwatch.demo.dependency import Dependency, Network, Refused, Unavailable
from stormwatch.demo.estate import SERVICES, check_environ, read_address
from stormwatch.demo.fields import Invalid
from stormwatch.demo.plants import Plants
from stormwatch.demo.resolver import Resolver

access = logging.getLogger("access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a service is told, from its environment."""

    name: str
    listen: tuple[str, int]
    certificate: Path
    key: Path
    ca: Path
    dns_server: tuple[str, int]
    database: Path
    urls: Mapping[str, str]
    """Base URLs of the services that it needs, by their names."""
    embedded: Mapping[str, str] = field(default_factory=dict[str, str])
    """Base URLs of those whose scripts its pages embed, by their names."""
    plants: Plants = field(default_factory=Plants)
    """The failures that it is to show."""

    @classmethod
    def from_environ(cls, name: str, environ: Mapping[str, str]) -> "Settings":
        """Read LISTEN, CERTIFICATE, KEY, CA, DNS_SERVER, DATABASE and, for each service that it needs or embeds, NAME_URL.

        PLANTED is where its planted failures are; without it there are none.
        Raises ValueError, naming everything that is missing.
        """
        spec = SERVICES[name]
        urls = {other: f"{other.upper()}_URL" for other in (*spec.needs, *spec.embeds)}
        check_environ(environ, ("LISTEN", "CERTIFICATE", "KEY", "CA", "DNS_SERVER", "DATABASE", *urls.values()))
        return cls(
            name=name,
            listen=read_address(environ["LISTEN"]),
            certificate=Path(environ["CERTIFICATE"]),
            key=Path(environ["KEY"]),
            ca=Path(environ["CA"]),
            dns_server=read_address(environ["DNS_SERVER"]),
            database=Path(environ["DATABASE"]),
            urls={need: environ[urls[need]] for need in spec.needs},
            embedded={other: environ[urls[other]] for other in spec.embeds},
            plants=Plants(Path(environ["PLANTED"]) if environ.get("PLANTED") else None),
        )


def connect(settings: Settings) -> tuple[Network, Mapping[str, Dependency]]:
    """The services that this one needs, by their names, and the network they are reached through."""
    network = Network(ca=settings.ca, resolver=Resolver(settings.dns_server))
    patience = SERVICES[settings.name].patience
    return network, {name: Dependency(name, url, network, patience=patience) for name, url in settings.urls.items()}


def build(
    name: str,
    routes: Sequence[BaseRoute],
    *,
    database: sqlite3.Connection,
    network: Network | None = None,
    dependencies: Mapping[str, Dependency] | None = None,
    handlers: Mapping[Any, ExceptionHandler] | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """A service: its routes, `/healthz` (itself), `/readyz` (what it needs, too), errors as JSON, an access log."""
    needed = dependencies or {}

    async def healthz(_request: Request) -> Response:
        database.execute("SELECT 1").fetchone()
        return JSONResponse({"service": name, "status": "ok"})

    async def readyz(_request: Request) -> Response:
        answers = await asyncio.gather(*(dependency.check() for dependency in needed.values()))
        why = {need: answer for need, answer in zip(needed, answers, strict=True) if answer}
        document = {
            "service": name,
            "status": "not ready" if why else "ready",
            "needs": {need: "down" if need in why else "ok" for need in needed},
            "down": list(why),
            "why": why,
        }
        return JSONResponse(document, status_code=503 if why else 200)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if network is not None:
                await network.aclose()
            database.close()

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), *routes],
        exception_handlers={**_JSON_ERRORS, **(handlers or {})},
        middleware=[Middleware(_AccessLog), *middleware],
        lifespan=lifespan,
    )


def bearer_of(request: Request) -> str:
    """The token of the request. Raises Refused (401) when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, "not_logged_in", "A token is needed: Authorization: Bearer …")
    return token.strip()


def problem(status: int, code: str, message: str, **more: str) -> JSONResponse:
    """The one shape of an error: `{"error": {"code", "message", …}}`."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": {"code": code, "message": message, **more}}, status_code=status, headers=headers)


async def unavailable(_request: Request, error: Exception) -> Response:
    """502, and the name of the service that is to blame."""
    assert isinstance(error, Unavailable)
    logging.getLogger(__name__).warning("%s", error)
    return problem(502, "unavailable", error.why, service=error.service)


async def refused(_request: Request, error: Exception) -> Response:
    """What a service behind this one said no to, passed on."""
    assert isinstance(error, Refused)
    return problem(error.status, error.code, error.message)


async def invalid(_request: Request, error: Exception) -> Response:
    """422 and the sentence."""
    return problem(422, "invalid", str(error))


async def http_error(_request: Request, error: Exception) -> Response:
    """No such page, no such method."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return problem(error.status_code, code, error.detail)


async def crash(_request: Request, _error: Exception) -> Response:
    """500 without a word about why: that is in the service's log."""
    return problem(500, "internal", "Something went wrong here; the log knows more")


_JSON_ERRORS: Mapping[Any, ExceptionHandler] = {
    Unavailable: unavailable,
    Refused: refused,
    Invalid: invalid,
    HTTPException: http_error,
    Exception: crash,
}


class _AccessLog:
    """One line a request: method, path, status, milliseconds, and the trace that a prober sent along."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            milliseconds = (time.perf_counter() - began) * 1000
            headers: dict[bytes, bytes] = dict(scope["headers"])
            trace = headers.get(b"traceparent", b"-").decode("latin-1")
            access.info("%s %s %s %.1fms %s", scope["method"], scope["path"], status, milliseconds, trace)
