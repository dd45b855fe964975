"""Who watches the watcher: each link of the real chain is broken by a drill, and what must notice it does.

stormwatch run ◀─ metrics ── Prometheus ── Alertmanager ─┬─ people ──▶ a receiver
                             its Watchdog fires always   └───────────▶ another stormwatch, the dead man's switch
"""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.program import program
from tests.servers.command import invoke
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver

STORMWATCH = Path(sys.executable).with_name("stormwatch")
KEY = "a-key-of-twenty-two-letters-or-more"

WATCHED = """\
probes:
  - {name: front, kind: tcp, target: "127.0.0.1:DEAD", every: 1s, timeout: 300ms, confirm: {attempts: 1}}
"""

SWITCH = """\
probes:
  - name: alert-chain
    kind: heartbeat
    target: chain
    every: 1s
    timeout: 500ms
    confirm: {attempts: 1}
    heartbeat: {key: "${env:SWITCH_KEY}", interval: 3s, grace: 3s}
targets:
  - {name: prometheus, process: {command: "web.listen-address=127.0.0.1:PROMETHEUS"}}
  - {name: alertmanager, process: {command: "web.listen-address=127.0.0.1:ALERTMANAGER"}}
drills:
  - name: prometheus-stopped
    fault: {kind: process-pause, target: prometheus}
    expect: {probe: {name: alert-chain, within: 60s}, resolves_within: 60s}
  - name: alertmanager-stopped
    fault: {kind: process-pause, target: alertmanager}
    expect: {probe: {name: alert-chain, within: 60s}, resolves_within: 60s}
"""

MONITORING = """\
probes:
  - {name: prometheus, kind: http, target: "http://127.0.0.1:PROMETHEUS/-/ready", every: 2s, timeout: 1s,
     confirm: {attempts: 1}}
watch: {prometheus: "http://127.0.0.1:PROMETHEUS"}
proxies:
  control: 127.0.0.1:CONTROL
  routes:
    - {name: metrics, listen: "127.0.0.1:METRICS", upstream: "127.0.0.1:LISTEN"}
    - {name: people, listen: "127.0.0.1:PEOPLE", upstream: "RECEIVER", http: true}
targets:
  - name: prober
    process:
      command: "stormwatch run -c WATCHED "
      start: [PYTHON, STORMWATCH, run, -c, WATCHED, --listen, "127.0.0.1:LISTEN", --data, DATA]
      back: 30s
drills:
  - name: scrape-refused
    fault: {kind: tcp-reset, target: metrics}
    expect: {alert: {labels: {alertname: StormwatchDown}, within: 60s}, resolves_within: 60s, allow: [ProbeDown]}
  - name: exporter-stuck
    fault: {kind: tcp-blackhole, target: metrics}
    expect: {alert: {labels: {alertname: StormwatchDown}, within: 60s}, resolves_within: 60s, allow: [ProbeDown]}
  - name: webhook-refuses
    fault: {kind: http-status, target: people, status: 500}
    expect: {alert: {labels: {alertname: NotificationsFailing}, within: 60s}, resolves_within: 60s}
  - name: clock-off
    fault: {kind: clock-shift, target: prober, by: 1h}
    expect:
      alert: {labels: {alertname: StormwatchClockOff}, within: 60s}
      resolves_within: 60s
      allow: [StormwatchDown, ProbeDown]
"""

RULES = """\
groups:
  - name: impatient
    rules:
      - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
      - {alert: ProbeDown, expr: probe_success == 0, labels: {severity: page}}
      - {alert: StormwatchDown, expr: 'up{job="stormwatch"} == 0', labels: {severity: page}}
      - alert: StormwatchClockOff
        expr: abs(stormwatch_time_seconds - timestamp(stormwatch_time_seconds)) > 10
        labels: {severity: high}
      - alert: NotificationsFailing
        expr: 'sum by (integration) (increase(alertmanager_notification_requests_failed_total[6s])) > 0'
        labels: {severity: high}
"""


def written(text: str, **values: object) -> str:
    """With what stands in capitals replaced."""
    return re.sub(r"\b[A-Z]+\b", lambda word: str(values.get(word[0], word[0])), text)


@contextmanager
def chain(directory: Path, receiver: Receiver) -> Generator[str]:
    """All of it running, and well; the address of the dead man's switch."""
    names = ("LISTEN", "METRICS", "PEOPLE", "CONTROL", "PROMETHEUS", "ALERTMANAGER", "SWITCH", "DEAD")
    ports = {name: free_port() for name in names}
    places = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    switch = f"http://{places['SWITCH']}"
    files = {
        "watched.yaml": written(WATCHED, **ports),
        "switch.yaml": written(SWITCH, **ports),
        "monitoring.yaml": written(
            MONITORING,
            RECEIVER=receiver.url.removeprefix("http://").removesuffix("/hook"),
            PYTHON=sys.executable,
            STORMWATCH=STORMWATCH,
            WATCHED=directory / "watched.yaml",
            DATA=directory / "data",
            **ports,
        ),
        "rules.yml": RULES,
        "prometheus.yml": yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
                "rule_files": ["rules.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [places["ALERTMANAGER"]]}]}]},
                "scrape_configs": [
                    {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}
                    for job, target in (("stormwatch", places["METRICS"]), ("alertmanager", places["ALERTMANAGER"]))
                ],
            }
        ),
        "alertmanager.yml": yaml.safe_dump(
            {
                "route": {
                    "receiver": "people",
                    "group_by": ["alertname"],
                    "group_wait": "0s",
                    "group_interval": "1s",
                    "repeat_interval": "1s",
                    "routes": [{"matchers": ["alertname=Watchdog"], "receiver": "switch"}],
                },
                "receivers": [
                    {"name": "people", "webhook_configs": [{"url": f"http://{places['PEOPLE']}/hook"}]},
                    # Without the end of the alert: a message that the chain is broken is no sign that it is well.
                    {
                        "name": "switch",
                        "webhook_configs": [{"url": f"{switch}/ping/{KEY}/chain", "send_resolved": False}],
                    },
                ],
            }
        ),
    }
    for name, text in files.items():
        (directory / name).write_text(text)
    ours = [sys.executable, STORMWATCH]
    commands: Sequence[tuple[str, Sequence[str | Path], str]] = (
        ("switch", [*ours, "run", "-c", directory / "switch.yaml", "--listen", places["SWITCH"]], "SWITCH"),
        ("watched", [*ours, "run", "-c", directory / "watched.yaml", "--listen", places["LISTEN"]], "LISTEN"),
        ("proxy", [*ours, "proxy", "-c", directory / "monitoring.yaml"], "METRICS"),
        (
            "alertmanager",
            [
                program("prometheus-alertmanager"),
                f"--config.file={directory / 'alertmanager.yml'}",
                f"--storage.path={directory / 'am'}",
                f"--web.listen-address={places['ALERTMANAGER']}",
                "--cluster.listen-address=",
            ],
            "ALERTMANAGER",
        ),
        (
            "prometheus",
            [
                program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address={places['PROMETHEUS']}",
                # An alert that is sent outlives Prometheus by four times this.
                "--rules.alert.resend-delay=1s",
            ],
            "PROMETHEUS",
        ),
    )
    with ExitStack() as stack:
        for name, command, port in commands:
            data = {"switch": ["--data", directory / "switch"], "watched": ["--data", directory / "data"]}
            stack.enter_context(
                running(
                    [*command, *data.get(name, ())],
                    log=directory / f"{name}.log",
                    port=ports[port],
                    environ={"SWITCH_KEY": KEY, "STORMWATCH_STATE": str(directory / f"state-{name}")},
                )
            )
        wait_for(lambda: bool(receiver.alerts("firing", alertname="ProbeDown")), what="a page to arrive", seconds=60)
        try:
            yield switch
        finally:
            end_what_was_started_again(directory / "watched.yaml")


def end_what_was_started_again(config: Path) -> None:
    """The prober that the drill of the clock left running is no child of ours."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(config).encode() in (directory / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(directory.name), signal.SIGTERM)


def drill(directory: Path, config: str, *arguments: str) -> list[dict[str, Any]]:
    """`stormwatch drill` with a configuration: the reports."""
    environ = {**os.environ, "SWITCH_KEY": KEY, "STORMWATCH_STATE": str(directory / "state")}
    done = invoke("drill", "-c", directory / config, "--format", "json", *arguments, env=environ, timeout=100)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def told(reports: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Name and verdict of each, with what was not as it was asked."""
    return [
        (
            report["drill"]["name"],
            report["verdict"]
            + "".join(f"; {each['asked']}: {each['seen']}" for each in report["clauses"] if each["answer"] != "yes"),
        )
        for report in reports
    ]


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, str]]:
    """The directory of the running chain, and the address of the dead man's switch."""
    directory = tmp_path_factory.mktemp("chain")
    with Receiver() as receiver, chain(directory, receiver) as switch:
        yield directory, switch


@pytest.mark.slow
def test_prometheus_says_so_when_it_or_people_cannot_be_told(chained: tuple[Path, str]) -> None:
    """Scrapes that are cut off or hang, a receiver that refuses, a prober whose clock is wrong."""
    directory, _ = chained
    assert told(drill(directory, "monitoring.yaml")) == [
        (name, "proved") for name in ("scrape-refused", "exporter-stuck", "webhook-refuses", "clock-off")
    ]


@pytest.mark.slow
def test_the_dead_mans_switch_hears_nothing_when_prometheus_or_alertmanager_is_stopped(
    chained: tuple[Path, str],
) -> None:
    """Neither of them can tell of itself. The switch turns red, and green again when they go on."""
    directory, switch = chained
    assert told(drill(directory, "switch.yaml", "--watch", switch)) == [
        (name, "proved") for name in ("prometheus-stopped", "alertmanager-stopped")
    ]
