"""The kind `journey`, and the sample journeys: the same files by plain pytest and by the pool."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import stormwatch.journeys
from stormwatch.journeys.journey import KIND, JourneyOptions, build
from stormwatch.journeys.pool import WorkerPool
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers.shop import Shop

SAMPLES = Path(stormwatch.journeys.__file__).parent


@pytest.fixture
async def resources(tmp_path: Path, scratch: Path) -> AsyncGenerator[Resources]:
    program("chromium")
    async with Resources() as resources:
        resources.put(WorkerPool, WorkerPool(artifacts=tmp_path / "artifacts"))
        yield resources


@pytest.fixture
def platform(shop: Shop, tmp_path: Path) -> Path:
    path = tmp_path / "platform.json"
    path.write_text(json.dumps({"shop": shop.url, "spki": "none"}))
    return path


async def run(target: str, resources: Resources, platform: Path, timeout: float = 60.0) -> Result:
    options = JourneyOptions(environment={"STORMWATCH_PLATFORM": str(platform)})
    probe = Probe(name="buy", kind="journey", target=target, check=KIND.build(target, options), timeout=timeout)
    return await run_once(probe, clock=SystemClock(), resources=resources)


def test_the_samples_pass_under_plain_pytest(platform: Path, scratch: Path) -> None:
    program("chromium")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SAMPLES)],
        env={**os.environ, "STORMWATCH_PLATFORM": str(platform)},
        cwd=SAMPLES.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout


async def test_the_samples_pass_in_the_pool_and_their_steps_are_phases(resources: Resources, platform: Path) -> None:
    login, checkout = await asyncio.gather(
        run(f"{SAMPLES}/test_login.py::test_login", resources, platform),
        run(f"{SAMPLES}/test_checkout.py::test_checkout", resources, platform),
    )
    assert (login.outcome, login.message) == (Outcome.UP, "")
    assert [phase.name for phase in login.phases] == ["register", "log out", "log in"]
    assert (checkout.outcome, checkout.message) == (Outcome.UP, "")
    assert [phase.name for phase in checkout.phases] == ["register", "search", "add to cart", "pay"]
    assert sum(phase.seconds for phase in checkout.phases) <= checkout.seconds
    assert {measure.name: measure.value for measure in checkout.measures} == {
        "stormwatch_journey_steps_completed": 4.0,
        "stormwatch_journey_console_errors": 0.0,
    }
    assert {measure.name for measure in checkout.measures} == {metric.name for metric in KIND.metrics}


async def test_a_wrong_total_turns_the_right_step_red_with_evidence(
    resources: Resources, platform: Path, shop: Shop
) -> None:
    shop.faults.add("wrong-total")
    result = await run(f"{SAMPLES}/test_checkout.py::test_checkout", resources, platform)
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
    file.write_text("import time\ndef test_it(step):\n    with step('think'): time.sleep(60)\n")
    result = await run(f"{file}::test_it", resources, tmp_path, timeout=8)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "think")
    assert result.message == 'step "think" was not over within the 7.75 s of the journey'


async def test_without_a_platform_the_samples_are_broken_and_name_the_remedy(
    resources: Resources, tmp_path: Path
) -> None:
    result = await run(f"{SAMPLES}/test_login.py::test_login", resources, tmp_path / "none.json")
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.COLLECTION)
    assert "`stormwatch demo --keep` starts one" in result.message


async def test_the_pool_opens_with_defaults_and_keeps_artifacts_in_the_state_directory() -> None:
    async with Resources() as resources:
        assert resources.get(WorkerPool).artifacts == Path(os.environ["STORMWATCH_STATE"], "data", "artifacts")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("test_it.py", "a journey is written like journeys/test_checkout.py::test_checkout, not test_it.py"),
        ("/nowhere/test_it.py::test_it", "there is no file /nowhere/test_it.py: a journey is a pytest file"),
    ],
)
def test_a_target_that_names_no_test_is_refused(target: str, said: str) -> None:
    with pytest.raises(ValueError, match="journey") as caught:
        build(target, JourneyOptions())
    assert str(caught.value).startswith(said)
