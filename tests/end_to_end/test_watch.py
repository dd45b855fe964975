"""Drills that are judged by a real Prometheus, a real Alertmanager and the webhook at the end, with budgets of what those run."""

import collections
import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml

from stormwatch.chaos.drill import Drill, ExpectedAlert
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.run import Baseline, run_drill
from stormwatch.chaos.tcp_options import TcpBlackhole
from stormwatch.chaos.undo import UndoJournal
from stormwatch.chaos.verdict import Verdict
from stormwatch.harness.watch_section import Watch
from stormwatch.harness.watching import outside_feed
from stormwatch.probes.clock import SystemClock
from tests.program import program
from tests.servers.command import begun, invoke, staying
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver

CONFIG = """\
location: test
probes:
  - name: front
    kind: http
    target: http://127.0.0.1:{shop}/
    every: 2s
    timeout: 800ms
    confirm: {{attempts: 2, after: 100ms}}
proxies:
  control: 127.0.0.1:{control}
  routes:
    - {{name: shop, listen: "127.0.0.1:{shop}", upstream: "127.0.0.1:{upstream}"}}
watch:
  prometheus: http://127.0.0.1:{prometheus}
  alertmanager: http://127.0.0.1:{alertmanager}
  receiver: 127.0.0.1:{receiver}
drills:
  - name: ours
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      probe: {{name: front, within: 20s}}
      alert: {{probe: front, within: 30s, delivered_within: 40s}}
      resolves_within: 40s
  - name: theirs
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      alert: {{labels: {{alertname: HighErrorRate, severity: page}}, within: 30s, delivered_within: 40s}}
      resolves_within: 40s
      allow: [ProbeDown]
  - name: elsewhere
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      alert: {{labels: {{alertname: HighErrorRate, instance: elsewhere}}, within: 5s}}
      resolves_within: 20s
      allow: [ProbeDown]
  - name: brief
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      probe: {{name: front, within: 20s}}
      resolves_within: 20s
      allow: [ProbeDown, HighErrorRate]
  - name: impossible
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      alert: {{labels: {{alertname: HighErrorRate}}, within: 1s, delivered_within: 1500ms}}
  - name: unknown
    fault: {{kind: tcp-refused, target: shop}}
    expect:
      alert: {{labels: {{alertname: HighErrorRate, severity: ticket}}}}
"""
RULES = {
    "groups": [
        {
            "name": "shop",
            "rules": [
                {
                    "alert": "HighErrorRate",
                    "expr": 'probe_success{probe="front"} == 0',
                    "for": "2s",
                    "labels": {"severity": "page"},
                },
                {"alert": "AlwaysOn", "expr": "vector(1)", "labels": {"severity": "ticket"}},
            ],
        }
    ]
}


class Scene:
    """What runs beside the drills, and where."""

    def __init__(
        self, directory: Path, receiver: Receiver, *, config: str = CONFIG, first: Sequence[dict[str, Any]] = ()
    ) -> None:
        """`first` are routes of Alertmanager before those that lead to the drill and to people."""
        self.directory = directory
        self._first = first
        names = ("shop", "hotel", "control", "upstream", "prometheus", "alertmanager", "receiver", "listen")
        self.ports = {name: free_port() for name in names}
        self.config = directory / "stormwatch.yaml"
        self.config.write_text(config.format(**self.ports))
        self._write(receiver)
        self._stack = contextlib.ExitStack()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def begun(self) -> Generator["Scene"]:
        """All of it, until the block is left."""
        with self._stack:
            serve = [sys.executable, "-m", "http.server", str(self.ports["upstream"]), "--bind", "127.0.0.1"]
            self._start("upstream", serve)
            self._stormwatch("shop", "proxy")
            listen = f"127.0.0.1:{self.ports['listen']}"
            self._stormwatch("listen", "run", "--data", self.directory / "data", "--listen", listen)
            self.start_alertmanager()
            self.start_prometheus()
            yield self

    def start_prometheus(self) -> None:
        """Anew, with nothing in its memory."""
        self._start(
            "prometheus",
            [
                program("prometheus"),
                f"--config.file={self.directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
            ],
        )
        # It discovers after some seconds whom it tells; until then nobody is.
        wait_for(
            lambda: bool(self.ask("alertmanagers")["activeAlertmanagers"]), what="Prometheus to know whom it tells"
        )
        wait_for(lambda: bool(self.ask("query?query=probe_success==1")["result"]), what="the probe to be up")

    def ask(self, what: str, port: int = 0) -> Any:
        """An answer of Prometheus, or of the one at another port."""
        try:
            address = f"http://127.0.0.1:{port or self.ports['prometheus']}/api/v1/{what}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)["data"]
        except HTTPError:  # not ready yet
            return collections.defaultdict(list)

    @contextlib.contextmanager
    def mortal_prometheus(self) -> Generator[tuple[subprocess.Popen[bytes], Path]]:
        """One more, which tells nobody, and a configuration in which it alone is watched."""
        port, directory = free_port(), self.directory / "mortal"
        directory.mkdir()
        settings = yaml.safe_load((self.directory / "prometheus.yml").read_text())
        (directory / "prometheus.yml").write_text(yaml.safe_dump({**settings, "alerting": {}}))
        config = yaml.safe_load(self.config.read_text())
        config["watch"] = {"prometheus": f"http://127.0.0.1:{port}"}
        config["drills"] = [drill for drill in config["drills"] if drill["name"] == "brief"]
        (directory / "stormwatch.yaml").write_text(yaml.safe_dump(config))
        command = [
            program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running(command, log=directory / "log", port=port) as process:
            wait_for(lambda: bool(self.ask("query?query=probe_success==1", port)["result"]), what="its first scrape")
            yield process, directory / "stormwatch.yaml"

    def start_alertmanager(self) -> None:
        """Anew."""
        self._start(
            "alertmanager",
            [
                program("prometheus-alertmanager"),
                f"--config.file={self.directory / 'alertmanager.yml'}",
                f"--storage.path={self.directory / 'am'}",
                f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}",
                "--cluster.listen-address=",
            ],
        )

    def kill(self, name: str) -> None:
        """As the kernel does when there is no memory."""
        self.processes[name].kill()
        self.processes[name].wait(10)

    @property
    def environ(self) -> dict[str, str]:
        """Of the commands that break something."""
        return {**os.environ, "STORMWATCH_STATE": str(self.directory / "state")}

    def drill(
        self,
        *arguments: str,
        meanwhile: Callable[[], None] | None = None,
        at: str = "injected",
        config: Path | None = None,
    ) -> tuple[int, str, str]:
        """Run `stormwatch drill` to its end; `meanwhile` is called when it says that it has come to this step."""
        command: list[str | Path] = ["drill", *arguments, "-c", config or self.config]
        if "--plan" not in arguments:
            command += ["--watch", f"http://127.0.0.1:{self.ports['listen']}"]
        with begun(*command, env=self.environ) as child:
            if meanwhile:
                wait_for(lambda: f" {at} " in child.said or child.poll() is not None, what=at, seconds=100)
                meanwhile()
            done = child.ended(200)
        return done.returncode, done.stdout, done.stderr

    def _stormwatch(self, name: str, *arguments: str | Path) -> None:
        log = self.directory / f"{name}.log"
        self._stack.enter_context(staying(*arguments, "-c", self.config, log=log, port=self.ports[name]))

    def _start(self, name: str, command: Sequence[str | Path]) -> None:
        log = self.directory / f"{name}.log"
        self.processes[name] = self._stack.enter_context(running(command, log=log, port=self.ports[name]))

    def _write(self, receiver: Receiver) -> None:
        rules, shop = self.directory / "rules.yml", self.directory / "shop.yml"
        invoke("rules", "-c", self.config, "-o", rules).check_returncode()
        shop.write_text(yaml.safe_dump(RULES))
        (self.directory / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": {"site": "x"}},
                    "rule_files": [str(rules), str(shop)],
                    "alerting": {"alertmanagers": [_targets(self.ports["alertmanager"])]},
                    "scrape_configs": [
                        {"job_name": "stormwatch", "honor_labels": True, **_targets(self.ports["listen"])}
                    ],
                }
            )
        )
        drill = {"url": f"http://127.0.0.1:{self.ports['receiver']}/"}
        (self.directory / "alertmanager.yml").write_text(
            yaml.safe_dump(
                {
                    "route": {
                        "receiver": "people",
                        "group_by": ["alertname", "probe"],
                        "group_wait": "1s",
                        "group_interval": "2s",
                        "routes": [*self._first, {"receiver": "drill", "continue": True}, {"receiver": "people"}],
                    },
                    "receivers": [
                        {"name": "drill", "webhook_configs": [drill]},
                        {"name": "people", "webhook_configs": [{"url": receiver.url}]},
                        {"name": "nobody"},
                    ],
                }
            )
        )


def _targets(port: int) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    """Everything runs once for all tests of this file."""
    with Receiver() as people, Scene(tmp_path_factory.mktemp("watch"), people).begun() as begun:
        yield begun


def between(span: dict[str, float], seconds: float) -> bool:
    """Whether a measured time lies in its budget."""
    return span["best"] <= seconds <= span["worst"]


@pytest.mark.slow
def test_what_cannot_be_is_refused_before_anything_is_injected(scene: Scene) -> None:
    """Less time than `for` and `group_wait` take; labels that no rule has. Before any alert: no group is there yet."""
    code, _, said = scene.drill("impossible", "unknown")
    assert code == 2
    assert said.splitlines() == [
        "impossible: HighErrorRate: asked 1s, cannot be better than 2.0 s: ask for 9.7 s, or make the configuration faster",
        "impossible: the receiver: asked 1.5s, cannot be better than 3.0 s: ask for 12.7 s, or make the configuration faster",
        (
            f"unknown: HighErrorRate{{severity=ticket}}: no rule of Prometheus at http://127.0.0.1:{scene.ports['prometheus']} "
            "makes it; those of that name have the labels HighErrorRate{severity=page}"
        ),
        "nothing was injected; `stormwatch drill --plan` shows the time budget",
    ]


@pytest.mark.slow
def test_the_budget_brackets_what_is_measured_in_every_drill(scene: Scene) -> None:
    """Ours and another's rule: fired, delivered with its labels, resolved, told so; each within what was computed before."""
    drills = ("ours", "theirs")
    _, planned, said = scene.drill(*drills, "--plan", "--format", "json")
    assert said == ""
    code, told, said = scene.drill(*drills, "--format", "json")
    assert code == 0, said + told
    for plan, report in zip(json.loads(planned), json.loads(told), strict=True):
        seen = report["detection"]
        assert report["verdict"] == "proved"
        assert between(plan["alert"], seen["firing"] - seen["injected"])
        assert between(plan["delivered"], seen["delivered"] - seen["injected"])
        assert between(plan["recovery"], seen["resolved"] - seen["reverted"])
        assert between(plan["cleared"], seen["cleared"] - seen["reverted"])
        assert between(plan["notified"], seen["notified"] - seen["injected"])
        (clause,) = [each for each in report["clauses"] if each["clause"] == "delivered"]
        assert clause["answer"] == "yes"
        delivered = [each for each in seen["observed"]["deliveries"] if not each["resolved"]]
        assert any(each["labels"].get("probe") == "front" and each["receiver"] == "drill" for each in delivered)
        assert all(each["labels"]["site"] == "x" for each in delivered)


@pytest.mark.slow
def test_an_alert_with_other_labels_is_misattributed(scene: Scene) -> None:
    """It fires, and not for the instance that the drill expects: exit code 1."""
    code, told, said = scene.drill("elsewhere", "--format", "json")
    assert code == 1, said
    (report,) = json.loads(told)
    assert report["verdict"] == "misattributed"


@pytest.mark.slow
async def test_an_alert_that_fires_already_is_no_baseline(scene: Scene, tmp_path: Path) -> None:
    """Nothing is injected, and nothing is proved."""
    drill = Drill(
        name="always",
        fault=FaultSpec(kind="tcp-blackhole", target="shop", options=TcpBlackhole()),
        alert=ExpectedAlert(labels={"alertname": "AlwaysOn"}),
    )
    clock = SystemClock()
    async with outside_feed(Watch(prometheus=f"http://127.0.0.1:{scene.ports['prometheus']}"), clock) as feed:
        control = f"http://127.0.0.1:{scene.ports['control']}"
        fault = ProxyFault(drill.fault, control=control, journal=UndoJournal(tmp_path), drill=drill.name, clock=clock)
        report = await run_drill(drill, fault, feed, clock=clock, baseline=Baseline(patience=0.1))
    assert report.verdict is Verdict.INCONCLUSIVE
    (clause,) = report.judgement.clauses
    assert "AlwaysOn{severity=ticket} is firing already" in clause.seen


@pytest.mark.slow
def test_without_alertmanager_nothing_is_injected(scene: Scene) -> None:
    """It is gone before the drill: one line, exit code 3."""
    scene.kill("alertmanager")
    try:
        code, told, said = scene.drill("ours")
    finally:
        scene.start_alertmanager()
    assert (code, told) == (3, "")
    address = f"http://127.0.0.1:{scene.ports['alertmanager']}"
    assert said.splitlines() == [
        f"watch.alertmanager {address}: no Alertmanager answers there (All connection attempts failed)"
    ]


def without_verdict(scene: Scene, ended: tuple[int, str, str], who: str) -> None:
    """Inconclusive, because of somebody who cannot be watched any more; the fault is gone, and nothing is left to undo."""
    code, told, said = ended
    assert code == 3, said
    (report,) = json.loads(told)
    assert report["verdict"] == "inconclusive"
    assert any("cannot be watched" in clause["seen"] and f"{who} at" in clause["seen"] for clause in report["clauses"])
    assert report["detection"]["observed"]["gone"] is True
    with urllib.request.urlopen(f"http://127.0.0.1:{scene.ports['control']}/routes/shop", timeout=5) as route:
        assert json.load(route)["faults"] == []
    assert invoke("undo", env=scene.environ).stdout == "nothing to undo: no fault is recorded\n"


@pytest.mark.slow
def test_an_alertmanager_that_dies_in_the_middle_leaves_no_verdict(scene: Scene) -> None:
    """Killed when the fault is in place: that nobody was told is its end, and says nothing about the alert."""
    try:
        ended = scene.drill("ours", "--format", "json", meanwhile=lambda: scene.kill("alertmanager"))
    finally:
        scene.start_alertmanager()
    without_verdict(scene, ended, "Alertmanager")


@pytest.mark.slow
def test_silence_of_a_prometheus_that_has_just_died_is_no_silence(scene: Scene) -> None:
    """Killed when the fault is taken back: the probe is green before it can be known that nobody has watched since."""
    with scene.mortal_prometheus() as (prometheus, config):
        ended = scene.drill("brief", "--format", "json", meanwhile=prometheus.kill, at="reverting", config=config)
    without_verdict(scene, ended, "Prometheus")


@pytest.mark.slow
def test_a_prometheus_that_dies_in_the_middle_leaves_no_verdict(scene: Scene) -> None:
    """Killed when the fault is in place: inconclusive, exit code 3, said in the verdict, and nothing is left behind.

    The last test of this file: its rebirth takes as long as its discovery of whom it tells.
    """
    ended = scene.drill("ours", "--format", "json", meanwhile=lambda: scene.kill("prometheus"))
    without_verdict(scene, ended, "Prometheus")
