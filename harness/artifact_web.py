"""`/artifacts/…`: what journeys kept, for download. A file that a hostile site wrote into is never a page of ours.

Of what a journey keeps, much was sent by the site that it watches: a trace holds its pages, a HAR file its bodies. So nothing
here is markup for a browser (`Content-Type` by a closed list, `nosniff`), only pictures and videos are shown in place, all else is saved,
and whatever would be rendered all the same has no scripts and no origin (`Content-Security-Policy: sandbox`).
"""

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

TYPES: Final = {
    ".png": "image/png",
    ".webm": "video/webm",
    ".zip": "application/zip",
    ".har": "application/json",
}
"""What a file is called to be, by its suffix; all others are bytes."""
SHOWN: Final = frozenset({".png", ".webm"})
"""What is shown in place: pictures that the browser took itself, and videos made of them."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, max-age=3600",
}
"""Of every answer."""
PLAYED: Final = {"Content-Security-Policy": "default-src 'none'; media-src 'self'; sandbox allow-same-origin"}
"""Of a video instead: a browser that is sent to one makes a page around it, which loads it again. Chromium refuses that to a
page without an origin, and without `media-src`. Scripts are still forbidden; what is in the file came out of ffmpeg."""


def artifact_routes(directory: Path) -> list[BaseRoute]:
    """The addresses of everything below a directory, and of nothing else."""

    async def artifact(request: Request) -> Response:
        path = await asyncio.to_thread(inside, directory, request.path_params["path"])
        if path is None:
            return PlainTextResponse("no such artifact, or it is not kept any more\n", status_code=404)
        own = PLAYED if media_type(path).startswith("video/") else {}
        headers = {**HEADERS, **own, "Content-Disposition": _place(path)}
        return FileResponse(path, media_type=media_type(path), headers=headers)

    return [Route("/artifacts/{path:path}", artifact)]


def inside(directory: Path, name: str) -> Path | None:
    """The file of this name below a directory; None if there is none, or if the name or a link leads out of it."""
    try:
        root = directory.resolve()
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name that is too long, holds NUL, or is a circle of links
        return None


def media_type(path: Path) -> str:
    """What a file is called to be: never what a browser would render as a page."""
    return TYPES.get(path.suffix, "application/octet-stream")


def _place(path: Path) -> str:
    disposition = "inline" if path.suffix in SHOWN else "attachment"
    return f"{disposition}; filename*=UTF-8''{quote(path.name, safe='')}"
