"""`stormwatch run --blackbox` as a process: alone, beside a configuration of ours, and with what dashboards read."""

import json
import signal
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest
import yaml

from stormwatch.harness.catalog import KINDS
from tests.servers.blackbox_targets import Targets
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, wait_for

MODULES = """\
modules:
  http_2xx: {{prober: http, timeout: 2s, http: {{tls_config: {{ca_file: {authority}}}}}}}
  dns: {{prober: dns, timeout: 2s, dns: {{query_name: one.test, query_type: A}}}}
  tcp: {{prober: tcp, timeout: 2s}}
  icmp: {{prober: icmp, timeout: 2s}}
"""
DASHBOARD = {
    "http_2xx": [
        "probe_http_duration_seconds{phase=",
        "probe_http_version ",
        "probe_http_ssl 1",
        "probe_http_status_code 200",
        "probe_http_redirects ",
        "probe_ssl_earliest_cert_expiry ",
        "probe_tls_version_info{version=",
        "probe_dns_lookup_time_seconds ",
    ],
    "dns": ["probe_dns_lookup_time_seconds ", "probe_dns_duration_seconds{phase="],
    "tcp": ["probe_dns_lookup_time_seconds "],
    "icmp": ["probe_icmp_duration_seconds{phase=", "probe_dns_lookup_time_seconds "],
}
"""By module: what the dashboards and alerts of blackbox-exporter-mixin read, besides what every run has."""
EVERY_RUN = ["probe_success 1", "probe_duration_seconds "]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Generator[Targets]:
    """Something to probe."""
    with Targets(tmp_path_factory.mktemp("targets")) as served:
        yield served


def get(port: int, path: str) -> str:
    """What an address answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_it_serves_alone_and_reloads_on_sighup(tmp_path: Path, targets: Targets) -> None:
    """Everything that the mixin reads is there; SIGHUP takes up a new file, and keeps the old one when it is wrong."""
    modules, port = tmp_path / "blackbox.yml", free_port()
    modules.write_text(MODULES.format(authority=targets.files["authority"]))
    command = ["run", "--blackbox", modules, "--listen", f"127.0.0.1:{port}", "--probe-allow=127.0.0.0/8"]
    with staying(*command, log=tmp_path / "log", port=port) as process:
        asked = {
            "http_2xx": targets.at("https://127.0.0.1:<https>/ok"),
            "dns": targets.at("127.0.0.1:<dns>"),
            "tcp": targets.at("127.0.0.1:<banner>"),
            "icmp": "127.0.0.1",
        }
        for module, target in asked.items():
            if module == "icmp" and module not in KINDS:
                continue
            said = get(port, f"/probe?module={module}&target={target}")
            for series in (*EVERY_RUN, *DASHBOARD[module]):
                assert f"\n{series}" in said, said

        def modules_there() -> list[str]:
            return list(yaml.safe_load(get(port, "/config"))["modules"])

        modules.write_text("modules: {other: {prober: tcp}}")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: modules_there() == ["other"], what="the new modules")
        modules.write_text("modules: {other: {prober: pct}}")
        process.send_signal(signal.SIGHUP)
        failed = "\nblackbox_exporter_config_last_reload_successful 0\n"
        wait_for(lambda: failed in get(port, "/metrics"), what="the reload to fail")
        assert modules_there() == ["other"]
    assert process.returncode == 0
    assert "the modules stay what they were" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_it_serves_beside_a_configuration_of_ours(tmp_path: Path, targets: Targets) -> None:
    """One process: the service's pages and metrics, `/probe`, and a page of its runs."""
    modules, config, port = tmp_path / "blackbox.yml", tmp_path / "stormwatch.yaml", free_port()
    modules.write_text(MODULES.format(authority=targets.files["authority"]))
    config.write_text(
        targets.at(
            "probes: [{name: front, kind: http, target: 'http://127.0.0.1:<http>/ok', every: 1s, timeout: 300ms, confirm: {attempts: 1}}]"
        )
    )
    command = ["run", "-c", config, "--blackbox", modules, "--listen", f"127.0.0.1:{port}"]
    with staying(*command, "--data", tmp_path / "data", log=tmp_path / "log", port=port) as process:
        refused = get(port, targets.at("/probe?target=http://127.0.0.1:<http>/ok"))
        assert '\nstormwatch_probe_outcome{outcome="broken",reason="policy"} 1\n' in refused
        wait_for(lambda: 'probe_success{instance="' in get(port, "/metrics"), what="the scheduled probe")
        own = get(port, "/metrics")
        assert "\nstormwatch_blackbox_queue_wait_seconds_count 1\n" in own
        assert "\nblackbox_module_unknown_total 0\n" in own
        assert 'href="logs?id=1"' in get(port, "/blackbox")
        assert list(yaml.safe_load(get(port, "/blackbox/config"))["modules"]) == ["http_2xx", "dns", "tcp", "icmp"]
        assert json.loads(get(port, "/config"))["probes"][0]["name"] == "front"
    assert process.returncode == 0


def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """With exit code 2 and the line, by `run` as by `validate`."""
    modules = tmp_path / "blackbox.yml"
    modules.write_text("modules:\n  m:\n    prober: http\n    http: {metod: GET}\n")
    for command in (["run"], ["validate"]):
        ended = invoke(*command, "--blackbox", modules)
        said = f"{modules}:4: modules.m.http.metod: unknown key; did you mean method?\n"
        assert (ended.returncode, ended.stderr) == (2, said)
