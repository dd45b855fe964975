"""What a valid configuration becomes: frozen values, complete, with the defaults where nothing was written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.drill import ExpectedAlert, ExpectedProbe
from stormwatch.chaos.tcp_options import TcpLatency
from stormwatch.harness.config import Config, ConfigError, effective, load
from stormwatch.probes.options import File
from stormwatch.probes.probe import Confirm, Kind
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds
from stormwatch.probes.watch import Watch
from stormwatch.slo.identity import labels_of

ROOT = Path(__file__).parents[2]
EXAMPLES = [ROOT / "config/starter.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class PingExpectation:
    """Nested options."""

    slower_than: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOptions:
    """Options with one that must be given, free values, a file, and nested ones."""

    community: str
    """Required."""
    wanted: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    ca_file: File = ""
    expect: PingExpectation = field(default_factory=PingExpectation)


@dataclass(frozen=True, slots=True)
class PingCheck:
    """Keeps what it was built from."""

    target: str
    options: PingOptions

    async def __call__(self, watch: Watch) -> None:
        """See nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """None."""


PING = Kind(name="ping", options=PingOptions, build=PingCheck)
SCRIPT: Kind[Any] = Kind(name="script", options=FileOptions, build=PingCheck, target_is_file=True)


def read(path: Path, text: str, **environ: str) -> Config:
    """Load a text as a file in a directory, with the small kinds of this test."""
    path = path / "stormwatch.yaml"
    path.write_text(text)
    return load(path, environ=environ, kinds={"ping": PING, "script": SCRIPT})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_load(path: Path) -> None:
    """What we hand out is valid, and what is in force can be shown as JSON."""
    config = load(path, environ={"ORDERS_TOKEN": "sesame"})

    assert config.probes
    assert "sesame" not in json.dumps(effective(config))


def test_what_is_not_written_has_a_default(tmp_path: Path) -> None:
    """The least configuration is one probe."""
    config = read(tmp_path, "probes: [{name: front, kind: ping, target: x, ping: {community: c}}]\n")

    (probe,) = config.probes
    assert (30.0, 5.0, Confirm(attempts=2, after=1.0)) == (probe.every, probe.timeout, probe.confirm)
    assert probe.location == config.location == "local"
    assert {"ProbeDown", "ProbeNoEvidence"} == {rule.alertname for rule in config.rules}
    assert {"page", "ticket"} == {rule.severity.value for rule in config.rules}
    assert (config.objectives, config.drills, config.maintenance, config.alerts.webhook) == ((), (), (), None)
    assert config.proxies.control == "127.0.0.1:8474"


def test_a_probe_overrides_the_defaults_key_by_key(tmp_path: Path) -> None:
    """`confirm` is one thing: it is replaced as a whole, with its own defaults."""
    config = read(
        tmp_path,
        "location: fra1\n"
        "defaults: {every: 1m, timeout: 9s, confirm: {attempts: 3, after: 2s}}\n"
        "probes:\n"
        "  - {name: a, kind: ping, target: x, ping: {community: c}}\n"
        "  - {name: b, kind: ping, target: x, every: 90s, confirm: {attempts: 1}, ping: {community: c}}\n"
        "  - {name: c, kind: ping, target: x, confirm: {after: 500ms}, ping: {community: c}}\n",
    )

    assert [(60.0, 9.0, Confirm(3, 2.0)), (90.0, 9.0, Confirm(1, 0.0)), (60.0, 9.0, Confirm(2, 0.5))] == [
        (probe.every, probe.timeout, probe.confirm) for probe in config.probes
    ]
    assert {"fra1"} == {probe.location for probe in config.probes}


def test_every_part_of_a_probe_arrives(tmp_path: Path) -> None:
    """Labels, links, dependencies and the settings of its alert."""
    config = read(
        tmp_path,
        "probes:\n"
        "  - {name: dns, kind: ping, target: x, ping: {community: c}}\n"
        "  - name: front\n"
        "    kind: ping\n"
        "    target: shop.example\n"
        "    depends_on: [dns]\n"
        "    labels: {service: shop, country: no}\n"
        "    runbook: https://runbooks.example/front\n"
        "    dashboard: https://grafana.example/d/1\n"
        "    alert: {severity: ticket, for: 1m}\n"
        "    ping: {community: public, expect: {slower_than: 800ms}, wanted: {deep: [1, null]}}\n",
    )

    probe = config.probes[1]
    assert probe.labels == {"service": "shop", "country": "no"}
    assert probe.depends_on == ("dns",)
    assert (probe.runbook, probe.dashboard) == ("https://runbooks.example/front", "https://grafana.example/d/1")
    assert isinstance(probe.check, PingCheck)
    assert (
        probe.check.target,
        probe.check.options.expect.slower_than,
        probe.check.options.wanted,
    ) == ("shop.example", 0.8, {"deep": [1, None]})
    (down,) = [
        rule for rule in config.rules if labels_of(rule).get("probe") == "front" and rule.alertname == "ProbeDown"
    ]
    assert (down.severity.value, down.lasting, down.muted_by) == ("ticket", 60.0, ("dns",))


def test_a_probe_can_be_without_an_alert_of_its_own(tmp_path: Path) -> None:
    """`severity: none` leaves ProbeDown out; that it gives no evidence is told all the same."""
    config = read(
        tmp_path, "probes: [{name: a, kind: ping, target: x, alert: {severity: none}, ping: {community: c}}]\n"
    )

    assert [rule.alertname for rule in config.rules] == ["ProbeNoEvidence"]


def test_objectives_are_exact_and_find_their_probes(tmp_path: Path) -> None:
    """By name or by labels; kind and location count as labels."""
    config = read(
        tmp_path,
        "location: fra1\n"
        "probes:\n"
        "  - {name: a, kind: ping, target: x, labels: {service: shop}, ping: {community: c}}\n"
        "  - {name: b, kind: ping, target: x, labels: {service: shop, tier: top}, ping: {community: c}}\n"
        "  - {name: c, kind: script, target: x}\n"
        "objectives:\n"
        "  - {name: one, probe: a, target: 99.9%, window: 30d, slower_than: 500ms, policy: fast-slow, labels: {team: web}}\n"
        "  - {name: shop, match: {service: shop}, target: 99.95%}\n"
        "  - {name: pings, match: {kind: ping, location: fra1}, target: 99%, window: 7d}\n",
    )

    one, shop, pings = config.objectives
    assert (Fraction(999, 1000), 30 * 86400.0, 0.5, ("a",)) == (one.target, one.window, one.slower_than, one.probes)
    assert (Fraction(9995, 10000), 30 * 86400.0, ("a", "b")) == (shop.target, shop.window, shop.probes)
    assert (pings.probes, pings.window) == (("a", "b"), 7 * 86400.0)
    assert config.policies == {"one": "fast-slow", "shop": "workbook", "pings": "workbook"}
    assert {"page", "ticket", "info"} == {
        rule.severity.value for rule in config.rules if labels_of(rule).get("objective") == "one"
    }


def test_drills_become_values_of_chaos(tmp_path: Path) -> None:
    """Fault options stand beside kind and target; an alert is named by its objective or its probe."""
    config = read(
        tmp_path,
        "probes:\n"
        "  - {name: front, kind: ping, target: x, every: 15s, ping: {community: c}}\n"
        "objectives: [{name: front-fast, probe: front, target: 99.9%}]\n"
        "proxies:\n"
        "  control: 127.0.0.1:9999\n"
        "  routes: [{name: payments, listen: '127.0.0.1:0', upstream: '127.0.0.1:1', http: true}]\n"
        "drills:\n"
        "  - name: slow\n"
        "    fault: {kind: tcp-latency, target: payments, delay: 2s, jitter: 100ms}\n"
        "    expect:\n"
        "      probe: {name: front, reason: timeout, within: 60s}\n"
        "      alert: {objective: front-fast, severity: page, within: 90s, labels: {objective: front-fast}}\n"
        "      resolves_within: 5m\n"
        "      allow: [front]\n"
        "  - name: stalled\n"
        "    fault: {kind: tcp-blackhole, target: payments}\n"
        "    expect: {alert: {probe: front}}\n",
    )

    slow, stalled = config.drills
    assert ("tcp-latency", "payments", TcpLatency(delay=2.0, jitter=0.1)) == (
        slow.fault.kind,
        slow.fault.target,
        slow.fault.options,
    )
    assert slow.probe == ExpectedProbe(name="front", reason=Reason.TIMEOUT, within=60.0)
    assert slow.alert == ExpectedAlert(
        labels={"alertname": "ErrorBudgetBurn", "objective": "front-fast", "severity": "page"}, within=90.0
    )
    assert (slow.resolves_within, slow.allow) == (300.0, ("front",))
    assert stalled.alert == ExpectedAlert(labels={"alertname": "ProbeDown", "probe": "front", "severity": "page"})
    assert (config.proxies.control, [route.name for route in config.proxies.routes]) == ("127.0.0.1:9999", ["payments"])


def test_files_are_relative_to_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run from; what is shown stays what was written."""
    (tmp_path / "elsewhere").mkdir()
    text = (
        "probes:\n"
        "  - {name: a, kind: ping, target: x, ping: {community: c, ca_file: ca.pem}}\n"
        "  - {name: b, kind: script, target: 'scripts/test_b.py::test_b'}\n"
    )
    (tmp_path / "stormwatch.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")

    config = load("../stormwatch.yaml", environ={}, kinds={"ping": PING, "script": SCRIPT})

    ping, script = (probe.check for probe in config.probes)
    assert isinstance(ping, PingCheck)
    assert isinstance(script, PingCheck)
    assert Path(ping.options.ca_file).resolve() == tmp_path / "ca.pem"
    assert Path(script.target.partition("::")[0]).resolve() == tmp_path / "scripts/test_b.py"
    assert script.target.endswith("::test_b")
    assert config.probes[1].target == "scripts/test_b.py::test_b"


def test_an_option_that_must_be_given_is_missed(tmp_path: Path) -> None:
    """Also when the whole block of options is not there; and a kind without options takes none."""
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            "probes:\n"
            "  - {name: a, kind: ping, target: x}\n"
            "  - {name: b, kind: script, target: x, script: {fast: true}}\n",
        )

    assert [f"{each.line}: {each.path}: {each.sentence}" for each in caught.value.mistakes] == [
        "2: probes[a].ping: community is missing; add `community:`",
        "3: probes[b].script.fast: unknown key; nothing is known here",
    ]


def test_anchors_and_merge_keys_are_read(tmp_path: Path) -> None:
    """What stands beside a merged mapping wins; a mistake in a merged mapping is told where it stands."""
    text = (
        "probes:\n"
        "  - &front {name: front, kind: ping, target: x, every: 15s, ping: &options {community: c}}\n"
        "  - {<<: *front, name: other, ping: *options}\n"
    )
    front, other = read(tmp_path, text).probes

    assert (front.every, front.target, "other") == (other.every, other.target, other.name)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text.replace("15s", "15"))
    assert [mistake.line for mistake in caught.value.mistakes] == [2, 2]


def test_plain_words_and_numbers_mean_what_people_think(tmp_path: Path) -> None:
    """YAML 1.2: `no`, `on` and `2024-01-01` are text, `010` is ten, and only true and false are booleans."""
    config = read(
        tmp_path,
        "probes:\n"
        "  - name: a\n"
        "    kind: ping\n"
        "    target: x\n"
        "    labels: {country: no, state: on, since: 2024-01-01}\n"
        "    ping: {community: off, wanted: [010, 0x10, 1e3, yes, true, ~, 1:30, .5]}\n",
    )

    check = config.probes[0].check
    assert isinstance(check, PingCheck)
    assert config.probes[0].labels == {"country": "no", "state": "on", "since": "2024-01-01"}
    assert check.options.community == "off"
    assert check.options.wanted == [10, 16, 1000.0, "yes", True, None, "1:30", 0.5]


def test_five_thousand_probes_load_in_seconds(tmp_path: Path) -> None:
    """A generous bound for a busy machine: measured, it is under two seconds on an idle one."""
    import time

    probes = "".join(
        f"  - {{name: p{n}, kind: ping, target: x, labels: {{service: s{n % 50}}}, ping: {{community: c}}}}\n"
        for n in range(5000)
    )
    began = time.process_time()
    config = read(tmp_path, f"probes:\n{probes}")

    assert len(config.probes) == 5000
    assert time.process_time() - began < 20
