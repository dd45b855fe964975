"""`stormwatch validate --data`: noise measured in a real history, and what it makes of the alerts."""

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest

from stormwatch.exporters.history import History
from tests.servers.command import invoke
from tests.slo.story import result

CONFIG = """\
defaults: {every: 15s, timeout: 5s}
probes:
  - {name: front, kind: http, target: "http://127.0.0.1:1/"}
objectives:
  - {name: front-good, probe: front, target: 99.9%}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A configuration, and a history of 2,000 runs of which 5 failed alone and 30 together."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    signs = list("+" * 2000)
    for at in (100, 300, 301, 500, 700, 900, 1100):
        signs[at] = "-"
    signs[1500:1530] = "-" * 30
    signs[1700] = "?"
    begin = time.time() - 15 * len(signs)

    async def write() -> None:
        history = History(tmp_path / "history.sqlite")
        for number, sign in enumerate(signs):
            history(result(sign, begin + 15 * number))
        await history.aclose()

    asyncio.run(write())
    return tmp_path


def _validate(directory: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return invoke("validate", "-c", directory / "stormwatch.yaml", *more)


def test_noise_is_measured_and_false_alerts_are_expected_of_it(directory: Path) -> None:
    """Five of 1,999 runs that are evidence; each of them pages by ProbeDown."""
    done = _validate(directory, "--data", str(directory), "--format", "json")

    assert done.returncode == 0, done.stderr
    (page, _, down) = json.loads(done.stdout)["outlooks"]
    assert page["noise"] == pytest.approx(5 / 1999)
    assert down["false_a_month"] == pytest.approx(30 * 86400 / 15 * 5 / 1999, rel=0.01)
    assert 0 < page["false_a_month"] < down["false_a_month"] / 5
    assert page["detection"]["50%"]["best"] < page["detection"]["10%"]["best"]


def test_people_get_a_table(directory: Path) -> None:
    """With a column more when noise was measured, and what it was measured from."""
    without, measured = _validate(directory), _validate(directory, "--data", str(directory))

    assert "seen at 50%" in without.stdout
    assert "false in 30d" not in without.stdout
    assert "false in 30d" in measured.stdout
    assert "1,999 runs of the last 30 days" in measured.stdout


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_without_a_history_is_refused(made: bool, directory: Path) -> None:
    """One line that says what was asked, what was seen and what to do."""
    elsewhere = directory / "elsewhere"
    if made:
        elsewhere.mkdir()
        (elsewhere / "history.sqlite").write_text("no database, whatever it is called")
    done = _validate(directory, "--data", str(elsewhere))

    assert done.returncode == 2
    assert done.stderr.startswith(f"--data {elsewhere}: ")
    assert len(done.stderr.splitlines()) == 1
