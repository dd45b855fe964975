"""How long the alert of a Prometheus takes, and its way to people, by what the two programs run: pure arithmetic.

    failure ──▶ rule's condition ──▶ scrape ──▶ evaluation ──▶ `for` ──▶ Alertmanager ──▶ `group_wait` ──▶ receiver
                probe or window      0 … interval  0 … interval  rounded up  at once          once a group

Best is what cannot be beaten while all is as it is now, worst what it takes when everything has just passed.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.plan import Span
from stormwatch.probes.units import parse_duration
from stormwatch.slo.alertmanager_routing import matches
from stormwatch.slo.drift import RunningGroup, RunningRule
from stormwatch.slo.drift_alertmanager import HIDDEN, matchers_of

LOOK = 2.0
"""Seconds until a change is seen: one look a second, and its answer."""
SENT = 2.0
"""Seconds until a message is there that nothing holds back."""
LINGERS = 30.0
"""Seconds for which Alertmanager keeps a group that has no alerts any more, with its rhythm, besides `group_interval`."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a Prometheus and an Alertmanager run at this moment."""

    groups: Sequence[RunningGroup] = ()
    intervals: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds between two scrapes, by job."""
    tells: bool = True
    """Whether Prometheus sends to any Alertmanager."""
    external_labels: Labels = field(default_factory=dict[str, str])
    routing: Mapping[str, Any] | None = None
    """Alertmanager's configuration. None: it is not watched."""
    recent: Sequence[Labels] = ()
    """Labels of the alerts that Alertmanager has, or that fired so recently that their groups may still be there."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A rule and the group that it is evaluated in."""

    rule: RunningRule
    group: RunningGroup

    @property
    def holding(self) -> float:
        """Seconds between the evaluation that finds the condition and the one that fires."""
        return _rounded(self.rule.text.lasting, self.group.interval)

    @property
    def keeping(self) -> float:
        """Seconds that it fires on."""
        return _rounded(self.rule.text.keep or 0.0, self.group.interval)


def may_make(expected: Labels, live: Live) -> list[Evaluated]:
    """The rules whose alerts may have these labels. A label that a rule does not set comes from its expression, or is a template."""
    return [
        Evaluated(rule, group)
        for group in live.groups
        for rule in group.rules
        if rule.text.is_alert
        and rule.text.name == expected["alertname"]
        and all(
            rule.text.labels[name] == value or "{{" in rule.text.labels[name]
            for name, value in expected.items()
            if name in rule.text.labels
        )
    ]


def scrape_of(expr: str, live: Live) -> float:
    """Seconds between two scrapes of what an expression reads: of the jobs that it names, or of the slowest."""
    named = [seconds for job, seconds in live.intervals.items() if re.search(rf'job="{re.escape(job)}"', expr)]
    return max(named or live.intervals.values(), default=0.0)


def spread_of(one: Evaluated, live: Live) -> float:
    """Seconds after which an expression sees nothing but what is now: its ranges, and those of the series recorded for it."""
    recorded = {
        rule.text.name: (rule.text.expr, group.interval)
        for group in live.groups
        for rule in group.rules
        if not rule.text.is_alert
    }
    return _spread(one.rule.text.expr, recorded, frozenset())


_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`", re.DOTALL)
_DURATION = r"((?:\d+(?:ms|[smhdwy]))+|\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"\[\s*{_DURATION}\s*(:[^\]]*)?\]")
_OFFSET = re.compile(rf"\boffset\s+{_DURATION}(?![\w.])")
_YEARS = re.compile(r"(?:(\d+)y)?(.*)", re.DOTALL)
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def _spread(expr: str, recorded: Mapping[str, tuple[str, float]], above: frozenset[str]) -> float:
    bare = _TEXT.sub('""', expr)
    plain = [_seconds(found[1]) for found in _RANGE.finditer(bare) if not found[2]]
    # Subqueries look through ranges inside of them, one after the other.
    nested = [_seconds(found[1]) for found in _RANGE.finditer(bare) if found[2]]
    own = max(plain, default=0.0) + sum(nested) + max(map(_seconds, _OFFSET.findall(bare)), default=0.0)
    of_series = [
        recorded[name][1] + _spread(recorded[name][0], recorded, above | {name})
        for name in set(_NAME.findall(bare)) - above
        if name in recorded
    ]
    return own + max(of_series, default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The way from Alertmanager to the receiver."""

    first: Span
    """Seconds from the firing until the receiver is told."""
    cleared: Span
    """Seconds from the end of the alert until the receiver is told."""
    receivers: tuple[str, ...]
    """Names of the receivers that it may be."""


def delivery_of(expected: Labels, live: Live, *, port: str) -> Delivery | str:
    """How an alert comes to a webhook on this port; a sentence when it does not."""
    assert live.routing is not None
    hooks = {each["name"]: each.get("webhook_configs") or () for each in live.routing.get("receivers") or ()}
    known = {**live.external_labels, **expected}
    routes = possible_routes(live.routing.get("route") or {}, known)
    ours = [one for one in routes if any(_is_at(hook, port) for hook in hooks.get(one["receiver"], ()))]
    if not ours:
        told = ", ".join(dict.fromkeys(one["receiver"] for one in routes))
        return f"Alertmanager tells {told} of it, and no webhook on port {port}: add a route with `continue: true`"
    spans = [(_first(one, expected, live), _cleared(one, hooks[one["receiver"]])) for one in ours]
    return Delivery(
        first=Span(min(first.best for first, _ in spans), max(first.worst for first, _ in spans)),
        cleared=Span(min(end.best for _, end in spans), max(end.worst for _, end in spans)),
        receivers=tuple(dict.fromkeys(one["receiver"] for one in ours)),
    )


def possible_routes(route: Mapping[str, Any], known: Labels) -> list[Mapping[str, Any]]:
    """The routes that an alert may take of which these labels are known, with what each has from those above it."""
    return _possible(route, known, _DEFAULTS)


_DEFAULTS: Mapping[str, Any] = {
    "receiver": "",
    "group_by": [],
    "group_wait": "30s",
    "group_interval": "5m",
    "repeat_interval": "4h",
}


def _possible(route: Mapping[str, Any], known: Labels, above: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    settings = {name: route.get(name, value) for name, value in above.items()}
    found: list[Mapping[str, Any]] = []
    taken = False
    for below in route.get("routes") or ():
        matchers = matchers_of(below)
        unknown = any(name not in known for name, _, _ in matchers)
        of_known = frozenset(one for one in matchers if one[0] in known)
        if not matches(of_known, known):
            continue
        found += _possible(below, known, settings)
        taken = taken or not unknown
        if not unknown and not below.get("continue"):
            break
    if taken:  # the route itself is for what no route below takes
        return found
    muted = bool(route.get("mute_time_intervals") or route.get("active_time_intervals"))
    return [*found, {**settings, "muted": muted}]


def _is_at(hook: Mapping[str, Any], port: str) -> bool:
    """Whether a webhook may be on this port: newer Alertmanagers hide their addresses."""
    url = hook.get("url") or HIDDEN
    return url == HIDDEN or re.search(rf":{port}([/?#]|$)", url) is not None


def _first(route: Mapping[str, Any], expected: Labels, live: Live) -> Span:
    wait, interval = _seconds(route["group_wait"]), _seconds(route["group_interval"])
    shared = _is_shared(route, expected, live)
    worst = (max(wait, interval) if shared else wait) + SENT
    if any(expected.items() <= other.items() for other in live.recent):
        # If it ended since the group was told of last, and the group has not been told that, then it is no news that it fires:
        # it is told again after `repeat_interval`, at the next moment of the group.
        worst = max(worst, _rounded(_seconds(route["repeat_interval"]), interval) + interval + SENT)
    return Span(0.0 if shared else wait, math.inf if route["muted"] else worst)


def _is_shared(route: Mapping[str, Any], expected: Labels, live: Live) -> bool:
    """Whether the alert may come into a group that is there already, which goes by its own rhythm."""
    by: Sequence[str] = route["group_by"] or ()
    if "..." in by:
        return any(_may_be_equal(expected, other, other) for other in live.recent)
    own = {"alertname", *({"probe", "objective"} & expected.keys())}
    return not own <= set(by) or any(_may_be_equal(expected, other, by) for other in live.recent)


def _may_be_equal(expected: Labels, other: Labels, names: Iterable[str]) -> bool:
    return all(expected[name] == other.get(name, "") for name in names if name in expected)


def _cleared(route: Mapping[str, Any], hooks: Sequence[Mapping[str, Any]]) -> Span:
    if not any(hook.get("send_resolved", True) for hook in hooks):
        return Span(math.inf, math.inf)
    return Span(0.0, math.inf if route["muted"] else _seconds(route["group_interval"]) + SENT)


def longest_group_interval(routing: Mapping[str, Any]) -> float:
    """Seconds, of all routes."""
    return max(_seconds(text) for text in _group_intervals(routing.get("route") or {}, _DEFAULTS["group_interval"]))


def _group_intervals(route: Mapping[str, Any], above: str) -> Iterable[str]:
    own = route.get("group_interval", above)
    yield own
    for below in route.get("routes") or ():
        yield from _group_intervals(below, own)


def soonest(spans: Sequence[Span]) -> Span:
    """One of them, whichever comes first."""
    return Span(min(span.best for span in spans), min(span.worst for span in spans))


def anyhow(spans: Sequence[Span]) -> Span:
    """Some of them, it is not known which: not before the first of all, not after the last."""
    return Span(min(span.best for span in spans), max(span.worst for span in spans))


def latest(spans: Sequence[Span]) -> Span:
    """All of them: not before the last."""
    return Span(max(span.best for span in spans), max(span.worst for span in spans))


def plus(one: Span, other: Span) -> Span:
    """One after the other."""
    return Span(one.best + other.best, one.worst + other.worst)


def _seconds(text: object) -> float:
    """A duration of theirs: years too, and a bare number, which is seconds in Prometheus 3 and 0 in Alertmanager."""
    match = _YEARS.fullmatch(str(text))
    assert match is not None  # it matches any text
    years, rest = match.groups()
    if years is None and rest.replace(".", "", 1).isdigit():
        return float(rest)
    return int(years or 0) * 365 * 86400.0 + (parse_duration(rest) if rest else 0.0)


def _rounded(seconds: float, interval: float) -> float:
    return math.ceil(seconds / interval) * interval if seconds else 0.0
