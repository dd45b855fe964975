"""The main job as a user runs it: the demo proves its verdict, and a demo that is killed leaves no fault behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.report import Report
from stormwatch.chaos.verdict import Verdict
from tests.servers.command import invoke
from tests.servers.process import wait_for

STORMWATCH = Path(sys.executable).with_name("stormwatch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def stormwatch(*arguments: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return invoke(*arguments, env={**os.environ, **(environ or {})}, timeout=240)


@contextlib.contextmanager
def demo(directory: Path, *arguments: str) -> Generator[tuple["subprocess.Popen[bytes]", Path]]:
    """A demo as a child, and the file that it prints to. Whatever is left of it afterwards is stopped."""
    log = directory / "demo.log"
    command = [STORMWATCH, "demo", "--dir", directory / "demo", "--listen", "127.0.0.1:0", *arguments]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield child, log
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
        stop_platform(directory / "demo")


def stop_platform(directory: Path) -> None:
    """End the platform of a demo that was killed, by the process id that its supervisor wrote down."""
    state = directory / "platform.json"
    if not state.exists():
        return
    supervisor = int(json.loads(state.read_text())["pids"]["supervisor"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{supervisor}").exists(), what="the platform to stop")


def wait_until_said(text: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the demo has printed this; fail at once when it ended without."""
    wait_for(lambda: text in log.read_text() or child.poll() is not None, what=f"the demo to say {text!r}", seconds=200)
    printed = log.read_text()
    assert text in printed, printed


@pytest.mark.alone
def test_the_demo_proves_that_a_failure_is_noticed(tmp_path: Path) -> None:
    """Exit code 0, the verdict with its seconds, the report as a page and as JSON that is judged the same again."""
    with demo(tmp_path) as (child, log):
        child.wait(240)
        printed = log.read_text()

        assert child.returncode == 0, printed
        assert "proved: detected in" in printed
        assert "recovered in" in printed
        report = json.loads((tmp_path / "demo" / "report.json").read_text())
        assert report["verdict"] == "proved"
        assert Report.from_json(report).verdict is Verdict.PROVED
        assert report["detection"]["firing"] > report["detection"]["first_red"] > report["detection"]["injected"]
        assert report["detection"]["notified"] >= report["detection"]["firing"]
        assert "<html" in (tmp_path / "demo" / "report.html").read_text()
        assert stormwatch("undo").stdout == "nothing to undo: no fault is recorded\n"


def test_undo_heals_what_a_killed_demo_left_behind(tmp_path: Path) -> None:
    """SIGKILL in the middle of the fault; `undo` exits 0 and traffic passes again at once."""
    with demo(tmp_path) as (child, log):
        config = tmp_path / "demo" / "stormwatch.yaml"
        wait_until_said("injected ", child, log)
        child.kill()
        child.wait(10)
        broken = stormwatch("check", "payments-health", "-c", config)

        assert broken.returncode == 1
        assert "timeout in tls" in broken.stdout

        undone = stormwatch("undo")

        assert undone.returncode == 0, undone.stderr
        assert "tcp-blackhole on payments: undone" in undone.stdout
        assert stormwatch("check", "payments-health", "-c", config).returncode == 0
        assert stormwatch("undo").stdout == "nothing to undo: no fault is recorded\n"


def test_the_lease_heals_what_a_killed_demo_left_behind(tmp_path: Path) -> None:
    """SIGKILL in the middle of the fault, and nobody does anything: the proxy takes it back when nobody renews it."""
    with demo(tmp_path) as (child, log):
        config = tmp_path / "demo" / "stormwatch.yaml"
        wait_until_said("injected ", child, log)
        child.kill()
        child.wait(10)
        killed = time.monotonic()

        wait_for(
            lambda: stormwatch("check", "payments-health", "-c", config).returncode == 0,
            what="the lease to end",
            seconds=45,
        )
        assert time.monotonic() - killed > 1, "it was not broken when the demo was killed"
        assert "already gone" in stormwatch("undo").stdout


@pytest.mark.alone
def test_a_kept_demo_can_be_checked_tested_and_drilled(tmp_path: Path) -> None:
    """All up is 0, a stopped service 1 with what was seen, no browser 3; pytest, drills and SIGTERM beside a kept demo."""
    with demo(tmp_path, "--keep") as (child, log):
        config = tmp_path / "demo" / "stormwatch.yaml"
        wait_until_said("stays up until", child, log)
        pids = json.loads((tmp_path / "demo" / "platform.json").read_text())["pids"]

        all_up = stormwatch("check", "-c", config)
        assert all_up.returncode == 0, all_up.stdout
        assert "10 probes: 10 up" in all_up.stdout

        without = stormwatch("check", "login", "-c", config, environ={"STORMWATCH_BROWSER": "/nowhere/chromium"})
        assert without.returncode == 3, without.stdout
        assert "? broken" in without.stdout
        assert "browser" in without.stdout

        # The scheduled runner has the same files warm, in the same moment.
        journeys = subprocess.run(
            [STORMWATCH.with_name("pytest"), "-q", Path(__file__).parents[2] / "journeys"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "STORMWATCH_PLATFORM": str(tmp_path / "demo" / "platform.json")},
            check=False,
        )
        assert journeys.returncode == 0, journeys.stdout
        assert "5 passed" in journeys.stdout

        page = next(word for word in log.read_text().split() if word.startswith("http://127.0.0.1:"))
        plan = stormwatch("drill", "payment-reset", "--plan", "-c", config)
        assert plan.returncode == 0, plan.stdout
        assert "asked within 20s, can be" in plan.stdout
        drill = stormwatch("drill", "payment-reset", "-c", config, "--watch", page, "--format", "json")
        assert drill.returncode == 0, drill.stdout
        (report,) = json.loads(drill.stdout)
        assert report["verdict"] == "proved"
        # And with nobody else watching: the drill brings its own watch.
        alone = stormwatch("drill", "catalog-503", "-c", config, "--report", tmp_path / "drill.html")
        assert alone.returncode == 0, alone.stdout
        assert "proved  catalog-503" in alone.stdout
        assert "<html" in (tmp_path / "drill.html").read_text()

        os.kill(pids["payments"], signal.SIGKILL)
        stopped = stormwatch("check", "payments-health", "front", "-c", config, "--format", "json")
        assert stopped.returncode == 1
        results = {result["probe"]: result for result in json.loads(stopped.stdout)["results"]}
        assert results["front"]["outcome"] == "up"
        assert results["payments-health"]["outcome"] == "down"
        assert results["payments-health"]["reason"] in {"refused", "reset"}
        assert results["payments-health"]["failed_phase"]
        assert results["payments-health"]["message"]

        child.send_signal(signal.SIGTERM)
        child.wait(60)
        assert child.returncode == 0
        wait_for(
            lambda: not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()], what="all to be stopped"
        )


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """No traceback for what a user did: one line on stderr, exit code 2."""
    ended = stormwatch("check", "-c", tmp_path / "none.yaml")

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "none.yaml" in ended.stderr
