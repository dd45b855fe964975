"""Reports of drills on their way to a pull request: what is printed as Markdown is on the page of the workflow run, too."""

from pathlib import Path

import pytest

from stormwatch.harness.publishing import Form, print_markdown, publish
from tests.chaos.stories import observed
from tests.chaos.test_report import report


def test_markdown_is_the_summary_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In that form alone: a replay that makes another file of the same drills adds nothing."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    publish([report(observed(), "good")], form=Form.JUNIT)
    assert not summary.exists()
    capsys.readouterr()

    assert publish([report(observed(), "good")], form=Form.MARKDOWN) == 0
    assert summary.read_text() == capsys.readouterr().out
    assert summary.read_text().startswith("### Drills: 1 of 1 proved")


def test_a_summary_that_cannot_be_written_is_one_line_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict decides the exit code, and nothing else."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))

    assert publish([report(observed(), "good")], form=Form.MARKDOWN) == 0
    said = capsys.readouterr()
    assert said.out.startswith("### Drills: 1 of 1 proved")
    assert said.err == f"no summary for GitHub: cannot write to {tmp_path}: Is a directory\n"


def test_what_is_printed_as_markdown_is_in_the_summary_whoever_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a matrix as well: what it prints goes the same way."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    print_markdown("## Detection score: 50.0 %")
    assert summary.read_text() == capsys.readouterr().out == "## Detection score: 50.0 %\n"
