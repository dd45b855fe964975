"""`proxies:` and `drills:` in the configuration: routes, and what must be seen when a fault is put on one."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stormwatch.chaos.drill import Drill, ExpectedAlert, ExpectedProbe, Side
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.fault_kind import ROUTE, FaultKind
from stormwatch.chaos.route import Route, client_context, misplaced, server_context
from stormwatch.chaos.target import Target
from stormwatch.harness.document import Place
from stormwatch.harness.draft import Draft
from stormwatch.harness.entry import DrillEntry, ExpectedAlertEntry, ProxiesEntry
from stormwatch.harness.form import show
from stormwatch.harness.remedy import did_you_mean
from stormwatch.harness.watch_section import Watch
from stormwatch.slo.identity import labels_of
from stormwatch.slo.rule import Rule

Faults = Mapping[str, FaultKind[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The fault proxy."""

    control: str = ProxiesEntry().control
    """Where its control API listens, `host:port`."""
    routes: tuple[Route, ...] = ()


def read_proxies(draft: Draft, data: Any) -> tuple[Proxies, Mapping[str, Route | None]]:
    """The section, and the names of all routes, also of those with mistakes in them."""
    routes = data.get("routes") if isinstance(data, dict) else None
    named: dict[Place, str] = {}
    for index, item in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            named["proxies", "routes", index] = item["name"]
    draft.unique(named, "route")
    entry = draft.read(ProxiesEntry, data, ("proxies",))
    if entry is None:
        return Proxies(), dict.fromkeys(named.values())
    taken = {entry.control: "the control API"}
    for index, route in enumerate(entry.routes):
        place = ("proxies", "routes", index)
        if route.listen in taken and not route.listen.endswith(":0"):
            draft.complain(
                (*place, "listen"), f"{taken[route.listen]} listens on {route.listen} too; choose another port"
            )
        taken.setdefault(route.listen, f"route {route.name}")
        if route.tls is not None:
            try:
                server_context(route.tls)
                client_context(route.tls)
            except ValueError as error:
                draft.complain((*place, "tls"), str(error))
        if route.issuer is not None:
            from stormwatch.chaos.tls_forgery import issuer_of

            try:
                issuer_of(route.issuer)
            except ValueError as error:
                draft.complain((*place, "issuer"), str(error))
    return Proxies(control=entry.control, routes=entry.routes), {route.name: route for route in entry.routes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a drill may refer to."""

    routes: Mapping[str, Route | None]
    """By name; None for one with mistakes in it."""
    targets: Mapping[str, Target | None]
    """The same of `targets:`."""
    probes: Collection[str]
    objectives: Collection[str]
    watch: Watch | None = field(default_factory=Watch)
    """Whose alerts are looked at; None: the section has mistakes in it, and what drills may ask is not known."""


def read_drills(draft: Draft, data: Any, *, faults: Faults, known: Known) -> tuple[tuple[Place, Drill], ...]:
    """The drills that are right, with their places."""
    named: dict[Place, str] = {}
    drills: list[tuple[Place, Drill]] = []
    for place, item in draft.items(data, ("drills",)):
        if isinstance(item.get("name"), str):
            named[place] = item["name"]
        written = {key: value for key, value in item.items() if key not in ("fault", "beside")}
        entry = draft.read(DrillEntry, written, place, also=("fault", "beside"))
        fault = _read_fault(draft, item, place, faults, known)
        beside = _read_beside(draft, item, place, faults, known)
        expect = item.get("expect")
        sound = isinstance(expect, dict) and _check_references(draft, expect, (*place, "expect"), known)
        if entry is None or fault is None or beside is None or not sound:
            continue
        try:
            drill = Drill(
                name=entry.name,
                fault=fault,
                beside=beside,
                probe=entry.expect.probe
                and ExpectedProbe(
                    name=entry.expect.probe.name, reason=entry.expect.probe.reason, within=entry.expect.probe.within
                ),
                alert=entry.expect.alert
                and ExpectedAlert(
                    labels=_alert_labels(entry.expect.alert),
                    within=entry.expect.alert.within,
                    delivered_within=entry.expect.alert.delivered_within,
                ),
                resolves_within=entry.expect.resolves_within,
                allow=entry.expect.allow,
                abort_on_unexpected=entry.abort_on_unexpected,
                labels=entry.labels,
                side=Side(entry.side),
            )
        except ValueError as error:
            draft.complain((*place, "beside" if entry.expect.probe or entry.expect.alert else "expect"), str(error))
            continue
        drills.append((place, drill))
    draft.unique(named, "drill")
    return tuple(drills)


def check_expected_alerts(
    draft: Draft,
    drills: Iterable[tuple[Place, Drill]],
    rules: Iterable[Rule],
    *,
    sound: Collection[str],
    others: bool = False,
) -> None:
    """Complain about drills that wait for an alert that no rule makes.

    `sound` are the objectives and probes without mistakes: of the others it is not known which rules they will have.
    With `others`, alerts with names that are not ours come from rules that only their Prometheus knows.
    """
    made = [labels_of(rule) for rule in rules]
    ours = {labels["alertname"] for labels in made}
    for place, drill in drills:
        if drill.alert is None or (others and drill.alert.labels.get("alertname") not in ours):
            continue
        expected = drill.alert.labels
        if not {"objective", "probe"} & expected.keys():
            continue  # one of ours, by labels that are those of several
        subject = "objective" if "objective" in expected else "probe"
        name = expected[subject]
        if name not in sound or any(drill.alert.matches(labels) for labels in made):
            continue
        of_it = [labels for labels in made if labels.get(subject) == name]
        near = [labels for labels in of_it if labels["alertname"] == expected["alertname"]]
        there = " and ".join(_written(labels) for labels in near or of_it)
        draft.complain(
            (*place, "expect", "alert"),
            f"no rule makes the alert {_written(expected)}; those of {subject} {name} are {there}",
        )


def _written(labels: Mapping[str, str]) -> str:
    return f"{labels['alertname']}{{{', '.join(f'{key}={value}' for key, value in sorted(labels.items()) if key != 'alertname')}}}"


def _read_fault(draft: Draft, item: Mapping[str, Any], place: Place, faults: Faults, known: Known) -> FaultSpec | None:
    if "fault" not in item:
        draft.complain(place, "fault is missing; add `fault:`")
        return None
    return _read_spec(draft, item["fault"], (*place, "fault"), item=item, faults=faults, known=known)


def _read_beside(
    draft: Draft, item: Mapping[str, Any], place: Place, faults: Faults, known: Known
) -> tuple[FaultSpec, ...] | None:
    """The faults beside; None when there are mistakes in them."""
    at = (*place, "beside")
    written = item.get("beside", [])
    if not isinstance(written, list):
        draft.complain(at, f"wanted a list: [{{kind: …, target: …}}], not {show(written)}")
        return None
    if written and item.get("side") == Side.PROBER:
        draft.complain(
            at,
            "with `side: prober` one fault is on the way of one probe; leave `beside` out, or run it on the target's side",
        )
        return None
    found = [
        _read_spec(draft, one, (*at, index), item=item, faults=faults, known=known) for index, one in enumerate(written)
    ]
    specs = tuple(one for one in found if one is not None)
    return specs if len(specs) == len(found) else None


def _read_spec(
    draft: Draft, written: Any, at: Place, *, item: Mapping[str, Any], faults: Faults, known: Known
) -> FaultSpec | None:
    if not isinstance(written, dict):
        draft.complain(at, f"wanted {{kind: …, target: …}}, not {show(written)}")
        return None
    sound = True
    for key in ("kind", "target"):
        if not isinstance(written.get(key), str):
            seen = f"wanted text, not {show(written[key])}" if key in written else f"{key} is missing; add `{key}:`"
            draft.complain((*at, key) if key in written else at, seen)
            sound = False
    kind, target = written.get("kind"), written.get("target")
    known_kind = faults.get(kind) if isinstance(kind, str) else None
    bent = item.get("side") == Side.PROBER
    if isinstance(target, str):
        at_target = (*at, "target")
        sound &= (
            _check_bent(draft, target, item, at_target, known)
            if bent
            else _check_target(draft, target, known_kind, at_target, known)
        )
    if not isinstance(kind, str):
        return None
    if kind not in faults:
        draft.complain((*at, "kind"), f"there is no fault {show(kind)}; {did_you_mean(kind, faults)}")
        return None
    rest = {key: value for key, value in written.items() if key not in ("kind", "target")}
    options = draft.read(faults[kind].options, rest, at, also=("kind", "target"))
    route = known.routes.get(target) if isinstance(target, str) and faults[kind].on == ROUTE and not bent else None
    if faults[kind].looks_inside and route is not None and not route.looked_into:
        draft.complain(
            (*at, "kind"),
            f"{kind} looks at requests, and the route {route.name} is not looked into; give it `tls`, or `http: true`",
        )
        return None
    if route is not None and (reason := misplaced(faults[kind], route)):
        draft.complain((*at, "kind"), reason)
        return None
    if options is None or not sound or not isinstance(target, str):
        return None
    refuses, on = faults[kind].refuses, known.targets.get(target)
    if refuses is not None and on is not None and (why := refuses(options, on)):
        draft.complain((*at, "target"), f"{kind} cannot be put on {target}: {why}")
        return None
    return FaultSpec(kind=kind, target=target, options=options)


def _check_bent(draft: Draft, target: str, item: Mapping[str, Any], place: Place, known: Known) -> bool:
    """On the prober's side the fault is put on the probe that has to see it."""
    expect = item.get("expect")
    probe = expect.get("probe") if isinstance(expect, dict) else None
    name = probe.get("name") if isinstance(probe, dict) else None
    if not draft.refer(target, known.probes, place, "probe"):
        return False
    if target != name:
        seen = f"expected to fail is {name}" if isinstance(name, str) else "none is expected to fail"
        draft.complain(
            place, f"with `side: prober` the probe {target} alone meets the fault, and {seen}; name one as both"
        )
        return False
    return True


def _check_target(draft: Draft, target: str, kind: FaultKind[Any] | None, place: Place, known: Known) -> bool:
    if kind is None:
        return target in known.targets or draft.refer(target, known.routes, place, "route")
    if kind.on == ROUTE:
        if target in known.targets and target not in known.routes:
            draft.complain(place, f"{kind.name} is put on a route of `proxies`, and {target} is an entry of `targets`")
            return False
        return draft.refer(target, known.routes, place, "route")
    if target in known.routes and target not in known.targets:
        draft.complain(place, f"{kind.name} is put on an entry of `targets` with `{kind.on}:`, and {target} is a route")
        return False
    if not draft.refer(target, known.targets, place, "target"):
        return False
    found = known.targets[target]
    if found is not None and found.kind != kind.on:
        draft.complain(place, f"{kind.name} needs a target with `{kind.on}:`, and {target} is one with `{found.kind}:`")
        return False
    return True


def _check_references(draft: Draft, expect: Mapping[str, Any], at: Place, known: Known) -> bool:
    sound = True
    probe, alert, allow = expect.get("probe"), expect.get("alert"), expect.get("allow")
    if isinstance(probe, dict) and isinstance(probe.get("name"), str):
        sound &= draft.refer(probe["name"], known.probes, (*at, "probe", "name"), "probe")
    if isinstance(alert, dict):
        if known.watch is not None and (complaint := _misnamed(alert, known.watch)):
            draft.complain((*at, "alert"), complaint)
            sound = False
        if "delivered_within" in alert and known.watch is not None and not known.watch.receiver:
            draft.complain(
                (*at, "alert", "delivered_within"),
                "nobody listens for what is delivered; say where with `watch: {receiver: 127.0.0.1:9099}`",
            )
            sound = False
        for key, names in (("objective", known.objectives), ("probe", known.probes)):
            if isinstance(alert.get(key), str):
                sound &= draft.refer(alert[key], names, (*at, "alert", key), key)
    for index, name in enumerate(allow if isinstance(allow, list) else []):
        if (
            isinstance(name, str) and known.watch is not None and not known.watch.prometheus
        ):  # which knows alerts of others' rules too
            sound &= draft.refer(name, [*known.objectives, *known.probes], (*at, "allow", index), "objective or probe")
    return sound


def _misnamed(alert: Mapping[str, Any], watch: Watch) -> str:
    """What is wrong with how an expected alert is named."""
    if "objective" in alert and "probe" in alert:
        return "names an objective and a probe; name one of them, whose alert must fire"
    if "objective" in alert or "probe" in alert:
        return ""
    labels = alert.get("labels")
    named = isinstance(labels, dict) and bool(labels.get("alertname"))
    if not watch.prometheus:
        return "names neither objective nor probe; name one of them, whose alert must fire" + (
            ", or say in `watch: {prometheus: URL}` who has this one" if named else ""
        )
    if not named:
        return "names neither objective nor probe nor a label `alertname`; say which alert must fire"
    return ""


def _alert_labels(entry: ExpectedAlertEntry) -> Mapping[str, str]:
    if entry.objective:
        own = {"alertname": "ErrorBudgetBurn", "objective": entry.objective, "severity": entry.severity or "page"}
    elif entry.probe:
        own = {"alertname": "ProbeDown", "probe": entry.probe, "severity": entry.severity or "page"}
    else:
        own = {"severity": entry.severity} if entry.severity else {}
    return {**own, **entry.labels}
