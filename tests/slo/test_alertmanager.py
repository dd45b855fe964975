"""The real amtool accepts the configuration and says who hears of what; the real Alertmanager holds back what is explained."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.slo.alert import Severity
from stormwatch.slo.alertmanager import Receiver, render_alertmanager
from stormwatch.slo.alertmanager_routing import receivers_for
from stormwatch.slo.identity import labels_of
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.prober import ALERTS
from tests.program import program
from tests.servers.process import free_port, running, wait_for
from tests.slo.story import DAY, objective, probe

HOOK = "http://127.0.0.1:9"


def hook(name: str, **more: Any) -> Receiver:
    """A receiver with an address of its own."""
    return Receiver(name=name, settings={"webhook_configs": [{"url": f"{HOOK}/{name}", "send_resolved": True}]}, **more)


EACH = [hook(severity.value, severities=frozenset({severity})) for severity in Severity]
DEPENDANTS = [
    probe("dns"),
    probe("front.eu", depends_on=("dns",)),
    probe("frontxeu"),
    probe("api", depends_on=("dns",)),
    probe("cart", depends_on=("api",)),
]
OURS = [
    labels_of(rule)
    for rule in (
        *rules_for_objective(objective(), [probe()]),
        *rules_for_probe(probe(), expiry={Severity.PAGE: 3.0 * DAY, Severity.TICKET: 21.0 * DAY}),
    )
] + [{"alertname": alert.name, "severity": alert.severity, **alert.labels} for alert in ALERTS]


def amtool(*arguments: str | Path) -> str:
    """What it prints; it has to accept what it is asked."""
    done = subprocess.run([program("amtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("watchdog", ["", f"{HOOK}/dead-man"])
def test_each_of_our_alerts_goes_where_its_severity_says(watchdog: str, tmp_path: Path) -> None:
    """And the one that always fires to nobody but the dead man's switch."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(render_alertmanager(EACH, probes=DEPENDANTS, watchdog=watchdog))
    amtool("check-config", path)

    for labels in OURS:
        said = amtool(
            "config", "routes", "test", f"--config.file={path}", *(f"{name}={value}" for name, value in labels.items())
        )
        wanted = "watchdog" if labels["alertname"] == "Watchdog" else labels["severity"]
        assert said.split() == [wanted], labels


def routed(path: Path, **labels: str) -> list[str]:
    """Who hears of an alert with these labels."""
    said = amtool(
        "config", "routes", "test", f"--config.file={path}", *(f"{name}={value}" for name, value in labels.items())
    )
    return said.strip().split(",")


TEAMS = [
    hook("oncall", severities=frozenset({Severity.PAGE, Severity.HIGH})),
    hook("web", match={"team": "web"}),
    hook("db-tickets", match={"team": 'd"b\\'}, severities=frozenset({Severity.TICKET}), hours="day"),
]
DAY_HOURS = {"day": [{"weekdays": ["monday"], "times": [{"start_time": "09:00", "end_time": "17:00"}]}]}


@pytest.mark.parametrize(
    ("severity", "team", "heard"),
    [
        ("page", "web", ["oncall", "web"]),
        ("high", "web", ["oncall", "web"]),
        ("ticket", "web", ["web"]),
        ("info", "web", ["web"]),
        ("page", 'd"b\\', ["oncall"]),
        ("ticket", 'd"b\\', ["db-tickets"]),
        ("info", 'd"b\\', ["nobody"]),
        ("page", "", ["oncall"]),
        ("ticket", "", ["nobody"]),
        ("ticket", "webb", ["nobody"]),
        ("critical", "other", ["nobody"]),
    ],
)
def test_every_channel_that_wants_an_alert_hears_of_it(
    severity: str, team: str, heard: list[str], tmp_path: Path
) -> None:
    """As in process: by severity and labels; the real amtool says so, and we say the same."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(render_alertmanager(TEAMS, intervals=DAY_HOURS))
    amtool("check-config", path)
    labels = {"alertname": "X", "severity": severity, **({"team": team} if team else {})}

    said = amtool(
        "config", "routes", "test", f"--config.file={path}", *(f"{n}={json.dumps(v)}" for n, v in labels.items())
    )

    assert said.strip().split(",") == heard
    assert ([each.name for each in TEAMS if each.hears(labels)] or ["nobody"]) == heard


TREE = """\
receiver: root
routes:
  - {matchers: ['alertname="Watchdog"'], receiver: dead-man}
  - match: {team: web}
    receiver: web
    continue: true
    routes:
      - {match_re: {severity: "page|high"}, receiver: web-page}
      - {matchers: ['env!~"prod|stage"'], receiver: web-other, continue: true}
      - {matchers: ['env!=""', 'severity=ticket'], group_wait: 1s}
  - {matchers: ['team=~"we.*"', 'severity!="info"'], receiver: by-regex}
  - {matchers: ['note="a \\"b\\" \\\\ c"'], receiver: quoted}
receivers:
  - name: root
  - name: dead-man
  - name: web
  - name: web-page
  - name: web-other
  - name: by-regex
  - name: quoted
"""


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "Watchdog", "team": "web"},
        {"team": "web", "severity": "page"},
        {"team": "web", "severity": "pages"},
        {"team": "web", "severity": "ticket", "env": "prod"},
        {"team": "web", "severity": "ticket", "env": "production"},
        {"team": "web", "severity": "info", "env": "stage"},
        {"team": "webb", "severity": "ticket"},
        {"team": "webb", "severity": "info"},
        {"team": "x", "note": 'a "b" \\ c'},
        {"team": "x"},
    ],
)
def test_we_know_whom_an_alertmanager_tells(labels: dict[str, str], tmp_path: Path) -> None:
    """The real amtool says the same of a tree with everything in it."""
    document = yaml.safe_load(TREE)
    path = tmp_path / "alertmanager.yml"
    route = {name: value for name, value in document.items() if name != "receivers"}
    path.write_text(yaml.safe_dump({"route": route, "receivers": document["receivers"]}))

    said = amtool(
        "config", "routes", "test", f"--config.file={path}", *(f"{n}={json.dumps(v)}" for n, v in labels.items())
    )

    assert receivers_for(route, labels) == said.strip().split(",")


def test_who_hears_everything_hears_also_what_is_not_ours(tmp_path: Path) -> None:
    """Else such an alert would reach nobody."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(render_alertmanager([*TEAMS, hook("all")], intervals=DAY_HOURS))

    assert routed(path, alertname="NodeDown", severity="critical") == ["all"]


def test_only_what_can_wait_waits_for_its_hours() -> None:
    """A page at night is told at night, by a channel with hours, too."""
    config = yaml.safe_load(render_alertmanager([hook("web", hours="day")], intervals=DAY_HOURS))

    assert {each["matchers"][0]: each.get("active_time_intervals") for each in config["route"]["routes"]} == {
        'alertname="Watchdog"': None,
        'severity="page"': None,
        'severity="high"': None,
        'severity="ticket"': ["day"],
        'severity="info"': ["day"],
    }


def test_the_lesser_the_alert_the_longer_it_waits() -> None:
    """A page waits for nothing."""
    config = yaml.safe_load(render_alertmanager(EACH))

    waits = {route["matchers"][0]: route["group_wait"] for route in config["route"]["routes"]}
    assert waits == {
        'alertname="Watchdog"': "0s",
        'severity="page"': "0s",
        'severity="high"': "30s",
        'severity="ticket"': "2m",
        'severity="info"': "5m",
    }


def test_alerts_that_nobody_would_hear_are_refused() -> None:
    """A configuration without an address is a mistake."""
    with pytest.raises(ValueError, match="nobody would hear"):
        render_alertmanager([])


def test_the_real_alertmanager_holds_back_what_another_alert_explains(tmp_path: Path) -> None:
    """By dependency and by severity; what has nothing to do with it is told."""
    port = free_port()
    (tmp_path / "alertmanager.yml").write_text(render_alertmanager(EACH, probes=DEPENDANTS))
    down = {"alertname": "ProbeDown", "severity": "page"}
    burn = {"alertname": "ErrorBudgetBurn", "objective": "shop"}
    alerts: list[tuple[dict[str, str], str]] = [
        ({**down, "probe": "dns"}, "active"),
        ({**down, "probe": "front.eu"}, "suppressed"),
        ({"alertname": "ProbeNoEvidence", "severity": "ticket", "probe": "front.eu"}, "suppressed"),
        ({"alertname": "CertificateExpiring", "severity": "ticket", "probe": "front.eu"}, "active"),
        ({**down, "probe": "frontxeu"}, "active"),
        ({**down, "probe": "cart"}, "suppressed"),  # by dns, though nothing was told of api between them
        ({**burn, "severity": "page"}, "active"),
        ({**burn, "severity": "ticket"}, "suppressed"),
        ({**burn, "severity": "ticket", "objective": "other"}, "active"),
        ({"alertname": "ErrorBudgetLow", "severity": "info", "objective": "shop"}, "suppressed"),
    ]
    with running(
        [
            program("prometheus-alertmanager"),
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        log=tmp_path / "alertmanager.log",
        port=port,
    ):
        address = f"http://127.0.0.1:{port}/api/v2/alerts"
        body = json.dumps([{"labels": labels} for labels, _ in alerts]).encode()
        request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

        def states() -> list[Any]:
            with urllib.request.urlopen(address, timeout=10) as answer:
                found = {frozenset(each["labels"].items()): each["status"]["state"] for each in json.load(answer)}
            return [found.get(frozenset(labels.items())) for labels, _ in alerts]

        wait_for(lambda: states() == [state for _, state in alerts], what="the right alerts to be held back")
