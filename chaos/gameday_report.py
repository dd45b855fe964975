"""The report of a game day: what was broken, how soon machines and people knew, what was found and what is to be done."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

import jinja2

from stormwatch.chaos.gameday import Course, Finding, Played
from stormwatch.chaos.report import MEANING, SIGN
from stormwatch.chaos.verdict import Answer, show_labels, show_seconds
from stormwatch.probes.units import show_duration


def as_json(course: Course) -> dict[str, Any]:
    """A JSON object: the plan, what came of each act, people's times, findings."""
    return {
        "gameday": course.day.as_json(),
        "began": course.began,
        "ended": course.ended,
        "exit_code": course.exit_code() if course.ended is not None else None,
        "acts": [_act_json(played) for played in course.played],
        "notes": [{"at": note.at, "by": note.by, "text": note.text} for note in course.notes],
        "findings": [{"finding": one.text, "follow_up": one.follow_up} for one in course.findings()]
        if course.ended is not None
        else [],
    }


def _act_json(played: Played) -> dict[str, Any]:
    return {
        "drill": played.act.drill,
        "begins": played.begins,
        "injected": played.injected,
        "fired": played.fired,
        "mended": played.mended,
        "trouble": played.trouble,
        "report": played.report.as_json() if played.report else None,
        "checkpoints": [
            {
                "name": one.name,
                "who": one.who,
                "within": one.within,
                "answer": played.kept(one).value,
                "seconds": played.took(one),
                "seconds_after_alert": played.heard(one),
                "by": played.reached[one.name].by if one.name in played.reached else None,
                "note": played.reached[one.name].note if one.name in played.reached else None,
            }
            for one in played.act.checkpoints
        ],
    }


def as_markdown(course: Course) -> str:
    """For a wiki or a ticket. What people and targets wrote stands in code, where it means nothing."""
    day = course.day
    lines = [f"# {_plain(day.title)}", "", f"{_date(course.began)}. {_summary(course)}", ""]
    lines += [f"- {_plain(role)}: {_plain(person)}" for role, person in day.roles.items()]
    lines += ["", "| drill | verdict | alert after | people after | mended |", "|---|---|---:|---|---:|"]
    for played in course.played:
        verdict = f"{_sign(played)} {played.report.verdict.value}" if played.report else "? not run"
        people = ", ".join(f"{one.name} {_took(played.took(one))}" for one in played.act.checkpoints) or "–"
        cells = (
            f"<code>{escape(played.act.drill)}</code>",
            verdict,
            _between(played.injected, played.fired),
            people,
            _between(played.injected, played.mended),
        )
        lines.append(f"| {' | '.join(cells)} |")
    findings = course.findings()
    lines += ["", "## Findings", ""]
    lines += [f"- [ ] <code>{_plain(one.text)}</code>: {one.follow_up}" for one in findings] or ["Nothing was found."]
    return "\n".join(lines) + "\n"


def as_html(course: Course) -> str:
    """A page of its own: no script, no network, light and dark, for laptop and phone."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= filters()
    template = environment.from_string(
        (files("stormwatch.chaos") / "templates" / "gameday_report.html").read_text(encoding="utf-8")
    )
    findings: list[Finding] = course.findings()
    return template.render(course=course, findings=findings, summary=_summary(course), meaning=MEANING, sign=SIGN)


def filters() -> Mapping[str, Callable[..., str]]:
    """How the templates show times and labels."""
    return {
        "seconds": show_seconds,
        "duration": show_duration,
        "labels": show_labels,
        "clock": _clock,
        "date": _date,
        "stopwatch": _stopwatch,
    }


def _summary(course: Course) -> str:
    reports = [one.report for one in course.played if one.report]
    proved = sum(report.verdict.exit_code == 0 for report in reports)
    asked = [(one, each) for one in course.played for each in one.act.checkpoints]
    kept = sum(one.kept(each) is Answer.YES for one, each in asked)
    people = f", {kept} of {len(asked)} checkpoints in time" if asked else ""
    return f"{proved} of {len(course.played)} drills proved{people}."


def _sign(played: Played) -> str:
    return "?" if played.report is None else {0: "✓", 3: "?"}.get(played.report.verdict.exit_code, "✗")


def _took(seconds: float | None) -> str:
    return "never" if seconds is None else show_seconds(seconds)


def _between(start: float | None, end: float | None) -> str:
    return "–" if start is None or end is None else show_seconds(max(0.0, end - start))


def _plain(text: str) -> str:
    return escape(" ".join(text.split())).replace("|", "&#124;")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _stopwatch(seconds: float) -> str:
    """`02:07`, for a page that is looked at from far away."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes:02}:{rest:02}"
