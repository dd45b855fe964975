"""The gateway: the pages and the JSON API of the company, in front of all other services."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from stormwatch.demo import pages
from stormwatch.demo import service as services
from stormwatch.demo.api import Api
from stormwatch.demo.database import open_database
from stormwatch.demo.dependency import Refused, Unavailable
from stormwatch.demo.fields import Invalid
from stormwatch.demo.orders import SCHEMA, Orders
from stormwatch.demo.pages import Pages
from stormwatch.demo.service import Settings, build, connect

_STATIC = {
    "site.css": "text/css; charset=utf-8",
    "icons.svg": "image/svg+xml",
    "mark.svg": "image/svg+xml",
    "ride.js": "text/javascript",
    "promotion.js": "text/javascript",
}
_CONTENT_SECURITY = (
    "default-src 'self'; script-src 'self' {scripts}; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)
_HEADERS = {
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, SCHEMA)
    network, needs = connect(settings)
    orders = Orders(database, needs["payments"])
    pages_of_people = Pages(needs, orders, embedded=settings.embedded, plants=settings.plants)
    routes = [Route("/static/{name}", _static), *pages_of_people.routes(), *Api(needs, orders).routes()]
    return build(
        settings.name,
        routes,
        database=database,
        network=network,
        dependencies=needs,
        handlers=_ERRORS,
        middleware=[Middleware(_Guard, scripts=tuple(settings.embedded.values()))],
    )


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    content = (Path(__file__).parent / "templates" / name).read_bytes()
    return Response(content, media_type=_STATIC[name], headers={"cache-control": "max-age=300"})


class _Guard:
    """Refuses forms that another site sent, and adds the headers that keep a browser from helping one.

    Cookies are SameSite=Lax, so such a form would come without them anyway; two locks, one door. `scripts` are the origins
    whose scripts pages may embed.
    """

    def __init__(self, app: ASGIApp, *, scripts: Sequence[str]) -> None:
        self._app = app
        self._headers = {
            **_HEADERS,
            "content-security-policy": _CONTENT_SECURITY.format(scripts=" ".join(scripts)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if scope["method"] not in {"GET", "HEAD"} and _comes_from_elsewhere(Headers(scope=scope)):
            refusal = PlainTextResponse("This form was sent by another site.\n", status_code=403)
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def _comes_from_elsewhere(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _for_whom(
    for_programs: ExceptionHandler, for_people: Callable[[Request, Exception], Awaitable[Response]]
) -> ExceptionHandler:
    async def handler(request: Request, error: Exception) -> Response:
        chosen: Any = for_programs if request.url.path.startswith("/api/") else for_people
        return await chosen(request, error)

    return handler


_ERRORS: Mapping[Any, ExceptionHandler] = {
    Unavailable: _for_whom(services.unavailable, pages.unavailable_page),
    Refused: _for_whom(services.refused, pages.refused_page),
    Invalid: _for_whom(services.invalid, pages.invalid_page),
    HTTPException: _for_whom(services.http_error, pages.http_error_page),
    Exception: _for_whom(services.crash, pages.crash_page),
    pages.LoginNeeded: pages.login_redirect,
}
