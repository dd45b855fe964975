"""`stormwatch notify` and `stormwatch silence` against a `stormwatch` that runs, and the mistakes that `alerts.notify` may have."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from stormwatch.harness.config import ConfigError, load
from tests.harness.test_service import served
from tests.servers.command import invoke
from tests.servers.pagerduty import KEY, PagerDuty
from tests.servers.process import free_port
from tests.servers.receiver import Receiver
from tests.servers.service import Answer, AnyService
from tests.servers.sms import TOKEN as SMS_TOKEN
from tests.servers.sms import SmsGateway
from tests.servers.teams import Teams

CONFIG = """\
defaults: {{every: 200ms, timeout: 80ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: bad, kind: tcp, target: "127.0.0.1:{bad}", labels: {{team: web}}}}
alerts:
  notify:
{notify}
"""
PAGER = '    - {{name: pager, to: pagerduty, routing_key: "${{env:KEY}}", url: "{url}", fallback: desk}}\n'
DESK = '    - {{name: desk, to: webhook, url: "{url}", only_fallback: true}}\n'


def written(directory: Path, notify: str) -> Path:
    """A configuration with these channels."""
    path = directory / "stormwatch.yaml"
    path.write_text(CONFIG.format(bad=free_port(), notify=notify))
    return path


def run(*arguments: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The command, with the key and what else is given in its environment."""
    return invoke(*arguments, env={"KEY": KEY, **environ})


def test_a_test_alert_goes_the_real_way_and_the_answers_are_shown(tmp_path: Path) -> None:
    """Firing and resolved; nobody can take it for a real one; the key is not shown."""
    with PagerDuty() as service, Receiver() as receiver:
        path = written(tmp_path, PAGER.format(url=service.url) + DESK.format(url=receiver.url))
        done = run("notify", "test", "-c", path, "--severity", "high")

    assert done.returncode == 0, done.stderr
    assert "pager: firing: delivered: success: Event processed" in done.stdout
    assert "desk: resolved: delivered: status 200" in done.stdout
    assert [states for _, states in service.incidents] == [["trigger", "resolve"]]
    assert service.events[0]["payload"]["summary"].startswith("[TEST] ")
    assert service.events[0]["payload"]["severity"] == "error"
    assert KEY not in done.stdout + done.stderr


def test_every_kind_of_channel_is_tried_the_same_way(tmp_path: Path) -> None:
    """Teams, SMS and Apprise: in their own words where there are some, with the ids of the receivers."""
    with Teams() as teams, SmsGateway() as gateway, Receiver() as receiver:
        path = written(
            tmp_path,
            '    - {name: room, to: teams, url: "${env:TEAMS}", title: "{{ alerts[0].subject }} is {{ status }}"}\n'
            f'    - {{name: phone, to: sms, url: "{gateway.url}", token: "${{env:SMS}}", numbers: ["+4915112345678"]}}\n'
            '    - {name: fan, to: apprise, urls: ["${env:FAN}"]}\n'
            "  flapping: {recovery: 5m}\n",
        )
        address = receiver.url.replace("http://", "json://")
        done = run("notify", "test", "-c", path, "--format", "json", TEAMS=teams.url, SMS=SMS_TOKEN, FAN=address)

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)["notifications"]
    assert sorted((each["channel"], each["status"], each["reference"]) for each in told) == [
        ("fan", "firing", ""),
        ("fan", "resolved", ""),
        ("phone", "firing", "SM00000001"),
        ("phone", "resolved", "SM00000002"),
        ("room", "firing", "0858000001"),
        ("room", "resolved", "0858000002"),
    ]
    assert [card["body"][0]["text"] for card in teams.cards] == ["notify-test is firing", "notify-test is resolved"]
    assert [text.split(":")[0] for _, text in gateway.messages] == ["[TEST] [FIRING] page", "[TEST] [RESOLVED] page"]
    assert [body["type"] for _, body in receiver.received] == ["failure", "success"]


def test_a_receiver_that_refuses_is_exit_code_1(tmp_path: Path) -> None:
    """And its words are shown, without the secret that it repeats."""
    with AnyService(Answer(400, f"unknown key {KEY}")) as service:
        path = written(tmp_path, PAGER.format(url=service.url).replace(", fallback: desk", ""))
        done = run("notify", "test", "pager", "-c", path, "--format", "json")
        unknown = run("notify", "test", "pagre", "-c", path)

    assert done.returncode == 1
    assert {each["said"] for each in json.loads(done.stdout)["notifications"]} == {"status 400: unknown key ***"}
    assert KEY not in done.stdout + done.stderr
    assert (unknown.returncode, unknown.stderr) == (2, "no channel is called pagre; did you mean pager?\n")


async def test_people_take_alerts_and_silence_them_while_it_runs(tmp_path: Path) -> None:
    """The API, the same through the command line, and the metrics."""
    with PagerDuty() as service, Receiver() as receiver:
        path = written(tmp_path, PAGER.format(url=service.url) + DESK.format(url=receiver.url))
        async with served(load(path, environ={"KEY": KEY}), tmp_path / "data") as (_, client):

            async def asked(*arguments: str) -> str:
                done = await asyncio.to_thread(run, *arguments, "--from", str(client.base_url))
                assert done.returncode == 0, done.stderr
                return done.stdout

            async with asyncio.timeout(10):
                while not service.incidents:
                    await asyncio.sleep(0.02)
            (shown,) = json.loads(await asked("notify", "firing", "--format", "json"))["alerts"]
            await asked("notify", "ack", shown["fingerprint"], "--by", "ada")
            async with asyncio.timeout(10):
                while service.incidents[0][1][-1] != "acknowledge":
                    await asyncio.sleep(0.02)
            await asked(
                "silence", "add", "--match", "alertname=ProbeDown,probe=bad", "--for", "2h", "--comment", "known"
            )
            listed = await asked("silence", "list")
            assert "alertname=ProbeDown,probe=bad until" in listed
            assert "muted by silence" in await asked("notify", "firing")
            await asked("silence", "expire", listed.split()[0])
            assert await asked("silence", "list") == ""
            log = await asked("notify", "log")
            assert "pager: delivered: [ACKNOWLEDGED] page: ProbeDown: bad: success" in log
            assert f"(id {service.incidents[0][0]})" in log
            assert await asked("notify", "log", "--state", "refused") == ""
            assert json.loads(await asked("notify", "log", "--state", "delivered", "--format", "json"))["notifications"]
            assert (await client.get("/api/v1/notifications?state=lost")).status_code == 400
            metrics = (await client.get("/metrics")).text
            assert "stormwatch_outbox_unwritten 0" in metrics
            assert "stormwatch_outbox_failures_total 0" in metrics
            assert 'stormwatch_notifications_fallback_active{notifier="pager"} 0' in metrics
            assert 'stormwatch_notifications_sent_total{notifier="pager"} 2' in metrics
            plain = await client.post("/api/v1/silences", content="{}")
            assert plain.status_code == 415
            empty = await client.post("/api/v1/silences", json={"match": {}, "for": "1h"})
            assert (empty.status_code, "at least one" in empty.text) == (400, True)
            endless = await client.post("/api/v1/silences", json={"match": {"a": "b"}, "for": "500d"})
            assert endless.status_code == 400
            nobody = await client.post("/api/v1/alerts/0/acknowledgement", json={"by": "ada"})
            assert nobody.status_code == 404
            for page in ("/config", "/metrics", "/api/v1/notifications", "/api/v1/notifications/firing"):
                assert KEY not in (await client.get(page)).text


async def test_who_flaps_is_shown_until_it_is_stable(tmp_path: Path) -> None:
    """As the configuration says: the second outage is told as flapping, its end is held back, and `notify firing` says so."""
    with Receiver() as receiver:
        port = free_port()
        path = tmp_path / "stormwatch.yaml"
        path.write_text(
            "defaults: {every: 200ms, timeout: 80ms, confirm: {attempts: 2, after: 10ms}}\n"
            f'probes: [{{name: shop, kind: tcp, target: "127.0.0.1:{port}"}}]\n'
            "alerts:\n  flapping: {after: 2, within: 5m, stable: 1m}\n"
            f'  notify: [{{name: desk, to: webhook, url: "{receiver.url}", group_wait: 0s, group_interval: 0s}}]\n'
        )
        async with served(load(path, environ={}), tmp_path / "data") as (service, client):
            async with asyncio.timeout(30):
                await _told(receiver, 1, "firing")
                with socket.create_server(("127.0.0.1", port)):
                    await _told(receiver, 1, "resolved")
                await _told(receiver, 2, "firing")
                with socket.create_server(("127.0.0.1", port)):
                    while service.evaluator.active():
                        await asyncio.sleep(0.02)
                    shown = await asyncio.to_thread(run, "notify", "firing", "--from", str(client.base_url))

    assert ", flapping 2 times since " in shown.stdout
    assert ", over since " in shown.stdout
    assert [len(receiver.alerts(status)) for status in ("firing", "resolved")] == [2, 1]


async def _told(receiver: Receiver, times: int, status: str) -> None:
    while len(receiver.alerts(status)) < times:
        await asyncio.sleep(0.02)


TEAMS = '{{name: a, to: teams, url: "http://127.0.0.1:1/${{env:KEY}}", {more}}}'
SMS = '{{name: a, to: sms, url: "http://127.0.0.1:1/", {more}}}'
HOOK = '{{name: {name}, to: webhook, url: "http://127.0.0.1:1/"{more}}}'


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([HOOK.format(name="a", more=", fallback: b")], "no channel is called b"),
        (
            [HOOK.format(name="a", more=", fallback: b"), HOOK.format(name="b", more=", fallback: a")],
            "fallbacks go in a circle",
        ),
        ([HOOK.format(name="a", more=""), HOOK.format(name="a", more="")], "another channel"),
        ([HOOK.format(name="webhook", more="")], "webhook is the name of the address in alerts.webhook"),
        (["{name: a, to: pager}"], "no kind of channel is called"),
        (["{name: a}"], "to is missing; write one of pagerduty, slack, email, webhook"),
        (["{name: a, to: pagerduty, routing_key: R0}"], "a secret is never written inline"),
        (["{name: a, to: slack}"], "token and channel, or by webhook"),
        (['{name: a, to: slack, webhook: "${env:KEY}"}'], "a URL is written like"),
        ([HOOK.format(name="a", more=", severities: []")], "severities"),
        ([HOOK.format(name="a", more=', title: "{{ status }}"')], "title"),
        (['{name: a, to: teams, url: "${env:KEY}"}'], "a URL is written like"),
        (["{name: a, to: teams, url: https://x.test/}"], "a secret is never written inline"),
        ([TEAMS.format(more='title: "{{ stats }}"')], ".title: the template: it knows no stats"),
        ([TEAMS.format(more='body: "{{ status"')], ".body: the template: line 1 of it"),
        ([SMS.format(more="numbers: [0151123]")], "numbers"),
        ([SMS.format(more='numbers: ["+4915112345678"], fields: {a: "{{ b }}"}')], "the template of a: it knows no b"),
        ([SMS.format(more='numbers: ["+4915112345678"], answer_id: "a["')], "is no JMESPath"),
        (['{name: a, to: apprise, urls: ["${env:KEY}"]}'], "Apprise has no service for this address"),
        ([HOOK.format(name="a", more=", fallbck: b")], "fallbck"),
    ],
)
def test_a_mistake_is_told_with_its_place(channels: Sequence[str], said: str, tmp_path: Path) -> None:
    """When the file is read, not in the night."""
    path = written(tmp_path, "".join(f"    - {each}\n" for each in channels))
    with pytest.raises(ConfigError) as caught:
        load(path, environ={"KEY": KEY})
    assert any("alerts.notify[" in line and said in line for line in caught.value.lines), caught.value.lines
