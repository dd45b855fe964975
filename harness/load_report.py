"""How a load looks in the terminal and as JSON."""

import json
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stormwatch.harness.load_verdict import Held, LoadVerdict
from stormwatch.harness.problem import Exit
from stormwatch.journeys.load_summary import LoadSummary
from stormwatch.probes.units import show_duration

_SIGNS: Final = {Held.HOLDS: "✓", Held.FAILS: "✗", Held.UNKNOWN: "?"}
_STYLES: Final = {Held.HOLDS: "green", Held.FAILS: "bold red", Held.UNKNOWN: "yellow"}
_COLUMNS: Final = ("0.5", "0.9", "0.95", "0.99")
_FAILING: Final = 10
"""Lines about what runs failed of."""
_WORDS: Final = {Exit.GOOD: "good", Exit.NOT_GOOD: "not-good", Exit.NO_VERDICT: "no-verdict"}


def as_json(summary: LoadSummary, verdict: LoadVerdict) -> str:
    """All of it, for machines."""
    document = {
        "verdict": _WORDS[verdict.code],
        "why": verdict.why,
        **summary.as_json(),
        "objectives": [judged.as_json() for judged in verdict.judged],
    }
    # What was counted is told with each objective; these are for judging.
    del document["tallies"]
    return json.dumps(document, indent=2)


def as_table(summary: LoadSummary, verdict: LoadVerdict) -> RenderableType:
    """A line for each journey and step, then one for each objective."""
    processes = f" in {summary.workers} workers" if summary.workers > 1 else ""
    parts: list[RenderableType] = [
        Text(
            f"{summary.users} user{'' if summary.users == 1 else 's'}{processes} for {show_duration(round(summary.seconds, 1))}"
        ),
        _runs(summary),
    ]
    if summary.failing:
        most = sorted(summary.failing, key=lambda each: -each.count)
        of_journeys = [each for each in most if not each.step][:_FAILING]
        parts.append(Text("\n".join(f"  {each.count} x {each.journey}: {each.sentence}" for each in of_journeys)))
    if summary.broken:
        parts.append(Text(f"  {summary.broken} x broken, no evidence: {summary.broken_why}", style="yellow"))
    if summary.saturated:
        parts.append(
            Text("  the load took all the processor time it could get: durations are too long", style="yellow")
        )
    parts += [_line(judged) for judged in verdict.judged]
    return Group(*parts)


def progress(event: Mapping[str, Any], asked: float | None) -> str:
    """One line of how it goes. `asked`: seconds that it is to go on in all."""
    so_far = f"{event['seconds']:.0f} s" + (f" of {show_duration(asked)}" if asked else "")
    rate = f"{event['per_second']:g}/s"
    runs = sum(event["journeys"].values())
    return f"{so_far}: {event['users']} users, {runs} runs ({rate}), {event['failures']} failed"


def _runs(summary: LoadSummary) -> Table:
    shown = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    shown.add_column("journey", overflow="fold")
    for column in ("runs", "failed", "/s", *(f"p{float(part) * 100:g}" for part in _COLUMNS), "longest"):
        shown.add_column(column, justify="right", no_wrap=True)
    for entry in sorted(summary.entries, key=lambda entry: (entry.journey, bool(entry.step))):
        shown.add_row(
            Text(f"  {entry.step}" if entry.step else entry.journey),
            str(entry.runs),
            Text(str(entry.failures), style="bold red" if entry.failures else ""),
            f"{entry.per_second:.1f}",
            *(_seconds(entry.percentiles.get(part, 0.0)) for part in _COLUMNS),
            _seconds(entry.longest),
        )
    return shown


def _line(judged: Any) -> Text:
    share = judged.share
    seen = "" if share is None else f": {float(share):.3%} of {judged.good + judged.bad} were good"
    percentile = "" if judged.percentile is None else f", {_seconds(judged.percentile)} for that part of them"
    why = f"; {judged.why}" if judged.why else ""
    sign = f"{_SIGNS[judged.held]} {judged.objective} {judged.held.value}"
    return Text(f"{sign}{seen} (wanted {judged.asked}{percentile}){why}", style=_STYLES[judged.held])


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.3g}s"
