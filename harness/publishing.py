"""Reports of drills on their way out: to the terminal, to CI servers, to a pull request, to a page, against the last run."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from stormwatch.chaos.comparison import Comparison, compare, verdicts_of
from stormwatch.chaos.junit import as_junit
from stormwatch.chaos.markdown import as_markdown
from stormwatch.chaos.report import Report, html_of
from stormwatch.chaos.verdict import Verdict, exit_code
from stormwatch.harness.problem import Problem
from stormwatch.journeys import step_summary


class Form(StrEnum):
    """How reports are printed."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"


def publish(
    reports: Sequence[Report], *, form: Form, html: Path | None = None, last: Mapping[str, Verdict] | None = None
) -> int:
    """Print the reports, but as text, which is shown while they come; the exit code.

    `last` are the verdicts to compare with: then the exit code is about what got worse.
    """
    compared = None if last is None else compare(last, {report.drill.name: report.verdict for report in reports})
    if printed := _printed(reports, form, compared):
        if form is Form.MARKDOWN:
            print_markdown(printed)
        else:
            sys.stdout.write(f"{printed}\n")
    if compared and form in {Form.TEXT, Form.JUNIT}:
        # JUnit has no place for it, and its reader none for anything else.
        (sys.stderr if form is Form.JUNIT else sys.stdout).write("\n".join([*compared.lines(), ""]))
    if html:
        write_page(reports, html)
    return compared.exit_code if compared else exit_code([report.verdict for report in reports])


def print_markdown(text: str) -> None:
    """On standard output, and in GitHub's summary of the step where there is one."""
    sys.stdout.write(f"{text}\n")
    if complaint := step_summary.append(text):
        sys.stderr.write(f"{complaint}\n")


def _printed(reports: Sequence[Report], form: Form, compared: Comparison | None) -> str:
    if form is Form.JSON:
        documents = [report.as_json() for report in reports]
        return json.dumps({"drills": documents, "comparison": compared.as_json()} if compared else documents, indent=2)
    if form is Form.JUNIT:
        return as_junit(reports)
    return as_markdown(reports, compared).rstrip() if form is Form.MARKDOWN else ""


def verdicts_in(path: Path) -> dict[str, Verdict]:
    """The verdicts of an earlier run. Raises Problem for a file that has none."""
    try:
        return verdicts_of(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Problem(f"--compare {path}: {error.strerror}; nothing was injected") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(
            f"--compare {path}: this is not what `stormwatch drill --format json` prints ({error}); nothing was injected"
        ) from error


def write_page(reports: Sequence[Report], path: Path) -> None:
    """Write the reports as one HTML page."""
    try:
        path.write_text(html_of(reports), encoding="utf-8")
    except OSError as error:
        raise Problem(f"cannot write the report to {path}: {error.strerror}") from error
