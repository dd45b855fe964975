"""What `stormwatch import blackbox` writes is a configuration of ours that loads, and holds no secret."""

from pathlib import Path

import pytest

from stormwatch.harness.blackbox_import import Jobs, imported, read_jobs
from stormwatch.harness.blackbox_module import read_modules
from stormwatch.harness.config import Config, load
from stormwatch.harness.mistake import ConfigError
from stormwatch.probes.clock import SystemClock
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.run import run_once
from tests.servers import web

MODULES = """\
modules:
  http_2xx: {prober: http, timeout: 4s}
  login:
    prober: http
    timeout: 30s
    http:
      method: POST
      basic_auth: {username: probe, password: topsecret1}
      headers: {X-Api-Key: topsecret2, X-Dollar: "a${b}"}
      fail_if_body_not_matches_regexp: ["^${x"]
  token: {prober: http, http: {bearer_token_file: token}}
  soa: {prober: dns, dns: {query_name: example.org, query_type: SOA, valid_rcodes: [NOERROR]}}
  grpc_tls: {prober: grpc, grpc: {tls: true, metadata: {authorization: [topsecret3]}}}
  assertion: {prober: http, http: {oauth2: {client_id: a, token_url: "http://b/", grant_type: jwt}}}
  revoked: {prober: http, http: {check_revoked: true}}
"""
PROMETHEUS = """\
global: {scrape_interval: 15s, scrape_timeout: 5s}
scrape_configs:
  - {job_name: node, static_configs: [{targets: ["a:9100"]}]}
  - job_name: web
    metrics_path: /probe
    params: {module: [http_2xx]}
    static_configs:
      - {targets: ["https://a.example/", "https://b.example/"], labels: {team: web, phase: one}}
    relabel_configs:
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {source_labels: [__address__], regex: "(.)", target_label: shard}
      - {target_label: __address__, replacement: "127.0.0.1:9115"}
  - job_name: discovered
    metrics_path: /probe
    scrape_interval: 1m
    params: {module: [login]}
    static_configs: [{targets: ["https://c.example/"]}]
    file_sd_configs: [{files: ["*.json"]}]
  - {job_name: gone, metrics_path: /probe, params: {module: [nope]}, static_configs: [{targets: [d]}]}
"""


def config_of(directory: Path, jobs: Jobs) -> tuple[str, Config]:
    """What is written, and what our own reader makes of it."""
    (directory / "blackbox.yml").write_text(MODULES)
    (directory / "token").write_text("t0ken")
    text = imported(read_modules(directory / "blackbox.yml"), jobs)
    path = directory / "stormwatch.yaml"
    path.write_text(text)
    environ = {name: f"value-of-{name}" for name in ("LOGIN_SECRET_1", "LOGIN_SECRET_2", "GRPC_TLS_SECRET_1")}
    return text, load(path, environ=environ)


def test_every_module_becomes_a_probe(tmp_path: Path) -> None:
    """With an example in the place of the target, and a comment where something cannot be carried over."""
    text, config = config_of(tmp_path, Jobs())
    probes = {probe.name: probe for probe in config.probes}
    assert list(probes) == ["http_2xx", "login", "token", "soa", "grpc_tls", "revoked"]
    assert (probes["http_2xx"].timeout, probes["login"].timeout, probes["login"].every) == (4.0, 10.0, 60.0)
    assert (probes["soa"].kind, probes["soa"].target, probes["soa"].options["type"]) == ("dns", "example.org", "SOA")
    assert "# Module http_2xx, of which no target is known: write yours." in text
    assert "# It cannot be carried over: oauth2 by a signed assertion" in text
    assert "# check_revoked is not carried over" in text


def test_secrets_are_referred_to(tmp_path: Path) -> None:
    """Where they came from; what looks like a reference and is none stays what it is."""
    text, config = config_of(tmp_path, Jobs())
    assert "topsecret" not in text
    assert "${file:token}" in text
    assert config.secrets == {
        "t0ken",
        "value-of-LOGIN_SECRET_1",
        "value-of-LOGIN_SECRET_2",
        "value-of-GRPC_TLS_SECRET_1",
    }
    options = next(probe.options for probe in config.probes if probe.name == "login")
    assert options["headers"]["X-Dollar"] == "a${b}"
    assert options["expect"]["body_matches"] == ["^${x"]


def test_targets_come_from_prometheus(tmp_path: Path) -> None:
    """Each with its job, its labels and its rhythm; what is found elsewhere is said."""
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS)
    text, config = config_of(tmp_path, read_jobs(tmp_path / "prometheus.yml"))
    probes = {probe.name: probe for probe in config.probes}
    assert [probe.target for probe in config.probes][:3] == [
        "https://a.example/",
        "https://b.example/",
        "https://c.example/",
    ]
    assert list(probes)[:2] == ["http_2xx", "http_2xx-https-b.example"]
    first, login = probes["http_2xx"], probes["login"]
    assert (first.every, first.timeout, dict(first.labels)) == (15.0, 4.0, {"team": "web"})
    assert (login.every, login.timeout) == (60.0, 5.0)
    assert "# Not carried over: targets of the job discovered that come from file_sd_configs." in text
    assert "# Not carried over: the relabelling of shard in the job web." in text
    assert "# Not carried over: no module is called nope." in text


@pytest.mark.anyio
async def test_what_was_written_behaves_like_the_module(tmp_path: Path) -> None:
    """The same judgement of the same answers."""
    (tmp_path / "blackbox.yml").write_text(
        "modules: {m: {prober: http, http: {valid_status_codes: [404], fail_if_body_matches_regexp: [bad]}}}"
    )
    modules = read_modules(tmp_path / "blackbox.yml")
    for status, body, outcome, reason in (
        (404, b"gone", Outcome.UP, Reason.NONE),
        (404, b"bad", Outcome.DOWN, Reason.ASSERTION),
        (200, b"ok", Outcome.DOWN, Reason.STATUS),
    ):
        async with web.serving(web.answer(body, status=status)) as server, Resources() as resources:
            path = tmp_path / "stormwatch.yaml"
            path.write_text(imported(modules, Jobs()).replace("https://example.org/", server.url))
            (probe,) = load(path, environ={}).probes
            result = await run_once(probe, clock=SystemClock(), resources=resources)
        assert (result.outcome, result.reason) == (outcome, reason), result.message


def test_what_is_no_configuration_of_prometheus(tmp_path: Path) -> None:
    """It is told as any other mistake."""
    (tmp_path / "prometheus.yml").write_text("[]")
    with pytest.raises(ConfigError, match="is not a configuration of Prometheus: there are no scrape_configs"):
        read_jobs(tmp_path / "prometheus.yml")
