"""Faults in the browser of a journey: the journey sees each of them, its next run sees none, and none outlives its holder."""

import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.chaos.browser_faults import undo_browser_fault
from stormwatch.chaos.fault import Fault, FaultLost
from stormwatch.harness.config import load
from stormwatch.harness.injecting import fault_of
from stormwatch.journeys.browser_fault import (
    BrowserFault,
    fault_directory,
    in_force,
    is_there,
    note,
    put,
    take,
    touches,
)
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Result
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers import web

PAGE = b"""<title>shop</title><p id=cart>no answer</p><p id=offers>no offers</p>
<script>fetch('/api/cart').then(answer => { cart.textContent = answer.status })</script>
<script src=/offers.js></script>"""

JOURNEY = """
URL = "ADDRESS"

def test_cart(page):
    page.goto(URL)
    expect(page.locator("#cart")).not_to_have_text("no answer", timeout=15000)
    assert page.locator("#cart").inner_text() == "200"

def test_offers(page):
    page.goto(URL)
    assert page.locator("#offers").inner_text() == "two for one"

def test_speed(page):
    began = time.monotonic()
    page.goto(URL)
    assert time.monotonic() - began < 3, "slow"

def test_computing(page):
    page.goto(URL)
    spent = page.evaluate("() => { const began = performance.now(); let sum = 0; "
                          "for (let i = 0; i < 4e6; i++) sum += i % 7; return performance.now() - began }")
    raise AssertionError(f"spent {spent:.0f} ms")
"""

CONFIG = """\
probes:
  - {name: journey, kind: journey, target: "FILE::TEST", every: 60s, timeout: 25s, confirm: {attempts: 1}}
targets:
  - {name: browser, journey: {file: FILE, test: TEST}}
drills:
  - {name: bent, fault: {target: browser, FAULT}, expect: {probe: {name: journey}}}
"""


async def shop(exchange: web.Exchange) -> None:
    """A page with a script and a request of its own."""
    said = {"/offers.js": b"offers.textContent = 'two for one'", "/api/cart": b"{}"}.get(exchange.path, PAGE)
    kind = "text/javascript" if exchange.path.endswith(".js") else "text/html"
    await web.send(exchange, said, headers={"Content-Type": kind})


@pytest.fixture
async def resources(tmp_path: Path, scratch: Path) -> AsyncGenerator[Resources]:
    """A pool of workers."""
    program("chromium")
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        yield resources


def prepared(
    tmp_path: Path, write: Callable[..., Path], url: str, test: str, written: str, *, more: str = ""
) -> tuple[Probe, Fault]:
    """The probe of a journey, and the fault of a drill on its browser."""
    file = write(JOURNEY.replace("ADDRESS", url) + more)
    path = tmp_path / "stormwatch.yaml"
    path.write_text(CONFIG.replace("FILE", str(file)).replace("TEST", test).replace("FAULT", written))
    config = load(path, environ={})
    fault = fault_of(config, config.drills[0].fault, state=tmp_path / "state", drill="bent", clock=SystemClock())
    return config.probes[0], fault


async def look(probe: Probe, resources: Resources) -> Result:
    """One run."""
    return await run_once(probe, clock=SystemClock(), resources=resources)


MET = [
    ("test_cart", "kind: browser-offline", "ERR_INTERNET_DISCONNECTED"),
    ("test_cart", "kind: browser-status, urls: '**/api/*', types: [xhr, fetch], status: 503", "503"),
    ("test_offers", "kind: browser-blocked, urls: '**', types: [script]", "no offers"),
    ("test_speed", "kind: browser-slow-network, latency: 4s", "slow"),
]


@pytest.mark.parametrize("case", MET, ids=lambda case: case[1].split(",")[0])
async def test_a_journey_meets_the_fault(
    resources: Resources, tmp_path: Path, write: Callable[..., Path], case: tuple[str, str, str]
) -> None:
    """It is down for what the fault is about, and the fault says that it was met."""
    test, fault, seen = case
    async with web.serving(shop) as server:
        probe, bent = prepared(tmp_path, write, server.url, test, fault)
        async with bent:
            untouched = (await bent.evidence()).touched
            under = await look(probe, resources)
            evidence = await bent.evidence()
    assert (under.outcome, seen in under.message + str(under.evidence)) == (Outcome.DOWN, True), under.message
    assert (untouched, evidence.touched, evidence.requests > 0) == (False, True, True)
    assert list(fault_directory().iterdir()) == []


async def test_the_next_run_meets_nothing(resources: Resources, tmp_path: Path, write: Callable[..., Path]) -> None:
    """Not even of a context that a fixture of a wider scope keeps: the worker goes with the fault."""
    keeping = "\n@pytest.fixture(scope='module')\ndef page(browser):\n    return browser.new_context().new_page()\n"
    async with web.serving(shop) as server:
        probe, bent = prepared(tmp_path, write, server.url, "test_cart", "kind: browser-offline", more=keeping)
        async with bent:
            under = await look(probe, resources)
        after = await look(probe, resources)
    assert (under.outcome, after.outcome, after.message) == (Outcome.DOWN, Outcome.UP, "")


@pytest.mark.slow
async def test_a_slow_processor_computes_slowly(
    resources: Resources, tmp_path: Path, write: Callable[..., Path]
) -> None:
    """Fifty times slower is told from any other load on this machine."""
    async with web.serving(shop) as server:
        probe, bent = prepared(tmp_path, write, server.url, "test_computing", "kind: browser-slow-cpu, factor: 50")
        async with bent:
            slow = await look(probe, resources)
        usual = await look(probe, resources)
    spent = [int(re.findall(r"spent (\d+) ms", each.message)[0]) for each in (slow, usual)]
    assert spent[0] > 4 * spent[1], spent


FAULT = BrowserFault(id="browser-offline-1", kind="offline", file="/journeys/test_shop.py", expires_at=1000.0)


def test_only_the_named_journey_meets_it_and_only_until_it_expires() -> None:
    """Another file, another test, another time: nothing."""
    directory, file = fault_directory(), Path("/journeys/test_shop.py")
    put(replace(FAULT, test="test_buy"), directory)
    assert [each.id for each in in_force(file, "test_buy", directory=directory, now=999.0)] == [FAULT.id]
    assert [each.id for each in in_force(file, "test_buy[chromium]", directory=directory, now=999.0)] == [FAULT.id]
    assert not in_force(file, "test_sell", directory=directory, now=999.0)
    assert not in_force(Path("/journeys/test_hotel.py"), "test_buy", directory=directory, now=999.0)
    assert not in_force(file, "test_buy", directory=directory, now=1000.0), "nobody renewed it"


def test_a_file_that_is_none_breaks_no_journey() -> None:
    """Half-written, from another version, or by another hand."""
    directory = fault_directory()
    put(FAULT, directory)
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"types": []}'), ("d.json", '{"types": 1}')):
        (directory / name).write_text(text)
    assert len(in_force(Path(FAULT.file), "test_buy", directory=directory, now=0.0)) == 1


async def test_it_is_taken_back_by_its_record_alone_and_again() -> None:
    """Idempotent, with what it had touched; a worker that is still running does not bring it back."""
    directory = fault_directory()
    put(FAULT, directory)
    note(FAULT, directory, clock=lambda: 7.0)
    assert list(touches(FAULT.id, directory)) == [7.0]
    arguments = {"fault": FAULT.id, "directory": str(directory)}
    first, second = await undo_browser_fault(arguments), await undo_browser_fault(arguments)
    note(FAULT, directory)
    assert (first.was_there, second.was_there, list(directory.iterdir())) == (True, False, [])


async def test_a_drill_whose_fault_was_taken_away_knows_it(tmp_path: Path, write: Callable[..., Path]) -> None:
    """By `stormwatch undo`, for instance: its silence is no proof then. While it is held it is renewed."""
    _, bent = prepared(tmp_path, write, "http://127.0.0.1:1/", "test_cart", "kind: browser-offline")
    directory = fault_directory()
    async with bent:
        (identity,) = (path.stem for path in directory.glob("*.json"))
        file = tmp_path / "suite" / "test_it.py"
        assert in_force(file, "test_cart", directory=directory, now=time.time() + 30)
        assert is_there(identity, directory)
        take(identity, directory)
        with pytest.raises(FaultLost):
            await bent.evidence()
