"""The way of a journey's failure to the person who is woken: the alert links to its picture, the page shows it, in a browser."""

import asyncio
import contextlib
import os
import time
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, async_playwright

from stormwatch.harness.config import load
from stormwatch.harness.server import address_of, bind, serving
from stormwatch.harness.service import Service
from stormwatch.harness.web import web_app
from tests.program import program
from tests.servers.process import free_port, running
from tests.servers.receiver import Receiver
from tests.servers.shop import shop_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

JOURNEY = """\
import time
from pathlib import Path

from playwright.sync_api import expect


def test_pay(page, step):
    while not Path(__file__).with_name("go").exists():
        time.sleep(0.02)
    with step("open the shop"):
        page.goto("/shop")
    with step("pay"):
        page.goto("/checkout")
        expect(page.get_by_role("button", name="Pay")).to_be_visible(timeout=500)
"""
CONFIG = """\
external_url: {page}
artifacts: {{max_size: 50MiB, max_age: 1d}}
probes:
  - name: pay
    kind: journey
    target: test_pay.py::test_pay
    every: 10m
    timeout: 50s
    confirm: {{attempts: 1}}
    journey:
      base_url: {shop}
      keep: [page, trace, har]
alerts:
  alertmanager: {alertmanager}
  webhook: {webhook}
"""
ALERTMANAGER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


async def until(answer: Callable[[], Any], *, what: str) -> Any:
    """What it gives as soon as it is something; fails after a minute, which only a hang takes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                found = answer()
                if found := await found if isinstance(found, Awaitable) else found:
                    return found
                await asyncio.sleep(0.05)
    raise AssertionError(f"not within a minute: {what}")


@contextlib.asynccontextmanager
async def a_page(width: int) -> AsyncGenerator[Page]:
    """A page of a browser that is so wide."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        yield await browser.new_page(viewport={"width": width, "height": 844})
        await browser.close()


async def test_an_alert_leads_to_the_picture_of_the_failure(tmp_path: Path) -> None:
    """Alertmanager and the webhook are given links that work; the page and the API show the same run."""
    program("chromium")
    (tmp_path / "test_pay.py").write_text(JOURNEY)
    (tmp_path / "alertmanager.yml").write_text(ALERTMANAGER)
    port, bound = free_port(), bind("127.0.0.1:0")
    page, alertmanager = f"http://{address_of(bound)}", f"http://127.0.0.1:{port}"
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'am'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with shop_running() as shop, Receiver() as receiver, running(command, log=tmp_path / "am.log", port=port):
        shop.faults.add("no-pay-button")
        path = tmp_path / "stormwatch.yaml"
        path.write_text(CONFIG.format(page=page, shop=shop.url, alertmanager=alertmanager, webhook=receiver.url))
        config = load(path, environ={})
        first, second = [tmp_path / "data" / "artifacts" / "gone" / name for name in ("first", "second")]
        _kept(first, hours=48)
        # With what the run keeps there is too much.
        _kept(second, hours=1, size=50 * 2**20 - 100)
        async with (
            Service(config, data=tmp_path / "data") as service,
            serving(web_app(service), bound),
            httpx.AsyncClient(base_url=page) as client,
        ):
            await until(lambda: not first.exists(), what="the directory to be tidied at the start")
            assert second.exists()
            (tmp_path / "go").touch()
            told = await until(lambda: receiver.alerts("firing", alertname="ProbeDown"), what="the page")

            assert told[0][1]["generatorURL"] == f"{page}/probes/pay"
            await until(lambda: not second.exists(), what="the directory to be tidied after the run")
            await _links_work(client, told[0][1]["annotations"])
            known = await until(lambda: _alerts(client, alertmanager), what="Alertmanager to be told")
            assert [each["annotations"]["picture"] for each in known] == [told[0][1]["annotations"]["picture"]]

            picture = told[0][1]["annotations"]["picture"].removeprefix(f"{page}/")
            assert f'href="{picture}"' in (await client.get("/")).text

            document = (await client.get("/api/v1/journeys/pay")).json()
            failure = document["last_failure"]
            assert (failure["outcome"], failure["failed_phase"]) == ("down", "pay")
            assert {each["what"] for each in failure["artifacts"]} == {"picture", "trace", "har"}
            assert [step["name"] for step in document["steps"]] == ["open the shop", "pay"]
            assert document["traffic"][0]["type"] == "document"
            assert (await client.get("/api/v1/journeys/none")).status_code == 404
            for width in (1280, 390):
                await _looks_right(f"{page}/probes/pay", width)


def _kept(run: Path, *, hours: int, size: int = 0) -> None:
    """Artifacts of a run of some hours ago. They may be a day old."""
    run.mkdir(parents=True)
    with (run / "trace.zip").open("wb") as file:
        file.truncate(size)
    moment = time.time() - hours * 3600
    os.utime(run, (moment, moment))


async def _alerts(client: httpx.AsyncClient, alertmanager: str) -> list[dict[str, Any]]:
    return (await client.get(f"{alertmanager}/api/v2/alerts")).json()


async def _links_work(client: httpx.AsyncClient, annotations: dict[str, Any]) -> None:
    """Whoever follows them gets a PNG, and a trace that is whole."""
    picture, trace = [await client.get(annotations[what]) for what in ("picture", "trace")]
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["content-type"] == "image/png"
    assert zipfile.ZipFile(BytesIO(trace.content)).testzip() is None


async def _looks_right(address: str, width: int) -> None:
    """The picture is loaded, rows are there, and nothing is wider than the screen."""
    async with a_page(width) as page:
        await page.goto(address)
        shot = page.locator("img.shot").first
        await shot.scroll_into_view_if_needed()
        await page.wait_for_function("document.querySelector('img.shot').naturalWidth > 100")
        assert await page.locator("svg.stairs").count() == 1
        assert await page.locator("svg.stairs rect.failed").first.is_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
