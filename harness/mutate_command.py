"""`stormwatch mutate`: the lines of the configuration that could change without any recorded drill noticing."""

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormwatch.harness.invocation import DEFAULT_CONFIG, load_config, write
from stormwatch.harness.problem import Exit, Problem

if TYPE_CHECKING:
    from stormwatch.chaos.playback import Monitoring
    from stormwatch.chaos.recording import Recorded
    from stormwatch.chaos.routing import Routed
    from stormwatch.harness.config import Config


class Shape(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    MARKDOWN = "markdown"


def mutate(
    recordings: Annotated[
        Path, typer.Option("--recordings", metavar="DIR", help="What `stormwatch drill --record DIR` kept.")
    ],
    config: Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = DEFAULT_CONFIG,
    form: Annotated[
        Shape, typer.Option("--format", help="SARIF is what code hosts show beside the lines.")
    ] = Shape.TEXT,
    fail_under: Annotated[
        str, typer.Option("--fail-under", metavar="RATIO", help="Exit code 1 when less of the mutants are killed.")
    ] = "0%",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Change the monitoring line by line, and judge recorded drills again: what none of them notices is not tested.

    Nothing is probed or injected. Exit code 1: fewer mutants than --fail-under are killed, 3: no recording proves anything.
    """
    from stormwatch.chaos.mutation import examine
    from stormwatch.harness.document import read_document
    from stormwatch.harness.mutate_report import Located, as_json, as_markdown, as_sarif, as_text
    from stormwatch.harness.secret import Secrets
    from stormwatch.probes.units import parse_ratio, show_ratio

    try:
        wanted = parse_ratio(fail_under)
    except ValueError as error:
        raise Problem(f"--fail-under: {error}") from error
    loaded = load_config(config)
    examined = examine(monitoring_of(loaded), _read(recordings))
    document, _ = read_document(config)
    located = Located(examined, document, base=Path.cwd(), mask=Secrets.of(loaded.secrets).mask)
    show = {Shape.TEXT: as_text, Shape.JSON: as_json, Shape.SARIF: as_sarif, Shape.MARKDOWN: as_markdown}
    write(show[form](located), out)
    if examined.score is None:
        whys = [f"{name}: {why}" for name, why in examined.unused]
        raise Problem(
            *whys,
            f"{recordings}: no recording proves anything, so there is no score; "
            f"record drills that are proved with `stormwatch drill --record {recordings}`",
            code=Exit.NO_VERDICT,
        )
    if examined.score < wanted:
        raise Problem(
            f"{located.killed}, wanted at least {show_ratio(wanted)} (--fail-under); "
            "drills for the lines above would kill the others",
            code=Exit.NOT_GOOD,
        )


def monitoring_of(config: "Config") -> "Monitoring":
    """What of a configuration makes alerts of results."""
    from stormwatch.chaos.playback import Monitoring
    from stormwatch.harness.evaluation import EVALUATION

    return Monitoring(
        probes=config.probes,
        rules=config.rules,
        objectives=config.objectives,
        maintenance=config.maintenance,
        routing=tuple(_routing(config)),
        drills={drill.name: drill for drill in config.drills},
        evaluation=EVALUATION,
    )


def _routing(config: "Config") -> "Iterator[Routed]":
    """The channels whose messages `watch.receiver` understands: what the others say to whom, no recording has."""
    from stormwatch.chaos.routing import Routed
    from stormwatch.exporters.grouping import Route
    from stormwatch.exporters.webhook import STORMWATCH
    from stormwatch.harness.notifying import told_of

    alerts = config.alerts
    for number, entry in enumerate(alerts.notify):
        if entry.to == "webhook" and not entry.only_fallback:
            yield Routed(route=told_of(entry), receiver=entry.name, place=("alerts", "notify", number))
    if alerts.webhook:
        yield Routed(route=Route(channel="webhook"), receiver=STORMWATCH, place=("alerts", "webhook"))
    if alerts.alertmanager and not config.watch.prometheus:  # which would be who tells Alertmanager
        yield Routed(route=Route(channel="alertmanager"), receiver="", place=("alerts", "alertmanager"))


def _read(directory: Path) -> "tuple[Recorded, ...]":
    from stormwatch.chaos.recording import read_recordings

    remedy = f"record drills with `stormwatch drill --record {directory}`"
    if not directory.is_dir():
        raise Problem(f"--recordings {directory}: there is no such directory; {remedy}")
    try:
        found = read_recordings(directory)
    except OSError as error:
        raise Problem(f"--recordings: {error.filename or directory} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Problem(f"--recordings: {error}") from error
    if not found:
        raise Problem(f"--recordings {os.fspath(directory)}: there is no recording in it; {remedy}")
    return found
