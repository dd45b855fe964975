"""The report of a month or a quarter as a page of its own, and as Markdown for a wiki or a pull request."""

from datetime import datetime
from functools import partial

from stormwatch.exporters.status import page_environment, show_percent, show_span
from stormwatch.probes.units import show_duration, show_ratio
from stormwatch.slo.period import zone_of
from stormwatch.slo.report import Day, Firing, Kept, PeriodReport

SIGNS = {True: "✓", False: "✗", None: "?"}
TONES = {True: "up", False: "down", None: "waiting"}


def render_html(report: PeriodReport) -> str:
    """A page without scripts or anything that has to be loaded: fit to be sent as a file."""
    return (
        page_environment()
        .get_template("objective_report.html")
        .render(
            view=_View(report.now, report.location),
            report=report,
            tone=tone(report),
            root="",
            moment_of=partial(show_moment, report),
            tones=TONES,
            signs_of=SIGNS,
            promise=promise,
            outage=show_outage,
            used=show_used,
            ratio_of=show_share,
            height=bar_height,
            shade=shade,
            lasted=partial(show_lasted, report),
        )
    )


def render_markdown(report: PeriodReport) -> str:
    """Tables and sentences."""
    lines = [f"# Objectives in {report.period.name}", "", f"**{report.verdict}**", ""]
    if not report.over:
        lines += [f"The period is not over: counted until {show_moment(report, report.now)}.", ""]
    lines += [
        "| objective | promised | came to | budget used | outage | worst day | alerts |",
        "|---|---|---|---|---|---|---|",
    ]
    for kept in report.kept:
        worst = kept.worst
        cells = (
            f"{SIGNS[kept.met]} {kept.objective}",
            promise(kept),
            show_share(kept),
            show_used(kept),
            show_outage(kept),
            f"{worst.day}: {worst.bad} bad" if worst else "none",
            str(len(kept.firings)) if kept.firings else "none",
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    for kept in report.kept:
        if kept.hours_blind:
            lines += ["", f"{kept.objective} had no results in {kept.hours_blind} hours: nobody knows how it was then."]
    shown = sorted([*(each for kept in report.kept for each in kept.firings), *report.others], key=lambda f: f.since)
    if shown:
        lines += [
            "",
            "## Alerts",
            "",
            "| began | alert | severity | about | lasted | why |",
            "|---|---|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(_alert_cells(report, each))} |" for each in shown]
    lines += ["", f"Written {show_moment(report, report.now)}, times in {report.period.zone}."]
    return "\n".join(lines) + "\n"


class _View:
    """What the frame of every page asks for."""

    refresh = 0

    def __init__(self, now: float, location: str) -> None:
        self.now = now
        self.location = location


def tone(report: PeriodReport) -> str:
    """The colour of the verdict."""
    if any(each.met is False for each in report.kept):
        return "down"
    return "up" if report.kept and all(each.met for each in report.kept) else "waiting"


def promise(kept: Kept) -> str:
    """What was promised: `99.9%`, `95% within 500ms`."""
    return f"{show_ratio(kept.target)} {kept.asks}".rstrip()


def show_share(kept: Kept | Day) -> str:
    """The share of good results, never rounded up to 100 %."""
    if kept.ratio is None:
        return "no results"
    text = f"{int(kept.ratio * 10**6) / 10**4:.4f}".rstrip("0").rstrip(".")
    return f"{text}%"


def show_used(kept: Kept) -> str:
    """How much of the budget of the period was used."""
    if kept.used is None:
        return ""
    return f"{float(kept.used):.0%}" if kept.used >= 1 else show_percent(float(kept.used))


def show_outage(kept: Kept) -> str:
    """What the bad results come to as a full outage."""
    if kept.ratio is None:
        return "no results"
    return show_duration(float(round(kept.bad_seconds))) if kept.bad else "none"


def show_moment(report: PeriodReport, at: float) -> str:
    """A moment by the clock of the period."""
    return datetime.fromtimestamp(at, zone_of(report.period.zone)).strftime("%-d %b %Y %H:%M")


def show_lasted(report: PeriodReport, firing: Firing) -> str:
    """How long an alert fired within the period."""
    return show_span(firing.seconds(report.until)) + (" and goes on" if firing.until is None else "")


def bar_height(day: Day, kept: Kept) -> float:
    """Per cent of the height of a day's bar: full at twice the share of bad results that was allowed, at least a sliver."""
    if day.ratio is None or not day.bad:
        return 0.0
    allowed = float(1 - kept.target) or 1e-9
    return max(6.0, min(100.0, float(1 - day.ratio) / (2 * allowed) * 100))


def shade(day: Day, kept: Kept) -> str:
    """The colour of a day: within the promise, beyond it, unknown."""
    if day.ratio is None:
        return "none"
    return "up" if not day.bad else "broken" if day.ratio >= kept.target else "down"


def _alert_cells(report: PeriodReport, firing: Firing) -> list[str]:
    why = f"{firing.reason}: {firing.message}" if firing.reason else ""
    lasted = show_lasted(report, firing)
    cells = [show_moment(report, firing.since), firing.name, firing.severity.value, firing.subject, lasted, why]
    return [cell.replace("|", "/").replace("\n", " ") for cell in cells]
