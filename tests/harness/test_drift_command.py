"""`stormwatch drift` against the real Prometheus and Alertmanager, with each difference made by hand."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.harness import meaning
from stormwatch.harness.alertmanager_receivers import receivers_of
from stormwatch.harness.config import Config, load
from stormwatch.harness.drift_command import Asked, Drift, drift_of
from stormwatch.harness.problem import Exit, Problem
from tests.program import program
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, running, wait_for

STORMWATCH = Path(sys.executable).with_name("stormwatch")
CONFIG = """\
location: test
probes:
  - {name: shop-dns, kind: tcp, target: "127.0.0.1:9", every: 10s, timeout: 300ms}
  - name: front.eu
    kind: http
    target: http://127.0.0.1:9/?a=%7B%7Bb%7D%7D
    every: 10s
    timeout: 300ms
    depends_on: [shop-dns]
    alert: {for: 30s, keep_firing_for: 1m}
    labels: {service: shop, team: 'w"e\\b {{ x }}'}
    runbook: https://runbooks.example/front
objectives:
  - {name: front-availability, probe: front.eu, target: 99.9%, labels: {team: web}}
  - {name: front-fast, probe: front.eu, target: 95%, slower_than: 200ms, window: 7d, policy: fast-slow}
  - {name: third, probe: front.eu, target: 99.99997%, window: 28d}
  - {name: nothing-may-fail, probe: shop-dns, target: 99.7%, window: 90m}
alerts:
  webhook: http://127.0.0.1:9/hook
  notify:
    - {name: oncall, to: pagerduty, routing_key: "${env:DRIFT_KEY}", severities: [page, high], match: {team: web}}
    - {name: chat, to: slack, token: "${env:DRIFT_KEY}", channel: C0123456789, severities: [page]}
    - name: mail
      to: email
      server: mail.example.com
      username: stormwatch
      password: ${env:DRIFT_KEY}
      sender: stormwatch@example.com
      recipients: [one@example.com, two@example.com]
      severities: [ticket]
      hours: {days: [monday, tuesday, friday], begin: "08:30", end: "24:00", timezone: Europe/Berlin}
"""
SECRETS = {"DRIFT_KEY": "known-to-nobody"}
DEAD_MAN = "http://127.0.0.1:9/dead-man"


@dataclass
class Stage:
    """A Prometheus, an Alertmanager and a stormwatch that belong together, and the files that they read."""

    directory: Path
    config: Config
    prometheus: str
    alertmanager: str
    listen: str
    clean: dict[str, str] = field(default_factory=dict[str, str])
    """The files as they should be."""

    def asked(self, **more: Any) -> Asked:
        """Compare everything."""
        return Asked(
            **{
                "prometheus": self.prometheus,
                "alertmanager": self.alertmanager,
                "listen": self.listen,
                "watchdog": DEAD_MAN,
                **more,
            }
        )

    def drift(self, config: Config | None = None, **more: Any) -> Drift:
        """What is found."""
        return asyncio.run(drift_of(config or self.config, self.asked(**more)))

    def seen(self, **more: Any) -> list[tuple[str, str]]:
        """What is found, in short."""
        return [(each.what, each.subject) for each in self.drift(**more).findings]

    def seen_of_rules(self, **more: Any) -> list[tuple[str, str]]:
        """What is found of rules: whom Prometheus tells is not known in the first seconds after a reload."""
        found = self.seen(alertmanager="", settling=0.0, **more)
        return [each for each in found if each[0] != "alertmanager-missing"]

    def edit(self, name: str, change: Callable[[Any], None]) -> None:
        """Change a document, and have it loaded."""
        document = yaml.safe_load(self.clean[name])
        change(document)
        (self.directory / name).write_text(yaml.safe_dump(document, sort_keys=False))
        self.reload(name)

    def reload(self, name: str) -> int:
        """Have a file read again; the status that is answered."""
        owner = self.alertmanager if name == "alertmanager.yml" else self.prometheus
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{owner}/-/reload", method="POST"), timeout=10) as said:
                return int(said.status)
        except urllib.error.HTTPError as error:
            return error.code

    def restore(self) -> None:
        """Everything as it should be."""
        for name, text in self.clean.items():
            if (self.directory / name).read_text() != text:
                (self.directory / name).write_text(text)
                assert self.reload(name) == 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    """Started once: every test changes a file, and has it loaded."""
    directory = tmp_path_factory.mktemp("drift")
    listen, prometheus, alertmanager = (free_port() for _ in range(3))
    (directory / "stormwatch.yaml").write_text(CONFIG)

    config = load(directory / "stormwatch.yaml", environ=SECRETS)
    (directory / "rules.yml").write_text(meaning.prometheus_rules(config))
    (directory / "prober.yml").write_text(meaning.prober_rules())
    (directory / "alertmanager.yml").write_text(
        meaning.alertmanager_config(config, receivers_of(config), watchdog=DEAD_MAN)
    )
    scraped = yaml.safe_load(meaning.scrape_config(f"127.0.0.1:{listen}"))
    scraped["scrape_configs"][0]["scrape_interval"] = "1s"
    (directory / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"evaluation_interval": "1s"},
                "rule_files": ["rules.yml", "prober.yml", "more*.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
                **scraped,
            },
            sort_keys=False,
        )
    )
    stage = Stage(
        directory=directory,
        config=config,
        prometheus=f"http://127.0.0.1:{prometheus}",
        alertmanager=f"http://127.0.0.1:{alertmanager}",
        listen=f"127.0.0.1:{listen}",
        clean={
            name: (directory / name).read_text()
            for name in ("rules.yml", "prober.yml", "prometheus.yml", "alertmanager.yml")
        },
    )
    with ExitStack() as stack:
        service = ["run", "-c", directory / "stormwatch.yaml", "--listen", stage.listen, "--data", directory / "data"]
        stack.enter_context(staying(*service, log=directory / "service.log", port=listen, environ=SECRETS))
        for command, port in (
            (
                [
                    program("prometheus-alertmanager"),
                    f"--config.file={directory / 'alertmanager.yml'}",
                    f"--storage.path={directory / 'am'}",
                    f"--web.listen-address=127.0.0.1:{alertmanager}",
                    "--cluster.listen-address=",
                ],
                alertmanager,
            ),
            (
                [
                    program("prometheus"),
                    f"--config.file={directory / 'prometheus.yml'}",
                    "--web.enable-lifecycle",
                    f"--storage.tsdb.path={directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{prometheus}",
                ],
                prometheus,
            ),
        ):
            stack.enter_context(running(command, log=directory / "log", port=port, environ=SECRETS))
        wait_for(lambda: not stage.drift().findings, what="everything to be scraped")
        yield stage


@pytest.fixture
def stage(whole: Stage) -> Stage:
    """As it should be."""
    whole.restore()
    wait_for(lambda: not whole.seen_of_rules(), what="the files to be in force again")
    return whole


def groups(document: Any) -> dict[str, Any]:
    """The groups of a rule file by name."""
    return {group["name"]: group for group in document["groups"]}


def front_down(document: Any) -> Any:
    """The alert that the front is down."""
    rules = groups(document)["stormwatch-probes"]["rules"]
    return next(rule for rule in rules if (rule["alert"], rule["labels"]["probe"]) == ("ProbeDown", "front.eu"))


DOWN = 'stormwatch-probes ▸ ProbeDown{probe="front.eu", severity="page"}'


def test_what_we_wrote_is_no_drift_once_it_is_loaded(stage: Stage) -> None:
    """Though Prometheus and Alertmanager write expressions, durations and matchers in their own way."""
    done = subprocess.run(
        [
            STORMWATCH,
            "drift",
            "--prometheus",
            stage.prometheus,
            "--alertmanager",
            stage.alertmanager,
            "--watchdog",
            DEAD_MAN,
        ],
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **SECRETS},
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("no drift: ")
    with urllib.request.urlopen(f"{stage.prometheus}/api/v1/rules", timeout=10) as answer:
        loaded = [rule["query"] for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
    written = [
        rule["expr"]
        for name in ("rules.yml", "prober.yml")
        for group in yaml.safe_load(stage.clean[name])["groups"]
        for rule in group["rules"]
    ]
    assert f"{len(written)} rules" in done.stdout
    assert sum(one not in loaded for one in written) > 20, "there was nothing to bring into one form"


def test_every_change_of_a_rule_is_found_at_once_and_nothing_else(stage: Stage) -> None:
    """In the rules that Prometheus has loaded."""

    def edit(document: Any) -> None:
        probes = groups(document)["stormwatch-probes"]["rules"]
        down, silent, front, front_silent = probes
        down["expr"] = down["expr"].replace("== 0", "< 0.5")
        silent["labels"]["severity"] = "info"
        front["for"] = "5m"
        del front["keep_firing_for"]
        probes.remove(front_silent)
        ticket = groups(document)["stormwatch-slo-third"]["rules"][-1]
        ticket["annotations"]["runbook"] = "https://other.example/"
        probes.append({"alert": "ByHand", "expr": "up == 0"})
        document["groups"].remove(groups(document)["stormwatch-slo-front-fast"])
        document["groups"].append(
            {"name": "stormwatch-slo-old", "rules": [{"record": "old", "expr": "vector(1)"}]},
        )
        groups(document)["stormwatch-budget-front-availability"]["interval"] = "2m"

    stage.edit("rules.yml", edit)

    assert sorted(stage.seen_of_rules()) == sorted(
        [
            ("group-missing", "stormwatch-slo-front-fast"),
            ("group-extra", "stormwatch-slo-old"),
            ("evaluation-interval", "stormwatch-budget-front-availability"),
            ("rule-missing", 'stormwatch-probes ▸ ProbeNoEvidence{probe="front.eu", severity="ticket"}'),
            ("rule-extra", "stormwatch-probes ▸ ByHand"),
            ("expression", 'stormwatch-probes ▸ ProbeDown{probe="shop-dns", severity="page"}'),
            ("label", 'stormwatch-probes ▸ ProbeNoEvidence{probe="shop-dns", severity="ticket"}'),
            ("for", DOWN),
            ("keep-firing-for", DOWN),
            ("annotation", 'stormwatch-slo-third ▸ ErrorBudgetBurn{objective="third", severity="ticket"}'),
        ]
    )


def test_how_a_rule_is_written_is_no_drift(stage: Stage) -> None:
    """Blanks, the order of matchers, and numbers in another notation mean the same."""

    def rewrite(document: Any) -> None:
        for rule in groups(document)["stormwatch-slo-front-availability"]["rules"]:
            rule["expr"] = (
                rule["expr"]
                .replace("\n", "   \n ")
                .replace(
                    'objective="front-availability", judgement="bad"', 'judgement="bad",objective="front-availability"'
                )
                .replace("0.0144", "1.44e-2")
                .replace("max(", "max  (")
            )

    stage.edit("rules.yml", rewrite)

    assert stage.seen_of_rules() == []


def test_a_rule_that_cannot_be_evaluated_is_found(stage: Stage) -> None:
    """With the error that Prometheus tells."""
    stage.edit(
        "rules.yml",
        lambda document: front_down(document).update(expr="stormwatch_maintenance * on () stormwatch_maintenance"),
    )

    wait_for(lambda: stage.seen_of_rules() == [("expression", DOWN), ("evaluation-error", DOWN)], what="an error")
    assert "duplicate series" in stage.drift().findings[-1].seen


def test_a_group_that_is_loaded_twice_is_found_unless_its_file_is_another_stormwatchs(stage: Stage) -> None:
    """The one that is more like ours is compared."""
    more = stage.directory / "more.yml"
    more.write_text(
        yaml.safe_dump({"groups": [{"name": "stormwatch-probes", "rules": [{"record": "x", "expr": "vector(1)"}]}]})
    )
    try:
        assert stage.reload("prometheus.yml") == 200
        assert stage.seen_of_rules() == [("group-twice", "stormwatch-probes")]
        assert stage.seen_of_rules(ignore_files=("*/more.yml", "more.yml")) == []
    finally:
        more.unlink()
        stage.reload("prometheus.yml")


def test_a_file_that_prometheus_refused_is_found(stage: Stage) -> None:
    """What runs is what was there before."""
    (stage.directory / "rules.yml").write_text("groups: 7")
    assert stage.reload("rules.yml") == 500

    assert stage.seen() == [("reload-failed", "Prometheus")]


def _job(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda document: change(document["scrape_configs"][0])


def _without(document: Any) -> None:
    document["scrape_configs"][0]["job_name"] = "other"
    del document["alerting"]


def _elsewhere(document: Any) -> None:
    document["scrape_configs"][0]["static_configs"] = [{"targets": ["127.0.0.1:9"]}]
    document["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": ["127.0.0.1:9"]}]


def _otherwise(document: Any) -> None:
    del document["scrape_configs"][0]["honor_labels"]
    document["scrape_configs"][0]["scrape_interval"] = "1m"
    document["global"]["evaluation_interval"] = "1m"


SCRAPES: dict[str, tuple[Callable[[Any], None], list[str]]] = {
    "nothing is scraped, nobody is told": (_without, ["target-missing", "alertmanager-missing"]),
    "others are": (_elsewhere, ["target-missing", "target-down", "alertmanager-missing"]),
    "seldom, and with other labels": (_otherwise, ["scrape-interval", "honor-labels", *["evaluation-interval"] * 7]),
}


@pytest.mark.parametrize("change", SCRAPES)
def test_each_way_in_which_metrics_or_alerts_do_not_arrive_is_found(stage: Stage, change: str) -> None:
    """Nothing else is: what is scraped stays known for five minutes."""
    edit, wanted = SCRAPES[change]
    stage.edit("prometheus.yml", edit)

    seen: list[str] = []

    def is_found() -> bool:
        seen[:] = [what for what, _ in stage.seen(settling=0.0)]
        return seen == wanted

    wait_for(is_found, what=f"{wanted}")


def test_a_stormwatch_that_runs_with_another_configuration_is_found(stage: Stage) -> None:
    """It tells nothing of a probe that was added."""
    more = replace(stage.config, probes=(*stage.config.probes, replace(stage.config.probes[0], name="new")))

    found = stage.drift(more).findings

    assert [(each.what, each.subject) for each in found] == [("probe-missing", "new")]
    assert "restart `stormwatch run`" in found[0].remedy


def _route(of: str, severity: str, **more: Any) -> Callable[[Any], None]:
    def edit(document: Any) -> None:
        next(
            each
            for each in document["route"]["routes"]
            if each["receiver"] == of and f'severity="{severity}"' in each["matchers"]
        ).update(more)

    return edit


def _receiver(document: Any, name: str) -> Any:
    return next(each for each in document["receivers"] if each["name"] == name)


def _swap(document: Any) -> None:
    routes = document["route"]["routes"]
    routes[1], routes[2] = routes[2], routes[1]


def _forget_chat(document: Any) -> None:
    document["receivers"].remove(_receiver(document, "chat"))
    _route("chat", "page", receiver="mail")(document)


PAGE = '{severity="page"}'
ROUTES: dict[str, tuple[Callable[[Any], None], list[tuple[str, str]]]] = {
    "waits": (_route("webhook", "page", group_wait="5m"), [("route-group-wait", PAGE)]),
    "repeats": (_route("webhook", "high", repeat_interval="1w"), [("route-repeat-interval", '{severity="high"}')]),
    "groups": (_route("webhook", "high", group_by=["..."]), [("route-group-by", '{severity="high"}')]),
    "receiver": (_route("chat", "page", receiver="mail"), [("route-receiver", PAGE)]),
    "ends": (_route("chat", "page", **{"continue": False}), [("route-continue", PAGE)]),
    "wakes": (
        _route("mail", "ticket", active_time_intervals=[]),
        [("route-active-time-intervals", '{severity="ticket"}')],
    ),
    "missing": (
        lambda document: document["route"]["routes"].pop(1),
        [("route-missing", '{severity="page", team="web"}')],
    ),
    "besides": (
        lambda document: document["route"]["routes"].insert(0, {"matchers": ["team=~a|b"], "receiver": "mail"}),
        [("route-extra", '{team=~"a|b"}')],
    ),
    "order": (_swap, [("route-order", "route")]),
    "receiver missing": (_forget_chat, [("route-receiver", PAGE), ("receiver-missing", "chat")]),
    "receiver besides": (
        lambda document: document["receivers"].append({"name": "by-hand"}),
        [("receiver-extra", "by-hand")],
    ),
    "address": (
        lambda document: _receiver(document, "webhook")["webhook_configs"][0].update(url="http://127.0.0.1:9/other"),
        [("receiver-changed", "webhook ▸ webhook_configs.url")],
    ),
    "file": (
        lambda document: _receiver(document, "oncall")["pagerduty_configs"][0].update(routing_key_file="/other/key"),
        [("receiver-changed", "oncall ▸ pagerduty_configs.routing_key_file")],
    ),
    "way besides": (
        lambda document: _receiver(document, "webhook")["webhook_configs"].append({"url": "http://127.0.0.1:9/other"}),
        [("receiver-changed", "webhook")],
    ),
    "hides": (
        lambda document: document["inhibit_rules"].append(
            {"source_matchers": ['alertname="Watchdog"'], "target_matchers": ['severity="page"'], "equal": ["probe"]}
        ),
        [("inhibition-extra", '{alertname="Watchdog"} holds back {severity="page"} with the same probe')],
    ),
    "does not hide": (
        lambda document: document["inhibit_rules"].pop(2),
        [
            (
                "inhibition-missing",
                '{alertname="StormwatchDown"} holds back {alertname=~"ProbeNoEvidence|StormwatchInstanceDown"}',
            )
        ],
    ),
    "hours besides": (
        lambda document: document["time_intervals"].append(
            {"name": "night", "time_intervals": [{"times": [{"start_time": "20:00", "end_time": "24:00"}]}]}
        ),
        [("time-interval-extra", "night")],
    ),
    "other hours": (
        lambda document: document["time_intervals"][0]["time_intervals"][0].update(weekdays=["monday"]),
        [("time-interval-changed", "hours-of-mail")],
    ),
}


@pytest.mark.parametrize("change", ROUTES)
def test_each_change_of_alertmanager_is_found_and_nothing_else(stage: Stage, change: str) -> None:
    """What is there besides is others', when somebody says so."""
    edit, wanted = ROUTES[change]
    stage.edit("alertmanager.yml", edit)

    assert stage.seen(prometheus="") == wanted
    assert stage.seen(prometheus="", shared=True) == [each for each in wanted if not each[0].endswith("-extra")]


def test_a_route_of_others_that_takes_our_alerts_is_found(stage: Stage) -> None:
    """Though theirs are no drift where the Alertmanager is shared, and all of ours are there."""
    stage.edit(
        "alertmanager.yml",
        lambda document: document["route"]["routes"].insert(
            0, {"matchers": ['alertname=~"Probe.*"', "severity=page"], "receiver": "watchdog"}
        ),
    )

    assert [what for what, _ in stage.seen(prometheus="")] == ["route-extra"]
    taken = stage.drift(prometheus="", shared=True).findings

    assert [(each.what, each.subject, each.expected, each.seen) for each in taken] == [
        ("route-taken", "ProbeDown, page", "told to chat, webhook", "told to watchdog")
    ]


def test_a_secret_that_alertmanager_runs_is_not_shown(stage: Stage) -> None:
    """Whoever wrote it into an address there."""

    def edit(document: Any) -> None:
        _receiver(document, "webhook")["webhook_configs"][0]["url"] = f"http://127.0.0.1:9/{SECRETS['DRIFT_KEY']}"

    stage.edit("alertmanager.yml", edit)

    (finding,) = stage.drift(prometheus="").findings
    assert (finding.what, finding.seen) == ("receiver-changed", "http://127.0.0.1:9/***")


def test_json_has_everything_and_the_exit_code_is_an_interface(stage: Stage) -> None:
    """0 no drift, 1 drift, 2 a mistake of the command line, 3 nobody answers."""

    def stormwatch(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return invoke("drift", *arguments, cwd=stage.directory, env={**os.environ, **SECRETS})

    stage.edit("alertmanager.yml", _route("webhook", "page", group_wait="5m"))
    found = stormwatch("--alertmanager", stage.alertmanager, "--watchdog", DEAD_MAN, "--format", "json")
    assert (found.returncode, found.stderr) == (1, "")
    assert json.loads(found.stdout) == {
        "drift": True,
        "compared": [f"the configuration of Alertmanager at {stage.alertmanager}"],
        "findings": [
            {
                "what": "route-group-wait",
                "subject": '{severity="page"}',
                "expected": "group_wait: 0s",
                "seen": "group_wait: 5m",
                "remedy": "write it anew with `stormwatch rules --for alertmanager` and reload Alertmanager",
            }
        ],
    }
    done = stormwatch("--prometheus", "http://user:hidden@127.0.0.1:9")
    assert (done.returncode, done.stdout) == (3, "")
    assert (
        done.stderr == "--prometheus http://127.0.0.1:9: no Prometheus answers there (All connection attempts failed)\n"
    )
    done = stormwatch("--prometheus", stage.prometheus, "--interval", "5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--interval: a duration is written like")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prometheus": "{alertmanager}"}, "status 404"),
        ({"prometheus": "", "alertmanager": "{prometheus}"}, "status 404"),
        ({"prometheus": "http://"}, "no Prometheus answers there"),
        ({"prometheus": "", "alertmanager": "{listen}/metrics?"}, "no Alertmanager answers there"),
    ],
)
def test_an_answer_that_is_none_is_no_verdict(stage: Stage, asked: dict[str, str], said: str) -> None:
    """One line, and exit code 3."""
    known = {"prometheus": stage.prometheus, "alertmanager": stage.alertmanager, "listen": f"http://{stage.listen}"}

    with pytest.raises(Problem) as caught:
        stage.drift(**{name: value.format(**known) for name, value in asked.items()})

    assert caught.value.code is Exit.NO_VERDICT
    (line,) = caught.value.lines
    assert said in line


def test_nobody_to_ask_is_a_mistake(tmp_path: Path) -> None:
    """And no silent success."""
    (tmp_path / "stormwatch.yaml").write_text(CONFIG)

    with pytest.raises(Problem, match="give --prometheus") as caught:
        asyncio.run(drift_of(load(tmp_path / "stormwatch.yaml", environ=SECRETS), Asked()))
    assert caught.value.code is Exit.USAGE
