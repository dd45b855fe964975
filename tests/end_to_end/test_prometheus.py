"""The whole chain with the real Prometheus and the real Alertmanager: a service dies, a person is paged, it is resolved."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.program import program
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver

CONFIG = """\
location: test
probes:
  - name: front
    kind: http
    target: http://127.0.0.1:{service}/
    every: 1s
    timeout: 300ms
    confirm: {{attempts: 2, after: 100ms}}
    labels: {{service: shop, team: web}}
    runbook: https://runbooks.example/front
objectives:
  - {{name: front-availability, probe: front, target: 99.9%, window: 30d, labels: {{team: web}}}}
"""


@pytest.mark.slow
def test_a_dead_service_pages_through_prometheus_and_alertmanager(tmp_path: Path) -> None:
    """Prometheus scrapes `stormwatch run`, loads our rules, and Alertmanager delivers the page, and later its resolve."""
    service, listen, prometheus, alertmanager = (free_port() for _ in range(4))
    config = tmp_path / "stormwatch.yaml"
    config.write_text(CONFIG.format(service=service))
    rules = tmp_path / "rules.yml"
    done = invoke("rules", "-c", config, "-o", rules)
    assert done.returncode == 0, done.stderr
    subprocess.run([program("promtool"), "check", "rules", rules], check=True, timeout=30)
    serve = [sys.executable, "-m", "http.server", str(service), "--bind", "127.0.0.1", "--directory", tmp_path / "www"]
    (tmp_path / "www").mkdir()

    with Receiver() as receiver:
        (tmp_path / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(rules)],
                    "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
                    "scrape_configs": [
                        {
                            "job_name": "stormwatch",
                            "honor_labels": True,
                            "static_configs": [{"targets": [f"127.0.0.1:{listen}"]}],
                        }
                    ],
                }
            )
        )
        (tmp_path / "alertmanager.yml").write_text(
            yaml.safe_dump(
                {
                    "route": {
                        "receiver": "people",
                        "group_by": ["alertname", "objective", "probe"],
                        "group_wait": "0s",
                        "group_interval": "1s",
                    },
                    "receivers": [
                        {"name": "people", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}
                    ],
                }
            )
        )
        with (
            staying(
                *("run", "-c", config, "--listen", f"127.0.0.1:{listen}", "--data", tmp_path / "data"),
                log=tmp_path / "stormwatch.log",
                port=listen,
            ) as watching,
            running(
                [
                    program("prometheus-alertmanager"),
                    f"--config.file={tmp_path / 'alertmanager.yml'}",
                    f"--storage.path={tmp_path / 'am'}",
                    f"--web.listen-address=127.0.0.1:{alertmanager}",
                    "--cluster.listen-address=",
                ],
                log=tmp_path / "alertmanager.log",
                port=alertmanager,
            ),
            running(
                [
                    program("prometheus"),
                    f"--config.file={tmp_path / 'prometheus.yml'}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{prometheus}",
                ],
                log=tmp_path / "prometheus.log",
                port=prometheus,
            ),
        ):
            with running(serve, log=tmp_path / "service.log", port=service):

                def is_up() -> bool:
                    with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=5) as answer:
                        return any(
                            line.startswith("probe_success{") and line.endswith(" 1")
                            for line in answer.read().decode().splitlines()
                        )

                wait_for(is_up, what="the probe to be up")
                with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=5) as answer:
                    accepted = subprocess.run(
                        [program("promtool"), "check", "metrics"],
                        input=answer.read(),
                        capture_output=True,
                        timeout=30,
                        check=False,
                    )
                assert (accepted.returncode, accepted.stdout, accepted.stderr) == (0, b"", b"")
                assert receiver.alerts("firing") == []

            # The service is dead now: its block was left.
            wait_for(
                lambda: bool(receiver.alerts("firing", alertname="ProbeDown", probe="front", severity="page")),
                what="the page that the probe is down",
                seconds=40,
            )
            wait_for(
                lambda: bool(receiver.alerts("firing", alertname="ErrorBudgetBurn", objective="front-availability")),
                what="the page that the budget burns",
                seconds=40,
            )
            for origin in (f"--from=http://127.0.0.1:{listen}", f"--prometheus=http://127.0.0.1:{prometheus}"):
                gate = invoke("slo", "gate", origin, "--match", "team=web")
                assert (gate.returncode, gate.stderr) == (1, "")
                assert "✗ the gate is closed for front-availability" in gate.stdout
                assert "burns its budget so fast that somebody is being paged" in gate.stdout
            _, page = receiver.alerts("firing", alertname="ProbeDown", probe="front")[0]
            assert page["labels"]["team"] == "web"
            assert page["annotations"]["runbook"] == "https://runbooks.example/front"

            with running(serve, log=tmp_path / "service.log", port=service):
                wait_for(
                    lambda: bool(receiver.alerts("resolved", alertname="ProbeDown", probe="front")),
                    what="the resolve",
                    seconds=60,
                )
        assert watching.returncode == 0
