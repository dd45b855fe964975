"""What a pytest session says of its journeys at its end: page, JSON, annotations, steps that got slower, exit code."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from stormwatch.journeys import annotations, step_summary
from stormwatch.journeys.gathered_runs import GatheredRuns
from stormwatch.journeys.plugin import annotates
from stormwatch.journeys.report_page import document_of, page_of
from stormwatch.journeys.run_record import RunRecord, record_of_report, step_seconds
from stormwatch.journeys.step_baseline import Baseline, NoBaseline, baseline_file, read_baseline, record_run
from stormwatch.journeys.step_comparison import Comparison, compare
from stormwatch.probes.result import Outcome

BROKEN: Final = 3
"""Exit code: nothing is down, but there is no verdict about something. (pytest's own meaning of 3 is an error inside pytest.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the options of the command line ask for."""

    page: Path | None = None
    json: Path | None = None
    annotate: bool = False
    baseline: Path | None = None
    record: bool = False
    fail_on_slower: bool = False
    exit_codes: bool = False
    tidy: Path | None = None
    """Where artifacts are kept only until they are in the page."""


def wishes_of(config: pytest.Config) -> Wishes:
    """What the options ask for. Raises UsageError for options that mean nothing without another."""

    def path(name: str) -> Path | None:
        given = config.getoption(f"--stormwatch-{name}")
        return Path(given).absolute() if given else None

    baseline, page = path("baseline"), path("report")
    record, fail = _flag(config, "record"), _flag(config, "fail-on-slower")
    if baseline is None and (record or fail):
        asked = "--stormwatch-record" if record else "--stormwatch-fail-on-slower"
        raise pytest.UsageError(f"{asked} needs --stormwatch-baseline PATH, which says where the last runs are")
    return Wishes(
        page=page,
        json=path("json"),
        annotate=annotates(config),
        baseline=baseline_file(baseline) if baseline else None,
        record=record,
        fail_on_slower=fail,
        exit_codes=_flag(config, "exit-codes"),
        tidy=page.with_name(f"{page.name.removesuffix('.html')}-artifacts")
        if page and not config.getoption("--stormwatch-artifacts")
        else None,
    )


def _flag(config: pytest.Config, name: str) -> bool:
    return bool(config.getoption(f"--stormwatch-{name}"))


class Publishing:
    """A pytest plugin, registered only where something of it is asked for, and in the process that writes."""

    def __init__(self, gathered: GatheredRuns, wishes: Wishes) -> None:
        self._gathered = gathered
        self._wishes = wishes
        self._before: Baseline | None = None
        self._comparison: Comparison | None = None
        self._records: Sequence[RunRecord] = ()
        self._failures: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Read what is compared with first: a file that cannot be read is told before anything runs."""
        if self._wishes.baseline:
            try:
                self._before = read_baseline(self._wishes.baseline)
            except NoBaseline as error:
                raise pytest.UsageError(f"--stormwatch-baseline: {error}") from error

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Compare, write the files, decide the exit code."""
        self._records = [
            record_of_report(run.report, node=run.node, file=run.file, started=run.started, name=run.name)
            for run in self._gathered.runs
        ]
        if self._before is not None:
            self._comparison = compare(step_seconds(self._records), self._before.runs)
        for asked, write in (("report", self._write_page), ("json", self._write_json), ("record", self._record)):
            try:
                write()
            except NoBaseline as error:
                self._failures.append(str(error))
            except OSError as error:
                self._failures.append(f"--stormwatch-{asked}: cannot write {error.filename}: {error.strerror}")
        session.exitstatus = self._exit_code(int(session.exitstatus))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which steps got slower, where the page is, and what GitHub shows at the lines."""
        wishes = self._wishes
        if self._comparison is not None and self._before is not None:
            terminalreporter.section(f"journey steps against the last {len(self._before.runs)} runs")
            for line in self._comparison.lines():
                terminalreporter.write_line(line)
            if complaint := self._before.complaint:
                terminalreporter.write_line(complaint)
        for line in self._failures:
            terminalreporter.write_line(f"stormwatch: {line}", red=True)
        for what, path in (("report", wishes.page), ("JSON", wishes.json)):
            if path and path.is_file():
                terminalreporter.write_line(f"{what} of {len(self._records)} journeys: {path}")
        if wishes.annotate:
            terminalreporter.ensure_newline()
            skipped = {run.node for run in self._gathered.runs if run.skipped}
            told = [record for record in self._records if record.target not in skipped]
            for command in annotations.commands(told, self._comparison, root=annotations.repository()):
                terminalreporter.write_line(command)
            summary = step_summary.summary_of(told, self._comparison, report=wishes.page)
            if complaint := step_summary.append(summary):
                sys.stderr.write(f"stormwatch: {complaint}\n")

    def _exit_code(self, code: int) -> int:
        wishes = self._wishes
        if self._failures and code == pytest.ExitCode.OK:
            return int(pytest.ExitCode.USAGE_ERROR)
        if wishes.fail_on_slower and self._comparison and self._comparison.slower and code == pytest.ExitCode.OK:
            return int(pytest.ExitCode.TESTS_FAILED)
        # A file that cannot be loaded interrupts pytest.
        failed = code in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
        outcomes = {record.outcome for record in self._records}
        if wishes.exit_codes and failed and Outcome.BROKEN in outcomes:
            down = Outcome.DOWN in outcomes or self._gathered.others_failed
            return int(pytest.ExitCode.TESTS_FAILED) if down else BROKEN
        return code

    def _write_page(self) -> None:
        if path := self._wishes.page:
            path.parent.mkdir(parents=True, exist_ok=True)
            page = page_of(self._records, self._comparison, beside=path.parent)
            path.write_text(page.text, encoding="utf-8")
            if self._wishes.tidy:
                _remove(page.embedded, self._wishes.tidy)

    def _write_json(self) -> None:
        if path := self._wishes.json:
            path.parent.mkdir(parents=True, exist_ok=True)
            document = document_of(self._records, self._comparison)
            path.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")

    def _record(self) -> None:
        if self._wishes.record and self._wishes.baseline and self._before is not None:
            record_run(self._wishes.baseline, self._before.runs, step_seconds(self._records))


def _remove(files: Sequence[Path], folder: Path) -> None:
    """Take away files that are in the page now, and the directories that are empty then."""
    for file in files:
        file.unlink(missing_ok=True)
    for directory in (*folder.glob("*/"), folder):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
