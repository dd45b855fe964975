"""The command line: options in, a command's function called, its problem printed, its exit code returned."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from stormwatch.harness.descriptors import allow_many
from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, state, write
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.secret import mask_of
from stormwatch.harness.slo_command import slo

app = typer.Typer(
    name="stormwatch",
    help="Synthetic monitoring that has been proved to notice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(slo, name="slo")

ConfigFile = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")]


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"


class Shape(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME …]", help="Probes to run; all by default.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    form: Annotated[Format, typer.Option("--format", help="How to print the results.")] = Format.TABLE,
    debug: Annotated[
        str, typer.Option("--debug", metavar="NAME", help="Run one probe and show everything about it.")
    ] = "",
) -> None:
    """Run probes once. Exit code 0: all up, 1: something is down, 3: something is broken, so there is no verdict."""
    from stormwatch.harness import check as checking
    from stormwatch.harness import outcomes
    from stormwatch.probes.resources import Resources

    loaded = load_config(config)
    wanted = [debug] if debug else (names or [])
    probes = [_named(name, {probe.name: probe for probe in loaded.probes}, "probe") for name in wanted]

    async def run() -> int:
        async with Resources() as resources:
            results = await checking.check(
                probes or loaded.probes, resources, concurrency=loaded.concurrency, mask=mask_of(loaded.secrets)
            )
        if debug:
            metrics = checking.metrics_of(probes[0], results[0])
            print(outcomes.debug_text(results[0], options=dict(probes[0].options), metrics=metrics))
        elif form is Format.JSON:
            print(outcomes.as_json(results))
        elif form is Format.JUNIT:
            print(outcomes.as_junit(results))
        else:
            outcomes.print_table(results, Console())
        return checking.exit_code(results)

    _finish(run)


@app.command()
def run(
    config: ConfigFile = DEFAULT_CONFIG,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where metrics, status page and API are served.")
    ] = "127.0.0.1:9797",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where history and artifacts are kept.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also append each result to a file, one JSON object a line.")
    ] = None,
) -> None:
    """Watch: run probes on schedule, serve metrics and the status page, evaluate objectives, send alerts."""
    from stormwatch.harness.server import address_of, bind
    from stormwatch.harness.service import Service, serve, settle
    from stormwatch.harness.stop import stop_on_signals

    loaded = load_config(config)
    directory = data or state() / "data"

    async def watch() -> int:
        bound = bind(listen)
        stop = stop_on_signals()
        address = address_of(bound)
        async with Service(loaded, data=directory, page=f"http://{address}/", jsonl=jsonl) as service:
            _say(
                f"watching {len(loaded.probes)} probes; status page http://{address}/, metrics http://{address}/metrics"
            )
            settle()
            await serve(service, bound, stop)
        _say("stopped")
        return Exit.GOOD

    _finish(watch)


@app.command()
def validate(
    config: ConfigFile = DEFAULT_CONFIG, form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT
) -> None:
    """Check the configuration, and say what it means: how many failed runs page, how long detection takes."""
    from stormwatch.harness import meaning

    loaded = load_config(config)
    found = meaning.meaning(loaded)
    print(json.dumps(found.as_json(), indent=2) if form is Shape.JSON else "\n".join(found.lines()))


class Reader(StrEnum):
    """Whose configuration `rules` writes."""

    PROMETHEUS = "prometheus"
    SCRAPE = "scrape"
    ALERTMANAGER = "alertmanager"


@app.command()
def rules(
    config: ConfigFile = DEFAULT_CONFIG,
    reader: Annotated[
        Reader, typer.Option("--for", help="Prometheus' rules, its scrape configuration, or Alertmanager's.")
    ] = Reader.PROMETHEUS,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where `stormwatch run` listens, for --for scrape.")
    ] = "127.0.0.1:9797",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Write the objectives and alerts as Prometheus recording and alerting rules, and what goes around them."""
    from stormwatch.harness import meaning

    loaded = load_config(config)
    text = {
        Reader.PROMETHEUS: lambda: meaning.prometheus_rules(loaded),
        Reader.SCRAPE: lambda: meaning.scrape_config(listen),
        Reader.ALERTMANAGER: lambda: meaning.alertmanager_config(loaded),
    }[reader]()
    write(text, out)


@app.command()
def schema() -> None:
    """Write the JSON Schema of the configuration, for editors."""
    from stormwatch.harness.config import schema as config_schema

    print(json.dumps(config_schema(), indent=2))


@app.command()
def init(directory: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path()) -> None:
    """Write a commented starter configuration with a first journey and a first drill."""
    from stormwatch.harness.starter import write_starter

    for path in write_starter(directory):
        _say(f"wrote {path}")
    _say("next: edit stormwatch.yaml, then `stormwatch check`")


@app.command()
def proxy(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Serve the fault proxy: the routes of `proxies`, passing traffic through until a drill puts a fault on one."""
    from stormwatch.harness import proxying

    loaded = load_config(config)
    _finish(lambda: proxying.command(loaded, _say))


@app.command()
def drill(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME …]", help="Drills to run; all by default.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    plan: Annotated[bool, typer.Option("--plan", help="Show the time budget of each drill; inject nothing.")] = False,
    watch: Annotated[
        str,
        typer.Option(
            "--watch", metavar="URL", help="Listen to a running `stormwatch run` instead of watching in this process."
        ),
    ] = "",
    form: Annotated[Shape, typer.Option("--format")] = Shape.TEXT,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the report as HTML.")] = None,
) -> None:
    """Inject a failure, prove that it was noticed and recovered from. Exit code 0 only when every verdict is proved."""
    from stormwatch.harness import drilling

    loaded = load_config(config)
    wanted = names or [one.name for one in loaded.drills]
    drills = [_named(name, {one.name: one for one in loaded.drills}, "drill") for name in wanted]
    if not drills:
        raise Problem(f"{config}: there are no drills in it; add one under `drills:`")
    _finish(lambda: drilling.command(loaded, drills, plan=plan, watch=watch, as_json=form is Shape.JSON, html=report))


@app.command()
def undo(
    force: Annotated[
        bool, typer.Option("--force", help="Also take back the faults of a drill that is running now.")
    ] = False,
) -> None:
    """Take back every fault that a dead run left behind, and prove that it is gone."""
    from stormwatch.harness import undoing

    _finish(lambda: undoing.command(force=force, say=print))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, for looking around.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the sample platform lives.")
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the status page is served.")
    ] = "127.0.0.1:9797",
) -> None:
    """Start the sample platform, watch it, break payments, and prove that it was noticed and recovered from."""
    from stormwatch.harness import demonstration

    _finish(lambda: demonstration.command(directory or state() / "demo", keep=keep, listen=listen))


def main() -> None:
    """Entry point. Ends with an exit code of `Exit`; never with a traceback for what a user did."""
    allow_many()
    logging.basicConfig(
        level=os.environ.get("STORMWATCH_LOG", "WARNING").upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        # Without its standalone mode, click returns the exit code of a command that asked for one.
        sys.exit(app(standalone_mode=False) or Exit.GOOD)
    except Problem as problem:
        for line in problem.lines:
            print(line, file=sys.stderr)
        sys.exit(problem.code)
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(Exit.NO_VERDICT)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(Exit.USAGE)


def _finish(run: Callable[[], Coroutine[Any, Any, int]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            code = runner.run(run())
        except asyncio.CancelledError as stopped:
            raise Problem("interrupted; everything that was begun is taken back", code=Exit.NO_VERDICT) from stopped
    raise typer.Exit(int(code))


def _named(name: str, known: dict[str, Any], noun: str) -> Any:
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise Problem(f"no {noun} is called {name}; {hint}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
