"""The main job as a user runs it: the demo proves its verdict, and a demo that is killed leaves no fault behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stormwatch.chaos.report import Report
from stormwatch.chaos.verdict import Verdict
from stormwatch.harness.demonstration import DRILL
from tests.end_to_end.mortal import die_while_broken
from tests.servers.command import Forked, invoke
from tests.servers.process import wait_for

STORMWATCH = Path(sys.executable).with_name("stormwatch")
JOURNEYS = Path(__file__).parents[2] / "journeys"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Demo:
    """A demo as a child, with a state of its own."""

    child: "subprocess.Popen[bytes]"
    room: Path
    environ: dict[str, str]

    @property
    def directory(self) -> Path:
        """Where it writes its platform, its configuration and its reports."""
        return self.room / "demo"

    @property
    def config(self) -> Path:
        """How the platform is watched."""
        return self.directory / "stormwatch.yaml"

    @property
    def platform(self) -> dict[str, Any]:
        """How the platform is reached."""
        return json.loads((self.directory / "platform.json").read_text())

    def said(self) -> str:
        """What it printed so far."""
        return (self.room / "demo.log").read_text()

    def stormwatch(self, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with the same state."""
        return invoke(*arguments, env={**self.environ, **environ}, timeout=240)

    def wait_until_said(self, text: str) -> None:
        """Return when it has printed this; fail at once when it ended without."""
        wait_for(
            lambda: text in self.said() or self.child.poll() is not None, what=f"the demo to say {text!r}", seconds=200
        )
        assert text in self.said(), self.said()


@contextlib.contextmanager
def demo(room: Path, *arguments: str) -> Generator[Demo]:
    """A demo, begun. Whatever is left of it afterwards is stopped."""
    environ = {**os.environ, "STORMWATCH_STATE": str(room / "state")}
    command = [STORMWATCH, "demo", "--dir", room / "demo", "--listen", "127.0.0.1:0", *arguments]
    with (room / "demo.log").open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        yield Demo(child, room, environ)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
        stop_platform(room / "demo")


def stop_platform(directory: Path) -> None:
    """End the platform of a demo that was killed, by the process id that its supervisor wrote down."""
    state = directory / "platform.json"
    if not state.exists():
        return
    supervisor = int(json.loads(state.read_text())["pids"]["supervisor"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{supervisor}").exists(), what="the platform to stop")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Generator[Demo]:
    """A demo that stays: it has shown what it shows, and the platform goes on."""
    with demo(tmp_path_factory.mktemp("kept"), "--keep") as begun:
        begun.wait_until_said("stays up until")
        yield begun


@pytest.mark.alone
def test_the_demo_proves_that_a_failure_is_noticed(kept: Demo) -> None:
    """The verdict with its seconds, the report as a page and as JSON that is judged the same again."""
    printed = kept.said()
    report = json.loads((kept.directory / "report.json").read_text())

    assert "proved: detected in" in printed
    assert "recovered in" in printed
    assert report["verdict"] == "proved"
    assert Report.from_json(report).verdict is Verdict.PROVED
    assert report["detection"]["firing"] > report["detection"]["first_red"] > report["detection"]["injected"]
    assert report["detection"]["notified"] >= report["detection"]["firing"]
    assert "<html" in (kept.directory / "report.html").read_text()
    assert kept.stormwatch("undo").stdout == "nothing to undo: no fault is recorded\n"


@pytest.mark.alone
def test_a_demo_that_is_not_kept_ends_by_itself_and_takes_all_with_it(tmp_path: Path) -> None:
    """What `make demo` does: proved is 0, and no process is left."""
    with demo(tmp_path) as begun:
        begun.wait_until_said("injected ")
        pids = begun.platform["pids"]
        assert begun.child.wait(200) == 0, begun.said()
        assert "recovered in" in begun.said()
        # The supervisor is the last, and ends when all others have.
        wait_for(
            lambda: not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()], what="all to be stopped"
        )


@pytest.mark.alone
def test_a_kept_demo_can_be_checked_tested_and_drilled(kept: Demo) -> None:
    """All up is 0, a stopped service 1 with what was seen, no browser 3; pytest, drills and SIGTERM beside a kept demo."""
    config, pids = kept.config, kept.platform["pids"]

    all_up = kept.stormwatch("check", "-c", config)
    assert all_up.returncode == 0, all_up.stdout
    assert "10 probes: 10 up" in all_up.stdout

    without = kept.stormwatch("check", "login", "-c", config, STORMWATCH_BROWSER="/nowhere/chromium")
    assert without.returncode == 3, without.stdout
    assert "? broken" in without.stdout
    assert "browser" in without.stdout

    # The scheduled runner has the same files warm, in the same moment. tests/demo/test_sample_journeys.py runs all five.
    journeys = subprocess.run(
        [STORMWATCH.with_name("pytest"), "-q", *(JOURNEYS / name for name in ("test_checkout.py", "test_login.py"))],
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept.environ, "STORMWATCH_PLATFORM": str(kept.directory / "platform.json")},
        check=False,
    )
    assert journeys.returncode == 0, journeys.stdout
    assert "2 passed" in journeys.stdout

    page = next(word for word in kept.said().split() if word.startswith("http://127.0.0.1:"))
    plan = kept.stormwatch("drill", "payment-reset", "--plan", "-c", config)
    assert plan.returncode == 0, plan.stdout
    assert "asked within 20s, can be" in plan.stdout
    drill = kept.stormwatch("drill", "payment-reset", "-c", config, "--watch", page, "--format", "json")
    assert drill.returncode == 0, drill.stdout
    (report,) = json.loads(drill.stdout)
    assert report["verdict"] == "proved"
    # And with nobody else watching: the drill brings its own watch.
    alone = kept.stormwatch("drill", "catalog-503", "-c", config, "--report", kept.room / "drill.html")
    assert alone.returncode == 0, alone.stdout
    assert "proved  catalog-503" in alone.stdout
    assert "<html" in (kept.room / "drill.html").read_text()

    os.kill(pids["payments"], signal.SIGKILL)
    stopped = kept.stormwatch("check", "payments-health", "front", "-c", config, "--format", "json")
    assert stopped.returncode == 1
    results = {result["probe"]: result for result in json.loads(stopped.stdout)["results"]}
    assert results["front"]["outcome"] == "up"
    assert results["payments-health"]["outcome"] == "down"
    assert results["payments-health"]["reason"] in {"refused", "reset"}
    assert results["payments-health"]["failed_phase"]
    assert results["payments-health"]["message"]

    # Nothing is left of it for the tests that come after this one.
    kept.child.send_signal(signal.SIGTERM)
    kept.child.wait(60)
    assert kept.child.returncode == 0
    wait_for(
        lambda: not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()], what="all to be stopped"
    )


def test_undo_heals_what_a_killed_demo_left_behind_and_the_lease_what_nobody_undoes(tmp_path: Path) -> None:
    """SIGKILL in the middle of the fault; `undo` exits 0 and traffic passes again at once. The platform outlives the demo.

    On it a second owner of the same fault is killed, and nobody does anything: the proxy takes it back when nobody renews it.
    """
    with demo(tmp_path) as begun:

        def check() -> subprocess.CompletedProcess[str]:
            return begun.stormwatch("check", "payments-health", "-c", begun.config)

        begun.wait_until_said("injected ")
        begun.child.kill()
        begun.child.wait(10)
        broken = check()

        assert broken.returncode == 1
        assert "timeout in tls" in broken.stdout

        undone = begun.stormwatch("undo")

        assert undone.returncode == 0, undone.stderr
        assert "tcp-blackhole on payments: undone" in undone.stdout
        assert check().returncode == 0
        assert begun.stormwatch("undo").stdout == "nothing to undo: no fault is recorded\n"

        assert Forked(die_while_broken, begun.config, DRILL, Path(begun.environ["STORMWATCH_STATE"])).wait(60) < 0
        assert check().returncode == 1, "it was not broken when its owner was killed"
        wait_for(
            lambda: not httpx.get(f"{begun.platform['control']}/routes/payments", trust_env=False).json()["faults"],
            what="the lease to end",
            seconds=45,
        )
        assert check().returncode == 0
        assert "already gone" in begun.stormwatch("undo").stdout


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """No traceback for what a user did: one line on stderr, exit code 2."""
    ended = invoke("check", "-c", tmp_path / "none.yaml")

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "none.yaml" in ended.stderr
