"""`stormwatch slo` as in a pipeline: exit codes, sentences, JSON, and nobody to ask."""

import json
import re
import subprocess
from collections.abc import Generator

import pytest

from tests.servers.breakable import Breakable
from tests.servers.command import invoke, staying
from tests.servers.process import free_port, wait_for

CONFIG = """\
defaults: {{every: 1s, timeout: 450ms, confirm: {{attempts: 2, after: 10ms}}}}
probes:
  - {{name: good, kind: tcp, target: "127.0.0.1:{good}"}}
  - {{name: bad, kind: tcp, target: "127.0.0.1:{bad}"}}
  - {{name: dark, kind: tcp, target: "127.0.0.1:{good}"}}
maintenance:
  - {{match: {{probe: dark}}, rrule: "FREQ=DAILY", duration: 1d}}
objectives:
  - {{name: good-availability, probe: good, target: 99%, window: 1d, labels: {{team: web}}}}
  - {{name: bad-availability, probe: bad, target: 99%, window: 1d, labels: {{team: shop}}}}
  - {{name: dark-availability, probe: dark, target: 99%, window: 30d, labels: {{team: dark}}}}
"""


def slo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as it is typed."""
    return invoke("slo", *arguments)


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a service with a good objective, a bad one, and one without results."""
    directory = tmp_path_factory.mktemp("slo")
    listen = free_port()
    with Breakable() as good:
        config = directory / "stormwatch.yaml"
        config.write_text(CONFIG.format(good=good.url.rpartition(":")[2], bad=free_port()))
        run = ["run", "-c", config, "--listen", f"127.0.0.1:{listen}", "--data", directory / "data"]
        with staying(*run, log=directory / "log", port=listen):
            url = f"http://127.0.0.1:{listen}"
            wait_for(
                lambda: slo("gate", "--from", url, "bad-availability").returncode == 1, what="the bad objective to burn"
            )
            wait_for(
                lambda: slo("gate", "--from", url, "good-availability").returncode == 0, what="the good one to be good"
            )
            yield url


def test_the_gate_is_open_for_what_is_good(watching: str) -> None:
    """Exit code 0, one line."""
    done = slo("gate", "--from", watching, "--match", "team=web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "✓ the gate is open for good-availability\n", "")


def test_the_gate_is_closed_with_reasons_also_as_json(watching: str) -> None:
    """Exit code 1; the same for a machine."""
    done = slo("gate", "--from", watching, "good-availability", "bad-availability")
    assert done.returncode == 1
    assert done.stdout.startswith("✗ the gate is closed for good-availability, bad-availability\n")
    document = json.loads(slo("gate", "--from", watching, "bad-availability", "--format", "json").stdout)
    assert document["gate"] == "closed"
    assert document["reasons"]
    assert document["objectives"][0]["firing"][0] == "page"


def test_without_evidence_there_is_no_permission(watching: str) -> None:
    """Exit code 3: an objective whose probe is always under maintenance, and an origin that is not there."""
    done = slo("gate", "--from", watching, "dark-availability")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "? the gate is unknown for dark-availability")
    nobody = f"http://127.0.0.1:{free_port()}"
    for option, who in (("--from", "running stormwatch"), ("--prometheus", "Prometheus")):
        done = slo("gate", option, nobody)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith(f"{option} {nobody}: no {who} answers there (")
    assert slo("gate", "--prometheus", watching).returncode == 3


def test_status_shows_every_budget(watching: str) -> None:
    """Left in percent and in minutes, the pace, the alerts; and as JSON."""
    done = slo("status", "--from", watching)
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "100.0%" in rows["good-availability"]
    assert "14m24s" in rows["good-availability"]
    assert "not at this pace" in rows["good-availability"]
    assert "page" in rows["bad-availability"]
    assert re.search(r" [\d.]+x over \w+ ", rows["bad-availability"])
    assert "no results yet" in rows["dark-availability"]
    document = json.loads(slo("status", "--from", watching, "--format", "json").stdout)
    assert [each["objective"] for each in document["objectives"]] == [
        "good-availability",
        "bad-availability",
        "dark-availability",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["front"],
            "no objective is called front at {url}; there are: bad-availability, dark-availability, good-availability",
        ),
        (["--match", "team"], "--match team: a label is written name=value, like team=web"),
        (["--match", "team=nobody"], "no objective at {url} has the labels team=nobody"),
        (["--min-left", "0.1"], "--min-left: a ratio is written like 99.9%, not '0.1' (str)"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_2(watching: str, arguments: list[str], said: str) -> None:
    """With the remedy."""
    done = slo("gate", "--from", watching, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said.format(url=watching)}\n")
