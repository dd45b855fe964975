"""The kind `journey`: what a run in the pool says as a result. The sample journeys are in tests/demo."""

import json
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

import stormwatch.journeys
from stormwatch.journeys.journey import KIND, VITALS, JourneyOptions, build
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers import web
from tests.servers.shop import Shop

SAMPLES = Path(stormwatch.journeys.__file__).parent


@pytest.fixture
async def resources(tmp_path: Path, scratch: Path) -> AsyncGenerator[Resources]:
    program("chromium")
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        yield resources


BUY = """\
from playwright.sync_api import expect


def test_buy(page, step):
    with step("register"):
        page.goto("/register")
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("E-mail").fill("ada@mail.test")
        page.get_by_label("Password").fill("secret of Ada")
        page.get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", name="Welcome, Ada")).to_be_visible()
    with step("add to cart"):
        page.goto("/shop")
        page.get_by_role("article").first.get_by_role("button", name="Add to cart").click()
        expect(page.get_by_test_id("total")).to_have_text("Total €12.50")
"""


@pytest.fixture
def buying(tmp_path: Path) -> str:
    """A journey through the small shop."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_buy.py").write_text(BUY)
    return f"{tmp_path / 'test_buy.py'}::test_buy"


async def run(target: str, resources: Resources, options: JourneyOptions, timeout: float = 60.0) -> Result:
    probe = Probe(name="buy", kind="journey", target=target, check=KIND.build(target, options), timeout=timeout)
    return await run_once(probe, clock=SystemClock(), resources=resources)


async def test_steps_are_phases_and_what_the_browser_saw_is_measured(
    resources: Resources, buying: str, shop: Shop
) -> None:
    result = await run(buying, resources, JourneyOptions(base_url=shop.url))
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert [phase.name for phase in result.phases] == ["register", "add to cart"]
    assert sum(phase.seconds for phase in result.phases) <= result.seconds
    steps_and_errors = {"stormwatch_journey_steps_completed", "stormwatch_journey_console_errors"}
    assert {m.name: m.value for m in result.measures if m.name in steps_and_errors} == {
        "stormwatch_journey_steps_completed": 2.0,
        "stormwatch_journey_console_errors": 0.0,
    }
    # Web Vitals are what the browser saw until the test ended: not each is there each time.
    vitals = {metric.name for metric in VITALS.values()}
    assert {measure.name for measure in result.measures} - vitals == {each.name for each in KIND.metrics} - vitals
    assert VITALS["ttfb"].name in {measure.name for measure in result.measures}


async def test_a_wrong_total_turns_the_right_step_red_with_evidence(
    resources: Resources, buying: str, shop: Shop
) -> None:
    shop.faults.add("wrong-total")
    result = await run(buying, resources, JourneyOptions(base_url=shop.url))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.STEP, "add to cart")
    assert result.message == (
        'step "add to cart": expected get_by_test_id("total") to have text \'Total €12.50\' within 5 s, saw Total €12.51'
    )
    assert [phase.name for phase in result.phases if phase.failed] == ["add to cart"]
    assert result.evidence["url"] == f"{shop.url}/cart"
    assert [path.rpartition("/")[2] for path in result.evidence["artifacts"]] == ["page.png", "trace.zip"]
    pool = resources.get(WorkerPool)
    assert all((pool.artifacts / path).is_file() for path in result.evidence["artifacts"])


async def test_a_run_that_its_deadline_cuts_off_is_a_time_out_of_the_step_it_was_in(
    resources: Resources, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    file = tmp_path / "test_it.py"
    file.write_text("import time\ndef test_it(step):\n    with step('think'): time.sleep(60)\ndef test_warm(): ...\n")
    # The time in which a worker starts is no part of what is shown here, and depends on what else the machine does.
    warm = await run(f"{file}::test_warm", resources, JourneyOptions(), timeout=60)
    assert warm.outcome is Outcome.UP, warm
    result = await run(f"{file}::test_it", resources, JourneyOptions(), timeout=8)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "think")
    assert result.message == 'step "think" was not over within the 7.75 s of the journey'


async def test_without_a_platform_the_samples_are_broken_and_name_the_remedy(
    resources: Resources, tmp_path: Path
) -> None:
    nowhere = JourneyOptions(environment={"STORMWATCH_PLATFORM": str(tmp_path / "none.json")})
    result = await run(f"{SAMPLES}/test_login.py::test_login", resources, nowhere)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.COLLECTION)
    assert "`stormwatch demo --keep` starts one" in result.message


async def test_the_pool_opens_with_defaults_and_keeps_artifacts_in_the_state_directory() -> None:
    async with Resources() as resources:
        assert resources.get(WorkerPool).artifacts == Path(os.environ["STORMWATCH_STATE"], "data", "artifacts")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "test_it.py",
            "a journey is written like journeys/test_checkout.py::test_checkout, and journeys/ stands for all",
        ),
        ("/nowhere/test_it.py::test_it", "there is no file /nowhere/test_it.py: a journey is a pytest file"),
    ],
)
def test_a_target_that_names_no_test_is_refused(target: str, said: str) -> None:
    with pytest.raises(ValueError, match="journey") as caught:
        build(target, JourneyOptions())
    assert str(caught.value).startswith(said)


ROUGH = b"""<!doctype html><link rel=icon href=data:,><script src=/missing.js></script>
<h1>Rough</h1><img src="http://localhost:%d/picture?session=C4nary">
<script>fetch("/refused").catch(() => 0)</script>
<button onclick="for (const end = performance.now() + 80; performance.now() < end;); this.textContent = 'done'">go</button>
<a href=/next>next</a>"""


async def test_a_run_tells_what_its_pages_asked_for_and_how_fast_they_were(
    resources: Resources, write: Callable[..., Path]
) -> None:
    async def answer(exchange: web.Exchange) -> None:
        path = exchange.path.partition("?")[0]
        if path == "/refused":
            return exchange.writer.transport.abort()
        page = ROUGH % server.port if path == "/" else b"<!doctype html><link rel=icon href=data:,><h1>Next</h1>"
        status, body = {"/missing.js": (404, b"no"), "/picture": (200, b"GIF89a")}.get(path, (200, page))
        kind = "text/html" if body is page else "image/gif"
        return await web.answer(body, status=status, headers={"Content-Type": kind})(exchange)

    async with web.serving(answer) as server:
        file = write(f"""
            def test_it(page: Page, step):
                with step("open"):
                    page.goto("http://127.0.0.1:{server.port}/?token=C4nary")
                with step("press"):
                    page.get_by_role("button").click()
                    expect(page.get_by_role("button")).to_have_text("done")
                    page.wait_for_load_state()
                with step("go on"):
                    page.get_by_role("link").click()
                    expect(page.get_by_role("heading", name="Next")).to_be_visible()
        """)
        result = await run(f"{file}::test_it", resources, JourneyOptions())
        told = {(m.name.removeprefix("stormwatch_journey_"), *m.labels.values()): m.value for m in result.measures}
        assert (result.outcome, result.message) == (Outcome.UP, "")
        assert (told["requests", "document"], told["failed_requests", "document"]) == (2, 0)
        assert (told["requests", "script"], told["failed_requests", "script"]) == (1, 1)
        assert (told["requests", "fetch"], told["failed_requests", "fetch"]) == (1, 1)
        assert (told["requests", "image"], told["received_bytes", "image"], told["requests", "font"]) == (1, 6, 0)
        assert (told["third_party_requests",], told["third_party_bytes",]) == (1, 6)
        failed = {
            (each["url"].rpartition("/")[2], each.get("status"), each.get("failure"))
            for each in result.evidence["failed_requests"]
        }
        assert failed == {("missing.js", 404, None), ("refused", None, "net::ERR_EMPTY_RESPONSE")}
        assert [party["domain"] for party in result.evidence["third_parties"]] == ["localhost"]
        first, second = result.evidence["pages"]
        assert (first["url"], second["url"]) == (server.url, f"{server.url}next")
        assert 0.08 <= first["inp"] < 30
        assert 0 < first["ttfb"] <= first["fcp"] <= first["lcp"] < 30
        assert told["largest_contentful_paint_seconds",] == max(first["lcp"], second.get("lcp", 0))
        assert told["interaction_to_next_paint_seconds",] == first["inp"]
        assert told["page_load_seconds",] >= first["loaded"]
        assert "C4nary" not in json.dumps(result.as_json())


async def test_a_run_that_is_not_observed_puts_nothing_into_the_page(
    resources: Resources, shop: Shop, write: Callable[..., Path]
) -> None:
    file = write(f"""
        def test_it(page: Page):
            page.goto("{shop.url}")
            assert page.evaluate("Object.keys(window).filter((name) => name.includes('stormwatch'))") == []
    """)
    options = JourneyOptions(observe=False)
    target = f"{file}::test_it"
    probe = Probe(name="quiet", kind="journey", target=target, check=KIND.build(target, options), timeout=60.0)
    result = await run_once(probe, clock=SystemClock(), resources=resources)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert {m.name for m in result.measures} == {
        "stormwatch_journey_steps_completed",
        "stormwatch_journey_console_errors",
    }
    assert "pages" not in result.evidence
