"""What journeys kept is served: nothing above its directory, and nothing that a hostile site wrote as a page of ours."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from stormwatch.harness.artifact_web import artifact_routes
from stormwatch.harness.server import address_of, bind, serving

FILES = {
    "page.png": b"\x89PNG",
    "video.webm": b"0123456789",
    "trace.zip": b"PK",
    "requests.har": b"{}",
    "evil.html": b"<script>alert(1)</script>",
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """A server of a directory with one run, and a secret beside it."""
    run = tmp_path / "artifacts" / "checkout" / "run"
    run.mkdir(parents=True)
    for name, data in FILES.items():
        (run / name).write_bytes(data)
    (tmp_path / "history.sqlite").write_bytes(b"secret")
    bound = bind("127.0.0.1:0")
    app = Starlette(routes=artifact_routes(tmp_path / "artifacts"))
    async with serving(app, bound), httpx.AsyncClient(base_url=f"http://{address_of(bound)}", timeout=60) as asking:
        yield asking


@pytest.mark.parametrize(
    ("name", "type_", "place"),
    [
        ("page.png", "image/png", "inline"),
        ("video.webm", "video/webm", "inline"),
        ("trace.zip", "application/zip", "attachment"),
        ("requests.har", "application/json", "attachment"),
        ("evil.html", "application/octet-stream", "attachment"),
    ],
)
async def test_only_pictures_and_videos_are_shown_in_place(
    client: httpx.AsyncClient, name: str, type_: str, place: str
) -> None:
    """All else is saved; nothing has scripts or an origin, and no browser guesses what it is."""
    answer = await client.get(f"/artifacts/checkout/run/{name}")

    assert answer.content == FILES[name]
    assert answer.headers["content-type"] == type_
    assert answer.headers["content-disposition"].split(";")[0] == place
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    # A video has an origin, or a browser that is sent to it would not play it; it has no scripts either.
    played = "; media-src 'self'; sandbox allow-same-origin" if name == "video.webm" else "; sandbox"
    assert policy == f"default-src 'none'{played}"


async def test_a_part_of_a_video_is_given_to_whoever_asks_for_it(client: httpx.AsyncClient) -> None:
    """Without that a browser cannot jump in it, and Safari does not play it at all."""
    answer = await client.get("/artifacts/checkout/run/video.webm", headers={"Range": "bytes=2-5"})

    assert (answer.status_code, answer.content) == (206, b"2345")
    assert answer.headers["content-range"] == "bytes 2-5/10"
    assert answer.headers["content-type"] == "video/webm"


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fhistory.sqlite",
        "checkout/run/..%2f..%2f..%2fhistory.sqlite",
        "%2e%2e/history.sqlite",
        "%2fetc%2fpasswd",
        "checkout/run",
        "",
        "checkout/run/page.png%00.html",
        "a" * 5000,
        "checkout/run/link",
        "checkout/run/circle",
        "checkout/run/pipe",
    ],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, tmp_path: Path, path: str) -> None:
    """Paths that lead out, links that do, folders, names that no file has, and what is no file."""
    run = tmp_path / "artifacts" / "checkout" / "run"
    (run / "link").symlink_to(tmp_path / "history.sqlite")
    (run / "circle").symlink_to(run / "circle")
    os.mkfifo(run / "pipe")

    answer = await client.get(f"/artifacts/{path}")

    assert answer.status_code == 404
    assert "secret" not in answer.text
