"""The sample journeys find what is planted in the sample platform, each at the step and with the sentence that the docs name."""

import asyncio
import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from stormwatch.demo.config import JOURNEYS, write_config
from stormwatch.demo.plants import PLANTS
from stormwatch.demo.platform import Platform
from stormwatch.harness.config import load
from stormwatch.harness.demonstration import command as command_of_demo
from stormwatch.harness.problem import Exit, Problem
from stormwatch.journeys.journey import JourneyCheck
from stormwatch.journeys.pool import Journey, WorkerPool
from stormwatch.journeys.report import Report
from stormwatch.probes.result import Outcome

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "explanation" / "sample-platform.md"
NAMES = {"login", "search", "checkout", "hotel", "taxi"}
ROUNDS: Sequence[Sequence[str]] = (
    (),
    ("wrong-total", "missing-button", "xhr-500"),
    ("slow-payment", "script-error", "third-party-down"),
)
"""What is planted at the same time: failures of different journeys, so that few runs show all of them."""
TWICE_RED = {"checkout", "hotel"}
"""Those that no other round would show green: only they run where nothing is planted."""
pytestmark = pytest.mark.timeout(300)


class Row(NamedTuple):
    """A line of the documentation's table."""

    plant: str
    what: str
    journey: str
    step: str
    sentence: str

    @property
    def pattern(self) -> str:
        """The sentence as a regular expression: `…` is what differs from run to run."""
        return ".*".join(map(re.escape, self.sentence.split("…")))


def documented() -> dict[str, Row]:
    """The table of planted failures, by name."""
    cells = (line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    rows = [Row(*(cell.strip().strip("`") for cell in row)) for row in cells if len(row) == len(Row._fields)]
    return {row.plant: row for row in rows}


@pytest.fixture(scope="module")
def scheduled(platform: Platform) -> Mapping[str, Journey]:
    """The journeys as the demo's own configuration schedules them."""
    write_config(platform, platform.layout.directory / "stormwatch.yaml")
    config = load(platform.layout.directory / JOURNEYS, environ=os.environ)
    checks = {probe.name: probe.check for probe in config.probes}
    return {name: check.journey for name, check in checks.items() if isinstance(check, JourneyCheck)}


def registered(platform: Platform) -> frozenset[str]:
    """Who has an account under a name that journeys make up."""
    path = platform.layout.database("accounts")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT mail FROM accounts WHERE mail LIKE 'ada-%@mail.storm.test'").fetchall()
    return frozenset(mail for (mail,) in rows)


@pytest.fixture(scope="module")
def strangers(platform: Platform) -> frozenset[str]:
    """Who was there before: other files of tests have the same platform."""
    return registered(platform)


@pytest.fixture(scope="module")
def seen(
    platform: Platform,
    strangers: frozenset[str],
    scheduled: Mapping[str, Journey],
    tmp_path_factory: pytest.TempPathFactory,
) -> Sequence[Mapping[str, Report]]:
    """What each journey reported in each round of `ROUNDS`, run by the warm workers of the schedule."""
    del strangers  # looked for before

    async def run() -> list[dict[str, Report]]:
        pool = WorkerPool(size=len(scheduled), artifacts=tmp_path_factory.mktemp("seen") / "artifacts")
        reports: list[dict[str, Report]] = []
        async with contextlib.aclosing(pool):
            for plants in ROUNDS:
                platform.plants.plant(plants)
                names = scheduled if plants else TWICE_RED
                told = await asyncio.gather(*(pool.run(scheduled[name], seconds=60) for name in names))
                reports.append(dict(zip(names, told, strict=True)))
        return reports

    with pytest.MonkeyPatch.context() as patch:
        # Its plugin imports all of itself at the end of a session.
        patch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
        try:
            return asyncio.run(run())
        finally:
            platform.plants.plant([])


def test_all_five_are_scheduled_and_pass(
    scheduled: Mapping[str, Journey], seen: Sequence[Mapping[str, Report]]
) -> None:
    """The files as `pytest journeys/` runs them, in the workers that the schedule has; no step of theirs failed."""
    rows = documented()
    untouched = [
        (name, report)
        for plants, reports in zip(ROUNDS, seen, strict=True)
        for name, report in reports.items()
        if name not in {rows[plant].journey for plant in plants}
    ]

    assert set(scheduled) == {name for name, _ in untouched} == NAMES
    assert [(name, report.sentence) for name, report in untouched if report.outcome is not Outcome.UP] == []
    assert not [step for _, report in untouched for step in report.steps if step.failed]


@pytest.mark.parametrize("plant", [plant for plants in ROUNDS for plant in plants])
def test_a_planted_failure_turns_one_step_of_one_journey_red(plant: str, seen: Sequence[Mapping[str, Report]]) -> None:
    """At the documented step and with the documented sentence; whatever is not planted in that round stays green."""
    plants = next(plants for plants in ROUNDS if plant in plants)
    rows = documented()
    reports, row = seen[ROUNDS.index(plants)], rows[plant]
    down = {name: report.sentence for name, report in reports.items() if report.outcome is not Outcome.UP}
    report = reports[row.journey]

    assert set(down) == {rows[each].journey for each in plants}, down
    assert (report.outcome, report.step) == (Outcome.DOWN, row.step), report.sentence
    assert re.fullmatch(row.pattern, report.sentence), report.sentence
    assert {step.name for step in report.steps if step.failed} == {row.step}


def test_pytest_alone_says_the_same(platform: Platform) -> None:
    """`pytest journeys/`, as in CI: four pass, and the fifth is told with its step and the sentence."""
    row = documented()["expired-session"]
    platform.plants.plant([row.plant])
    try:
        ended = subprocess.run(
            [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:hypothesispytest", REPOSITORY / "journeys"],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "STORMWATCH_PLATFORM": str(platform.layout.state)},
            check=False,
        )
    finally:
        platform.plants.plant([])

    assert ended.returncode == 1, ended.stdout
    assert "1 failed, 4 passed" in ended.stdout
    assert re.search(f'^step "{row.step}" failed: {row.pattern}$', ended.stdout, re.MULTILINE), ended.stdout


def test_every_planted_failure_is_shown_and_documented_as_the_program_tells_of_it() -> None:
    """Name and what it does are those of `PLANTS`; each is in a round, or in what pytest is run with."""
    assert {row.plant: row.what for row in documented().values()} == dict(PLANTS)
    assert sorted(["expired-session", *(plant for plants in ROUNDS for plant in plants)]) == sorted(PLANTS)


def test_what_a_journey_made_is_gone_afterwards(
    platform: Platform, strangers: frozenset[str], seen: Sequence[Mapping[str, Report]]
) -> None:
    """Nobody of those who registered is left, whether their journey was green or red."""
    assert [step.name for step in seen[0]["checkout"].steps if step.name == "register" and not step.failed]
    assert registered(platform) == strangers


def command(platform: Platform, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stormwatch.demo.plants", "--dir", platform.layout.directory, *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_failures_are_planted_and_dug_out_by_command_or_by_file(platform: Platform, seen: object) -> None:
    """What is named is planted and all else is not; a name that is none changes nothing; a file is as good."""
    del seen
    planted = command(platform, "xhr-500", "slow-payment")
    unknown = command(platform, "xhr-501")
    there = platform.plants.all()
    (platform.layout.planted / "xhr-500").unlink()
    left = platform.plants.all()
    cleared = command(platform)

    assert (planted.returncode, planted.stdout) == (0, '{"planted": ["slow-payment", "xhr-500"]}\n')
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "no planted failure 'xhr-501': there are slow-payment, " in unknown.stderr
    assert (there, left) == (["slow-payment", "xhr-500"], ["slow-payment"])
    assert (cleared.returncode, cleared.stdout) == (0, '{"planted": []}\n')


def test_there_is_nothing_to_plant_in_without_a_platform(tmp_path: Path) -> None:
    """One line with the remedy, exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "stormwatch.demo.plants", "--dir", tmp_path, "xhr-500"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr == f"no sample platform is running in {tmp_path}: `stormwatch demo --keep` starts one\n"


@pytest.mark.parametrize(
    ("plant", "keep", "said"),
    [
        ("wrong-total", False, "--plant is for a platform that stays up, and was given without --keep: give both"),
        ("wrong-totl", True, "--plant wrong-totl: there is no such planted failure; there are slow-payment, "),
    ],
)
async def test_the_demo_refuses_to_plant_what_nobody_would_see(
    tmp_path: Path, plant: str, keep: bool, said: str
) -> None:
    """Before anything is started: one line, exit code 2."""
    with pytest.raises(Problem) as refused:
        await command_of_demo(tmp_path, keep=keep, listen="127.0.0.1:0", plant=[plant])

    assert refused.value.code is Exit.USAGE
    assert str(refused.value).startswith(said)
    assert list(tmp_path.iterdir()) == []
