"""Reports of drills as Markdown, for a comment on a pull request: one line a drill, and why for those that are not proved."""

from collections.abc import Sequence

from stormwatch.chaos.comparison import Comparison
from stormwatch.chaos.report import MEANING, SIGN, Report
from stormwatch.chaos.verdict import Answer, Verdict, show_seconds
from stormwatch.journeys.markdown import inert


def as_markdown(reports: Sequence[Report], comparison: Comparison | None = None) -> str:
    """GitHub's and GitLab's Markdown. What targets and people wrote stands in code, where it means nothing."""
    proved = sum(report.verdict is Verdict.PROVED for report in reports)
    lines = [f"### Drills: {proved} of {len(reports)} proved", ""]
    if comparison:
        lines += [*(f"- {_code(line)}" for line in comparison.lines()), ""]
    lines += ["| | drill | failure | noticed after | all well after |", "|---|---|---|---:|---:|"]
    lines += [_row(report) for report in reports]
    for report in reports:
        if report.verdict is not Verdict.PROVED:
            lines += ["", *_why(report)]
    return "\n".join(lines) + "\n"


def _row(report: Report) -> str:
    seen = report.detection
    noticed, recovered = (seen.firing, seen.resolved) if report.drill.alert else (seen.first_red, seen.green)
    cells = (
        f"{_sign(report)} {report.verdict.value}",
        _code(report.drill.name),
        _code(report.drill.what),
        _stretch(seen.injected, noticed),
        _stretch(seen.reverted, recovered),
    )
    return f"| {' | '.join(cells)} |"


def _why(report: Report) -> list[str]:
    return [
        f"**{_code(report.drill.name)} {report.verdict.value}.** {MEANING[report.verdict]}",
        "",
        *(
            f"- {SIGN[clause.answer]} {_code(clause.asked)}: {_code(clause.seen)}"
            for clause in report.judgement.clauses
            if clause.answer is not Answer.YES
        ),
    ]


def _sign(report: Report) -> str:
    return {0: "✓", 3: "?"}.get(report.verdict.exit_code, "✗")


def _stretch(start: float | None, end: float | None) -> str:
    return "" if start is None or end is None else show_seconds(max(0.0, end - start))


def _code(text: str) -> str:
    """As code by its element, in which nobody is mentioned. Markdown goes on inside of it, so no sign is left that means anything."""
    return f"<code>{inert(text).strip()}</code>"
