"""Workflow commands of GitHub Actions: what GitHub reads out of them is what was said, whatever a page wrote into it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stormwatch.journeys.annotations import commands, repository
from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import Comparison, compare
from stormwatch.probes.result import Outcome, Reason

Write = Callable[..., Path]

DOWN = RunRecord(
    key="test_shop.py::test_pay",
    name="test_pay",
    target="test_shop.py::test_pay",
    file="/repo/journeys/test_shop.py",
    outcome=Outcome.DOWN,
    reason=Reason.STEP,
    message='step "pay": no button',
    started=0.0,
    seconds=1.0,
    evidence={"where": "/repo/journeys/test_shop.py:12"},
)
ROOT = Path("/repo")


def read(line: str) -> tuple[str, dict[str, str], str]:
    """A command as GitHub's runner reads it: name, properties, message."""
    assert line.startswith("::")
    head, _, message = line[2:].partition("::")
    name, _, written = head.partition(" ")

    def plain(text: str, signs: dict[str, str]) -> str:
        for code, sign in signs.items():
            text = text.replace(code, sign)
        return text.replace("%25", "%")

    data = {"%0D": "\r", "%0A": "\n"}
    properties = dict(each.split("=", 1) for each in written.split(",") if each)
    known = {key: plain(value, data | {"%3A": ":", "%2C": ","}) for key, value in properties.items()}
    return name, known, plain(message, data)


def test_an_error_names_file_line_and_title() -> None:
    assert commands([DOWN], root=ROOT) == [
        '::error file=journeys/test_shop.py,line=12,title=test_pay is down%3A step::step "pay": no button'
    ]


@given(message=st.text(), name=st.text())
def test_whatever_is_in_a_message_it_is_one_command_and_read_back_as_it_was(message: str, name: str) -> None:
    (line,) = commands([replace(DOWN, message=message, name=name)], root=ROOT)
    assert "\n" not in line
    assert "\r" not in line
    kind, properties, said = read(line)
    assert (kind, said, properties["title"]) == ("error", message, f"{name} is down: step")
    assert set(properties) == {"file", "line", "title"}


def test_a_page_that_knows_workflow_commands_ends_none_and_begins_none() -> None:
    hostile = replace(DOWN, message="no\n::warning::gone\r::add-mask::e%0A", name="a,line=99::b")
    (line,) = commands([hostile], root=ROOT)
    assert line == (
        "::error file=journeys/test_shop.py,line=12,title=a%2Cline=99%3A%3Ab is down%3A step"
        "::no%0A::warning::gone%0D::add-mask::e%250A"
    )


def test_only_what_is_not_up_is_told_and_where_the_line_is_unknown_the_file_alone() -> None:
    up = replace(DOWN, outcome=Outcome.UP, message="")
    broken = replace(DOWN, outcome=Outcome.BROKEN, reason=Reason.BROWSER, message="no browser", evidence={})
    outside = replace(broken, file="/elsewhere/test_it.py")
    probe = replace(broken, kind="http", file="", name="front")
    said = [read(line)[1] for line in commands([up, broken, outside, probe], root=ROOT, otherwise="/repo/s.yaml")]
    assert said == [
        {"file": "journeys/test_shop.py", "title": "test_pay is broken: browser"},
        {"file": "/elsewhere/test_it.py", "title": "test_pay is broken: browser"},
        {"file": "s.yaml", "title": "front is broken: browser"},
    ]


def test_a_step_that_got_slower_is_a_warning() -> None:
    up = replace(DOWN, outcome=Outcome.UP, message="")
    slow: Comparison = compare({up.key: {"pay": 2.0}}, [{up.key: {"pay": 1.0}}] * 5)
    (line,) = commands([up], slow, root=ROOT)
    assert read(line) == (
        "warning",
        {"file": "journeys/test_shop.py", "title": 'test_pay: step "pay" got slower'},
        "took 2.000 s, +100%; the median of 5 runs is 1.000 s, and noise explains up to 1.200 s",
    )


def test_the_repository_is_what_github_says_it_is(tmp_path: Path) -> None:
    assert repository({"GITHUB_WORKSPACE": str(tmp_path)}) == tmp_path
    assert repository({}) == Path.cwd()


def test_in_github_actions_pytest_says_them_by_itself_and_elsewhere_when_it_is_asked(write: Write) -> None:
    file = write("""
        @pytest.mark.parametrize("n", range(2))
        def test_it(n, step, secrets):
            with step("pay"):
                assert n, f"no button: {secrets['card']}\\n::warning::x"

        @pytest.mark.journey
        def test_later():
            pytest.skip("not yet")

        def test_other():
            assert False
    """)

    def said(*options: str, **environ: str) -> list[str]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, file.name]
        done = subprocess.run(
            command,
            cwd=file.parent,
            env=plain | {"STORMWATCH_SECRET_CARD": "4929420573595709"} | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert "2 failed, 1 passed, 1 skipped" in done.stdout
        return [line for line in done.stdout.splitlines() if line.startswith("::")]

    expected = [
        '::error file=suite/test_it.py,line=8,title=test_it[0] is down%3A assertion::step "pay": no button: ***'
    ]
    summary = file.with_name("summary.md")
    on_github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(file.parents[1]),
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    assert said(**on_github) == expected
    written = summary.read_text()
    assert written.startswith("### Journeys: Of 2 journeys: 1 down, 1 up.\n"), written
    assert "no button: &#42;&#42;&#42;" in written
    assert "4929420573595709" not in written
    assert said("--stormwatch-annotations", "off", **on_github) == []
    assert summary.read_text() == written
    assert said("--stormwatch-annotations", "on", GITHUB_WORKSPACE=str(file.parents[1])) == expected
