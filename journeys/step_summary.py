"""What ran, as Markdown on the page of a workflow run: GitHub Actions shows what a step appends to the file GITHUB_STEP_SUMMARY.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions#adding-a-job-summary: at most 1 MiB a step, or GitHub shows nothing of
it. Text that targets and people wrote stands in it character by character, so that it is no Markdown and no HTML.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stormwatch.journeys.annotations import inside, repository
from stormwatch.journeys.markdown import inert
from stormwatch.journeys.report_page import verdict_of
from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import Comparison, Standing
from stormwatch.probes.result import Outcome

LARGEST: Final = 2**20
"""Bytes that GitHub shows of one step."""
MESSAGE: Final = 400
"""Characters of a message that are in the table."""
_SIGN: Final = {Outcome.UP: "✓", Outcome.DOWN: "✗", Outcome.BROKEN: "?"}
_ORDER: Final = (Outcome.DOWN, Outcome.BROKEN, Outcome.UP)


def summary_of(
    records: Sequence[RunRecord],
    comparison: Comparison | None = None,
    *,
    report: Path | None = None,
    largest: int = LARGEST,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """A table of what ran, the steps that got slower, and the seconds of each step; what failed is first.

    `report` is the page that was written of it. No more than `largest` bytes: what has no place any more is counted.
    """
    noun = "Journeys" if all(record.kind == "journey" for record in records) else "Probes"
    ordered = sorted(records, key=lambda record: _ORDER.index(record.outcome))
    lines = [f"### {noun}: {inert(verdict_of(records))}", ""]
    if report:
        lines += [_report(report, environ), ""]
    lines += ["| | name | took | what was seen |", "|---|---|---:|---|"]
    room = _Room(largest, lines)
    room.fill([_row(record, environ) for record in ordered], "more have no place here")
    slower = comparison.slower if comparison else ()
    if slower:
        room.fill(["", "**Steps that got slower**", ""])
        names = {record.key: record.name for record in records}
        told = [f"- {inert(names[each.journey])}, step {inert(each.step)}: {inert(each.sentence)}" for each in slower]
        room.fill(told, "more steps got slower")
    with_steps = [record for record in ordered if record.steps]
    if with_steps:
        room.fill(["", "<details><summary>Steps</summary>", "", "| journey | step | took |", "|---|---|---:|"])
        rows = [row for record in with_steps for row in _steps(record, comparison)]
        room.fill(rows, "more steps have no place here")
        room.fill(["", "</details>"])
    return room.text


def append(summary: str, environ: Mapping[str, str] = os.environ) -> str:
    """Append to the file of the step, in one piece; nothing where GitHub gives none. Returns why it could not, or nothing.

    A summary is nothing that a pipeline should fail for.
    """
    file = environ.get("GITHUB_STEP_SUMMARY", "")
    if not file:
        return ""
    data = f"{summary}\n".encode("utf-8", "replace")
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size + len(data) > LARGEST:
                return (
                    f"no summary for GitHub: {file} has {size} bytes, {len(data)} more are over its limit of {LARGEST}"
                )
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"no summary for GitHub: cannot write to {file}: {error.strerror}"
    return ""


class _Room:
    """Lines, as long as there is room for them."""

    def __init__(self, largest: int, lines: Sequence[str]) -> None:
        self._lines = list(lines)
        # Some are needed for how many are left out, and for the end of what was begun.
        self._left = largest - 500 - sum(len(line.encode()) + 1 for line in lines)

    def fill(self, lines: Sequence[str], otherwise: str = "") -> None:
        for number, line in enumerate(lines):
            self._left -= len(line.encode()) + 1
            if self._left < 0 and otherwise:
                self._lines += ["", f"{len(lines) - number} {otherwise}."]
                return
            self._lines.append(line)

    @property
    def text(self) -> str:
        return "\n".join([*self._lines, ""])


def _row(record: RunRecord, environ: Mapping[str, str]) -> str:
    said = record.message if len(record.message) <= MESSAGE else f"{record.message[:MESSAGE]} …"
    cells = [
        f"{_SIGN[record.outcome]} {record.outcome.value}",
        inert(record.name),
        f"{record.seconds:.2f} s",
        " ".join(part for part in (inert(said), _place(record, environ)) if part),
    ]
    return f"| {' | '.join(cells)} |"


def _place(record: RunRecord, environ: Mapping[str, str]) -> str:
    """Where it failed, as a link to the line."""
    file, line = record.where
    if record.outcome is Outcome.UP or not file:
        return ""
    name = inside(file, repository(environ))
    shown = inert(f"{name}:{line}" if line else name)
    repo = _repository(environ)
    if not repo or Path(name).is_absolute() or not environ.get("GITHUB_SHA"):
        return f"({shown})"
    return f"([{shown}]({repo}/blob/{environ['GITHUB_SHA']}/{quote(name)}{f'#L{line}' if line else ''}))"


def _report(path: Path, environ: Mapping[str, str]) -> str:
    shown = inert(inside(str(path.absolute()), repository(environ)))
    repo, run = _repository(environ), environ.get("GITHUB_RUN_ID", "")
    where = (
        f"the [artifacts of this run]({repo}/actions/runs/{quote(run)}#artifacts)" if repo and run else "the artifacts"
    )
    return f"Pictures, traces and requests are in {shown}, if the workflow keeps it among {where}."


def _repository(environ: Mapping[str, str]) -> str:
    server, name = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    return f"{server}/{quote(name)}" if server and name else ""


def _steps(record: RunRecord, comparison: Comparison | None) -> list[str]:
    compared = comparison.of(record.key) if comparison else {}
    rows: list[str] = []
    for step in record.steps:
        judged = compared.get(step.name)
        sign = "✗ " if step.failed else "↑ " if judged and judged.standing is Standing.SLOWER else ""
        rows.append(f"| {inert(record.name)} | {sign}{inert(step.name)} | {step.seconds:.3f} s |")
    return rows
