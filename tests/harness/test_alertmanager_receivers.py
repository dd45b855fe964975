"""The channels of `alerts.notify` as receivers that the real Alertmanager reads and tells; secrets only by their files."""

import json
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from stormwatch.exporters.hours import DAYS
from stormwatch.exporters.notification import Notification
from stormwatch.harness.alertmanager_receivers import receivers_of
from stormwatch.harness.config import load
from stormwatch.harness.notifying import lines_of
from tests.program import program
from tests.servers.command import invoke
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver

SECRET = "s3cr3t-of-nobody"
CONFIG = """\
probes:
  - {name: front, kind: tcp, target: "127.0.0.1:9", labels: {team: web}}
objectives:
  - {name: front-availability, probe: front, target: 99.9%, labels: {team: web}}
alerts:
  notify:
    - {name: oncall, to: pagerduty, routing_key: "${env:A_SECRET}", severities: [page, high], fallback: mail}
    - {name: chat, to: slack, token: "${env:A_SECRET}", channel: C0123456789, severities: [ticket]}
    - {name: web-chat, to: slack, webhook: "https://hooks.example/${env:A_SECRET}", match: {team: web}}
    - name: mail
      to: email
      server: mail.example.com
      username: stormwatch
      password: ${env:A_SECRET}
      sender: stormwatch@example.com
      recipients: [one@example.com, two@example.com]
      severities: [ticket, info]
      match: {team: db}
      hours: {days: [monday, friday], begin: "08:30", end: "24:00", timezone: Europe/Berlin}
    - {name: hook, to: webhook, url: "http://127.0.0.1:9/hook", secret: "${env:A_SECRET}", severities: [page]}
    - {name: last, to: webhook, url: "http://127.0.0.1:9/last", only_fallback: true}
"""


def rules(directory: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """`stormwatch rules --for alertmanager`."""
    environ = {"PATH": "/usr/bin:/bin", "A_SECRET": SECRET}
    return invoke("rules", "--for", "alertmanager", *more, cwd=directory, env=environ)


def test_every_channel_becomes_a_receiver_and_no_secret_is_written(tmp_path: Path) -> None:
    """The real amtool reads it; what has to be put where, and what is left out, is said."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)

    done = rules(tmp_path, "--secrets", str(tmp_path / "secrets"))

    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    (tmp_path / "alertmanager.yml").write_text(done.stdout)
    checked = subprocess.run(
        [program("amtool"), "check-config", tmp_path / "alertmanager.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    config = yaml.safe_load(done.stdout)
    receivers = {each["name"]: each for each in config["receivers"]}
    assert set(receivers) == {"oncall", "chat", "web-chat", "mail", "hook", "nobody", "watchdog"}
    directory = tmp_path / "secrets"
    assert receivers["oncall"]["pagerduty_configs"][0]["routing_key_file"] == f"{directory}/oncall.routing_key"
    (chat,) = receivers["chat"]["slack_configs"]
    assert chat["http_config"]["authorization"]["credentials_file"] == f"{directory}/chat.token"
    assert receivers["web-chat"]["slack_configs"][0]["api_url_file"] == f"{directory}/web-chat.webhook"
    assert receivers["mail"]["email_configs"][0]["auth_password_file"] == f"{directory}/mail.password"
    said = done.stderr.splitlines()
    for file, key in (
        ("oncall.routing_key", "oncall].routing_key"),
        ("chat.token", "chat].token"),
        ("web-chat.webhook", "web-chat].webhook"),
        ("mail.password", "mail].password"),
    ):
        assert (
            f"{directory}/{file} has to hold what alerts.notify[{key} stands for, readable by Alertmanager only" in said
        )
    assert "left out: the fallback of oncall, mail: Alertmanager knows no fallback" in said
    assert "left out: the signature of hook: Alertmanager does not sign its requests" in said
    assert "left out: last is told by fallback only, which Alertmanager does not know" in said
    assert config["time_intervals"] == [
        {
            "name": "hours-of-mail",
            "time_intervals": [
                {
                    "times": [{"start_time": "08:30", "end_time": "24:00"}],
                    "weekdays": ["monday", "friday"],
                    "location": "Europe/Berlin",
                }
            ],
        }
    ]


def test_alerts_that_nobody_hears_of_are_named(tmp_path: Path) -> None:
    """Those about ourselves have no team."""
    (tmp_path / "stormwatch.yaml").write_text(
        CONFIG[: CONFIG.index("    - {name: oncall")]
        + '    - {name: web, to: webhook, url: "http://127.0.0.1:9/", match: {team: web}}\n'
    )

    done = rules(tmp_path)

    assert done.returncode == 0
    said = done.stderr.splitlines()
    assert said[0] == "nobody hears of alertname=StormwatchDown, severity=page; add a channel that is told of it"
    assert said[-1].startswith("… and of ")
    assert "ProbeDown" not in done.stderr


@pytest.mark.parametrize(
    ("channel", "arguments", "said"),
    [
        ("{name: watchdog, to: webhook, url: 'http://127.0.0.1:9/'}", (), "needs another name for Alertmanager"),
        (
            "{name: a, to: webhook, url: 'http://127.0.0.1:9/', only_fallback: true}",
            (),
            "Alertmanager would tell nobody",
        ),
        ("{name: a, to: webhook, url: 'http://h/${env:A_SECRET}'}", (), "give --alertmanager-version 0.26"),
        (
            "{name: a, to: email, server: m, port: 2465, tls: tls, sender: a@b, recipients: [a@b]}",
            (),
            "begins with TLS at port 2465",
        ),
        (
            "{name: a, to: webhook, url: 'http://127.0.0.1:9/'}",
            ("--alertmanager-version", "new"),
            "a version is written like 0.25",
        ),
        (
            "{name: a, to: webhook, url: 'http://127.0.0.1:9/', hours: {begin: '17:00', end: '09:00'}}",
            (),
            "the end is later on the same day",
        ),
        ("{name: a, to: webhook, url: 'http://127.0.0.1:9/', hours: {timezone: Berlin}}", (), "no time zone is called"),
    ],
)
def test_what_cannot_be_written_is_a_mistake(
    channel: str, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """One line that says what to do."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG[: CONFIG.index("    - {name: oncall")] + f"    - {channel}\n")

    done = rules(tmp_path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr


def test_a_secret_address_is_a_file_of_newer_alertmanagers(tmp_path: Path) -> None:
    """Since 0.26."""
    (tmp_path / "stormwatch.yaml").write_text(
        CONFIG[: CONFIG.index("    - {name: oncall")]
        + "    - {name: a, to: webhook, url: 'http://h/${env:A_SECRET}'}\n"
    )

    done = rules(tmp_path, "--alertmanager-version", "0.26.0")

    assert yaml.safe_load(done.stdout)["receivers"][0] == {
        "name": "a",
        "webhook_configs": [{"url_file": "/etc/alertmanager/secrets/a.url", "send_resolved": True}],
    }


def test_teams_and_what_alertmanager_has_no_receiver_for(tmp_path: Path) -> None:
    """The workflows of Teams since 0.28; texts and the words of a template of ours never."""
    (tmp_path / "stormwatch.yaml").write_text(
        CONFIG[: CONFIG.index("    - {name: oncall")]
        + "    - {name: a, to: teams, url: 'https://h/${env:A_SECRET}', title: '{{ status }}'}\n"
        + "    - {name: b, to: sms, url: 'https://h/', numbers: ['+4915112345678'], token: '${env:A_SECRET}'}\n"
        + "    - {name: c, to: webhook, url: 'http://127.0.0.1:9/'}\n"
    )

    old, new = rules(tmp_path), rules(tmp_path, "--alertmanager-version", "0.28")

    assert "left out: a: an Alertmanager before 0.28 does not reach the workflows of Teams" in old.stderr
    assert [each["name"] for each in yaml.safe_load(old.stdout)["receivers"]] == ["c", "watchdog"]
    (teams,) = yaml.safe_load(new.stdout)["receivers"][0]["msteamsv2_configs"]
    assert teams["webhook_url_file"] == "/etc/alertmanager/secrets/a.url"
    for said in (old.stderr, new.stderr):
        assert "left out: b: Alertmanager has no receiver for sms" in said
        assert "left out: the words of a: Alertmanager has templates of another language" in said
    assert SECRET not in old.stdout + old.stderr + new.stdout + new.stderr


def test_the_real_alertmanager_tells_pages_at_night_and_keeps_tickets(tmp_path: Path) -> None:
    """By the hours of each channel: one is open now, the other is not today."""
    with Receiver() as day, Receiver() as night:
        today = datetime.fromtimestamp(time.time(), UTC).weekday()
        others = [DAYS[(today + days) % 7] for days in (2, 3, 4, 5)]
        (tmp_path / "stormwatch.yaml").write_text(
            CONFIG[: CONFIG.index("    - {name: oncall")]
            + f"    - {{name: open, to: webhook, url: '{day.url}', hours: {{days: {json.dumps(DAYS)}, begin: '00:00', end: '24:00'}}}}\n"
            + f"    - {{name: shut, to: webhook, url: '{night.url}', hours: {{days: {json.dumps(others)}}}}}\n"
        )
        done = rules(tmp_path)
        assert done.returncode == 0, done.stderr
        config = yaml.safe_load(done.stdout)
        for route in config["route"]["routes"]:
            route["group_wait"] = "0s"
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        with running(
            [
                program("prometheus-alertmanager"),
                f"--config.file={tmp_path / 'alertmanager.yml'}",
                f"--storage.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            log=tmp_path / "log",
            port=port,
        ):
            # The page comes last: what is before it on the same way was kept, and is not merely late.
            for number, severity in enumerate(("ticket", "info", "page")):
                alerts = [{"labels": {"alertname": "X", "severity": severity, "probe": str(number)}}]
                urllib.request.urlopen(
                    urllib.request.Request(
                        f"http://127.0.0.1:{port}/api/v2/alerts",
                        data=json.dumps(alerts).encode(),
                        headers={"Content-Type": "application/json"},
                    ),
                    timeout=10,
                ).close()
            for severity in ("ticket", "info", "page"):
                wait_for(lambda severity=severity: bool(day.alerts("firing", severity=severity)), what=severity)
            wait_for(lambda: bool(night.alerts("firing", severity="page")), what="the page at night")
            assert night.alerts("firing", severity="ticket") == []
            assert night.alerts("firing", severity="info") == []


def test_the_same_hours_hold_in_process(tmp_path: Path) -> None:
    """A ticket waits for them there, too, and a page does not."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)
    config = load(tmp_path / "stormwatch.yaml", environ={"A_SECRET": SECRET})
    routes = {line.route.channel: line.route for line in lines_of(config)}
    friday = datetime(2026, 11, 20, tzinfo=ZoneInfo("Europe/Berlin"))

    def waits(channel: str, severity: str, hour: float) -> bool:
        told = Notification(labels={"severity": severity}, starts_at=0.0)
        return routes[channel].waits(told, (friday + timedelta(hours=hour)).timestamp())

    written = receivers_of(config)
    (hours,) = written.intervals["hours-of-mail"]
    assert (hours["times"], hours["location"]) == ([{"start_time": "08:30", "end_time": "24:00"}], "Europe/Berlin")
    assert [waits("mail", "ticket", hour) for hour in (8.49, 8.5, 23.99, 24, 57, 81)] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert not any(waits("mail", severity, 3) for severity in ("page", "high"))
    assert not waits("chat", "ticket", 3)
