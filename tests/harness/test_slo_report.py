"""`stormwatch slo report`: from results that a service saw to a document, and its refusals."""

import json
import sqlite3
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stormwatch.exporters.history import History
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, wait_for

CONFIG = """\
defaults: {{every: 200ms, timeout: 80ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: bad, kind: tcp, target: "127.0.0.1:{bad}"}}
objectives:
  - {{name: bad-availability, probe: bad, target: 99%, window: 1d}}
"""


def report(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as it is typed."""
    return invoke("slo", "report", "-c", "stormwatch.yaml", "--data", "data", *arguments, cwd=directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a configuration."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG.format(bad=free_port()))
    return tmp_path


@pytest.mark.slow
def test_what_a_service_judged_is_in_the_report_after_a_kill(directory: Path) -> None:
    """Killed with SIGKILL, started again: hours add up, and what was judged once is not judged again."""
    month = f"{datetime.now(UTC):%Y-%m}"
    run = ["run", "-c", directory / "stormwatch.yaml", "--data", directory / "data"]

    def bad() -> int:
        done = report(directory, month, "--format", "json")
        return json.loads(done.stdout)["objectives"][0]["bad"] if done.returncode == 0 else 0

    listen = free_port()
    with staying(*run, "--listen", f"127.0.0.1:{listen}", log=directory / "log", port=listen) as child:
        wait_for(lambda: bad() >= 5, what="five bad results in the report")
        child.kill()
        child.wait(10)
    before = bad()
    listen = free_port()
    with staying(*run, "--listen", f"127.0.0.1:{listen}", log=directory / "log", port=listen):
        wait_for(lambda: bad() >= before + 5, what="five more")
    document = json.loads(report(directory, month, "--format", "json").stdout)
    (objective,) = document["objectives"]
    assert document["verdict"] == "0 of 1 objectives are kept; not bad-availability."
    assert objective["good"] == 0
    with sqlite3.connect(directory / "data" / "history.sqlite") as db:
        ((runs,),) = db.execute("SELECT count(*) FROM results").fetchall()
    db.close()
    assert before + 5 <= objective["bad"] <= runs
    assert {alert["alertname"] for alert in objective["alerts"]} >= {"ErrorBudgetBurn"}

    markdown = report(directory, month)
    assert markdown.stdout.startswith(f"# Objectives in {datetime.now(UTC):%B %Y}\n")
    assert "| ✗ bad-availability | 99% | 0% |" in markdown.stdout
    page = directory / "report.html"
    assert report(directory, month, "--format", "html", "-o", str(page)).returncode == 0
    assert "not bad-availability" in page.read_text()
    assert "<script" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["octember"],
            "a period is written like 2026-10, 2026-Q3, 2026 or 2026-10-05..2026-10-11 (the later day behind), not 'octember'",
        ),
        (["2199-01"], "January 2199 has not begun"),
        (["2026-10", "--timezone", "Berlin"], "'Berlin' is no time zone like Europe/Berlin or UTC"),
        (["2026-10"], "there is no history in data; give the --data of your `stormwatch run`"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_2(directory: Path, arguments: list[str], said: str) -> None:
    """With the remedy."""
    done = report(directory, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


async def test_a_history_of_version_1_gets_the_new_table(tmp_path: Path) -> None:
    """And keeps what it has."""
    path = tmp_path / "history.sqlite"
    history = History(path)
    await history.aclose()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE judged")
        db.execute("INSERT INTO transitions (at, document) VALUES (?, '{}')", (time.time(),))
        db.execute("PRAGMA user_version = 1")
    db.close()
    history = History(path)
    hour = int(time.time()) // 3600 * 3600
    history.count_judged("checkout", hour + 1.5, good=3, bad=1)
    history.count_judged("checkout", hour + 3599.0, good=1, bad=0)
    await history.flush()
    assert [(each.hour, each.good, each.bad) for each in history.judged()] == [(hour, 4, 1)]
    assert len(history.transitions()) == 1
    await history.aclose()
