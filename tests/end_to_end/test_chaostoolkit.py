"""Chaos Toolkit both ways: `chaos run` with our faults and detections, and its experiments under `stormwatch drill`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stormwatch.chaos.chaostoolkit.actions import FaultRefused, inject_fault, undo_faults
from stormwatch.chaos.chaostoolkit.probes import (
    MonitoringUnknown,
    alert_fires_within,
    alert_resolves_within,
    only_alerts_firing,
    probe_fails_within,
)
from stormwatch.chaos.experiment_undo import METHOD
from stormwatch.chaos.undo import UndoJournal, UndoRecord
from tests.chaos.experiments import breaking, experiment, function, healing, http, program, well
from tests.servers.breakable import Breakable
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, wait_for

PROGRAMS = Path(sys.executable).parent
STORMWATCH = PROGRAMS / "stormwatch"
OURS = "stormwatch.chaos.chaostoolkit"
CONFIG = """\
defaults: {{every: 4s, timeout: 1900ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: shop, kind: http, target: "http://127.0.0.1:{front}/health"}}
proxies:
  control: 127.0.0.1:{control}
  routes:
    - {{name: shop, listen: "127.0.0.1:{front}", upstream: "127.0.0.1:{upstream}"}}
"""
PAGE = {"alertname": "ProbeDown", "probe": "shop"}


@pytest.fixture
def chaos() -> Path:
    """The command of the Chaos Toolkit. In CI a missing one fails the test; elsewhere it is skipped."""
    path = PROGRAMS / "chaos"
    if not path.exists():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("chaostoolkit is not installed: `make test` installs what the tests need")
    return path


@dataclass
class House:
    """A shop behind a fault proxy, watched."""

    shop: Breakable
    control: str
    watcher: str
    state: Path

    def faults(self) -> list[str]:
        """What is in place on the route."""
        return [one["kind"] for one in httpx.get(f"{self.control}/routes/shop").json()["faults"]]

    def records(self) -> list[UndoRecord]:
        """The undo records."""
        return [one for one in UndoJournal(self.state / "undo").pending() if isinstance(one, UndoRecord)]

    def calm(self) -> None:
        """Wait until nothing fires of what an earlier test broke."""
        wait_for(
            lambda: not httpx.get(f"{self.watcher}/api/v1/alerts").json()["alerts"],
            what="all alerts to end",
            seconds=60,
        )

    def inject(self, *, lease: float = 15.0, **more: Any) -> dict[str, Any]:
        """The action that blackholes the shop."""
        arguments = {"kind": "tcp-reset", "target": "shop", "control": self.control, "lease": lease}
        return function("inject", f"{OURS}.actions", "inject_fault", provider={"arguments": arguments}, **more)

    def sees(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A detection that must be true."""
        given = {**arguments, "url": self.watcher}
        return function(name, f"{OURS}.probes", name, kind="probe", tolerance=True, provider={"arguments": given})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[House]:
    """Everything runs."""
    there = tmp_path_factory.mktemp("house")
    front, control, watcher = free_port(), free_port(), free_port()
    config, state = there / "stormwatch.yaml", there / "state"
    environ = {"STORMWATCH_STATE": str(state)}
    with Breakable() as shop:
        upstream = shop.url.rpartition(":")[2]
        config.write_text(CONFIG.format(front=front, control=control, upstream=upstream))
        serve = ["proxy", "-c", config]
        watch = ["run", "-c", config, "--listen", f"127.0.0.1:{watcher}", "--data", there / "data"]
        with (
            staying(*serve, log=there / "proxy.log", port=control, environ=environ),
            staying(*watch, log=there / "run.log", port=watcher, environ=environ),
        ):
            house = House(shop, f"http://127.0.0.1:{control}", f"http://127.0.0.1:{watcher}", state)
            wait_for(lambda: httpx.get(f"{house.watcher}/-/ready").status_code == 200, what="the first result")
            yield house


@pytest.fixture(autouse=True)
def state_of_the_house(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of those who run, and a shop that is well."""
    monkeypatch.setenv("STORMWATCH_STATE", str(house.state))
    house.shop.broken = False


def written(directory: Path, document: dict[str, Any]) -> Path:
    """The experiment as a file."""
    path = directory / "experiment.json"
    path.write_text(json.dumps(document))
    return path


def begun(directory: Path, *command: str | Path) -> subprocess.Popen[bytes]:
    """A command in a session of its own, with its output in a file."""
    with (directory / "out.log").open("ab") as log:
        return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, start_new_session=True)


def drilled(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`stormwatch drill` to its end."""
    return invoke("drill", path, *options, cwd=path.parent, timeout=100)


def test_the_toolkit_discovers_our_activities(chaos: Path, tmp_path: Path) -> None:
    """With their arguments and what they are for; and its wizard makes an experiment of them that it finds valid.

    The wizard asks: title, a hypothesis?, a method?, which activity, this one?, then each argument, another one?, rollbacks?
    """
    answers = ["Payments vanish", "n", "y", "1", "y", "tcp-reset", "payments", "", "", "", "", "n", "n"]

    subprocess.run([chaos, "discover", "--no-install", "stormwatch"], cwd=tmp_path, timeout=60, check=True)
    subprocess.run([chaos, "init"], cwd=tmp_path, input="\n".join(answers), text=True, timeout=60, check=True)
    subprocess.run([chaos, "validate", "experiment.json"], cwd=tmp_path, timeout=60, check=True)

    found = {one["name"]: one for one in json.loads((tmp_path / "discovery.json").read_text())["activities"]}
    assert {name: one["type"] for name, one in found.items()} == {
        "inject_fault": "action",
        "undo_faults": "action",
        "probe_fails_within": "probe",
        "alert_fires_within": "probe",
        "alert_resolves_within": "probe",
        "only_alerts_firing": "probe",
    }
    assert all(one["doc"] for one in found.values())
    assert {one["name"]: one["type"] for one in found["inject_fault"]["arguments"]} == {
        "kind": "string",
        "target": "string",
        "options": "mapping",
        "control": "string",
        "lease": "number",
        "on": "mapping",
    }
    (made,) = json.loads((tmp_path / "experiment.json").read_text())["method"]
    assert made["provider"] == {
        "type": "python",
        "module": f"{OURS}.actions",
        "func": "inject_fault",
        "arguments": {
            "kind": "tcp-reset",
            "target": "payments",
            "options": {},
            "control": "http://127.0.0.1:8474",
            "lease": 15.0,
            "on": {},
        },
    }


def test_an_action_as_the_wizard_makes_it_injects_a_fault(house: House) -> None:
    """Where nothing was typed in it writes empty mappings: no options, and no other target than a route."""
    inject_fault("tcp-reset", "shop", options={}, control=house.control, on={})

    assert house.faults() == ["tcp-reset"]
    undo_faults()
    assert house.faults() == []


def test_chaos_run_injects_detects_and_heals(house: House, chaos: Path, tmp_path: Path) -> None:
    """The whole way under the toolkit itself, and the control's notes in its journal."""
    house.calm()
    control = {
        "name": "ours",
        "provider": {"type": "python", "module": f"{OURS}.control", "arguments": {"url": house.watcher}},
    }
    path = written(
        tmp_path,
        experiment(
            controls=[control],
            hypothesis={"title": "silent", "probes": [house.sees("only_alerts_firing")]},
            method=[
                house.inject(),
                house.sees("probe_fails_within", probe="shop", within=60, reason="reset"),
                house.sees("alert_fires_within", alert=PAGE, within=60),
                function("undo", f"{OURS}.actions", "undo_faults"),
                house.sees("alert_resolves_within", alert=PAGE, within=60),
            ],
        ),
    )
    ran = begun(tmp_path, chaos, "run", "--journal-path", "journal.json", path)

    assert ran.wait(100) == 0, (tmp_path / "out.log").read_text()
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert [
        (one["activity"]["name"], one["output"]) for one in journal["run"] if one["activity"]["type"] == "probe"
    ] == [
        ("probe_fails_within", True),
        ("alert_fires_within", True),
        ("alert_resolves_within", True),
    ], journal
    assert journal["stormwatch"]["left"] == []
    assert "reset" in {one["reason"] for one in journal["stormwatch"]["detection"]["failed"]}
    assert "firing" in [
        one["to"] if "to" in one else one["after"] for one in journal["stormwatch"]["detection"]["transitions"]
    ]
    assert house.faults() == []


def test_chaos_run_that_is_killed_leaves_no_fault(house: House, chaos: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the method: who keeps the fault sees it, long before the lease is over."""
    wait = program("wait", "-c", "import time; time.sleep(60)")
    ran = begun(tmp_path, chaos, "run", written(tmp_path, experiment(method=[house.inject(lease=600), wait])))
    try:
        wait_for(lambda: house.faults() == ["tcp-reset"], what="the fault to be in place", seconds=60)
    finally:
        os.killpg(ran.pid, signal.SIGKILL)
        ran.wait(10)

    wait_for(lambda: house.faults() == [] and not house.records(), what="the fault to be taken back", seconds=60)


def test_undo_heals_when_the_keeper_is_killed_too(house: House, chaos: Path, tmp_path: Path) -> None:
    """Nobody is left but the record: `stormwatch undo` is enough."""
    wait = program("wait", "-c", "import time; time.sleep(60)")
    ran = begun(tmp_path, chaos, "run", written(tmp_path, experiment(method=[house.inject(lease=600), wait])))
    try:
        wait_for(lambda: house.faults() == ["tcp-reset"], what="the fault to be in place", seconds=60)
        (record,) = house.records()
        os.kill(record.owner.pid, signal.SIGKILL)
    finally:
        os.killpg(ran.pid, signal.SIGKILL)
        ran.wait(10)
    assert house.faults() == ["tcp-reset"]

    undone = invoke("undo")

    assert undone.returncode == 0, undone.stdout
    assert "tcp-reset on shop: undone" in undone.stdout
    assert house.faults() == []


@pytest.mark.slow
def test_a_fault_of_an_experiment_is_proved_to_be_noticed(house: House, tmp_path: Path) -> None:
    """Under our own command; nothing takes the fault back in the document, and it is gone at the end."""
    house.calm()
    path = written(
        tmp_path,
        experiment(
            hypothesis={"title": "silent", "probes": [house.sees("only_alerts_firing")]},
            method=[house.inject(), house.sees("probe_fails_within", probe="shop", within=60)],
            rollbacks=[http("health", f"{house.shop.url}/health")],
            runtime={"hypothesis": {"strategy": "before-method-only"}},
        ),
    )
    ran = drilled(path, "--format", "json", "--journal", str(tmp_path / "journal.json"))

    (report,) = json.loads(ran.stdout)
    assert (ran.returncode, report["verdict"]) == (0, "proved"), ran.stderr
    assert json.loads((tmp_path / "journal.json").read_text())["stormwatch"]["verdict"] == "proved"
    assert house.faults() == []
    assert not house.records()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda one: one.name)
def test_3_a_signal_rolls_back(house: House, tmp_path: Path, number: signal.Signals) -> None:
    """There, with the default strategy, it does not."""
    wait = program("wait", "-c", "import time; time.sleep(60)")
    document = experiment(
        hypothesis=well(house.shop), method=[breaking(house.shop), wait], rollbacks=[healing(house.shop)]
    )
    ran = begun(tmp_path, STORMWATCH, "drill", written(tmp_path, document))
    try:
        wait_for(lambda: house.shop.broken, what="the shop to be broken", seconds=60)
        ran.send_signal(number)
        assert ran.wait(60) == 3, (tmp_path / "out.log").read_text()
    finally:
        ran.poll() is None and os.killpg(ran.pid, signal.SIGKILL)

    assert not house.shop.broken
    assert "it was interrupted" in (tmp_path / "out.log").read_text()


def test_3_a_kill_is_rolled_back_too(house: House, tmp_path: Path) -> None:
    """There, nothing at all remains. Here, another process plays the rollbacks, and the journal says how far it got."""
    wait = program("wait", "-c", "import time; time.sleep(60)")
    document = experiment(
        hypothesis=well(house.shop), method=[breaking(house.shop), wait], rollbacks=[healing(house.shop)]
    )
    journal = tmp_path / "journal.json"
    ran = begun(tmp_path, STORMWATCH, "drill", written(tmp_path, document), "--journal", journal)
    try:
        wait_for(lambda: house.shop.broken, what="the shop to be broken", seconds=60)
        wait_for(lambda: "break it" in str(json.loads(journal.read_text())["run"]), what="the journal to say so")
    finally:
        os.killpg(ran.pid, signal.SIGKILL)
        ran.wait(10)

    wait_for(lambda: not house.shop.broken and not house.records(), what="the rollbacks to be played", seconds=60)
    assert json.loads(journal.read_text())["stormwatch"]["verdict"] != "proved"


def test_undo_plays_the_rollbacks_of_a_dead_experiment(house: House, tmp_path: Path) -> None:
    """With the secrets of its own environment, because none is on record; without them it says what is missing."""
    document = experiment(
        secrets={"shop": {"way": {"type": "env", "key": "WAY"}}},
        rollbacks=[http("heal it", f"{house.shop.url}/${{way}}", method="DELETE")],
    )
    path = written(tmp_path, document)
    arguments = {
        "file": str(path),
        "directory": str(tmp_path),
        "played": str(house.state / "undo" / "experiment-dead.played"),
        "secrets": True,
        "configuration": {},
        "rollbacks": document["rollbacks"],
    }
    dead = subprocess.Popen(["true"])
    dead.wait()
    UndoJournal(house.state / "undo").record(
        UndoRecord.from_json(
            {
                "id": "experiment-dead",
                "method": METHOD,
                "what": "experiment a story",
                "arguments": arguments,
                "owner": {"pid": dead.pid, "started": "long ago"},
                "at": 1.0,
                "drill": "",
            }
        )
    )
    house.shop.broken = True

    def undo(**environ: str) -> subprocess.CompletedProcess[str]:
        return invoke("undo", env={**os.environ, **environ})

    missing = undo()
    assert missing.returncode == 4
    assert "the environment variable WAY is not set" in missing.stdout
    assert house.shop.broken

    played = undo(WAY="break")
    assert played.returncode == 0, played.stdout
    assert not house.shop.broken
    assert not house.records()


def test_mistakes_are_one_line_each(tmp_path: Path) -> None:
    """Found before anything is done, with exit code 2."""
    ran = drilled(written(tmp_path, experiment(method=[{"ref": "nobody"}, function("x", "os", "getpidd")])))

    assert ran.returncode == 2
    assert [line.partition(": ")[2] for line in ran.stderr.splitlines()] == [
        "method[0].ref: the name of another activity is needed, there is 'nobody'; there are: x"
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "tcp-latenci", "target": "shop"}, "no fault is called 'tcp-latenci'; there are: tcp-latency"),
        ({"kind": "tcp-latency", "target": "shop", "options": {"delay": "0s"}}, "the options of tcp-latency: "),
        ({"kind": "tcp-reset", "target": "nobody"}, "tcp-reset on nobody: "),
        ({"kind": "tcp-reset", "target": "shop", "control": "http://127.0.0.1:1"}, "tcp-reset on shop: "),
        ({"kind": "process-kill", "target": "shop"}, "process-kill needs `on`: a process"),
        ({"kind": "tcp-reset", "target": "shop", "on": {"machine": {}}}, "leave `on` out"),
    ],
    ids=["kind", "options", "route", "control", "on", "route-on"],
)
def test_a_fault_that_is_not_in_place_is_refused(house: House, asked: dict[str, Any], said: str) -> None:
    """What was asked and seen, and no record of it."""
    with pytest.raises(FaultRefused) as caught:
        inject_fault(**{"control": house.control, **asked})
    assert said in str(caught.value)
    assert not house.records()


def test_monitoring_that_does_not_answer_is_an_error_and_no_false(house: House) -> None:
    """Refused, silent for too long, and asked for what it does not have."""
    with pytest.raises(MonitoringUnknown, match="no running stormwatch answers there"):
        only_alerts_firing(url="http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(MonitoringUnknown, match="ReadTimeout"):
            alert_fires_within(PAGE, within=600, url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 60, "the hundredth of what it might have waited for"
    with pytest.raises(MonitoringUnknown, match="watches no probe that is called 'shopp'"):
        probe_fails_within("shopp", url=house.watcher)
    with pytest.raises(MonitoringUnknown, match="there is nothing to resolve"):
        alert_resolves_within({"alertname": "Nobody"}, url=house.watcher)
    assert alert_fires_within({"alertname": "Nobody"}, within=0.1, url=house.watcher) is False


def test_a_rehearsal_is_not_done_for_real(house: House, tmp_path: Path) -> None:
    """An option that is for drills alone is refused, and not passed over."""
    ran = drilled(written(tmp_path, experiment(method=[breaking(house.shop)])), "--dry-run")

    assert (ran.returncode, ran.stderr) == (2, "experiments of the Chaos Toolkit are run without --dry-run\n")
    assert not house.shop.broken
