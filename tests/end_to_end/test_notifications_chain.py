"""The same night twice: told by stormwatch itself, and by the real Prometheus and the real Alertmanager; both to real payloads.

A page, who takes it, its end; a silence, planned work, a channel that is dead.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.program import program
from tests.servers.command import invoke, staying
from tests.servers.mailbox import Mailbox
from tests.servers.pagerduty import KEY, PagerDuty
from tests.servers.process import free_port, running, wait_for
from tests.servers.receiver import Receiver
from tests.servers.slack import CHANNEL, TOKEN, Slack

CONFIG = """\
location: test
defaults: {{every: 500ms, timeout: 200ms, confirm: {{attempts: 2, after: 50ms}}}}
probes:
  - {{name: front, kind: tcp, target: "127.0.0.1:{front}", labels: {{team: web}}}}
  - {{name: noisy, kind: tcp, target: "127.0.0.1:{noisy}", labels: {{team: web}}}}
  - {{name: legacy, kind: tcp, target: "127.0.0.1:{legacy}", labels: {{team: old}}}}
maintenance:
  - {{match: {{team: old}}, rrule: "FREQ=DAILY", duration: 1d}}
alerts:
  notify:
    - {{name: pager, to: pagerduty, routing_key: "${{env:KEY}}", url: "{pager}"}}
    - {{name: chat, to: slack, token: "${{env:TOKEN}}", channel: {channel}, url: "{chat}", group_wait: 0s, group_interval: 1s}}
    - name: mail
      to: email
      server: 127.0.0.1
      port: {mail}
      tls: none
      sender: storm@x.test
      recipients: [ada@x.test]
      group_wait: 0s
      group_interval: 1s
    - {{name: dead, to: webhook, url: "http://127.0.0.1:{dead}/", group_wait: 0s, fallback: desk, fallback_after: 1s}}
    - {{name: desk, to: webhook, url: "{desk}", only_fallback: true}}
"""
ENVIRON = {"KEY": KEY, "TOKEN": TOKEN}


class Night:
    """Everything that runs, and where it listens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pager, self.chat, self.desk, self.mailbox = PagerDuty(), Slack(), Receiver(), Mailbox()
        self.upstream, self.other = Receiver(), PagerDuty()
        """What Alertmanager tells."""
        names = ("front", "noisy", "legacy", "dead", "listen", "prometheus", "alertmanager")
        self.ports = {name: free_port() for name in names}

    @contextlib.contextmanager
    def begun(self) -> Generator[None]:
        """All of it, started in order and ended in reverse."""
        with (
            contextlib.ExitStack() as stack,
        ):
            for each in (self.pager, self.chat, self.desk, self.mailbox, self.upstream, self.other):
                stack.enter_context(each)
            self._write()
            listen, alertmanager, prometheus = (self.ports[name] for name in ("listen", "alertmanager", "prometheus"))
            run = ("run", "-c", self.directory / "stormwatch.yaml", "--listen", f"127.0.0.1:{listen}")
            log = self.directory / "stormwatch.log"
            stack.enter_context(staying(*run, "--data", self.directory / "data", log=log, port=listen, environ=ENVIRON))
            for name, port, command in (
                (
                    "alertmanager",
                    alertmanager,
                    [
                        program("prometheus-alertmanager"),
                        f"--config.file={self.directory / 'alertmanager.yml'}",
                        f"--storage.path={self.directory / 'am'}",
                        f"--web.listen-address=127.0.0.1:{alertmanager}",
                        "--cluster.listen-address=",
                    ],
                ),
                (
                    "prometheus",
                    prometheus,
                    [
                        program("prometheus"),
                        f"--config.file={self.directory / 'prometheus.yml'}",
                        f"--storage.tsdb.path={self.directory / 'tsdb'}",
                        f"--web.listen-address=127.0.0.1:{prometheus}",
                    ],
                ),
            ):
                log = self.directory / f"{name}.log"
                stack.enter_context(running(command, log=log, port=port, environ=ENVIRON))
            yield

    def service(self, name: str) -> Any:
        """What a probe looks at, as long as the block lasts."""
        command = [sys.executable, "-m", "http.server", str(self.ports[name]), "--bind", "127.0.0.1"]
        return running(command, log=self.directory / f"{name}.log", port=self.ports[name])

    def stormwatch(self, *arguments: str) -> str:
        """Ask the running one, as a person does."""
        done = invoke(*arguments, f"--from=http://127.0.0.1:{self.ports['listen']}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire in stormwatch, by probe."""
        document = json.loads(self.stormwatch("notify", "firing", "--format", "json"))
        return {each["labels"]["probe"]: each for each in document["alerts"]}

    def amtool(self, *arguments: str) -> str:
        """Ask Alertmanager, as a person does."""
        url = f"--alertmanager.url=http://127.0.0.1:{self.ports['alertmanager']}"
        return subprocess.run(
            [program("amtool"), url, *arguments], capture_output=True, text=True, timeout=30, check=True
        ).stdout

    def metric(self, beginning: str) -> str:
        """The value of a series that stormwatch exposes; empty if there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['listen']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next((line.rpartition(" ")[2] for line in lines if line.startswith(beginning)), "")

    def _write(self) -> None:
        config, rules = self.directory / "stormwatch.yaml", self.directory / "rules.yml"
        addresses = {
            "pager": self.pager.url,
            "chat": self.chat.url,
            "desk": self.desk.url,
            "mail": self.mailbox.port,
            "channel": CHANNEL,
        }
        config.write_text(CONFIG.format(**self.ports, **addresses))
        done = invoke("rules", "-c", config, "-o", rules, env=ENVIRON)
        assert done.returncode == 0, done.stderr
        (self.directory / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(rules)],
                    "alerting": {"alertmanagers": [_targets(self.ports["alertmanager"])]},
                    "scrape_configs": [
                        {"job_name": "stormwatch", "honor_labels": True, **_targets(self.ports["listen"])}
                    ],
                }
            )
        )
        pager = {"routing_key": KEY, "url": f"{self.other.url}/v2/enqueue"}
        (self.directory / "alertmanager.yml").write_text(
            yaml.safe_dump(
                {
                    "route": {
                        "receiver": "people",
                        "group_by": ["alertname", "probe"],
                        "group_wait": "0s",
                        "group_interval": "1s",
                        # What watches stormwatch itself is not this story's.
                        "routes": [{"receiver": "nobody", "matchers": ['probe=""']}],
                    },
                    "receivers": [
                        {"name": "nobody"},
                        {
                            "name": "people",
                            "webhook_configs": [{"url": self.upstream.url}],
                            "pagerduty_configs": [pager],
                        },
                    ],
                }
            )
        )


def _targets(port: int) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


@pytest.mark.alone
@pytest.mark.slow
def test_a_night_is_told_the_same_by_stormwatch_and_by_alertmanager(tmp_path: Path) -> None:
    """Nobody hears of what is silenced or planned, everybody of the page, and each incident begins and ends once."""
    night = Night(tmp_path)
    with night.begun(), contextlib.ExitStack() as shops:
        front, noisy = shops.enter_context(contextlib.ExitStack()), shops.enter_context(contextlib.ExitStack())
        for stack, name in ((front, "front"), (noisy, "noisy")):
            stack.enter_context(night.service(name))
        wait_for(lambda: night.metric("probe_success{") != "", what="the first results")
        wait_for(lambda: "front" not in night.firing() and "noisy" not in night.firing(), what="both to be up")

        # A page: both ways, each channel in its own words, and the fallback of the dead one.
        front.close()
        wait_for(lambda: bool(night.pager.incidents), what="PagerDuty's incident")
        wait_for(lambda: bool(night.other.incidents), what="the incident that Alertmanager opens")
        down = {"probe": "front", "alertname": "ProbeDown"}
        wait_for(lambda: bool(night.upstream.alerts("firing", **down)), what="Alertmanager's webhook")
        wait_for(lambda: bool(night.desk.alerts("firing", **down)), what="the fallback of the dead channel")
        wait_for(lambda: bool(night.chat.roots and night.mailbox.mails), what="Slack and mail")
        ((_, ours), *_), ((_, theirs), *_) = (each.alerts("firing", **down) for each in (night.desk, night.upstream))
        assert {name: ours["labels"][name] for name in ("alertname", "probe", "severity", "team")} == {
            name: theirs["labels"][name] for name in ("alertname", "probe", "severity", "team")
        }
        assert ours["annotations"]["summary"] == theirs["annotations"]["summary"]

        # Somebody takes it: PagerDuty, Slack and mail say so.
        night.stormwatch("notify", "ack", night.firing()["front"]["fingerprint"], "--by", "ada")
        wait_for(lambda: night.pager.incidents[-1][1] == ["trigger", "acknowledge"], what="the acknowledgement")
        wait_for(lambda: "ACKNOWLEDGED" in night.chat.roots[0]["text"], what="who has it, in Slack")

        # Silenced on both ways, before it dies: it fires, and nobody hears of it until the silence ends.
        night.stormwatch("silence", "add", "--match", "probe=noisy", "--for", "1h", "--comment", "moving")
        silenced = night.amtool("silence", "add", "probe=noisy", "--comment=moving", "--duration=1h").strip()
        noisy.close()
        wait_for(lambda: "noisy" in night.firing(), what="the silenced alert to fire")
        assert night.firing()["noisy"]["muted_by"].startswith("silence ")
        wait_for(lambda: "noisy" in night.amtool("alert", "query", "--silenced"), what="it, suppressed in Alertmanager")
        assert len(night.pager.incidents) == 1
        assert not night.upstream.alerts("firing", probe="noisy")
        night.stormwatch("silence", "expire", night.stormwatch("silence", "list").split()[0])
        night.amtool("silence", "expire", silenced)
        wait_for(lambda: len(night.pager.incidents) == 2, what="the page that the silence held back")
        wait_for(lambda: bool(night.upstream.alerts("firing", probe="noisy")), what="it from Alertmanager")

        # All is well again.
        for stack, name in ((front, "front"), (noisy, "noisy")):
            stack.enter_context(night.service(name))
        for probe in ("front", "noisy"):
            for receiver in (night.upstream, night.desk):
                wait_for(
                    lambda to=receiver, of=probe: bool(to.alerts("resolved", probe=of)), what=f"the end of {probe}"
                )
        wait_for(lambda: all(states[-1] == "resolve" for _, states in night.pager.incidents), what="our incidents' end")
        wait_for(lambda: all(states[-1] == "resolve" for _, states in night.other.incidents), what="theirs")
        wait_for(lambda: "[RESOLVED]" in night.mailbox.mails[-1]["Subject"], what="the last mail")

        assert [states for _, states in night.pager.incidents] == [
            ["trigger", "acknowledge", "resolve"],
            ["trigger", "resolve"],
        ]
        assert [states for _, states in night.other.incidents] == [["trigger", "resolve"]] * 2
        # Planned work: the probe was down all the time.
        assert night.metric(f'probe_success{{instance="127.0.0.1:{night.ports["legacy"]}"') == "0"
        assert night.metric('stormwatch_maintenance{probe="legacy"') == "1"
        for receiver in (night.upstream, night.desk):
            assert not receiver.alerts("firing", probe="legacy")
        assert all("legacy" not in str(each["Subject"]) for each in night.mailbox.mails)
