"""The tutorial is followed: its files, its commands, and the red journey that it promises when payments are broken."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.demo.config import write_config
from stormwatch.demo.platform import Platform
from stormwatch.harness.config import load
from stormwatch.harness.injecting import fault_of
from stormwatch.probes.clock import SystemClock
from tests.program import program

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-journey.md"
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def blocks(language: str) -> list[str]:
    """The blocks of a language, as they stand on the page."""
    return [text for found, text in BLOCK.findall(PAGE.read_text()) if found == language]


@pytest.fixture
def project(tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has after step 4: the two Python files and the configuration, in a folder of their own."""
    program("chromium")
    state = tmp_path / "state"
    state.mkdir()
    (state / "demo").symlink_to(platform.layout.directory)
    monkeypatch.setenv("STORMWATCH_STATE", str(state))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
    project = tmp_path / "project"
    files = [text for text in blocks("python") if text.startswith("# journeys/")]
    for text in files:
        path = project / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert len(files) == 2
    # The second attempt would show the same and take its time; and here others are at work on the machine.
    text = blocks("yaml")[0].replace("every: 1m", "every: 2m").replace("timeout: 25s", "timeout: 90s")
    (project / "stormwatch.yaml").write_text(f"{text}defaults: {{confirm: {{attempts: 1}}}}\n")
    return project


def run(*command: str, project: Path) -> subprocess.CompletedProcess[str]:
    """A command of the tutorial, to its end."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=project,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


async def test_the_journey_passes_and_is_red_when_payments_are_broken(project: Path, platform: Platform) -> None:
    """`pytest journeys/` is green; with the fault of `payment-500` in place `check` says what the page says it will."""
    passed = await asyncio.to_thread(run, "pytest", "-q", "journeys/", project=project)
    assert passed.returncode == 0, passed.stdout + passed.stderr

    write_config(platform, platform.layout.directory / "stormwatch.yaml")
    config = load(platform.layout.directory / "stormwatch.yaml", environ={})
    drill = next(drill for drill in config.drills if drill.name == "payment-500")
    async with fault_of(config, drill.fault, state=project / "faults", drill=drill.name, clock=SystemClock()):
        checked = await asyncio.to_thread(run, "stormwatch", "check", "--format", "json", project=project)

    assert checked.returncode == 1, checked.stdout + checked.stderr
    (result,) = json.loads(checked.stdout)["results"]
    assert (result["outcome"], result["failed_phase"]) == ("down", "pay")
    assert result["message"] in [text.strip() for text in blocks("text")]
    assert [phase["name"] for phase in result["phases"]] == [
        "open the shop",
        "register",
        "search",
        "add to cart",
        "pay",
    ]
