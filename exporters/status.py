"""The status page, rendered on the server: readable on a phone and a laptop, light and dark, without any script."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stormwatch.exporters.artifact import What, artifacts_of
from stormwatch.exporters.exposition import number
from stormwatch.exporters.history import Stretch
from stormwatch.exporters.journey_view import console_errors_of
from stormwatch.exporters.picture import bars_of, line_of, stairs_of
from stormwatch.exporters.view import AlertView, ObjectiveView, OverviewView, ProbeCard, ProbeView
from stormwatch.probes.result import Result
from stormwatch.probes.units import show_duration

TEMPLATES = Path(__file__).parent / "templates"
SIGNS = {"up": "✓", "down": "✗", "broken": "?", "waiting": "…"}
"""Beside each colour: colour is never the only sign."""
WATCHING = 120
"""Seconds after which a page with a video loads itself again, at the earliest: that ends the video."""
NAMED = 3
"""How many probes the verdict names before it counts the rest."""
_SEVERITIES = ("page", "high", "ticket", "info")
_TIGHT = 0.25
"""Less than this share of a budget left is shown as a warning."""


def render_overview(view: OverviewView) -> str:
    """The first page as HTML: verdict, alerts, probes by service, objectives."""
    sentence, tone = verdict(view)
    return (
        page_environment()
        .get_template("overview.html")
        .render(
            view=view,
            sentence=sentence,
            tone=tone,
            alerts=sorted(view.alerts, key=_urgency),
            groups=_groups(view.probes),
            root="",
        )
    )


def render_probe(view: ProbeView) -> str:
    """The page of one probe as HTML: now, the last day, the last run, the last failures."""
    if view.refresh and view.journey and view.journey.has_video:
        view = replace(view, refresh=max(view.refresh, WATCHING))
    return (
        page_environment()
        .get_template("probe.html")
        .render(view=view, card=view.card, alerts=sorted(view.alerts, key=_urgency), root="../")
    )


def verdict(view: OverviewView) -> tuple[str, str]:
    """One sentence for whoever has one second, and its tone: `up`, `down`, `broken` or `waiting`."""
    named = {state: [p.name for p in view.probes if p.state == state] for state in ("down", "broken", "waiting")}
    of_all = f"of {_count(len(view.probes), 'probe')}"
    if not view.probes:
        return "Nothing is watched yet.", "waiting"
    if named["down"]:
        extra = f" {_list(named['broken'])} could not be checked." if named["broken"] else ""
        return f"{len(named['down'])} {of_all} {_are(named['down'])} down: {_list(named['down'])}.{extra}", "down"
    if named["broken"]:
        return f"{len(named['broken'])} {of_all} could not be checked: {_list(named['broken'])}.", "broken"
    if named["waiting"]:
        return f"{len(named['waiting'])} {of_all} {_are(named['waiting'])} waiting for the first run.", "waiting"
    firing = sum(alert.state == "firing" for alert in view.alerts)
    few = {1: "The one probe is up", 2: "Both probes are up"}
    everything = few.get(len(view.probes), f"All {len(view.probes)} probes are up")
    if firing:
        return f"{everything}; {_count(firing, 'alert')} still {'fires' if firing == 1 else 'fire'}.", "broken"
    return f"{everything}.", "up"


def _urgency(alert: AlertView) -> tuple[bool, int, float]:
    place = _SEVERITIES.index(alert.severity) if alert.severity in _SEVERITIES else len(_SEVERITIES)
    return alert.state != "firing", place, alert.since


def _groups(probes: Sequence[ProbeCard]) -> list[tuple[str, list[ProbeCard]]]:
    """By the label `service`: what is wrong comes first, among the services and in each; those without one last."""
    order = {"down": 0, "broken": 1, "waiting": 2, "up": 3}
    worst: dict[str, int] = {}
    for card in probes:
        worst[card.service] = min(order[card.state], worst.get(card.service, 3))
    ranked = sorted(probes, key=lambda p: (not p.service, worst[p.service], p.service, order[p.state], p.name))
    return [(service, list(cards)) for service, cards in groupby(ranked, key=lambda p: p.service)]


def _list(names: Sequence[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join(names) if len(names) < NAMED else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@lru_cache(maxsize=1)
def page_environment() -> Environment:
    """The templates of all our pages, with their filters."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=show_moment,
        day=show_day,
        ago=show_span,
        seconds=show_seconds,
        percent=show_percent,
        duration=show_duration,
        number=number,
        bytes=show_bytes,
        pretty=_pretty,
        path=lambda text: quote(str(text), safe=""),
        file=lambda text: quote(str(text), safe="/"),
    )
    names: dict[str, Any] = {
        "signs": SIGNS,
        "css": Markup((TEMPLATES / "status.css").read_text()),  # noqa: S704 - our own style sheet, no input
        "line_of": line_of,
        "bars_of": bars_of,
        "cell": _cell,
        "budget": _budget,
        "is_link": _is_link,
        "facts": _facts,
        "artifacts": _artifacts,
        "stairs_of": stairs_of,
        "console_errors_of": console_errors_of,
        "expiry": _expiry,
    }
    environment.globals.update(names)
    return environment


def show_moment(moment: float) -> str:
    """A Unix time for people: `21 Nov 02:45:10`, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%-d %b %H:%M:%S")


def show_day(moment: float) -> str:
    """The day of a Unix time: `21 Nov 2026`, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%-d %b %Y")


def show_span(seconds: float) -> str:
    """How long something lasts, roughly: `40 s`, `12 min`, `3 h`, `5 days`."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and unit != "day"):
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' and count != 1 else ''}"
    return f"{max(0, int(seconds))} s"


def show_seconds(seconds: float) -> str:
    """A measured time: `0.4 ms`, `82 ms`, `1.31 s`, `12.4 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"


def show_percent(share: float) -> str:
    """A share in percent that is never rounded up to 100: `99.98%`."""
    percent = int(share * 10000) / 100
    return f"{percent:.2f}".rstrip("0").rstrip(".") + "%"


def show_bytes(count: float) -> str:
    """A number of bytes, roughly: `312 B`, `12 kB`, `3.4 MB`."""
    for size, unit in ((1_000_000, "MB"), (1000, "kB")):
        if count >= size * 0.9995:
            return f"{count / size:.1f} {unit}" if count < 9.95 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"


def _cell(stretch: Stretch, width: float) -> tuple[str, str]:
    """The state of a cell of a strip, and its title."""
    end = stretch.start + width
    when = f"{show_moment(stretch.start)} to {datetime.fromtimestamp(end, UTC).strftime('%H:%M:%S')}"
    if stretch.worst is None:
        return "none", f"{when}: no run"
    counts = {"up": stretch.up, "down": stretch.down, "broken": stretch.broken}
    return stretch.worst.value, f"{when}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _budget(objective: ObjectiveView) -> tuple[str, str, float]:
    """State, words and width in percent of what is left of a budget."""
    if objective.left <= 0:
        # Nothing to spend and nothing spent is not overspent.
        words = f"overspent by {show_percent(-objective.left)}" if objective.left < 0 else "nothing left"
        return "down", words, 0.0
    state = "broken" if objective.left < _TIGHT else "up"
    return state, f"{show_percent(objective.left)} left", min(100.0, objective.left * 100)


def _is_link(address: str) -> bool:
    """Whether an address may become a link: `javascript:` and the like never do."""
    try:
        return urlsplit(address).scheme in {"http", "https"}
    except ValueError:
        return False


def _facts(result: Result) -> dict[str, Any]:
    """The evidence that has no place of its own on the page."""
    return {
        key: value
        for key, value in result.evidence.items()
        if key not in {"certificates", "artifacts", "console_errors", "no_video"}
    }


def _artifacts(result: Result, gone: Collection[str] = frozenset()) -> tuple[list[str], list[str], list[str]]:
    """(pictures, videos, other files) that a journey kept, without those that are gone."""
    kept = [each for each in artifacts_of(result) if each.path not in gone]
    pictures = [each.path for each in kept if each.what in {What.PICTURE, What.STEP_PICTURE}]
    videos = [each.path for each in kept if each.what is What.VIDEO]
    return pictures, videos, [each.path for each in kept if each.path not in {*pictures, *videos}]


def _expiry(result: Result, now: float) -> str:
    """When the certificate of a target expires; empty if none was seen."""
    moments = [m.value for m in result.measures if m.name == "probe_ssl_earliest_cert_expiry"]
    if not moments:
        return ""
    moment = min(moments)
    left = show_span(abs(moment - now))
    return f"expired {left} ago, on {show_day(moment)}" if moment < now else f"expires in {left}, on {show_day(moment)}"


def _pretty(value: Any) -> str:
    """Evidence for people: lines where it is flat, indented JSON where it is not."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and all(_is_flat(each) for each in value.values()):
        return "\n".join(f"{key}: {_plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple) and all(_is_flat(each) for each in value):
        return "\n".join(_plain(each) for each in value)
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _is_flat(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
