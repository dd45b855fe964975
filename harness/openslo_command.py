"""`stormwatch import openslo`, `stormwatch export openslo`: objectives in the language that tools share."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, write
from stormwatch.harness.problem import Problem

if TYPE_CHECKING:
    from stormwatch.harness.config import Config
    from stormwatch.harness.objective_import import Found, Imported, Known
    from stormwatch.harness.openslo_files import OpenSLO

exporting = typer.Typer(help="Our configuration in the language of other tools.", no_args_is_help=True)


@exporting.callback()
def _export() -> None:
    """A group, also while it has one command only."""


class Shape(StrEnum):
    """How it is written."""

    TEXT = "text"
    JSON = "json"


Files = Annotated[list[Path], typer.Argument(metavar="FILE …", help="Files that belong together.")]
Existing = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration that has the probes; it is not changed."),
]
Out = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
]
Form = Annotated[Shape, typer.Option("--format", help="A configuration with comments, or a summary as JSON.")]


def import_openslo(files: Files, config: Existing = None, out: Out = None, form: Form = Shape.TEXT) -> None:
    """Write objectives for what files of OpenSLO v1 promise about runs of probes; say why others cannot be carried over."""
    from stormwatch.harness.mistake import ConfigError
    from stormwatch.harness.objective_import import imported
    from stormwatch.harness.openslo_files import read_openslo

    try:
        read = read_openslo(files)
    except ConfigError as error:
        raise Problem(*error.lines) from error
    finish(imported("OpenSLO", found_of(read), known_of(config)), out, form, nothing="there is no SLO in it")


@exporting.command("openslo")
def export_openslo(
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    out: Out = None,
    prometheus: Annotated[
        str,
        typer.Option(
            "--prometheus", metavar="URL", help="The Prometheus that scrapes us: its address as a data source."
        ),
    ] = "http://127.0.0.1:9090",
    form: Annotated[Shape, typer.Option("--format", help="YAML documents, or one list as JSON.")] = Shape.TEXT,
) -> None:
    """Write the objectives and their burn-rate alerts as OpenSLO v1."""
    from stormwatch.slo.document import yaml_text
    from stormwatch.slo.openslo_writer import documents

    loaded = load_config(config)
    if not loaded.objectives:
        raise Problem(f"{config}: there are no objectives in it; add one under `objectives:`")
    made = list(documents(loaded.objectives, loaded.probes, loaded.rules, loaded.policies, prometheus=prometheus))
    text = json.dumps(made, indent=2) + "\n" if form is Shape.JSON else "---\n".join(map(yaml_text, made))
    write(text, out)


def known_of(config: Path | None) -> "Known":
    """What a configuration has; nothing when there is none. Raises Problem."""
    from stormwatch.harness.objective_import import Known

    return known_in(load_config(config)) if config else Known()


def known_in(config: "Config") -> "Known":
    """What objectives can be about."""
    from stormwatch.harness.objective_import import Known

    return Known(
        probes=config.probes,
        labels={
            probe.name: {**probe.labels, "probe": probe.name, "kind": probe.kind, "location": config.location}
            for probe in config.probes
        },
        objectives=frozenset(objective.name for objective in config.objectives),
    )


def finish(made: "Imported", out: Path | None, form: Shape, *, nothing: str) -> None:
    """Write what came of an import. Raises Problem when nothing came of it."""
    if not made.objectives:
        raise Problem(*(str(each) for each in made.refused), *([] if made.refused else [nothing]))
    for each in made.refused:
        typer.echo(f"not carried over: {each}", err=True)
    write(json.dumps(made.as_json(), indent=2) + "\n" if form is Shape.JSON else made.text(), out)


def found_of(read: "OpenSLO") -> Iterator["Found"]:
    """What all SLOs promise, each with its place."""
    from stormwatch.harness.objective_import import Found
    from stormwatch.slo.openslo_promise import promises

    for standing in read.slos:
        for said in promises(standing.slo, read.library):
            yield Found(document=standing.document, place=standing.place, said=said)
