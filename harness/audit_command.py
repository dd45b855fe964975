"""`stormwatch audit`: the journal of who injected what, when, and how it ended."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormwatch.harness.invocation import state, write
from stormwatch.harness.problem import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stormwatch.chaos.audit import Reading
    from stormwatch.chaos.replay import Replayed
    from stormwatch.harness.publishing import Form

audit = typer.Typer(help="The journal of drills: who injected what, when, and how it ended.", no_args_is_help=True)


class Shape(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The journal; that of this user's state by default.")
]
Shown = Annotated[Shape, typer.Option("--format")]


@audit.command()
def verify(file: File = None, form: Shown = Shape.TEXT) -> None:
    """Is the chain of hashes whole? Exit code 0: it is, 1: something was changed, removed or put in between."""
    path = file or state() / "audit.jsonl"
    found = reading(path)
    if form is Shape.JSON:
        document = {
            "file": str(path),
            "lines": len(found.entries),
            "last_hash": found.last_hash,
            "problems": list(found.problems),
            "torn": found.torn or None,
        }
        write(json.dumps(document, indent=2) + "\n", None)
    else:
        sign, said = ("✗", "the chain is broken") if found.problems else ("✓", "the chain is whole")
        notes = [*found.problems, *([found.torn] if found.torn else [])]
        lines = [
            f"{sign} {path}: {len(found.entries)} lines, {said}",
            *(f"  {one}" for one in notes),
            f"  last hash {found.last_hash}: kept elsewhere, it also shows that the whole file was written anew",
        ]
        write("\n".join(lines) + "\n", None)
    raise typer.Exit(Exit.NOT_GOOD if found.problems else Exit.GOOD)


@audit.command()
def drills(file: File = None, form: Shown = Shape.TEXT) -> None:
    """List every run of a drill: when, which, by whom, and its verdict, judged anew from what the journal says was seen."""
    path = file or state() / "audit.jsonl"
    runs = replayed(path)
    documents = [
        {
            "started": one.report.detection.observed.started,
            "drill": one.report.drill.name,
            "fault": one.report.drill.fault.as_json(),
            "beside": [fault.as_json() for fault in one.report.drill.beside],
            "actor": one.actor,
            "ended": one.ended,
            "verdict": one.report.verdict.value,
            "run": one.run,
        }
        for one in runs
    ]
    if form is Shape.JSON:
        write(json.dumps(documents, indent=2) + "\n", None)
        return
    lines = [
        f"{datetime.fromtimestamp(one.report.detection.observed.started, UTC):%Y-%m-%d %H:%M:%S} UTC  "
        f"{one.report.verdict.value:<14}{one.report.drill.name}: {one.report.drill.what}, by {one.actor}"
        for one in runs
    ]
    write("\n".join(lines or ["no drill stands in it"]) + "\n", None)


def replay_command(path: Path, names: "Sequence[str]", *, form: "Form", html: Path | None) -> int:
    """`stormwatch drill --replay`: the last run of each drill, or of the named ones, judged again from the journal alone."""
    from stormwatch.harness.drilling import show
    from stormwatch.harness.publishing import Form, publish

    last = {one.report.drill.name: one for one in replayed(path)}
    for name in names:
        if name not in last:
            raise Problem(f"no drill {name} stands in {path}; there are: {', '.join(last) or 'none'}")
    reports = [one.report for name, one in last.items() if name in (names or last)]
    if not reports:
        raise Problem(f"no drill stands in {path}", code=Exit.NO_VERDICT)
    if form is Form.TEXT:
        for report in reports:
            show(report)
    return publish(reports, form=form, html=html)


def replayed(path: Path) -> "tuple[Replayed, ...]":
    """Every run in a journal whose chain is whole. Raises Problem, without a verdict, for any other."""
    from stormwatch.chaos.replay import replay

    found = reading(path)
    if found.problems:
        raise Problem(
            *(f"{path}: {one}" for one in found.problems),
            "what was changed afterwards proves nothing, so nothing is judged by it",
            code=Exit.NO_VERDICT,
        )
    try:
        return replay(found.entries)
    except ValueError as error:
        raise Problem(f"{path}: {error}", code=Exit.NO_VERDICT) from error


def reading(path: Path) -> "Reading":
    """The journal in a file. Raises Problem."""
    from stormwatch.chaos.audit import read

    try:
        return read(path)
    except OSError as error:
        raise Problem(
            f"{path}: {error.strerror}: drills write their journal to $STORMWATCH_STATE/audit.jsonl"
        ) from error
