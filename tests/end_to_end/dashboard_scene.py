"""What the dashboards are shown for a test: stormwatch, its proxy, a drill, a Prometheus with our rules, and much to probe."""

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.program import program
from tests.servers.blackbox_targets import Targets
from tests.servers.command import invoke, staying
from tests.servers.dashboard_page import Prometheus
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver
from tests.servers.shop import shop_running

SCRAPE = 2
"""Seconds between scrapes."""
CONFIG = """\
location: test
defaults: {every: 2s, timeout: 1900ms, confirm: {attempts: 1}}
alerts: {webhook: "<receiver>"}
probes:
  - {name: front, kind: http, target: "http://127.0.0.1:<shop-route>/ok", labels: {service: shop}}
  - {name: secure, kind: http, target: "https://localhost:<https>/ok", http: {ca_file: <authority>}, labels: {service: shop}}
  - {name: dead, kind: http, target: "http://127.0.0.1:<closed>/", alert: {severity: page, for: 1s}}
  - {name: gone, kind: journey, target: journeys/test_gone.py::test_gone, every: 12s, timeout: 11s}
  - {name: names, kind: dns, target: full.test, dns: {server: "127.0.0.1:<dns>"}}
  - {name: serial, kind: dns, target: one.test, dns: {type: SOA, server: "127.0.0.1:<dns>"}}
  - {name: agree, kind: dns, target: two.test, dns: {servers: ["127.0.0.1:<dns>", "localhost:<dns>"], agree: true}}
  - {name: handshake, kind: tls, target: "localhost:<https>", tls: {ca_file: <authority>}}
  - {name: files, kind: certificate-file, target: <authority>}
  - {name: banner, kind: tcp, target: "127.0.0.1:<banner>"}
  - {name: health, kind: grpc, target: "127.0.0.1:<grpc>"}
  - {name: loopback, kind: icmp, target: 127.0.0.1}
  - {name: program, kind: exec, target: "true"}
  - name: round
    kind: api
    target: http://127.0.0.1:<http>/
    api: {steps: [{name: look, url: json}, {name: look again, url: ok}]}
  - name: visit
    kind: journey
    target: journeys/test_visit.py::test_visit
    every: 12s
    timeout: 11s
    journey: {base_url: "<shop>"}
objectives:
  - {name: front-availability, probe: front, target: 99.9%, window: 30d, labels: {service: shop}}
  - {name: dead-availability, probe: dead, target: 99%, window: 7d}
proxies:
  control: 127.0.0.1:<control>
  routes:
    - {name: shop, listen: "127.0.0.1:<shop-route>", upstream: "127.0.0.1:<http>", http: true}
drills:
  - name: blackhole
    fault: {kind: tcp-blackhole, target: shop}
    expect:
      probe: {name: front, within: 30s}
      resolves_within: 60s
      # What a loaded machine does to the others is not the question here.
      allow: [front-availability, dead-availability, dead, gone, names, serial, agree, handshake, banner, health, loopback,
              program, secure, round, visit]
"""
JOURNEY = """\
import pytest


@pytest.mark.journey
def test_visit(page, step):
    with step("open"):
        page.goto("/")
    with step("look around"):
        page.evaluate("console.error('seen')")
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """It is running."""

    prometheus: Prometheus
    start: float
    """When the first scrape can have been."""
    listen: str
    """Where `stormwatch run` is scraped."""


@contextlib.contextmanager
def scene(directory: Path) -> Generator[Scene]:
    """Everything has been scraped, alerts fire, and a drill has put a fault in place and taken it back."""
    listen, prometheus, control, route = (free_port() for _ in range(4))
    config = directory / "stormwatch.yaml"
    with ExitStack() as stack:
        targets = stack.enter_context(Targets(directory))
        shop = stack.enter_context(shop_running())
        receiver = stack.enter_context(Receiver())
        targets.ports |= {"control": control, "shop-route": route}
        config.write_text(targets.at(CONFIG).replace("<shop>", shop.url).replace("<receiver>", receiver.url))
        (directory / "journeys").mkdir()
        (directory / "journeys" / "test_visit.py").write_text(JOURNEY)
        (directory / "journeys" / "test_gone.py").write_text("import nothing_that_there_is\n")
        rules = _rules(config, directory)
        (directory / "prometheus.yml").write_text(_prometheus(listen, rules))
        stack.enter_context(staying("proxy", "-c", config, log=directory / "proxy.log", port=control))
        start = time.time()
        stack.enter_context(
            running(
                [program("prometheus"), f"--config.file={directory / 'prometheus.yml'}",
                 f"--storage.tsdb.path={directory / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus}"],
                log=directory / "prometheus.log", port=prometheus,
            )
        )  # fmt: skip
        stack.enter_context(
            staying(
                *("run", "-c", config, "--listen", f"127.0.0.1:{listen}", "--data", directory / "data"),
                log=directory / "stormwatch.log", port=listen,
            )
        )  # fmt: skip
        wait_for(lambda: _ready(prometheus), what="Prometheus to be ready", seconds=120)
        asked = Prometheus(f"http://127.0.0.1:{prometheus}")
        _wait(asked, 'probe_success{probe="front"} == 1', "the first scrape of a probe that is up")
        _wait(asked, "stormwatch_journey_steps_completed > 0", "the journey")
        _drill(config, f"http://127.0.0.1:{listen}")
        _wait(asked, 'ALERTS{alertname="ProbeDown", alertstate="firing"}', "the alert in Prometheus")
        _wait(asked, 'slo:period_error_budget_remaining:ratio{sloth_slo="front-availability"}', "the recorded budget")
        _wait(asked, "stormwatch_notifications_sent_total > 0", "a notification")
        # The broken journey comes every 12 s: its count has to grow between two scrapes for a rate to show it. Seen a step
        # ago it is within the last step that is drawn, too.
        _wait(
            asked,
            f'rate(stormwatch_probe_runs_total{{probe="gone", outcome="broken"}}[8s] offset {SCRAPE}s) > 0',
            "a broken run",
        )
        # An alert is counted at every full quarter of a minute: it has to have fired through one.
        _wait(
            asked, 'count_over_time(ALERTS{alertname="ProbeDown", alertstate="firing"}[5m:15s]) > 0', "a counted alert"
        )
        yield Scene(asked, start, f"127.0.0.1:{listen}")


def _rules(config: Path, directory: Path) -> list[str]:
    files = {"prometheus": directory / "rules.yml", "prober": directory / "prober.yml"}
    for reader, file in files.items():
        done = invoke("rules", "--for", reader, "-c", config, "-o", file)
        assert done.returncode == 0, done.stderr
    # What looks over a month is recorded once a minute, which is too long to wait for here.
    slow = files["prometheus"].read_text()
    assert "interval: 1m" in slow
    files["prometheus"].write_text(slow.replace("interval: 1m", "interval: 1s"))
    return [str(file) for file in files.values()]


def _prometheus(listen: int, rules: list[str]) -> str:
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [
                {
                    "job_name": "stormwatch",
                    "honor_labels": True,
                    "static_configs": [{"targets": [f"127.0.0.1:{listen}"]}],
                }
            ],
        }
    )


def _drill(config: Path, watching: str) -> None:
    done = invoke("drill", "-c", config, "--watch", watching, "--format", "json", timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout[:4000]


def _ready(port: int) -> bool:
    """It listens before it can be asked anything: until then it answers 503."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10):
            return True
    except urllib.error.HTTPError:
        return False


def _wait(prometheus: Prometheus, expression: str, what: str) -> None:
    wait_for(lambda: bool(prometheus.at(expression, time.time())), what=what, seconds=120)
