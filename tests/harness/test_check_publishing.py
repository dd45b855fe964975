"""`stormwatch check` for CI: only journeys, annotations, a page, properties of steps, the comparison with the last runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from stormwatch.harness import outcomes
from stormwatch.harness.check import journeys_among
from stormwatch.harness.check_form import Form
from stormwatch.harness.check_publishing import asked_for
from stormwatch.harness.problem import Problem
from stormwatch.probes.probe import Probe
from stormwatch.probes.result import Outcome, Phase, Reason, Result
from stormwatch.probes.tcp import KIND as TCP

Check = Callable[..., subprocess.CompletedProcess[str]]

JOURNEYS = """
import time
import pytest

def test_pay(step):
    with step("look"):
        time.sleep(0.2)
    with step("pay"):
        assert {passes}, "no button"

@pytest.mark.journey
def test_login():
    raise pytest.UsageError("no customer")
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs `stormwatch check` of two journeys, of which `login` is broken, and of a port that is closed."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")

    def check(*options: str, passes: bool = False, login: bool = True) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_shop.py").write_text(JOURNEYS.replace("{passes}", str(passes)))
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        names = ["pay", *(["login"] if login else [])]
        probes = [
            {"name": name, "kind": "journey", "target": f"test_shop.py::test_{name}", "every": "5m", "timeout": "60s"}
            for name in names
        ]
        probes.append({"name": "port", "kind": "tcp", "target": "127.0.0.1:9", "every": "5m", "timeout": "30s"})
        (tmp_path / "stormwatch.yaml").write_text(json.dumps({"location": "ci", "probes": probes}))
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
        return subprocess.run(
            [sys.executable, "-c", "from stormwatch.harness.cli import main; main()", "check", *options],
            cwd=tmp_path,
            env=environ
            | {
                "STORMWATCH_STATE": str(tmp_path / "state"),
                "GITHUB_WORKSPACE": str(tmp_path),
                "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return check


def test_annotations_stand_at_the_line_of_the_step_and_what_has_no_line_at_the_configuration(
    check: Check, tmp_path: Path
) -> None:
    """And the summary of the step has all of them in a table."""
    done = check("--format", "github", "--report", "report.html")
    assert done.stdout.splitlines() == [
        '::error file=test_shop.py,line=9,title=pay is down%3A assertion::step "pay": no button',
        "::error file=test_shop.py,line=13,title=login is broken%3A collection::no customer",
        "::error file=stormwatch.yaml,title=port is down%3A refused::no connection to 127.0.0.1:9: Connection refused",
        "3 probes: 0 up, 2 down, 1 broken",
    ]
    assert (done.returncode, done.stderr) == (1, "")
    rows = [line for line in (tmp_path / "summary.md").read_text().splitlines() if line.startswith("| ✗ down | pay |")]
    assert rows[0].endswith('| step "pay": no button (test&#95;shop.py:9) |')
    assert "are in report.html" in (tmp_path / "summary.md").read_text()


def test_only_journeys_with_a_page_beside_their_steps_kept_and_nothing_down_is_no_verdict(
    check: Check, tmp_path: Path
) -> None:
    options = ("--journeys", "--format", "html", "--report", "out/report.html", "--baseline", "steps", "--record")
    done = check(*options, passes=True)
    assert done.returncode == 3
    assert "Of 2 journeys: 1 could not be run, 1 up." in done.stdout
    assert (tmp_path / "out" / "report.html").read_text() == done.stdout.removesuffix("\n")
    assert "port" not in done.stdout.partition("<main>")[2]
    assert not (tmp_path / "summary.md").exists(), "it belongs to the form that GitHub reads"
    assert done.stderr == "steps: 0 slower, 0 as before, 2 not judged (fewer than 5 runs to compare with)\n"
    (line,) = (tmp_path / "steps" / "step-times.jsonl").read_text().splitlines()
    recorded = json.loads(line)["journeys"]
    assert list(recorded) == ["pay"]
    assert recorded["pay"]["look"] >= 0.2


def test_a_step_that_got_slower_may_decide_the_exit_code(check: Check, tmp_path: Path) -> None:
    past = '{"journeys": {"pay": {"look": 0.05, "pay": 100}}}\n'
    (tmp_path / "steps.jsonl").write_text(past * 5)
    options = ("--journeys", "--baseline", "steps.jsonl", "--fail-on-slower", "--format", "json")
    done = check(*options, passes=True, login=False)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["summary"] == "1 probe: 1 up"
    assert [(each["step"], each["standing"]) for each in document["comparison"]["steps"]] == [
        ("look", "slower"),
        ("pay", "as-before"),
    ]
    assert (tmp_path / "steps.jsonl").read_text() == past * 5


def test_a_probe_that_is_no_journey_cannot_be_asked_for_as_one() -> None:
    port = Probe(name="port", kind="tcp", target="127.0.0.1:9", check=TCP.build("127.0.0.1:9", TCP.options()))
    with pytest.raises(Problem, match=r"^--journeys: port is no journey, but of kind tcp; leave one of them out$"):
        journeys_among([port], named=True, config=Path("s.yaml"))


def test_a_configuration_without_journeys_is_told() -> None:
    with pytest.raises(Problem, match=r"^--journeys: no probe in s\.yaml is of kind journey; write one, or leave "):
        journeys_among([], named=False, config=Path("s.yaml"))


@pytest.mark.parametrize(
    ("baseline", "options", "said"),
    [
        ("", {"record": True}, "--record needs --baseline PATH, which says where the last runs are"),
        ("", {"fail_on_slower": True}, "--fail-on-slower needs --baseline PATH, which says where the last runs are"),
        (
            f"{__file__}/a.jsonl",
            {},
            f"--baseline: cannot read the runs to compare with in {__file__}/a.jsonl: Not a dir",
        ),
    ],
)
def test_what_cannot_be_followed_is_told_before_anything_runs(
    baseline: str, options: dict[str, bool], said: str
) -> None:
    asked = {"record": False, "fail_on_slower": False} | options
    with pytest.raises(Problem, match=f"^{re.escape(said)}"):
        asked_for(
            form=Form.TABLE, config=Path("s.yaml"), page=None, baseline=Path(baseline) if baseline else None, **asked
        )


def test_junit_has_the_seconds_of_steps_and_only_signs_that_xml_can_write() -> None:
    result = Result(
        probe="pay",
        kind="journey",
        target="test_shop.py::test_pay",
        location="ci",
        started=0.0,
        seconds=1.5,
        outcome=Outcome.DOWN,
        reason=Reason.STEP,
        message="no button: \x00\ufffe\ud800!",
        phases=(Phase("look", 0.25), Phase("pay\x01", 1.0, failed=True)),
    )
    (case,) = ET.fromstring(outcomes.as_junit([result])).iter("testcase")
    assert [(each.get("name"), each.get("value")) for each in case.iter("property")] == [
        ("stormwatch_step:look", "0.250"),
        ("stormwatch_step:pay", "1.000"),
    ]
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "no button: !"
