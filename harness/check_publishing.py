"""Results of `stormwatch check` on their way out: to the terminal, to CI servers, to the lines of a pull request, to a page."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stormwatch.harness import outcomes
from stormwatch.harness.check import exit_code
from stormwatch.harness.check_form import Form
from stormwatch.harness.problem import Exit, Problem
from stormwatch.journeys import annotations, step_summary
from stormwatch.journeys.pool import default_artifacts
from stormwatch.journeys.report_page import page_of
from stormwatch.journeys.run_record import RunRecord, record_of_result, step_seconds
from stormwatch.journeys.step_baseline import Baseline, NoBaseline, baseline_file, read_baseline, record_run
from stormwatch.journeys.step_comparison import Comparison, compare
from stormwatch.probes.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options ask for, and the runs to compare with: read before anything runs."""

    form: Form
    config: Path
    page: Path | None = None
    baseline: Path | None = None
    before: Baseline | None = None
    record: bool = False
    fail_on_slower: bool = False


def asked_for(
    *, form: Form, config: Path, page: Path | None, baseline: Path | None, record: bool, fail_on_slower: bool
) -> Asked:
    """Raises Problem for options that mean nothing without another, and for a baseline that cannot be read."""
    if baseline is None and (record or fail_on_slower):
        option = "--record" if record else "--fail-on-slower"
        raise Problem(f"{option} needs --baseline PATH, which says where the last runs are")
    file = baseline_file(baseline) if baseline else None
    try:
        before = read_baseline(file) if file else None
    except NoBaseline as error:
        raise Problem(f"--baseline: {error}") from error
    return Asked(
        form=form,
        config=config,
        page=page,
        baseline=file,
        before=before,
        record=record,
        fail_on_slower=fail_on_slower,
    )


def publish(results: Sequence[Result], asked: Asked) -> int:
    """Print the results, write the page, compare the steps, keep their seconds; the exit code."""
    records = [record_of_result(result, artifacts=default_artifacts()) for result in results]
    comparison = compare(step_seconds(records), asked.before.runs) if asked.before else None
    _print(results, records, comparison, asked)
    if asked.page:
        _write(page_of(records, comparison, beside=asked.page.absolute().parent).text, asked.page)
    if asked.record and asked.baseline and asked.before:
        try:
            record_run(asked.baseline, asked.before.runs, step_seconds(records))
        except NoBaseline as error:
            raise Problem(f"--record: {error}") from error
    code = exit_code(results)
    slower = asked.fail_on_slower and comparison is not None and bool(comparison.slower)
    return Exit.NOT_GOOD if slower and code != Exit.NOT_GOOD else code


def _print(
    results: Sequence[Result], records: Sequence[RunRecord], comparison: Comparison | None, asked: Asked
) -> None:
    compared = comparison.lines() if comparison else []
    if asked.before and (complaint := asked.before.complaint):
        compared.insert(0, complaint)
    match asked.form:
        case Form.TABLE:
            outcomes.print_table(results, Console())
            _say(compared)
        case Form.JSON:
            document = outcomes.as_document(results)
            _say([json.dumps(document | ({"comparison": comparison.as_json()} if comparison else {}), indent=2)])
        case Form.JUNIT:
            _say([outcomes.as_junit(results)])
        case Form.HTML:
            _say([page_of(records, comparison).text])
        case Form.GITHUB:
            root = annotations.repository()
            _say(annotations.commands(records, comparison, root=root, otherwise=str(asked.config.absolute())))
            _say([*compared[-1:], outcomes.summary(results)])
            if complaint := step_summary.append(step_summary.summary_of(records, comparison, report=asked.page)):
                sys.stderr.write(f"{complaint}\n")
    if asked.form in {Form.JUNIT, Form.HTML} and compared:
        # They have no place for it, or their reader none for anything else.
        sys.stderr.write("\n".join([*compared, ""]))


def _say(lines: Sequence[str]) -> None:
    if lines:
        sys.stdout.write("\n".join([*lines, ""]))


def _write(text: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Problem(f"cannot write the report to {path}: {error.strerror}") from error
