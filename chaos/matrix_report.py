"""A matrix for people: on the terminal, as Markdown for a merge request, and as one page that can be shown around."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape
from rich.text import Text

from stormwatch.chaos.matrix import Key, Matrix, Outcome, Score, catcher_name, explain, show_end
from stormwatch.chaos.matrix_cell import Cell, State
from stormwatch.chaos.matrix_plan import MatrixPlan
from stormwatch.chaos.verdict import show_labels, show_seconds
from stormwatch.journeys.markdown import inert
from stormwatch.probes.units import show_duration

SIGN = {
    State.KILLED: "✓",
    State.NOISY: "≈",
    State.NOT_RESOLVED: "↺",
    State.LATE: "◷",
    State.MISATTRIBUTED: "⇄",
    State.REACHED_NOBODY: "⊘",
    State.NOTICED: "○",
    State.SURVIVED: "✗",
    State.EQUIVALENT: "·",
    State.INCONCLUSIVE: "?",
    State.FLAKY: "~",
    State.UNSAFE: "!",
}
"""One sign each, so that nothing depends on colour."""
MEANING = {
    State.KILLED: "told in time, by the right alert, and by nothing else",
    State.NOISY: "told in time, and others were told who are not concerned",
    State.NOT_RESOLVED: "told in time, and not well and silent again in time",
    State.LATE: "told later than the configuration promises",
    State.MISATTRIBUTED: "only alerts of others fired",
    State.REACHED_NOBODY: "the right alert fired, and nobody was told",
    State.NOTICED: "a probe saw it, and nobody was told",
    State.SURVIVED: "nobody would have heard of this",
    State.EQUIVALENT: "no traffic met the fault",
    State.INCONCLUSIVE: "nothing is proved either way",
    State.FLAKY: "it ended differently when repeated",
    State.UNSAFE: "a fault may still be in place",
}
SHOWN = 6
"""Lines of a finding that a page shows before it is asked for the others."""
_STYLE = {State.KILLED: "green", State.EQUIVALENT: "dim", State.INCONCLUSIVE: "yellow"}


def show_score(score: Score) -> str:
    """`93.8 % (60 of 64; 95 % interval 85.0 … 97.5 %)`."""
    low, high = score.interval
    return f"{score.share:.1%} ({score.killed} of {score.of}; 95 % interval {low:.1%} … {high:.1%})".replace(
        "%", " %"
    ).replace("  %", " %")


def text_of(matrix: Matrix) -> Text:
    """For the terminal: heatmap, score, survivors first, and what the alerts are worth."""
    text = Text()
    text.append("\nDetection score  ", style="bold")
    text.append(show_score(matrix.score) + "\n", style="bold green" if matrix.exit_code == 0 else "bold red")
    counted = ", ".join(f"{count} {state.value}" for state, count in sorted(matrix.states.items()))
    text.append(f"{run_of(matrix)}: {counted}\n")
    if matrix.scale != "1":
        text.append(
            f"All windows of objectives were scaled by {matrix.scale}: which alert fires is shown, not when.\n",
            style="yellow",
        )
    if matrix.end_of_way:
        text.append(f"{told_means(matrix)}.\n")
    faults, rows = _grid(matrix)
    width = max((len(fault) for fault in faults), default=0)
    names = list(rows)
    text.append("\n")
    for index, name in enumerate(names):
        text.append(f"{'':<{width}}  {'│ ' * index}┌ {name}\n", style="dim")
    for fault in faults:
        text.append(f"{fault:<{width}}  ")
        for name in names:
            one = rows[name].get(fault)
            text.append(f"{SIGN[one.state] if one else ' '} ", style=_style(one.state) if one else "")
        text.append("\n")
    for line, style in _lines(matrix):
        text.append(line + "\n", style=style)
    return text


def run_of(matrix: Matrix) -> str:
    """What was run, and for how long: `64 of 64 cells in 11 min 20 s`."""
    often = ""
    if matrix.repeat > 1:
        whole = matrix.planned * matrix.repeat
        often = (
            f", each {matrix.repeat} times" if matrix.complete else f", interrupted after {matrix.runs} of {whole} runs"
        )
    return f"{len(matrix.outcomes)} of {matrix.planned} cells in {show_seconds(matrix.seconds)}{often}"


def told_means(matrix: Matrix) -> str:
    """What it takes that somebody counts as told, where more than the firing of alerts was watched."""
    if matrix.end_of_way == "receiver":
        return "Told means that the message came to the receiver, not only that an alert fired"
    return f"Told means that {matrix.end_of_way} had the alert and held it back for no reason, not only that it fired"


def _style(state: State) -> str:
    return _STYLE.get(state, "bold red")


def _lines(matrix: Matrix) -> Iterable[tuple[str, str]]:
    for one in _worst_first(matrix):
        said = explain(one)
        yield "", ""
        yield f"{SIGN[one.state]} {one.state.value}  {one.cell.name}", "bold red" if one.state.counts else "yellow"
        yield f"  {said['what']}", ""
        if said["remedy"]:
            yield f"  what would catch it: {said['remedy']}", ""
    yield "", ""
    for title, lines in findings(matrix):
        yield f"{title}", "bold"
        for line in lines:
            yield f"  {line}", ""


def _worst_first(matrix: Matrix) -> list[Outcome]:
    order = [State.UNSAFE, State.SURVIVED, State.NOTICED, State.REACHED_NOBODY, State.MISATTRIBUTED, State.LATE, State.FLAKY, State.NOT_RESOLVED, State.NOISY, State.INCONCLUSIVE]  # fmt: skip
    return sorted((one for one in matrix.outcomes if one.state in order), key=lambda one: order.index(one.state))


def findings(matrix: Matrix) -> list[tuple[str, list[str]]]:
    """What follows for the alerts: a title and its lines each; nothing where there is nothing to say."""
    seconds = sum(control.seconds for control in matrix.controls)
    single = matrix.single_catchers()
    smallest = matrix.smallest_set()
    found: list[tuple[str, list[str]]] = [
        (
            f"False alarms in {_counted(len(matrix.controls), 'control')} of {show_seconds(seconds)} altogether",
            [catcher_name(alarm.labels) for alarm in matrix.false_alarms] or ["none"],
        ),
        (
            "Alerts that fired and reached nobody",
            [f"{_of_key(key)}: {', '.join(cells)}" for key, cells in matrix.lost().items()],
        ),
        (f"What came to {show_end(matrix.end_of_way)}", _arrivals(matrix)),
        ("Alerts that no fault made fire", [catcher_name_of(labels) for labels in matrix.never_fired()]),
        (
            "Faults that one alert alone told of, as long as was listened",
            [f"{_of_key(key)}: {', '.join(cells)}" for key, cells in single.items()],
        ),
        (
            "Alerts that fire for everything",
            [f"{_of_key(key)}: {share:.0%} of what was told of" for key, share in matrix.vague().items()],
        ),
        (
            f"{len(smallest)} of {len(matrix.alerts)} alerts tell of all that was told of",
            [_of_key(key) for key in smallest],
        ),
        (
            "Alerts that take longer than a cell waits: nothing is said about them",
            [catcher_name_of(one) for one in matrix.untimed],
        ),
        (
            "Checked at full scale",
            [
                f"{one.cell.name}: {f'fired after {show_seconds(one.caught[0].after)}' if one.caught else one.state.value}"
                for one in matrix.checks
            ],
        ),
        ("Faults that were left out", [f"{one.name}: {one.why}" for one in matrix.skipped]),
    ]
    return [(title, lines) for title, lines in found if lines]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _arrivals(matrix: Matrix) -> list[str]:
    """One line for each alert that people heard of: the slowest time on its way, and the labels with which it came."""
    if not matrix.end_of_way:
        return []
    came: dict[Key, tuple[float, str]] = {}
    for outcome in matrix.outcomes:
        for one in outcome.told_by:
            if one.arrival and (at := one.arrival.at(matrix.end_of_way)) is not None:
                by = f" ({one.arrival.told_by})" if one.arrival.told_by else ""
                slowest = max(0.0, at - one.after), f"{show_labels(one.arrival.labels)}{by}"
                came[one.key] = max(came.get(one.key, slowest), slowest)
    return [f"{what}: at most {show_seconds(took)} after it fired" for took, what in came.values()]


def catcher_name_of(labels: Mapping[str, str]) -> str:
    """With its severity, where it says one."""
    return f"{catcher_name(labels)} ({labels['severity']})" if "severity" in labels else catcher_name(labels)


def _of_key(key: Key) -> str:
    return catcher_name_of(dict(key))


def _grid(matrix: Matrix) -> tuple[list[str], dict[str, dict[str, Outcome]]]:
    """The names of all faults, and the outcomes by dependency and fault."""
    rows: dict[str, dict[str, Outcome]] = {}
    faults: dict[str, None] = {}
    for one in sorted(matrix.outcomes, key=lambda one: (one.cell.fault.kind, one.cell.name)):
        fault = one.cell.name.partition("/")[2]
        faults[fault] = None
        rows.setdefault(one.cell.dependency, {})[fault] = one
    return list(faults), dict(sorted(rows.items()))


def markdown_of(matrix: Matrix) -> str:
    """For a merge request."""
    lines = [f"## Detection score: {show_score(matrix.score)}", ""]
    lines += [f"{run_of(matrix)}.", ""]
    if matrix.scale != "1":
        lines += [f"All windows of objectives were scaled by {matrix.scale}.", ""]
    if matrix.end_of_way:
        lines += [f"{told_means(matrix)}.", ""]
    worst = _worst_first(matrix)
    if worst:
        lines += ["| cell | ended | what was seen | what would catch it |", "|---|---|---|---|"]
        for one in worst:
            said = explain(one)
            lines.append(f"| `{one.cell.name}` | {one.state.value} | {_cell(said['what'])} | {_cell(said['remedy'])} |")
        lines.append("")
    faults, rows = _grid(matrix)
    lines += [f"| fault | {' | '.join(rows)} |", "|---|" + "---|" * len(rows)]
    for fault in faults:
        cells = [SIGN[one.state] if (one := row.get(fault)) else "" for row in rows.values()]
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    lines.append("")
    for title, found in findings(matrix):
        lines += [f"**{title}**", "", *(f"- {_cell(line)}" for line in found), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """What stands between backticks as code, in which nothing else is Markdown; of the rest no sign means anything."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:
        return inert(text)
    bar = "\\|"
    return "".join(
        f"`{part.replace('|', bar)}`" if index % 2 and part else inert(part) for index, part in enumerate(parts)
    )


def html_of(matrix: Matrix) -> str:
    """A page of its own: no script, no network, light and dark, for laptop and phone."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["code"] = _code
    template = environment.from_string((files("stormwatch.chaos") / "templates" / "matrix.html").read_text("utf-8"))
    faults, rows = _grid(matrix)
    low, high = matrix.score.interval
    return template.render(
        matrix=matrix,
        score=matrix.score,
        low=low,
        high=high,
        run=run_of(matrix),
        told_means=told_means(matrix) if matrix.end_of_way else "",
        tone={0: "good", 1: "bad", 3: "unknown", 4: "bad"}[matrix.exit_code],
        worst=[(one, explain(one)) for one in _worst_first(matrix)],
        faults=faults,
        rows=rows,
        parts=[("dependency", matrix.by("dependency")), ("kind of fault", matrix.by("family"))],
        findings=findings(matrix),
        sign=SIGN,
        meaning=MEANING,
        states=sorted(matrix.states.items(), key=lambda one: list(SIGN).index(one[0])),
        shown=SHOWN,
        tones=_TONES,
        tip=_tip,
        json=json.dumps(matrix.as_json(), indent=1),
    )


_TONES = {State.KILLED: "good", State.EQUIVALENT: "none", State.INCONCLUSIVE: "unknown", State.NOISY: "mild", State.NOT_RESOLVED: "mild", State.LATE: "mild"}  # fmt: skip


def _code(text: str) -> Markup:
    """What stands between backticks as code; everything is escaped."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>%s</code>") % part if index % 2 else part for index, part in enumerate(parts))


def _tip(one: Outcome) -> str:
    if one.told_after is not None:
        first = one.told_by[0]
        fired = f", fired after {show_seconds(first.after)}" if first.after != one.told_after else ""
        return f"{one.state.value}: {catcher_name(first.labels)} after {show_seconds(one.told_after)}{fired}"
    # The text of an attribute: no element can stand in it.
    return f"{one.state.value}: {explain(one)['what']}".replace("`", "")


def plan_json(plan: MatrixPlan, *, scale: str, held: Sequence[str]) -> dict[str, Any]:
    """What would be run, and for how long at the most."""
    return {
        "scale": scale,
        "held": list(held),
        "cells": [
            {**cell.as_json(), "longest": cell.limit + cell.recovers, "alone": cell.alone} for cell in plan.cells
        ],
        "skipped": [one.as_json() for one in plan.skipped],
        "untimed": [dict(labels) for labels in plan.untimed],
    }


def plan_lines(document: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    cells = [Cell.from_json(one) for one in document["cells"]]
    lines = [f"{len(cells)} cells, in this order; nothing is injected"]
    if document["scale"] != "1":
        lines.append(f"windows of objectives are scaled by {document['scale']}")
        lines += [f"  {held}" for held in document["held"]]
    ways = [one.way for cell in cells for one in cell.catchers if one.way]
    if ways:
        slowest = show_duration(round(max(way.within for way in ways)))
        lines.append(f"an alert counts when it came to {show_end(ways[0].end)}, {slowest} after it fired at the latest")
    width = max((len(cell.name) for cell in cells), default=0)
    for cell in cells:
        who = "who depends on it is not known: any alert counts" if cell.alone else ", ".join(cell.subjects)
        limit = show_duration(round(cell.limit))
        lines.append(f"  {cell.name:<{width}}  noticed within {limit:>6}  {who}")
        if not cell.catchers:
            lines.append(f"  {'':<{width}}  no alert can tell of it")
        for closed, who in _closed(cell).items():
            lines.append(f"  {'':<{width}}  {', '.join(who)}: {closed}")
    if document["untimed"]:
        lines.append("alerts that take longer than a cell waits; --scale makes their windows shorter:")
        lines += [f"  {catcher_name_of(labels)}" for labels in document["untimed"]]
    if document["skipped"]:
        lines.append("left out:")
        lines += [f"  {one['name']}: {one['why']}" for one in document["skipped"]]
    return lines


def _closed(cell: Cell) -> dict[str, list[str]]:
    """The alerts that Alertmanager brings to nobody who is watched, by why."""
    found: dict[str, list[str]] = {}
    for one in cell.catchers:
        if one.way and one.way.closed:
            found.setdefault(one.way.closed, []).append(catcher_name_of(one.labels))
    return found
