"""Nothing is lost and nothing is doubled that a receiver could not know: restarts, kill -9, dead and rude receivers."""

import asyncio
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.exporters.channel import retry_after
from stormwatch.exporters.dispatcher import Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.outbox import Outbox, OutboxUnavailable
from stormwatch.exporters.pagerduty import PagerDutyChannel, dedup_key
from stormwatch.exporters.silence import Silence
from stormwatch.exporters.webhook import WebhookChannel
from tests.exporters.dispatching import START, alert, started
from tests.exporters.test_alertmanager import until
from tests.servers.pagerduty import KEY, PagerDuty
from tests.servers.process import free_port
from tests.servers.receiver import Receiver
from tests.servers.service import Answer, AnyService
from tests.servers.slack import Slack

STEPS = ("write", "written", "send", "sent", "receipted")
ROOT = Path(__file__).parents[2]


def pager(url: str, **values: object) -> Line:
    """PagerDuty, an incident for each alert."""
    line = Line(
        channel=PagerDutyChannel("pagerduty", routing_key=KEY, url=url),
        route=Route(channel="pagerduty", group_by=None, acknowledgements=True),
    )
    return replace(line, **values)  # type: ignore[arg-type]


def hook(url: str, name: str = "hook", **values: object) -> Line:
    """A webhook."""
    return replace(Line(channel=WebhookChannel(name, url), route=Route(channel=name)), **values)  # type: ignore[arg-type]


def live(data: Path, step: str, kind: str, url: str, story: str) -> "subprocess.CompletedProcess[str]":
    """One life of a dispatcher."""
    command = [sys.executable, "-m", "tests.exporters.mortal", str(data), step, kind, url, story]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("step", STEPS)
def test_an_incident_is_one_wherever_the_process_is_killed(step: str, tmp_path: Path) -> None:
    """It dies at a step while it tells of the alert, its successor while it tells of the end, the third one tells the rest."""
    with PagerDuty() as service:
        killed = live(tmp_path, f"{step}:1", "pagerduty", service.url, "fire")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        again = live(tmp_path, f"{step}:1", "pagerduty", service.url, "fire,end")
        assert again.returncode == -signal.SIGKILL, again.stderr
        last = live(tmp_path, "", "pagerduty", service.url, "fire,end")
        assert last.stdout == "done\n", last.stderr

    assert service.incidents[0] == (dedup_key(alert()), ["trigger", "resolve"])
    # Whoever tells the story again after its end was told tells of another alert: PagerDuty sees whole incidents only.
    assert all(states == ["trigger", "resolve"] for _, states in service.incidents)


@pytest.mark.parametrize("step", ["send", "sent"])
def test_slack_shows_one_message_wherever_the_process_is_killed(step: str, tmp_path: Path) -> None:
    """A message that was posted without a receipt is found again by its metadata."""
    with Slack() as service:
        assert live(tmp_path, f"{step}:1", "slack", service.url, "fire").returncode == -signal.SIGKILL
        last = live(tmp_path, "", "slack", service.url, "fire")
        assert last.stdout == "done\n", last.stderr

    assert len(service.roots) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(503, "later"), "status 503: later"),
        (Answer(429, "slow", {"Retry-After": "1"}), "status 429: slow"),
        (Answer(how="reset"), "Error"),
        (Answer(how="garbage"), "RemoteProtocolError"),
        (Answer(202, "no json"), "without PagerDuty's answer"),
    ],
)
async def test_what_is_not_taken_is_tried_again(
    answer: Answer, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And one incident comes of it; the log says once what the trouble is."""
    with PagerDuty() as service:
        service.before = [answer]
        async with started(pager(service.url), data=tmp_path, jitter=lambda: 0.0) as dispatcher:
            began = time.monotonic()
            dispatcher.notify(alert())
            await until(lambda: bool(service.incidents), "the incident")
            lasted = time.monotonic() - began
            assert dispatcher.counts[0].failed == 1

    assert len(service.incidents) == 1
    assert lasted > (0.95 if answer.status == 429 else 0.2)
    assert said in caplog.text
    assert KEY not in caplog.text


async def test_a_refusal_is_a_receipt_and_the_fallback_is_told(tmp_path: Path) -> None:
    """A wrong key will not get better: another one must wake somebody, at once."""
    with AnyService(Answer(400, "invalid routing key")) as service, Receiver() as receiver:
        lines = pager(service.url, fallback="hook"), hook(receiver.url, is_told=False)
        async with started(*lines, data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: bool(receiver.alerts("firing")), "the fallback")
            dispatcher.notify(alert(ends_at=START + 60))
            await until(lambda: bool(receiver.alerts("resolved")), "its end")
        outbox = await Outbox.open(tmp_path / "outbox.sqlite")
        told = await outbox.recent(0.0)
        await outbox.aclose()

    assert len(receiver.received) == 2
    refused = [each for each in told if each["state"] == "refused"]
    assert {each["said"] for each in refused} == {"status 400: invalid routing key"}
    assert {each["instead_of"] for each in told if each["channel"] == "hook"} == {"pagerduty"}


async def test_a_dead_channel_goes_on_trying_while_its_fallback_tells(tmp_path: Path) -> None:
    """Both hear of the end; the fallback of nothing else."""
    with PagerDuty() as service, Receiver() as receiver:
        port_is_dead = pager(f"http://127.0.0.1:{free_port()}", fallback="hook", fallback_after=0.4)
        async with started(port_is_dead, hook(receiver.url, is_told=False), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: bool(receiver.alerts("firing")), "the fallback")
            assert [each.fallback_active for each in dispatcher.counts] == [True, False]
            assert dispatcher.counts[0].waiting == 1
            assert dispatcher.counts[0].oldest > 0.3
        alive = pager(service.url, fallback="hook", fallback_after=5.0)
        async with started(alive, hook(receiver.url, is_told=False), data=tmp_path) as dispatcher:
            await until(lambda: bool(service.incidents), "the channel itself")
            dispatcher.notify(alert(ends_at=START + 60))
            await until(lambda: service.incidents[0][1][-1] == "resolve", "the end")
            await until(lambda: bool(receiver.alerts("resolved")), "the end, where the fallback told the beginning")

    assert service.incidents == [(dedup_key(alert()), ["trigger", "resolve"])]
    assert len(receiver.received) == 2


async def test_a_receiver_that_hangs_holds_up_no_other_channel(tmp_path: Path) -> None:
    """Each channel has a task of its own."""
    with AnyService(Answer(how="hang")) as hanging, Receiver() as receiver:
        async with started(pager(hanging.url), hook(receiver.url), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: bool(receiver.received), "the other one")
            assert dispatcher.counts[0].sent == 0


async def test_a_full_disk_keeps_nobody_asleep(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written is sent, and written when that is possible again."""
    with Receiver() as receiver:
        async with started(hook(receiver.url), data=tmp_path) as dispatcher:
            blocker = sqlite3.connect(tmp_path / "outbox.sqlite", isolation_level=None)
            blocker.execute(
                "CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
            )
            dispatcher.notify(alert())
            await until(lambda: bool(receiver.received), "the alert")
            exposed = {family.name: family.samples[0].value for family in dispatcher.outbox.families()}
            assert exposed["stormwatch_outbox_unwritten"] == 1
            assert exposed["stormwatch_outbox_failures_total"] >= 1
            blocker.execute("DROP TRIGGER full")
            blocker.close()
            dispatcher.notify(alert(objective="other"))
            await until(lambda: len(receiver.received) == 2, "the next one")
            await until(lambda: not dispatcher.outbox.error, "the disk")
        outbox = await Outbox.open(tmp_path / "outbox.sqlite")
        told = await outbox.recent(0.0)
        await outbox.aclose()

    assert [each["state"] for each in told] == ["delivered", "delivered"]
    assert "cannot be written, so a crash would lose alerts: disk is full" in caplog.text


async def test_acknowledging_is_told_and_survives(tmp_path: Path) -> None:
    """PagerDuty's incident is acknowledged; a silence and who took it are there after a restart."""
    with PagerDuty() as service:
        async with started(pager(service.url), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: bool(service.incidents), "the incident")
            assert await dispatcher.acknowledge(alert().fingerprint, by="ada", lasting=3600)
            await until(lambda: service.incidents[0][1] == ["trigger", "acknowledge"], "the acknowledgement")
            silence = Silence(id="s1", match={"objective": "other"}, starts_at=0.0, ends_at=time.time() + 600)
            await dispatcher.silence(silence)
        async with started(pager(service.url), data=tmp_path) as dispatcher:
            assert dispatcher.grouping.acknowledged[alert().fingerprint].by == "ada"
            assert dispatcher.grouping.silences == {"s1": silence}
            dispatcher.notify(alert())
            dispatcher.notify(alert(objective="other"))
            dispatcher.notify(alert(ends_at=START + 9))
            await until(lambda: service.incidents[0][1][-1] == "resolve", "the end")

    assert service.incidents == [(dedup_key(alert()), ["trigger", "acknowledge", "resolve"])]


async def test_what_ended_while_nobody_ran_is_told(tmp_path: Path) -> None:
    """The next life knows what people were told, and what is so no more."""
    with PagerDuty() as service:
        async with started(pager(service.url), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            dispatcher.notify(alert(objective="other"))
            await until(lambda: len(service.incidents) == 2, "the incidents")
        async with started(pager(service.url), data=tmp_path) as dispatcher:
            await dispatcher.resolve_all_but([alert(objective="other").fingerprint], at=START + 60)
            await until(lambda: len(service.events) == 3, "the end")

    assert sorted(states for _, states in service.incidents) == [["trigger"], ["trigger", "resolve"]]


async def test_a_channel_that_is_gone_is_a_receipt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its messages do not wait for ever, and the log says what nobody was told."""
    with caplog.at_level(logging.ERROR):
        async with started(hook(f"http://127.0.0.1:{free_port()}"), data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: dispatcher.counts[0].failed > 0, "a try")
        async with started(data=tmp_path):
            pass
    assert "no channel is called hook any more" in caplog.text


async def test_a_thousand_alerts_at_once_are_told_together(tmp_path: Path) -> None:
    """In one message for the group, each of them once."""
    route = Route(channel="hook", group_by=("alertname",), group_wait=0.3)
    with Receiver() as receiver:
        async with started(hook(receiver.url, route=route), data=tmp_path) as dispatcher:
            for number in range(1000):
                dispatcher.notify(alert(objective=f"objective-{number}"))
            await until(lambda: len(receiver.alerts("firing")) >= 1000, "all of them")
    assert len(receiver.alerts("firing")) == 1000
    assert len(receiver.received) == 1


async def test_an_outbox_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """And nothing that is no database is made one."""
    (tmp_path / "text").write_text("this is no database " * 100)
    with pytest.raises(OutboxUnavailable, match="cannot be opened: file is not a database"):
        await Outbox.open(tmp_path / "text")
    with sqlite3.connect(tmp_path / "later") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutboxUnavailable, match="version 99"):
        await Outbox.open(tmp_path / "later")


def test_retry_after_is_seconds_or_a_date() -> None:
    """RFC 9110, 10.2.3; an hour at the most."""
    assert retry_after("7", START) == 7
    assert retry_after("Sat, 21 Nov 2026 02:45:20 GMT", START) == 9.5
    assert (retry_after("soon", START), retry_after("", START), retry_after("-5", START)) == (0, 0, 0)
    assert retry_after("999999", START) == 3600


async def test_no_receipt_shows_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also when the receiver repeats it."""
    canary = "canary-40cc"
    with AnyService(Answer(503, f"again with {canary}"), Answer(403, f"who is {canary}?")) as service:
        line = hook(f"{service.url}/{canary}")
        async with started(line, data=tmp_path, mask=lambda text: text.replace(canary, "***")) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: dispatcher.counts[0].refused == 1, "the refusal")
    assert canary not in caplog.text
    assert "who is ***?" in caplog.text
    for file in tmp_path.iterdir():
        assert canary.encode() not in await asyncio.to_thread(file.read_bytes)
