"""What an Alertmanager runs, compared with the configuration that we would write for it: routes, receivers, inhibitions, hours.

Alertmanager tells its configuration with defaults filled in and secrets hidden, so a setting is compared when we set it and it
is not hidden; matchers, durations and what a route has from the one above it are compared by what they mean.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stormwatch.probes.units import parse_duration
from stormwatch.slo.drift import Finding

HIDDEN = "<secret>"
"""What Alertmanager writes in the place of a secret."""
_MATCHER = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
_INHERITED = ("receiver", "group_by", "group_wait", "group_interval", "repeat_interval")
_OWN = ("continue", "mute_time_intervals", "active_time_intervals")
_DEFAULTS: Mapping[str, Any] = {
    "group_wait": "30s",
    "group_interval": "5m",
    "repeat_interval": "4h",
    "group_by": [],
    "continue": False,
    "mute_time_intervals": [],
    "active_time_intervals": [],
}
"""What Alertmanager takes when nothing is written."""
_REMEDY = "write it anew with `stormwatch rules --for alertmanager` and reload Alertmanager"
_NOT_OURS = "take it out, add it to the configuration of stormwatch, or give --shared if it belongs to others"

Matchers = frozenset[tuple[str, str, str]]
Path = tuple[Matchers, ...]
"""The matchers of a route and of those above it."""


@dataclass(frozen=True, slots=True)
class _Route:
    """A route with everything that it has from those above it."""

    path: Path
    settings: Mapping[str, Any]


def drift_of_alertmanager(
    wanted: Mapping[str, Any], running: Mapping[str, Any], *, shared: bool = False
) -> list[Finding]:
    """Every difference between the configuration that is wanted and the one that runs.

    `shared` says that the Alertmanager has others' alerts too: what is there besides ours is no drift.
    """
    found = [
        *_of_routes(wanted, running),
        *_of_receivers(wanted, running),
        *_of_inhibitions(wanted, running),
        *_of_intervals(wanted, running),
    ]
    return [each for each in found if not (shared and each.what.endswith("-extra"))]


# Routes


def _of_routes(wanted: Mapping[str, Any], running: Mapping[str, Any]) -> Iterable[Finding]:
    ours, theirs = list(_routes(wanted["route"])), list(_routes(running.get("route") or {}))
    pairs, missing, extra = _pair(ours, theirs)
    for route in missing:
        yield Finding(
            what="route-missing",
            subject=_shown(route.path),
            expected=f"a route to {route.settings['receiver']}",
            seen="no such route",
            remedy=_REMEDY,
        )
    for route, other in pairs:
        yield from _of_route(route, other)
    for route in extra:
        yield Finding(
            what="route-extra",
            subject=_shown(route.path),
            expected="no such route",
            seen=f"a route to {route.settings['receiver']}",
            remedy=_NOT_OURS,
        )
    order = {id(other): number for number, other in enumerate(theirs)}
    places = [order[id(other)] for _, other in pairs]
    if places != sorted(places):
        yield Finding(
            what="route-order",
            subject="route",
            expected=", ".join(_shown(route.path) for route, _ in pairs),
            seen=", ".join(_shown(other.path) for other in theirs),
            remedy=f"the first route that matches gets the alert: {_REMEDY}",
        )


def _pair(
    ours: Sequence[_Route], theirs: Sequence[_Route]
) -> tuple[list[tuple[_Route, _Route]], list[_Route], list[_Route]]:
    """Which route stands for which of ours, in our order; which is missing; which is there besides.

    Two channels may be told of the same alerts, so the receiver decides among routes with the same matchers.
    """
    free = list(theirs)
    found: dict[int, _Route] = {}
    for wants_receiver in (True, False):
        for number, route in enumerate(ours):
            if number in found:
                continue
            for other in free:
                if route.path == other.path and (
                    not wants_receiver or route.settings["receiver"] == other.settings["receiver"]
                ):
                    found[number] = other
                    free = [each for each in free if each is not other]
                    break
    pairs = [(route, found[number]) for number, route in enumerate(ours) if number in found]
    return pairs, [route for number, route in enumerate(ours) if number not in found], free


def _of_route(wanted: _Route, running: _Route) -> Iterable[Finding]:
    for name in (*_INHERITED, *_OWN):
        expected, seen = wanted.settings[name], running.settings[name]
        if _meant(name, expected) != _meant(name, seen):
            yield Finding(
                what=f"route-{name.replace('_', '-')}",
                subject=_shown(wanted.path),
                expected=f"{name}: {_text(expected)}",
                seen=f"{name}: {_text(seen)}",
                remedy=_REMEDY,
            )


def _routes(route: Mapping[str, Any], above: _Route | None = None) -> Iterable[_Route]:
    """A route and those below it, with the settings in force."""
    inherited = above.settings if above else {"receiver": "", **_DEFAULTS}
    settings = {name: route.get(name, inherited[name]) for name in _INHERITED}
    settings |= {name: route.get(name, _DEFAULTS[name]) for name in _OWN}
    whole = _Route((*(above.path if above else ()), *((matchers_of(route),) if above else ())), settings)
    yield whole
    for below in route.get("routes") or ():
        yield from _routes(below, whole)


def _meant(name: str, value: Any) -> Any:
    """A setting so that what means the same is equal."""
    if name in {"group_wait", "group_interval", "repeat_interval"}:
        return _seconds(value)
    return frozenset(value) if isinstance(value, list) else value


def _shown(path: Path) -> str:
    return " ▸ ".join("{" + ", ".join(f'{n}{op}"{v}"' for n, op, v in sorted(each)) + "}" for each in path) or "route"


# Receivers


def _of_receivers(wanted: Mapping[str, Any], running: Mapping[str, Any]) -> Iterable[Finding]:
    theirs = {each["name"]: each for each in running.get("receivers") or ()}
    ours = {each["name"]: each for each in wanted["receivers"]}
    for name, receiver in ours.items():
        if name not in theirs:
            yield Finding(
                what="receiver-missing",
                subject=name,
                expected=_ways(receiver),
                seen="no such receiver",
                remedy=_REMEDY,
            )
            continue
        other = theirs[name]
        if _ways(receiver) != _ways(other):
            yield Finding(
                what="receiver-changed", subject=name, expected=_ways(receiver), seen=_ways(other), remedy=_REMEDY
            )
            continue
        for way in _configs(receiver):
            for mine, its in zip(receiver[way], other[way], strict=True):
                for place, expected, seen in _differences(mine, its, way):
                    yield Finding(
                        what="receiver-changed",
                        subject=f"{name} ▸ {place}",
                        expected=_text(expected),
                        seen=_text(seen),
                        remedy=_REMEDY,
                    )
    for name, receiver in theirs.items():
        if name not in ours:
            yield Finding(
                what="receiver-extra",
                subject=name,
                expected="no such receiver",
                seen=_ways(receiver),
                remedy=_NOT_OURS,
            )


def _configs(receiver: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, value in receiver.items() if name.endswith("_configs") and value)


def _ways(receiver: Mapping[str, Any]) -> str:
    """How a receiver is told: `pagerduty, 2x webhook`."""
    counted = [(name.removesuffix("_configs"), len(receiver[name])) for name in _configs(receiver)]
    return ", ".join(f"{count}x {way}" if count > 1 else way for way, count in counted) or "told in no way"


def _differences(wanted: Any, running: Any, place: str) -> Iterable[tuple[str, Any, Any]]:
    """Where what we set is otherwise; what we leave to Alertmanager's defaults, and what it hides, is equal."""
    if running == HIDDEN:
        return
    if isinstance(wanted, Mapping) and isinstance(running, Mapping):
        for name, value in wanted.items():
            if value is not None:
                yield from _differences(value, running.get(name), f"{place}.{name}")
    elif place.endswith("_file") and isinstance(running, str) and running.endswith(f"/{wanted}"):
        return  # relative to the configuration's own directory
    elif wanted != running:
        yield place, wanted, running


# Inhibitions and hours


def _of_inhibitions(wanted: Mapping[str, Any], running: Mapping[str, Any]) -> Iterable[Finding]:
    ours = {_inhibition(each): each for each in wanted.get("inhibit_rules") or ()}
    theirs = {_inhibition(each): each for each in running.get("inhibit_rules") or ()}
    for key in ours:
        if key not in theirs:
            yield Finding(
                what="inhibition-missing",
                subject=_shown_inhibition(key),
                expected="an inhibition",
                seen="no such inhibition: people are told of what another alert explains",
                remedy=_REMEDY,
            )
    for key in theirs:
        if key not in ours:
            yield Finding(
                what="inhibition-extra",
                subject=_shown_inhibition(key),
                expected="no such inhibition",
                seen="an inhibition that may hold back alerts of ours",
                remedy=_NOT_OURS,
            )


def _inhibition(rule: Mapping[str, Any]) -> tuple[Matchers, Matchers, frozenset[str]]:
    return matchers_of(rule, "source_"), matchers_of(rule, "target_"), frozenset(rule.get("equal") or ())


def _shown_inhibition(key: tuple[Matchers, Matchers, frozenset[str]]) -> str:
    source, target, equal = key
    same = f" with the same {', '.join(sorted(equal))}" if equal else ""
    return f"{_shown((source,))} holds back {_shown((target,))}{same}"


def _of_intervals(wanted: Mapping[str, Any], running: Mapping[str, Any]) -> Iterable[Finding]:
    ours, theirs = _intervals(wanted), _intervals(running)
    for name, intervals in ours.items():
        if theirs.get(name) != intervals:
            yield Finding(
                what="time-interval-changed" if name in theirs else "time-interval-missing",
                subject=name,
                expected=_text(intervals),
                seen=_text(theirs[name]) if name in theirs else "no such time interval",
                remedy=_REMEDY,
            )
    for name, intervals in theirs.items():
        if name not in ours:
            yield Finding(
                what="time-interval-extra",
                subject=name,
                expected="no such time interval",
                seen=_text(intervals),
                remedy=_NOT_OURS,
            )


def _intervals(config: Mapping[str, Any]) -> dict[str, Any]:
    """Time intervals by name, under the name of today and the one of before."""
    every: Sequence[Mapping[str, Any]] = [
        *(config.get("time_intervals") or ()),
        *(config.get("mute_time_intervals") or ()),
    ]
    return {each["name"]: each.get("time_intervals") or [] for each in every}


# What both have


def matchers_of(rule: Mapping[str, Any], of: str = "") -> Matchers:
    """Matchers, however they are written: the list of today, or the two mappings of before."""
    return frozenset(
        {
            *(_matcher(text) for text in rule.get(f"{of}matchers") or ()),
            *((name, "=", str(value)) for name, value in (rule.get(f"{of}match") or {}).items()),
            *((name, "=~", str(value)) for name, value in (rule.get(f"{of}match_re") or {}).items()),
        }
    )


def _matcher(text: str) -> tuple[str, str, str]:
    """`name="value"`, quoted or not. A text that is none is kept whole, and is like no matcher of ours."""
    match = _MATCHER.fullmatch(text)
    if not match:
        return text, "", ""
    name, operator, value = match.groups()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value[1:-1], flags=re.DOTALL)
    return name, operator, value


def _seconds(text: Any) -> Any:
    try:
        return parse_duration(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
