"""What `stormwatch check` shows: a table for people, JSON and JUnit for machines."""

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stormwatch.probes.result import Outcome, Result

STYLE = {Outcome.UP: "green", Outcome.DOWN: "bold red", Outcome.BROKEN: "bold yellow"}
SIGN = {Outcome.UP: "✓", Outcome.DOWN: "✗", Outcome.BROKEN: "?"}


def outcome_text(outcome: Outcome) -> Text:
    """An outcome with its sign, so that colour is never the only one."""
    return Text(f"{SIGN[outcome]} {outcome.value}", style=STYLE[outcome])


def show_seconds(seconds: float) -> str:
    """A measured time for people: `4.2 ms`, `1.31 s`."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def lag_text(result: Result) -> str:
    """Why the timings of a marked run may be ours."""
    return f"timings may be ours: the prober lagged by {show_seconds(result.loop_lag)}"


def print_table(results: Sequence[Result], console: Console) -> None:
    """One line a probe; a failed one with its phase, reason and what was seen."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("probe", "kind", "state", "took"):
        table.add_column(column, no_wrap=True)
    table.add_column("what was seen", overflow="fold")
    for result in results:
        seen = Text()
        if result.outcome is not Outcome.UP:
            where = f" in {result.failed_phase}" if result.failed_phase else ""
            seen.append(f"{result.reason.value}{where}: ", style="bold")
            seen.append(result.message)
        if len(result.attempts) > 1:
            seen.append(f"{'; ' if seen else ''}{len(result.attempts)} attempts", style="dim")
        if result.lagged:
            seen.append(f"{'; ' if seen else ''}{lag_text(result)}", style="yellow")
        table.add_row(Text(result.probe), result.kind, outcome_text(result.outcome), show_seconds(result.seconds), seen)
    console.print(table)
    console.print(Text(summary(results), style="bold"))


def summary(results: Sequence[Result]) -> str:
    """One sentence: how many are up, down and broken."""
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in Outcome}
    parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count or outcome is Outcome.UP]
    return f"{len(results)} probe{'' if len(results) == 1 else 's'}: {', '.join(parts)}"


def as_document(results: Sequence[Result]) -> dict[str, Any]:
    """The results as one JSON object."""
    return {"summary": summary(results), "results": [result.as_json() for result in results]}


def as_junit(results: Sequence[Result]) -> str:
    """JUnit XML: down is a failure, broken an error, so that CI servers tell them apart."""
    from stormwatch.chaos.junit import xml_safe
    from stormwatch.journeys.plugin import JUNIT_STEP

    suite = ET.Element(
        "testsuite",
        name="stormwatch",
        tests=str(len(results)),
        failures=str(sum(result.outcome is Outcome.DOWN for result in results)),
        errors=str(sum(result.outcome is Outcome.BROKEN for result in results)),
        time=f"{sum(result.seconds for result in results):.6f}",
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=f"stormwatch.{result.kind}", name=result.probe, time=f"{result.seconds:.6f}"
        )
        if result.kind == "journey" and result.phases:
            properties = ET.SubElement(case, "properties")
            for phase in result.phases:
                name = xml_safe(f"{JUNIT_STEP}{phase.name}")
                ET.SubElement(properties, "property", name=name, value=f"{phase.seconds:.3f}")
        if result.outcome is not Outcome.UP:
            tag = "failure" if result.outcome is Outcome.DOWN else "error"
            element = ET.SubElement(case, tag, type=result.reason.value, message=xml_safe(result.message))
            element.text = xml_safe(json.dumps(dict(result.evidence), indent=2, default=str))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def debug_text(result: Result, *, options: dict[str, Any], metrics: str) -> str:
    """Everything about one run: phases, attempts, evidence, the metrics it would export, the effective options."""
    lines = [
        f"{result.probe} ({result.kind} {result.target}): {result.outcome.value}",
        f"  took {show_seconds(result.seconds)} of {result.timeout:g} s allowed, trace {result.trace_id}",
    ]
    if result.outcome is not Outcome.UP:
        lines.append(
            f"  {result.reason.value}{f' in {result.failed_phase}' if result.failed_phase else ''}: {result.message}"
        )
    lines.append(
        f"  started {show_seconds(result.late)} late, {show_seconds(result.queued)} of it in the queue; "
        f"the loop lagged by at most {show_seconds(result.loop_lag)}"
    )
    if result.lagged:
        lines.append(f"  {lag_text(result)}")
    lines.append("Phases:")
    lines.extend(
        f"  {phase.name:<12} {show_seconds(phase.seconds):>10}  from {show_seconds(phase.offset)}"
        f"{'  failed' if phase.failed else ''}"
        for phase in result.phases
    )
    if len(result.attempts) > 1:
        lines.append("Attempts:")
        lines.extend(
            f"  {number}. {attempt.outcome.value} {attempt.reason.value} in {show_seconds(attempt.seconds)} {attempt.message}"
            for number, attempt in enumerate(result.attempts, 1)
        )
    lines += ["Evidence:", _indented(json.dumps(dict(result.evidence), indent=2, default=str))]
    lines += ["Effective options:", _indented(json.dumps(options, indent=2, default=str))]
    lines += ["Metrics:", _indented(metrics.rstrip())]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
