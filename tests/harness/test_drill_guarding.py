"""The guard of a configuration: asked with the history that is there, and by the command line, which injects nothing then."""

import asyncio
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from stormwatch.exporters.history import History
from stormwatch.harness.config import Config, load
from stormwatch.harness.drill_guarding import budgets_of, exclusive, guarding
from stormwatch.harness.problem import Exit, Problem
from stormwatch.probes.clock import SystemClock
from tests.servers.command import invoke

CLOCK = SystemClock()
HOUR = 3600
FILE = """\
probes:
  - {name: checkout, kind: http, target: "http://127.0.0.1:18080/", every: 60s, timeout: 2s}
  - {name: front, kind: http, target: "http://127.0.0.1:18081/"}
objectives:
  - {name: checkout-rolling, probe: checkout, target: 99%, window: 1d, policy: fast-slow}
  - {name: checkout-month, probe: checkout, target: 99%, window: month}
  - {name: front-rolling, probe: front, target: 99%, window: 30d}
proxies:
  control: 127.0.0.1:1
  routes: [{name: payments, listen: "127.0.0.1:18445", upstream: "127.0.0.1:8445"}]
drills:
  - {name: blackhole, fault: {kind: tcp-blackhole, target: payments}, expect: {probe: {name: checkout, within: 90s}}}
guard: {GUARD}
"""


def config(directory: Path, guard: str = "budget_floor: 25%") -> Config:
    """With this guard."""
    path = directory / "stormwatch.yaml"
    path.write_text(FILE.replace("{GUARD}", f"{{{guard}}}"))
    return load(path, environ={})


async def counted(data: Path, *hours: tuple[str, float, int, int]) -> None:
    """A history in which objectives counted (name, moment, good, bad)."""
    data.mkdir(exist_ok=True)
    history = History(data / "history.sqlite")
    for name, at, good, bad in hours:
        history.count_judged(name, at, good=good, bad=bad)
    await history.aclose()


async def test_what_is_left_is_read_from_the_history(tmp_path: Path) -> None:
    """Of the window only, by exact arithmetic; a window that is not full is taken as full; nothing counted is not known."""
    loaded = config(tmp_path)
    now = CLOCK.now() // HOUR * HOUR + 60
    await counted(
        tmp_path / "data",
        ("checkout-rolling", now - 30 * HOUR, 0, 1000),
        ("checkout-rolling", now - 2 * HOUR, 50, 3),
        ("checkout-rolling", now - HOUR, 50, 6),
        ("front-rolling", now - HOUR, 10, 100),
    )
    objectives = loaded.objectives
    found = await asyncio.to_thread(budgets_of, loaded, objectives, tmp_path / "data", now)
    # A day of runs every minute has 1440, of which 14.4 may be bad.
    assert found["checkout-rolling"] == 1 - Fraction(9) / (1440 * Fraction(1, 100))
    assert found["checkout-month"] is None
    assert found["front-rolling"] is not None
    # 30 days of runs every 30 s: 86400, 864 may be bad.
    assert found["front-rolling"] == 1 - Fraction(100, 864)


async def test_a_drill_asks_for_the_budgets_that_it_touches(tmp_path: Path) -> None:
    """What is overspent elsewhere is no reason to refuse it."""
    loaded = config(tmp_path)
    now = CLOCK.now()
    await counted(
        tmp_path / "data",
        ("checkout-rolling", now, 100, 12),
        ("checkout-month", now, 100, 0),
        ("front-rolling", now, 0, 10_000),
    )
    asked = guarding(loaded, environment="", data=tmp_path / "data", watch="")
    with pytest.raises(Problem) as refused:
        await asked.permit(loaded.drills, CLOCK)
    assert refused.value.code is Exit.USAGE
    assert refused.value.lines == (
        "the guard refuses: checkout-rolling has 16.7% of its budget left, and drills want 25%; wait until it has recovered",
        "nothing was injected",
    )


def test_two_answers_to_which_environment_this_is_are_none(tmp_path: Path) -> None:
    """Neither is believed; one alone is."""
    loaded = config(tmp_path, "environment: production, environments: [staging]")
    with pytest.raises(Problem, match="says that this is production") as refused:
        guarding(loaded, environment="staging", data=tmp_path, watch="")
    assert refused.value.code is Exit.USAGE
    assert guarding(loaded, environment="", data=tmp_path, watch="").guard.environment == "production"
    silent = config(tmp_path, "environments: [staging]")
    assert guarding(silent, environment="staging", data=tmp_path, watch="").guard.environment == "staging"


def drill(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`stormwatch drill` there."""
    environ = {**os.environ, "STORMWATCH_STATE": str(directory / "state")}
    return invoke("drill", *options, cwd=directory, env=environ, timeout=110)


def test_a_refusal_is_2_and_leaves_no_trace(tmp_path: Path) -> None:
    """Also of a dry run; nothing stands in the journal; who runs drills already is named."""
    config(tmp_path, "environments: [staging]")
    refused = drill(tmp_path, "--environment", "production")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        "the guard refuses: this is production, and drills may run in staging only; run them there",
        "nothing was injected",
    ]
    assert not (tmp_path / "state" / "audit.jsonl").exists()
    with exclusive(tmp_path / "state", ["mine"], clock=CLOCK):
        second = drill(tmp_path, "--environment", "staging")
    assert second.returncode == 2
    assert second.stderr.startswith("another drill runs: drill mine, since ")


def test_a_dry_run_tells_what_stands_in_the_way_and_touches_nothing(tmp_path: Path) -> None:
    """3 and the reason, here that no proxy is there; a file to compare with is read before anything begins."""
    config(tmp_path, "environments: [staging]")
    dry = drill(tmp_path, "--dry-run", "--environment", "staging")
    assert dry.returncode == 3, dry.stderr
    assert "? would inject nothing: http://127.0.0.1:1 does not answer" in dry.stdout
    assert dry.stdout.splitlines()[-1] == "dry run: nothing was injected"
    assert not (tmp_path / "state" / "audit.jsonl").exists()
    (tmp_path / "last.json").write_text("{}")
    wrong = drill(tmp_path, "--compare", "last.json", "--environment", "staging")
    assert wrong.returncode == 2
    assert "last.json: this is not what `stormwatch drill --format json` prints" in wrong.stderr
