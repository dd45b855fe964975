"""`stormwatch slo`: where objectives stand, and whether a change may go out."""

import asyncio
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG
from stormwatch.harness.problem import Exit, Problem

if TYPE_CHECKING:
    from stormwatch.slo.standing import Standing

slo = typer.Typer(help="Error budgets: where they stand, and the gate for deployments.", no_args_is_help=True)


class Shape(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME …]", help="Objectives; all by default.")]
Match = Annotated[
    list[str] | None, typer.Option("--match", metavar="LABEL=VALUE", help="Only objectives with this label.")
]
From = Annotated[str, typer.Option("--from", metavar="URL", help="The running stormwatch that is asked.")]
Prometheus = Annotated[
    str,
    typer.Option("--prometheus", metavar="URL", help="Ask a Prometheus that records our rules, or sloth's, instead."),
]
Form = Annotated[Shape, typer.Option("--format")]
HERE: Final = "http://127.0.0.1:9797"


@slo.command()
def status(
    names: Names = None, match: Match = None, source: From = HERE, prometheus: Prometheus = "", form: Form = Shape.TEXT
) -> None:
    """Show how much of each error budget is left, how fast it goes, and when it will be gone at this pace."""
    from rich.console import Console

    from stormwatch.harness.budgets import table

    found = _asked(names or (), match or (), source, prometheus)
    if form is Shape.JSON:
        print(json.dumps({"objectives": [standing.as_json() for standing in found]}, indent=2))
        return
    # A log has no width: only a terminal folds the table.
    Console(width=None if sys.stdout.isatty() else 200).print(table(found))


@slo.command()
def gate(
    names: Names = None,
    match: Match = None,
    source: From = HERE,
    prometheus: Prometheus = "",
    least: Annotated[
        str, typer.Option("--min-left", metavar="RATIO", help="Least share of each budget that must be left.")
    ] = "10%",
    budget_only: Annotated[
        bool, typer.Option("--budget-only", help="Let a page that fires pass: for the change that mends it.")
    ] = False,
    form: Form = Shape.TEXT,
) -> None:
    """May a change go out? Exit code 0: the gate is open, 1: it is closed, 3: there is no evidence to decide by."""
    from stormwatch.harness.budgets import lines
    from stormwatch.probes.units import parse_ratio
    from stormwatch.slo.gate import GateState, decide

    try:
        wanted = parse_ratio(least)
    except ValueError as error:
        raise Problem(f"--min-left: {error}") from error
    decided = decide(_asked(names or (), match or (), source, prometheus), least=wanted, burning_closes=not budget_only)
    print(json.dumps(decided.as_json(), indent=2) if form is Shape.JSON else "\n".join(lines(decided)))
    codes = {GateState.OPEN: Exit.GOOD, GateState.CLOSED: Exit.NOT_GOOD, GateState.UNKNOWN: Exit.NO_VERDICT}
    raise typer.Exit(codes[decided.state])


class Document(StrEnum):
    """How a report is written."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


@slo.command()
def report(
    period: Annotated[
        str,
        typer.Argument(
            metavar="[PERIOD]", help="2026-10, 2026-Q3, 2026 or 2026-10-05..2026-10-11; the last month by default."
        ),
    ] = "",
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where `stormwatch run` keeps its history.")] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Whose midnights begin the days.")] = "UTC",
    form: Annotated[Document, typer.Option("--format")] = Document.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Write what the objectives came to in a month or a quarter: kept or not, by how much, on which days."""
    from stormwatch.harness.invocation import load_config, state, write
    from stormwatch.harness.objective_page import render_html, render_markdown
    from stormwatch.harness.objective_reporting import report_of

    loaded = load_config(config)
    written = report_of(loaded, data or state() / "data", period, timezone)
    text = {
        Document.MARKDOWN: lambda: render_markdown(written),
        Document.HTML: lambda: render_html(written),
        Document.JSON: lambda: json.dumps(written.as_json(), indent=2) + "\n",
    }[form]()
    write(text, out)


def _asked(names: Sequence[str], match: Sequence[str], source: str, prometheus: str) -> "tuple[Standing, ...]":
    from stormwatch.harness.standings import Origin, selected, standings

    origin = Origin(prometheus, prometheus=True) if prometheus else Origin(source)
    return selected(asyncio.run(standings(origin)), names, match, origin)
