"""`pytest --stormwatch-metrics FILE` writes what the runner would export of the same journeys, also under xdist."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from stormwatch.exporters.prometheus import PrometheusExporter
from stormwatch.journeys.journey import KIND, JourneyOptions
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers.shop import Shop

Write = Callable[..., Path]

SCHEDULED = {
    "probe_timeout_seconds",
    "stormwatch_probe_duration_seconds",
    "stormwatch_probe_evidence_timestamp_seconds",
    "stormwatch_probe_lagged_runs",
    "stormwatch_probe_loop_lag_seconds",
    "stormwatch_probe_queue_wait_seconds",
    "stormwatch_probe_runs",
    "stormwatch_probe_start_delay_seconds",
}
"""What only a process that runs on and on can know."""


def pytest_run(file: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(file), *options]
    return subprocess.run(
        command, cwd=file.parent, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=100
    ).stdout


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_file_has_what_the_runner_exports_of_the_same_test(
    write: Write, shop: Shop, scratch: Path, tmp_path: Path
) -> None:
    program("chromium")
    file = write(f"""
        def test_it(page: Page, step):
            page.goto("{shop.url}/")
            with step("look", soft=True):
                assert False
            with step("wait"):
                pass
    """)
    said = pytest_run(file, "--stormwatch-metrics", str(tmp_path / "made" / "journeys.prom"))
    assert "1 failed" in said
    ours = parsed((tmp_path / "made" / "journeys.prom").read_text())
    target = f"{file}::test_it"
    probe = Probe(name="it", kind="journey", target=target, check=KIND.build(target, JourneyOptions()), timeout=60.0)
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        result = await run_once(probe, clock=SystemClock(), resources=resources)
    exported = PrometheusExporter([probe], {"journey": KIND}, started=0.0).of(result).decode()
    known = {
        family.name
        for family in text_string_to_metric_families(exported)
        if family.samples and family.name not in SCHEDULED
    }
    # Web Vitals are what was seen until the end: not each is there each time.
    vital = ("_paint_seconds", "_layout_shift", "_load_seconds", "_byte_seconds")

    def shape(names: set[str]) -> set[str]:
        return {name for name in names if not name.endswith(vital)}

    assert shape({name for name, _ in ours}) == shape(known)
    labels = {"instance": "test_it.py::test_it", "probe": "test_it", "kind": "journey", "location": ""}
    assert ours["probe_success", frozenset(labels.items())] == 0
    steps = [dict(pairs)["step"] for name, pairs in ours if name == "stormwatch_journey_step_duration_seconds"]
    assert sorted(steps) == ["look", "wait"]
    assert ours["stormwatch_journey_steps_completed", frozenset(labels.items())] == 1
    assert ours["stormwatch_journey_requests", frozenset({**labels, "type": "document"}.items())] == 1


def test_results_of_all_processes_of_xdist_come_together_and_tests_that_are_no_journeys_are_left_out(
    write: Write, tmp_path: Path
) -> None:
    file = write("""
        @pytest.mark.parametrize("n", range(4))
        def test_it(n, step):
            with step("go"):
                assert n != 3

        @pytest.fixture
        def broken():
            raise pytest.UsageError("no data")

        @pytest.mark.journey
        def test_broken(broken):
            pass

        def test_other():
            pass
    """)
    said = pytest_run(file, "-n", "2", "--stormwatch-metrics", str(tmp_path / "it.prom"))
    assert "1 failed, 4 passed, 1 error" in said
    found = parsed((tmp_path / "it.prom").read_text())
    success = {dict(labels)["probe"]: value for (name, labels), value in found.items() if name == "probe_success"}
    assert success == {"test_it[0]": 1, "test_it[1]": 1, "test_it[2]": 1, "test_it[3]": 0}
    broken = {dict(labels)["probe"]: value for (name, labels), value in found.items() if "broken" in name}
    assert {name for name, value in broken.items() if value} == {"test_broken"}


async def test_a_suite_that_asks_for_files_and_annotations_in_its_own_configuration_runs_in_the_pool(
    write: Write, scratch: Path, tmp_path: Path
) -> None:
    asked = (
        "--stormwatch-metrics=a.prom --stormwatch-artifacts=kept --stormwatch-report=a.html --stormwatch-json=a.json"
    )
    more = "--stormwatch-annotations=on --stormwatch-baseline=a.jsonl --stormwatch-record --stormwatch-exit-codes"
    write(f"[pytest]\naddopts = {asked} {more}\n", "pytest.ini")
    target = f"{write('def test_it(step): pass')}::test_it"
    probe = Probe(name="it", kind="journey", target=target, check=KIND.build(target, JourneyOptions()), timeout=60.0)
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        result = await run_once(probe, clock=SystemClock(), resources=resources)
    assert (result.outcome, result.message) == ("up", "")
    assert not list(tmp_path.rglob("a.*"))
