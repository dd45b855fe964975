"""A suite as users have one, with a folder called `journeys` of their own: by pytest, by xdist, and by the pool."""

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.probes.result import Outcome, Reason
from tests.program import program
from tests.servers.shop import Shop

FILES = {
    "journeys/__init__.py": "",
    "journeys/pages.py": """
        class ShopPage:
            def __init__(self, page):
                self.page = page

            def search(self, words):
                self.page.goto("/shop")
                self.page.get_by_role("searchbox", name="Search products").fill(words)
                self.page.get_by_role("button", name="Search").click()
    """,
    "journeys/conftest.py": """
        import pytest

        from journeys.pages import ShopPage


        @pytest.fixture
        def shop_page(page):
            return ShopPage(page)


        @pytest.fixture(scope="session")
        def browser_context_args(browser_context_args):
            return {**browser_context_args, "viewport": {"width": 800, "height": 600}}


        @pytest.fixture(params=["de", "en"])
        def language(request):
            return request.param
    """,
    "journeys/test_search.py": """
        import pytest
        from playwright.sync_api import expect

        pytestmark = pytest.mark.journey


        @pytest.mark.parametrize("words", ["lantern", "coat"], ids=["one", "two"])
        def test_search(shop_page, step, words):
            with step("search"):
                shop_page.search(words)
            with step("look"):
                expect(shop_page.page.get_by_role("article")).to_have_count(1)


        def test_language(language, step):
            with step("read"):
                assert language in ("de", "en")


        class TestCart:
            def test_is_empty(self, page, step):
                with step("open"):
                    page.goto("/cart")
                with step("look"):
                    expect(page.get_by_test_id("total")).to_have_text("Total €1.00", timeout=300)


        @pytest.mark.skip(reason="not today")
        def test_later(page):
            pass


        @pytest.mark.xfail(reason="known", strict=True)
        def test_known(step):
            with step("known"):
                assert False
    """,
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    program("chromium")
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    return tmp_path / "project"


@pytest.fixture
async def pool(scratch: Path, tmp_path: Path) -> AsyncGenerator[WorkerPool]:
    pool = WorkerPool(artifacts=tmp_path / "artifacts")
    yield pool
    await pool.aclose()


def test_it_runs_under_pytest_and_xdist(suite: Path, shop: Shop, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-m", "journey", "journeys/"]
    options = ["--base-url", shop.url, "--stormwatch-artifacts", str(tmp_path / "kept"), "--strict-markers"]
    done = subprocess.run(
        [*command, *options], cwd=suite, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=110
    )
    assert "1 failed, 4 passed, 1 skipped, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert "saw Total €0.00" in done.stdout
    assert len(list((tmp_path / "kept").rglob("trace.zip"))) == 1


async def test_it_runs_in_the_pool_under_the_names_that_a_person_would_write(
    suite: Path, shop: Shop, pool: WorkerPool
) -> None:
    file = suite / "journeys" / "test_search.py"
    names = ["test_search[one]", "test_search[two]", "test_language[en]", "TestCart::test_is_empty"]
    names += ["test_later", "test_known", "test_search"]
    reports = {
        name: await pool.run(Journey(file=file, test=name, base_url=shop.url), seconds=60, folder="kept")
        for name in names
    }
    ends = {name: (report.outcome, report.reason, report.step) for name, report in reports.items()}
    assert ends == {
        "test_search[one]": (Outcome.UP, Reason.NONE, ""),
        "test_search[two]": (Outcome.UP, Reason.NONE, ""),
        "test_language[en]": (Outcome.UP, Reason.NONE, ""),
        "TestCart::test_is_empty": (Outcome.DOWN, Reason.STEP, "look"),
        "test_later": (Outcome.BROKEN, Reason.COLLECTION, ""),
        "test_known": (Outcome.BROKEN, Reason.COLLECTION, ""),
        "test_search": (Outcome.BROKEN, Reason.COLLECTION, ""),
    }, {name: report.sentence for name, report in reports.items()}
    assert reports["test_search"].sentence.startswith("test_search stands for 2 tests: name one of test_search[")
    assert pool.workers == 1
    pages = suite / "journeys" / "pages.py"
    pages.write_text(pages.read_text().replace('self.page.goto("/shop")', "raise LookupError(words)"))
    changed = await pool.run(Journey(file=file, test="test_search[one]", base_url=shop.url), seconds=60)
    assert (changed.step, changed.sentence) == ("search", "LookupError: lantern"), (
        "what the journey imports has changed"
    )
