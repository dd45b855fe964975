"""One process of the platform: what it says when it cannot start, and what a person never sees."""

import subprocess
import sys
from pathlib import Path

import httpx
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.service import build


def ran(name: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stormwatch.demo.serve", name],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_missing_environment_is_named_completely() -> None:
    """Everything at once, also the addresses of the services that it needs."""
    ended = ran("hotel", LISTEN="127.0.0.1:1", CA="ca.pem", PAYMENTS_URL="https://payments.storm.test")

    assert ended.returncode == 1
    assert ended.stderr == "hotel: the environment lacks CERTIFICATE, KEY, DNS_SERVER, DATABASE, ACCOUNTS_URL\n"


def test_an_unknown_service_is_refused_with_those_that_there_are() -> None:
    """Exit code 2: the command was wrong."""
    ended = ran("bakery")

    assert ended.returncode == 2
    assert "{dns,proxy,shop,accounts,catalog,payments,hotel,taxi,ratings}" in ended.stderr


def test_a_child_whose_supervisor_has_gone_does_not_start() -> None:
    """The supervisor it was started for is not its parent (any more)."""
    ended = ran("dns", LISTEN="127.0.0.1:1", SUPERVISOR="1")

    assert ended.returncode == 1
    assert ended.stderr == "the supervisor 1 has gone\n"


async def test_an_error_in_the_code_is_no_traceback_on_the_page(tmp_path: Path) -> None:
    """500 and a sentence; the traceback is for the log."""

    async def crash(_request: object) -> None:
        raise RuntimeError("the secret is 4711")

    app = build("shop", [Route("/crash", crash)], database=open_database(tmp_path / "x.sqlite", ""))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.storm.test") as client:
        response = await client.get("/crash")
        missing = await client.get("/nowhere")
        wrong = await client.post("/healthz")

    assert response.status_code == 500
    assert response.json() == {
        "error": {"code": "internal", "message": "Something went wrong here; the log knows more"}
    }
    assert (missing.status_code, wrong.status_code) == (404, 405)
