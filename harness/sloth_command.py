"""`stormwatch import sloth`: its SLOs about runs of probes, as objectives with the same names, labels and windows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stormwatch.harness.openslo_command import Existing, Files, Form, Out, Shape, finish, known_of
from stormwatch.harness.problem import Problem

if TYPE_CHECKING:
    from stormwatch.harness.objective_import import Found
    from stormwatch.harness.sloth_files import Sloth


def import_sloth(
    files: Files,
    config: Existing = None,
    period: Annotated[
        str, typer.Option("--period", metavar="DURATION", help="Sloth's --default-slo-period, like 28d.")
    ] = "30d",
    out: Out = None,
    form: Form = Shape.TEXT,
) -> None:
    """Write objectives for what sloth's SLOs promise about runs of probes; say why others cannot be carried over.

    Files of AlertWindows among them say which windows alert.
    """
    from stormwatch.harness.mistake import ConfigError
    from stormwatch.harness.objective_import import imported
    from stormwatch.harness.sloth_files import read_sloth
    from stormwatch.probes.units import parse_duration

    try:
        seconds = parse_duration(period)
    except ValueError as error:
        raise Problem(f"--period: {error}") from error
    if seconds <= 0:
        raise Problem(f"--period: wanted more than no time, not {period}")
    try:
        read = read_sloth(files)
    except ConfigError as error:
        raise Problem(*error.lines) from error
    finish(imported("sloth", found_of(read, seconds), known_of(config)), out, form, nothing="there is no SLO in it")


def found_of(read: "Sloth", period: float) -> Iterator["Found"]:
    """What all SLOs promise over a period of so many seconds, each with its place. Raises Problem without its windows."""
    from stormwatch.harness.objective_import import Found
    from stormwatch.probes.units import show_duration
    from stormwatch.slo.sloth_promise import promises

    windows = [each for each in read.windows if each.spec.slo_period == period]
    if read.windows and not windows:
        periods = ", ".join(sorted({show_duration(each.spec.slo_period) for each in read.windows}))
        raise Problem(f"no AlertWindows are for a period of {show_duration(period)}, only for {periods}; give --period")
    if len(windows) > 1:
        raise Problem(f"several AlertWindows are for a period of {show_duration(period)}; name the file of one")
    for standing in read.specs:
        for said in promises(standing.spec, period=period, windows=windows[0] if windows else None):
            yield Found(document=standing.document, place=standing.place, said=said)
