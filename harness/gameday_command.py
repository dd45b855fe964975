"""`stormwatch gameday`: a day of drills with people, its page, and its report."""

import asyncio
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, write
from stormwatch.harness.problem import Exit, Problem

if TYPE_CHECKING:
    from stormwatch.chaos.gameday import Course, GameDay
    from stormwatch.harness.config import Config

gameday = typer.Typer(help="Game days: drills with people, a page to project, a report.", no_args_is_help=True)

HERE = "http://127.0.0.1:9798"


class Document(StrEnum):
    """How a report is written."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


File = Annotated[Path, typer.Argument(metavar="FILE", help="The game day.")]
JournalFile = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="What happens is written here; FILE.journal.jsonl by default."),
]
At = Annotated[str, typer.Option("--at", metavar="URL", help="The page of the game day.")]
By = Annotated[str, typer.Option("--by", metavar="PERSON", help="Who says it.")]


@gameday.command()
def run(
    file: File,
    *,
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    journal: JournalFile = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its page is served.")] = "127.0.0.1:9798",
    watch: Annotated[str, typer.Option(metavar="URL", help="Listen to a running `stormwatch run`.")] = "",
    environment: Annotated[str, typer.Option(metavar="NAME", help="Which environment this is, for the guard.")] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The history of `stormwatch run`, for the guard.")
    ] = None,
) -> None:
    """Run the drills of the day, or those that are left of one that was cut short. Exit code 0: all proved, people in time."""
    from stormwatch.harness.gameday_file import read_gameday
    from stormwatch.harness.mistake import ConfigError

    loaded = load_config(config)
    try:
        day = read_gameday(file, loaded)
    except ConfigError as error:
        raise Problem(*error.lines) from error
    coming = _run(loaded, day, journal or _beside(file), listen=listen, watch=watch, environment=environment, data=data)
    with asyncio.Runner() as runner:
        try:
            finished = runner.run(coming)
        except asyncio.CancelledError as stopped:
            raise Problem(
                "interrupted; everything that was begun is taken back, and the same command goes on with the rest",
                code=Exit.NO_VERDICT,
            ) from stopped
    raise typer.Exit(finished.exit_code())


@gameday.command()
def ack(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of the drill that is on.")],
    by: By = "",
    note: Annotated[str, typer.Option(help="What is said with it: the diagnosis.")] = "",
    at: At = HERE,
) -> None:
    """Say that you came to a checkpoint, as the button of the page does."""
    _say(at, {"checkpoint": checkpoint, "by": by or os.environ.get("USER", ""), "note": note})


@gameday.command()
def note(text: Annotated[str, typer.Argument(help="What is to be remembered.")], by: By = "", at: At = HERE) -> None:
    """Write something down that the report shall not forget."""
    _say(at, {"note": text, "by": by or os.environ.get("USER", "")})


@gameday.command()
def report(
    file: File,
    journal: JournalFile = None,
    form: Annotated[Document, typer.Option("--format")] = Document.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Write the report: verdicts, how soon machines and people knew, findings and follow-ups."""
    from stormwatch.chaos.gameday_report import as_html, as_json, as_markdown
    from stormwatch.harness.gameday import course_in

    course = course_in(journal or _beside(file))
    text = {
        Document.MARKDOWN: lambda: as_markdown(course),
        Document.HTML: lambda: as_html(course),
        Document.JSON: lambda: json.dumps(as_json(course), indent=2) + "\n",
    }[form]()
    write(text, out)


async def _run(
    config: "Config", day: "GameDay", journal: Path, *, listen: str, watch: str, environment: str, data: Path | None
) -> "Course":
    from stormwatch.chaos.undo import state_directory
    from stormwatch.harness import drilling
    from stormwatch.harness.drill_guarding import exclusive, guarding
    from stormwatch.harness.gameday import Running
    from stormwatch.harness.gameday_web import gameday_app
    from stormwatch.harness.server import address_of, bind, serving
    from stormwatch.harness.stop import cancelled_by_signals
    from stormwatch.probes.clock import SystemClock

    state, clock = state_directory(os.environ), SystemClock()
    named = {drill.name: drill for drill in config.drills}
    drills = [named[act.drill] for act in day.acts]
    guard = guarding(config, environment=environment, data=data or state / "data", watch=watch)
    with exclusive(state, [drill.name for drill in drills], clock=clock):
        running = Running(day, journal, clock=clock)
        await guard.permit(drills, clock)
        await drilling.heal()
        bound = bind(listen)
        async with cancelled_by_signals(), drilling.shared(config, drills, watch, clock) as feed:
            await running.begin()
            async with serving(gameday_app(running, clock), bound):
                _tell(f"{day.title}: http://{address_of(bound)}/")
                course = await running.play(guard, named, feed)
                for played in course.played:
                    _tell(f"{played.report.verdict.value if played.report else 'not run'}  {played.act.drill}")
                _tell(f"the journal is {journal}")
                return course


def _say(at: str, said: dict[str, str]) -> None:
    import httpx

    try:
        answer = httpx.post(f"{at.rstrip('/')}/say", data=said, timeout=10, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Problem(f"--at {at}: no game day answers there ({str(error) or type(error).__name__})") from error
    if answer.status_code not in (200, 303):
        raise Problem(answer.text.strip()[:500] or f"--at {at} answered {answer.status_code}", code=Exit.NOT_GOOD)
    _tell("written down")


def _beside(file: Path) -> Path:
    return file.with_suffix(".journal.jsonl")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
