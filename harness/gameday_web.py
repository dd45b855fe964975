"""The page of a game day, to be projected and to be pressed on phones: what is on, how long it has been, who has said what."""

import html
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from stormwatch.chaos.gameday_report import as_json, filters
from stormwatch.chaos.report import SIGN
from stormwatch.harness.gameday import Refused, Running
from stormwatch.probes.clock import Clock

LONGEST = 2000
"""Characters of a note."""


def gameday_app(running: Running, clock: Clock) -> Starlette:
    """`/` for people, `/present` for the part that changes, `/state` as JSON, and what people say."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= filters()
    templates = files("stormwatch.chaos") / "templates"
    whole, part = (
        environment.from_string((templates / name).read_text(encoding="utf-8"))
        for name in ("gameday_page.html", "gameday_present.html")
    )

    def present() -> str:
        return part.render(course=running.course, now=clock.now(), sign=SIGN)

    async def page(_request: Request) -> Response:
        return HTMLResponse(whole.render(title=running.course.day.title, present=present()), headers=_SAFE)

    async def fragment(_request: Request) -> Response:
        return HTMLResponse(present(), headers=_SAFE)

    async def state(_request: Request) -> Response:
        return JSONResponse(as_json(running.course))

    async def say(request: Request) -> Response:
        if not _from_here(request):
            return PlainTextResponse("this came from a page of somebody else; say it on the page of the game day", 403)
        form = await _form(request)
        if form is None:
            return PlainTextResponse(f"this is longer than {LONGEST} characters; say it shorter", 413)
        said = {key: form.get(key, [""])[-1][:LONGEST].strip() for key in ("checkpoint", "by", "note")}
        try:
            if said["checkpoint"]:
                await running.reach(said["checkpoint"], said["by"], said["note"])
            else:
                await running.note(said["note"], said["by"])
        except Refused as refused:
            if "text/html" in request.headers.get("accept", ""):
                back = f'<p>{html.escape(str(refused))}</p><p><a href="/">Back</a></p>'
                return HTMLResponse(back, 409, headers=_SAFE)
            return PlainTextResponse(str(refused), 409)
        return RedirectResponse("/", 303)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/present", fragment),
            Route("/state", state),
            Route("/say", say, methods=["POST"]),
        ]
    )


_SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


async def _form(request: Request) -> dict[str, list[str]] | None:
    """A form as browsers post it; None when it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 8 * LONGEST:
            return None
    return parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)


def _from_here(request: Request) -> bool:
    """Browsers say where a form comes from; programs say nothing. A foreign page must not press our buttons."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
