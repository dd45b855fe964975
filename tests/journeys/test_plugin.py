"""The plugin under plain pytest, each time in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.program import program
from tests.servers.shop import Shop

Write = Callable[..., Path]


def run_pytest(file: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(file), *options],
        env={**os.environ, **environment},
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_loading_the_plugin_loads_no_browser_no_http_client_and_no_event_loop() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys, pytest; before = set(sys.modules); import stormwatch.journeys.plugin\n"
                "print(*sorted(name for name in set(sys.modules) - before if '__editable__' not in name))"
            ),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert said == [
        "stormwatch",
        "stormwatch.journeys",
        "stormwatch.journeys.browser",
        "stormwatch.journeys.masker",
        "stormwatch.journeys.plugin",
        "stormwatch.journeys.secret_values",
        "stormwatch.journeys.step",
        "stormwatch.probes",
        "stormwatch.probes.masking",
    ]


def test_a_journey_without_a_browser_needs_none_and_its_failing_step_is_in_the_report(write: Write) -> None:
    file = write("""
        import httpx

        @pytest.mark.journey
        def test_it(step):
            with step("think"):
                pass
            with step("buy"):
                with step("pay"):
                    httpx.get("http://127.0.0.1:9/")
    """)
    done = run_pytest(file, "--strict-markers", "-m", "journey", PATH="", STORMWATCH_BROWSER="")
    assert done.returncode == 1
    assert "passed  think" in done.stdout
    assert 'step "buy / pay" failed: ConnectError: [Errno 111] Connection refused' in done.stdout


def test_soft_steps_that_failed_fail_the_journey_at_its_end_each_with_its_sentence(write: Write) -> None:
    file = write("""
        def test_it(step):
            with step("banner", soft=True):
                assert "banner" in "page", "no banner"
            with step("slow", soft=True, budget=0.001):
                time.sleep(0.01)
            with step("buy"):
                print("bought")

        def test_other(step):
            with step("banner", soft=True):
                pass
    """)
    done = run_pytest(file)
    assert "1 failed, 1 passed" in done.stdout
    assert "bought" in done.stdout
    assert 'step "banner" failed: no banner' in done.stdout
    assert 'step "slow" failed: step "slow" took ' in done.stdout
    assert " s, and its budget is 0.001 s" in done.stdout
    assert "test_it.py:7: AssertionError" in done.stdout


def test_artifacts_are_kept_of_what_failed_and_only_of_that(write: Write, shop: Shop, tmp_path: Path) -> None:
    program("chromium")
    file = write(f"""
        def test_good(page: Page, step):
            page.goto("{shop.url}/")

        def test_bad(page: Page, step):
            with step("greet / them", picture=True):
                page.goto("{shop.url}/")
                expect(page.get_by_role("heading", name="Sunshine")).to_be_visible(timeout=200)
    """)
    kept_in = ("--stormwatch-artifacts", str(tmp_path / "kept"))
    refused = run_pytest(file, *kept_in, "--stormwatch-keep", "page, film")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert refused.stderr == "ERROR: --stormwatch-keep does not know film; it knows har, page, steps, trace, video\n\n"
    done = run_pytest(file, *kept_in, "--stormwatch-keep", "page, trace, har")
    assert "1 failed, 1 passed" in done.stdout
    kept = sorted(str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*") if path.is_file())
    names = ("page.png", "requests.har", "step-1-greet-them.png", "trace.zip")
    assert kept == [f"test_it.py-test_bad-chromium/{name}" for name in names]
    assert 'step "greet / them" failed: expected get_by_role("heading", name="Sunshine") to be visible' in done.stdout


def test_playwrights_own_options_go_on_working_and_a_conftest_has_the_last_word(
    write: Write, shop: Shop, tmp_path: Path
) -> None:
    program("chromium")
    write(
        """
        @pytest.fixture(scope="session")
        def browser_type_launch_args(browser_type_launch_args):
            return {**browser_type_launch_args, "args": [*browser_type_launch_args["args"], "--user-agent=mine"]}

        @pytest.fixture(scope="session")
        def browser_context_args(browser_context_args):
            return {**browser_context_args, "locale": "de-DE"}
        """,
        "conftest.py",
    )
    file = write(f"""
        def test_it(page: Page, step):
            page.goto("{shop.url}/")
            assert page.evaluate("[navigator.userAgent, navigator.language]") == ["mine", "de-DE"]
            with step("fail"):
                assert False
    """)
    options = ("--tracing", "retain-on-failure", "--screenshot", "only-on-failure", "--output", str(tmp_path / "out"))
    done = run_pytest(file, *options, "--stormwatch-artifacts", str(tmp_path / "kept"))
    assert "assert False" in done.stdout
    assert 'step "fail" failed' in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["test-failed-1.png", "trace.zip"]
    assert [path.name for path in (tmp_path / "kept").rglob("*.*") if path.is_file()] == ["page.png"]


def test_a_users_own_fixture_called_step_wins(write: Write) -> None:
    write("@pytest.fixture\ndef step():\n    return 7\n", "conftest.py")
    assert "1 passed" in run_pytest(write("def test_it(step): assert step == 7\n")).stdout


def test_a_suite_without_journeys_runs_as_without_us(write: Write) -> None:
    file = write("@pytest.mark.parametrize('n', range(3))\ndef test_it(n): assert n < 3\n")
    ours, theirs = run_pytest(file), run_pytest(file, "-p", "no:stormwatch")
    assert ours.returncode == theirs.returncode == 0
    assert "3 passed" in ours.stdout
    assert ours.stdout.count("\n") == theirs.stdout.count("\n")


def test_journeys_run_in_parallel_under_xdist(write: Write) -> None:
    file = write("@pytest.mark.parametrize('n', range(3))\ndef test_it(n, step):\n    with step('go'): pass\n")
    assert "3 passed" in run_pytest(file, "-n", "2").stdout
