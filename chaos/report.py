"""A drill's report: one value, shown on the terminal, as JSON that can be judged again, and as a page of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jinja2
from rich.text import Text

from stormwatch.chaos.detection import Detection, Link, Observation, detect
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.timeline import timeline
from stormwatch.chaos.verdict import Answer, Clause, Judgement, Verdict, judge, show_labels, show_seconds

VERSION = 1
"""Of the JSON form."""

SIGN = {Answer.YES: "✓", Answer.NO: "✗", Answer.INCONCLUSIVE: "?"}
STYLE = {Answer.YES: "green", Answer.NO: "bold red", Answer.INCONCLUSIVE: "bold yellow"}


@dataclass(frozen=True, slots=True)
class Progress:
    """Something happened in a drill. `at` is when it was so, in unix time, which may be before it was known."""

    at: float
    step: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was asked, what was seen, and the judgement."""

    drill: Drill
    detection: Detection
    judgement: Judgement
    steps: tuple[Progress, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judgement.verdict

    def __rich__(self) -> Text:
        """For the terminal: verdict, the chain with its seconds, every clause."""
        answer = {0: Answer.YES, 3: Answer.INCONCLUSIVE}.get(self.verdict.exit_code, Answer.NO)
        text = Text()
        text.append(f"{SIGN[answer]} {self.verdict.value}", style=STYLE[answer])
        text.append(f"  {self.drill.name}", style="bold")
        text.append(f"  {self.drill.what}\n")
        slowest = self.detection.slowest_link()
        for title, links in (
            ("detection", self.detection.detection_links()),
            ("recovery", self.detection.recovery_links()),
        ):
            if links:
                text.append(f"\n  {title:<12}{show_seconds(sum(link.seconds for link in links)):>10}\n", style="bold")
            for link in links:
                text.append(f"    {link.name:<24}{show_seconds(link.seconds):>10}")
                text.append("  slowest\n" if link is slowest or link == slowest else "\n", style="yellow")
        text.append("\n")
        for clause in self.judgement.clauses:
            text.append(f"  {SIGN[clause.answer]} ", style=STYLE[clause.answer])
            text.append(f"{clause.asked}: ")
            text.append(f"{clause.seen}\n", style="" if clause.answer is Answer.YES else STYLE[clause.answer])
        text.rstrip()
        return text

    def lines(self) -> list[str]:
        """The same without colours."""
        return self.__rich__().plain.splitlines()

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` judges it again from what was seen."""
        return {
            "version": VERSION,
            "drill": self.drill.as_json(),
            **self.judgement.as_json(),
            "detection": self.detection.as_json(),
            "steps": [{"at": step.at, "step": step.step, "text": step.text} for step in self.steps],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Report":
        """Read a report and judge it anew: nothing is taken from it but what was asked and what was seen.

        Raises KeyError or ValueError for anything that is not a report of this version.
        """
        if document["version"] != VERSION:
            raise ValueError(f"a report of version {VERSION} is needed, this one has {document['version']!r}")
        drill = Drill.from_json(document["drill"])
        detection = detect(drill, Observation.from_json(document["detection"]["observed"]))
        return cls(
            drill=drill,
            detection=detection,
            judgement=judge(drill, detection),
            steps=tuple(Progress(**step) for step in document["steps"]),
        )

    def html(self) -> str:
        """A page of its own: no script, no network, light and dark, for laptop and phone."""
        return html_of([self])


def html_of(reports: Sequence[Report]) -> str:
    """One page for one or several drills."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"seconds": show_seconds, "labels": show_labels, "clock": _clock, "date": _date}
    template = environment.from_string(
        (files("stormwatch.chaos") / "templates" / "report.html").read_text(encoding="utf-8")
    )
    return template.render(pages=[_page(report) for report in reports], sign=SIGN)


def _page(report: Report) -> dict[str, Any]:
    detection, drill = report.detection, report.drill
    return {
        "report": report,
        "drill": drill,
        "detection": detection,
        "observed": detection.observed,
        "verdict": report.verdict,
        "tone": {0: "good", 1: "bad", 3: "unknown", 4: "bad"}[report.verdict.exit_code],
        "meaning": MEANING[report.verdict],
        "clauses": report.judgement.clauses,
        "tiles": _tiles(detection),
        "chains": _chains(detection),
        "timeline": timeline(drill, detection),
        "json": json.dumps(report.as_json(), indent=1),
    }


MEANING = {
    Verdict.PROVED: "The failure was noticed in time, by the right alert, by nothing else, and all is well again.",
    Verdict.MISSED: "The failure reached traffic, and the monitoring did not say so.",
    Verdict.LATE: "The failure was noticed, later than was asked.",
    Verdict.MISATTRIBUTED: "Something was noticed, and it was not what was expected.",
    Verdict.NOISY: "The failure was noticed, and other alerts fired that should have stayed silent.",
    Verdict.NOT_RESOLVED: "The failure was noticed, and not all was well again in time after it was gone.",
    Verdict.INCONCLUSIVE: "Nothing is proved either way.",
    Verdict.UNSAFE: "The fault may still be in place: run `stormwatch undo`.",
}
"""Each verdict in one sentence."""


def _tiles(detection: Detection) -> list[tuple[str, str, str]]:
    """(title, number, explanation) of what people ask first."""
    found: list[tuple[str, str, str]] = []
    for title, start, end, note in (
        ("Probe red", detection.injected, detection.first_red, "after the failure began"),
        ("Alert fired", detection.injected, detection.firing, "after the failure began"),
        ("Receiver told", detection.injected, detection.notified, "after the failure began"),
        ("Arrived", detection.injected, detection.delivered, "at the receiver, after the failure began"),
        ("Probe green", detection.reverted, detection.green, "after the repair"),
        ("Alert resolved", detection.reverted, detection.resolved, "after the repair"),
    ):
        if start is not None and end is not None:
            found.append((title, show_seconds(max(0.0, end - start)), note))
    return found


def _chains(detection: Detection) -> list[dict[str, Any]]:
    """Waterfalls: where each stretch begins and ends, in percent of the whole."""
    slowest = detection.slowest_link()
    return [
        {"title": title, "total": total, "bars": _bars(links, total, slowest)}
        for title, links in (
            ("From failure to alert", detection.detection_links()),
            ("From repair to all clear", detection.recovery_links()),
        )
        if links and (total := sum(link.seconds for link in links)) >= 0
    ]


def _bars(links: Sequence[Link], total: float, slowest: Link | None) -> list[dict[str, Any]]:
    bars: list[dict[str, Any]] = []
    passed = 0.0
    for link in links:
        share = link.seconds / total * 100 if total else 0.0
        bars.append(
            {
                "name": link.name,
                "seconds": link.seconds,
                "left": min(passed, 99.2),
                "width": max(share, 0.8),
                "slowest": link == slowest,
            }
        )
        passed += share
    return bars


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-5]


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


__all__ = ["MEANING", "SIGN", "Clause", "Progress", "Report", "html_of"]
