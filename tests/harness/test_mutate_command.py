"""`stormwatch drill --record` and `stormwatch mutate`: real drills on a real proxy, then their lines on file and line."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stormwatch.chaos.mutation import examine
from stormwatch.chaos.playback import judged_as_recorded, replay
from stormwatch.chaos.recording import Recorded, read_recordings
from stormwatch.harness.cli import app
from stormwatch.harness.config import load
from stormwatch.harness.document import read_document
from stormwatch.harness.mutate_command import monitoring_of
from stormwatch.harness.mutate_report import Located, as_json, as_markdown, as_sarif
from stormwatch.harness.problem import Problem
from stormwatch.harness.secret import Secrets
from stormwatch.probes.result import Outcome
from tests.servers.command import invoke
from tests.servers.process import free_port
from tests.servers.proxied import proxied, route_to
from tests.servers.upstream import keeping_alive

STORMWATCH = Path(sys.executable).with_name("stormwatch")
FILE = """\
probes:
  - name: shop
    kind: http
    target: "http://127.0.0.1:PORT/health"
    every: 2s
    timeout: 900ms
    confirm: {attempts: 2, after: 50ms}
    alert: {for: 1s}
    http:
      expect:
        status: [200]
        body_matches: ["served GET", "health"]
objectives:
  - name: shop-up
    probe: shop
    target: 99%
    window: 30d
    burns:
      - {severity: page, long: 1h, short: 5m, factor: 14.4}
      - {severity: ticket, long: 6h, factor: 6}
proxies:
  control: "CONTROL"
  routes:
    - {name: shop, listen: "127.0.0.1:PORT", upstream: "127.0.0.1:UPSTREAM", http: true}
watch: {receiver: "RECEIVER"}
alerts:
  notify:
    - name: ops
      to: webhook
      url: "http://RECEIVER/"
      severities: [page, ticket]
      match: {probe: shop}
      group_wait: 0s
      group_interval: 1s
drills:
  - name: errors
    fault: {kind: http-status, target: shop, status: 500}
    expect:
      probe: {name: shop, reason: status, within: 30s}
      alert: {probe: shop, severity: page, within: 40s, delivered_within: 40s}
      resolves_within: 40s
      allow: [shop-up]
  - name: wrong-reason
    fault: {kind: http-status, target: shop, status: 503}
    expect:
      probe: {name: shop, reason: refused, within: 3s}
      resolves_within: 40s
      allow: [shop-up]
"""


@dataclass(frozen=True)
class Drilled:
    """A directory in which drills were recorded, and what they printed."""

    directory: Path
    verdicts: dict[str, str]
    code: int


@contextlib.asynccontextmanager
async def a_shop(directory: Path) -> AsyncGenerator[None]:
    """A service behind a fault proxy, and a configuration that watches it."""
    async with keeping_alive() as upstream, proxied(route_to(upstream.port, http=True)) as proxy:
        places = {"PORT": str(proxy.port()), "CONTROL": proxy.control.removeprefix("http://")}
        places["RECEIVER"] = f"127.0.0.1:{free_port()}"
        text = FILE.replace("UPSTREAM", str(upstream.port))
        for name, place in places.items():
            text = text.replace(name, place)
        (directory / "stormwatch.yaml").write_text(text)
        yield


async def _drill(directory: Path) -> Drilled:
    async with a_shop(directory):
        process = await asyncio.create_subprocess_exec(
            *(STORMWATCH, "drill", "--record", "recordings", "--control", "3s", "--format", "json"),
            cwd=directory,
            env={**os.environ, "STORMWATCH_STATE": str(directory / "state")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await asyncio.wait_for(process.communicate(), 180)
    assert out, error.decode()
    reports = {one["drill"]["name"]: one["verdict"] for one in json.loads(out)}
    return Drilled(directory, reports, process.returncode or 0)


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Drilled:
    """Two drills: one is proved, the other expects another reason."""
    return asyncio.run(_drill(tmp_path_factory.mktemp("drilled")))


def stormwatch(directory: Path, *arguments: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    """The command, where the file is."""
    return invoke(*arguments, cwd=directory, env={**os.environ, **secrets}, timeout=120)


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def mutate(drilled: Drilled, *arguments: str) -> Answer:
    """Of what was recorded."""
    return command(drilled, "mutate", "--recordings", "recordings", *arguments)


def command(drilled: Drilled, *arguments: str) -> Answer:
    """In this process, because starting one takes longer than all that it does."""
    with contextlib.chdir(drilled.directory):
        ended = CliRunner().invoke(app, list(arguments))
    if isinstance(ended.exception, Problem):
        return Answer(ended.exception.code, ended.stdout, str(ended.exception))
    assert ended.exception is None, ended.exception
    return Answer(ended.exit_code, ended.stdout, "")


def recordings(drilled: Drilled) -> dict[str, Recorded]:
    """By name."""
    return {one.name: one for one in read_recordings(drilled.directory / "recordings")}


def test_drills_are_recorded_with_what_was_before(drilled: Drilled) -> None:
    """Every run of the time, red and green; the second knows what the first one left in the windows."""
    assert drilled.verdicts == {"errors": "proved", "wrong-reason": "misattributed"}
    assert drilled.code == 1
    kept = recordings(drilled)
    quiet = kept.pop("control run")
    assert quiet.report is None
    # Asked for by one clock and told by another.
    assert quiet.ended - quiet.began >= 2.9
    assert Outcome.UP in {result.outcome for result in quiet.results}
    assert kept.keys() == drilled.verdicts.keys()
    for one in kept.values():
        assert one.gap == ""
        assert {result.outcome for result in one.results} >= {Outcome.UP, Outcome.DOWN}
        assert one.report is not None
    first, second = kept["errors"], kept["wrong-reason"]
    seen_before = {(each.probe, round(each.finished, 3)) for each in second.earlier}
    assert {(each.probe, round(each.finished, 3)) for each in first.results[:-1]} <= seen_before


def test_a_replay_with_the_same_configuration_comes_to_what_the_drill_came_to(drilled: Drilled) -> None:
    """The verdict, each clause's answer, and every alert in the same order at the same time."""
    monitoring = monitoring_of(load(drilled.directory / "stormwatch.yaml", environ={}))
    kept = recordings(drilled)
    assert replay(monitoring, kept.pop("control run")).judgement is None
    for name, recorded in kept.items():
        again, then = replay(monitoring, recorded), judged_as_recorded(recorded)
        assert then is not None
        assert again.judgement is not None
        assert again.told == then.verdict.value == drilled.verdicts[name]
        answers = [(clause.name, clause.answer) for clause in again.judgement.clauses]
        assert answers == [(clause.name, clause.answer) for clause in then.clauses]
        told = [(one.alert.labels["alertname"], one.after) for one in again.transitions]
        assert told == [(one.alert.labels["alertname"], one.after) for one in recorded.transitions]
        for replayed, seen in zip(again.transitions, recorded.transitions, strict=True):
            # The service evaluates a little after the result that makes it, and later when the machine is busy.
            assert -0.1 < seen.at - replayed.at < 10


def test_untested_lines_are_named_with_file_and_line(drilled: Drilled) -> None:
    """What the drills tell apart is not among them."""
    answer = mutate(drilled)
    assert answer.returncode == 0, answer.stderr
    lines = (drilled.directory / "stormwatch.yaml").read_text().splitlines()

    def found(words: str) -> str:
        (said,) = [one for one in answer.stdout.splitlines() if words in one]
        match = re.match(r"stormwatch\.yaml:(\d+): ", said)
        assert match, said
        return lines[int(match[1]) - 1].strip()

    assert found("does not ask for expect.body_matches 'health'") == 'body_matches: ["served GET", "health"]'
    assert found("ProbeDown of shop fires at once") == "alert: {for: 1s}"
    assert found("the ticket pair 6x over 6h and 30m of shop-up asks for twice") == (
        "- {severity: ticket, long: 6h, factor: 6}"
    )
    assert found("the page of shop-up is removed") == "- {severity: page, long: 1h, short: 5m, factor: 14.4}"
    assert found("promises 99.9% instead of 99%") == "target: 99%"
    assert found("ops is not told of what is of severity ticket") == "severities: [page, ticket]"
    assert "ops is not told of what is of severity page" not in answer.stdout
    assert "ProbeDown of shop is removed" not in answer.stdout
    assert "does not ask for expect.status" not in answer.stdout
    assert re.search(r"^\d+ of \d+ mutants are killed, \d+\.\d%, by 3 recordings$", answer.stdout, re.MULTILINE)


def test_for_a_machine(drilled: Drilled) -> None:
    """Every mutant with its state; the counts are theirs."""
    answer = mutate(drilled, "--format", "json")
    document = json.loads(answer.stdout)
    states = [one["state"] for one in document["mutants"]]
    assert {name: document["score"][name] for name in set(states)} == {name: states.count(name) for name in set(states)}
    killed = {one["change"]: (one["by"], one["told"]) for one in document["mutants"] if one["state"] == "killed"}
    assert killed["ProbeDown of shop is removed"] == ("errors", "proved, with it misattributed")
    # The page of the objective came all the same, and is not the alert that was waited for.
    assert {change: by for change, by in killed.items() if change.startswith("ops ")} == dict.fromkeys(
        (
            "ops is not told of any alert",
            "ops is not told of what is of severity page",
            "ops is told of alerts whose probe is not shop, and not of those whose probe is",
        ),
        ("errors", "proved, with it misattributed"),
    )
    assert document["recordings"]["used"] == ["control run", "errors", "wrong-reason"]
    assert document["score"]["share"] == pytest.approx(
        states.count("killed") / (len(states) - states.count("equivalent"))
    )
    assert all(one["what_would_kill_it"] for one in document["mutants"])


def test_for_a_code_host(drilled: Drilled) -> None:
    """SARIF 2.1.0: what it asks of every document, and each survivor on its line."""
    document = json.loads(mutate(drilled, "--format", "sarif").stdout)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-2.1.0.json")
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "stormwatch mutate"
    assert len({rule["id"] for rule in rules}) == len(rules)
    total = len((drilled.directory / "stormwatch.yaml").read_text().splitlines())
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"note", "warning"}
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "stormwatch.yaml"
        assert 1 <= physical["region"]["startLine"] <= total
    survived = json.loads(mutate(drilled, "--format", "json").stdout)["score"]
    warnings = [result for result in run["results"] if result["level"] == "warning"]
    assert len(warnings) == survived["survived"] + survived["unreached"]


def test_for_a_pull_request(drilled: Drilled) -> None:
    """A table, in which nothing that was written by people can end a cell or begin a tag."""
    told = mutate(drilled, "--format", "markdown", "-o", "mutants.md")
    assert (told.returncode, told.stdout) == (0, "")
    page = (drilled.directory / "mutants.md").read_text()
    assert page.startswith("### Monitoring: ")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    assert all(line.count("|") == 4 for line in rows)


def test_the_exit_code_is_an_interface(drilled: Drilled, tmp_path: Path) -> None:
    """0 good, 1 below what was asked, 2 what cannot be, 3 no recording that proves anything."""
    assert mutate(drilled, "--fail-under", "1%").returncode == 0
    below = mutate(drilled, "--fail-under", "99%")
    assert (below.returncode, "wanted at least 99% (--fail-under)" in below.stderr) == (1, True)
    for arguments, said in (
        (["--fail-under", "lots"], "--fail-under: "),
        (["-c", "nowhere.yaml"], "nowhere.yaml: "),
        (
            ["--recordings", "nowhere"],
            "there is no such directory; record drills with `stormwatch drill --record nowhere`",
        ),
        (["--recordings", str(tmp_path)], "there is no recording in it"),
    ):
        refused = mutate(drilled, *arguments)
        assert refused.returncode == 2, arguments
        assert said in refused.stderr
    text = (drilled.directory / "recordings" / "errors.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "errors.jsonl").write_text("".join(text[:-1]))
    unproved = mutate(drilled, "--recordings", str(tmp_path))
    assert unproved.returncode == 3
    assert "errors: the drill died" in unproved.stderr
    (tmp_path / "errors.jsonl").write_text("nonsense\n")
    spoilt = stormwatch(drilled.directory, "mutate", "--recordings", str(tmp_path))
    assert (spoilt.returncode, spoilt.stdout) == (2, "")
    assert spoilt.stderr.startswith(f"--recordings: {tmp_path}/errors.jsonl:1 is not JSON: ")


def test_where_nothing_can_be_kept_nothing_is_injected(drilled: Drilled, tmp_path: Path) -> None:
    """Said before the drill begins."""

    async def drill() -> tuple[int | None, str]:
        async with a_shop(tmp_path):
            (tmp_path / "recordings").write_text("")
            process = await asyncio.create_subprocess_exec(
                *(STORMWATCH, "drill", "errors", "--record", "recordings"),
                cwd=tmp_path,
                env={**os.environ, "STORMWATCH_STATE": str(tmp_path / "state")},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            _, error = await asyncio.wait_for(process.communicate(), 60)
            return process.returncode, error.decode()

    code, error = asyncio.run(drill())
    assert code == 2, error
    assert "--record: cannot write recordings/errors.jsonl" in error
    assert "nothing was injected" in error
    for arguments, said in (
        (["--matrix", "--record", "recordings"], "leave out --replay, --matrix and --threshold"),
        (["--control", "3s"], "--control is recorded: give --record DIR"),
        (["--record", "recordings", "--control", "soon"], "--control: "),
    ):
        refused = command(drilled, "drill", *arguments)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


def test_no_secret_is_shown(drilled: Drilled, tmp_path: Path) -> None:
    """What a probe looks for may be one."""
    kept = {"SEEN": "served GET"}
    text = (drilled.directory / "stormwatch.yaml").read_text()
    file = tmp_path / "secret.yaml"
    file.write_text(text.replace('"served GET"', '"${env:SEEN}"'))
    config = load(file, environ=kept)
    sentences = [
        one.mutant.sentence for one in examine(monitoring_of(config), list(recordings(drilled).values())).fates
    ]
    assert any("served GET" in one for one in sentences)
    shown = stormwatch(drilled.directory, "mutate", "-c", str(file), "--recordings", "recordings", **kept)
    assert shown.returncode == 0, shown.stderr
    assert "body_matches" in shown.stdout
    assert "served GET" not in shown.stdout
    document, _ = read_document(file)
    examined = examine(monitoring_of(config), list(recordings(drilled).values()))
    located = Located(examined, document, base=tmp_path, mask=Secrets.of(config.secrets).mask)
    for written in (as_json, as_sarif, as_markdown):
        assert "served GET" not in written(located)
