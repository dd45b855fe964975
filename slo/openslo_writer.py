"""Objectives as OpenSLO v1. The queries are exact for every one of them; what they judge stands in annotations."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from stormwatch.probes.probe import Probe
from stormwatch.probes.units import show_ratio
from stormwatch.slo.objective import Objective
from stormwatch.slo.openslo import LONGEST_NAME, UNITS, VERSION, dns_label, shorthand
from stormwatch.slo.openslo_annotation import PREFIX, exact_duration
from stormwatch.slo.policy import rules_for_objective, show_pair
from stormwatch.slo.rule import BurnRate, Rule, Windows

Document = dict[str, Any]

SOURCE: Final = "stormwatch-prometheus"
"""The data source that all queries go to."""
_CALENDARS: Final = {"week": ("1w", "2026-01-05"), "month": ("1M", "2026-01-01"), "quarter": ("1Q", "2026-01-01")}
"""The duration of a calendar window, and a day on which one began."""
_KEY = re.compile(r"[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def documents(
    objectives: Iterable[Objective],
    probes: Iterable[Probe],
    rules: Iterable[Rule],
    policies: Mapping[str, str],
    *,
    prometheus: str,
) -> Iterator[Document]:
    """A data source, who is told, the services, and for each objective its SLO and alert policies.

    `rules` are those of the configuration, of which the burn rates are written; `policies` are the names of the policies by
    objective, told for those that have no burn rates of their own. `prometheus` is the address that queries go to.
    """
    objectives, probes = tuple(objectives), tuple(probes)
    burns: dict[str, list[BurnRate]] = {objective.name: [] for objective in objectives}
    for rule in rules:
        if isinstance(rule, BurnRate) and rule.objective in burns:
            burns[rule.objective].append(rule)
    yield _object(
        "DataSource", SOURCE, {"type": "Prometheus", "connectionDetails": {"url": prometheus}}, title="Prometheus"
    )
    for severity in dict.fromkeys(rule.severity.value for each in burns.values() for rule in each):
        spec = {"description": f"Who is told of alerts with severity={severity}.", "target": "alertmanager"}
        yield _object("AlertNotificationTarget", _target(severity), spec)
    for service in dict.fromkeys(map(_service, objectives)):
        yield _object("Service", service, {})
    names, alert_names = _Names(), _Names()
    for objective in objectives:
        name = names.of(objective.name)
        its_burns, policy = burns[objective.name], policies[objective.name]
        usual = [rule for rule in rules_for_objective(objective, probes, policy=policy) if isinstance(rule, BurnRate)]
        alerts = [_alert(name, rule, pair, alert_names) for rule in its_burns for pair in rule.pairs]
        yield _slo(name, objective, policy if its_burns == usual else "", alerts)
        yield from alerts


def _slo(name: str, objective: Objective, policy: str, alerts: Sequence[Document]) -> Document:
    labels = {key: value for key, value in objective.labels.items() if _KEY.fullmatch(key)}
    target: Document = {"target": _number(objective.target)}
    if objective.slices is not None:
        target["timeSliceTarget"] = _number(objective.slices.target)
        target["timeSliceWindow"] = shorthand(objective.slices.length)
    return _object(
        "SLO",
        name,
        {
            "description": _promise(objective),
            "service": _service(objective),
            "indicator": {"metadata": {"name": name}, "spec": {"ratioMetric": _ratio(objective)}},
            "timeWindow": [_window(objective)],
            "budgetingMethod": "Timeslices" if objective.slices else "Occurrences",
            "objectives": [target],
            **(
                {"alertPolicies": [{"alertPolicyRef": alert["metadata"]["name"]} for alert in alerts]} if alerts else {}
            ),
        },
        labels=labels,
        annotations=_annotations(objective, policy),
    )


def _annotations(objective: Objective, policy: str) -> dict[str, str]:
    """What OpenSLO has no field for."""
    said = {"objective": objective.name, "probes": ", ".join(objective.probes)}
    if objective.slower_than is not None:
        said["slower-than"] = exact_duration(objective.slower_than)
    if objective.step:
        said["step"] = objective.step
    if objective.expires_within is not None:
        said["certificate-expires-within"] = exact_duration(objective.expires_within)
    if objective.slices is not None and not _whole_minutes(objective.slices.length):
        said["slice"] = exact_duration(objective.slices.length)
    # A window of some minutes is told too: it must not be taken for one of months.
    rolling = objective.calendar is None
    if rolling and (not _whole_minutes(objective.window) or shorthand(objective.window).endswith("m")):
        said["window"] = exact_duration(objective.window)
    if policy:
        said["policy"] = policy
    if others := {key: value for key, value in objective.labels.items() if not _KEY.fullmatch(key)}:
        said["labels"] = json.dumps(others, ensure_ascii=False)
    if objective.runbook:
        said["runbook"] = objective.runbook
    return said


def _window(objective: Objective) -> Document:
    calendar = objective.calendar
    if calendar is None:
        return {"duration": shorthand(objective.window), "isRolling": True}
    duration, start = _CALENDARS[calendar.unit]
    return {
        "duration": duration,
        "isRolling": False,
        "calendar": {"startTime": f"{start} 00:00:00", "timeZone": calendar.zone},
    }


def _ratio(objective: Objective) -> Document:
    def events(labels: str) -> Document:
        # The evaluator's own counters: they know what slower_than makes bad, and no run of a maintenance.
        query = f"sum(rate(stormwatch_objective_events_total{{objective={json.dumps(objective.name)}{labels}}}[5m]))"
        return {"metricSource": {"metricSourceRef": SOURCE, "type": "Prometheus", "spec": {"query": query}}}

    return {"counter": True, "good": events(', judgement="good"'), "total": events("")}


def _alert(slo: str, rule: BurnRate, pair: Windows, names: "_Names") -> Document:
    long, short = shorthand(pair.long), exact_duration(pair.short)
    tail = f"-{rule.severity.value}-{dns_label(exact_duration(pair.long))}-{dns_label(short)}"
    name = names.of(slo[: LONGEST_NAME - len(tail)].rstrip("-") + tail)
    annotations = {"short-window": short}
    if Fraction(repr(_number(pair.factor))) != pair.factor:
        annotations["factor"] = str(pair.factor)
    if not _whole_minutes(pair.long):
        annotations["long-window"] = exact_duration(pair.long)
    condition: Document = {
        "kind": "burnrate",
        "op": "gt",
        "threshold": _number(pair.factor),
        "lookbackWindow": long,
    }
    if rule.lasting:
        condition["alertAfter"] = shorthand(rule.lasting)
        if not _whole_minutes(rule.lasting):
            annotations["for"] = exact_duration(rule.lasting)
    spec = {
        "description": f"The budget burns faster than {show_pair(pair)}.",
        "alertWhenBreaching": True,
        "alertWhenResolved": True,
        "conditions": [
            {
                "kind": "AlertCondition",
                "metadata": {"name": name},
                "spec": {"severity": rule.severity.value, "condition": condition},
            }
        ],
        "notificationTargets": [{"targetRef": _target(rule.severity.value)}],
    }
    return _object("AlertPolicy", name, spec, annotations=annotations)


def _object(
    kind: str,
    name: str,
    spec: Document,
    *,
    title: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Document:
    metadata: Document = {"name": name}
    if title:
        metadata["displayName"] = title
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = {f"{PREFIX}{key}": value for key, value in annotations.items()}
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}


class _Names:
    """A name by RFC 1123 for each objective, also where two of ours become the same one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, objective: str) -> str:
        wanted = dns_label(objective) or "objective"
        name, number = wanted, 2
        while name in self._taken:
            tail = f"-{number}"
            name, number = wanted[: LONGEST_NAME - len(tail)].rstrip("-") + tail, number + 1
        self._taken.add(name)
        return name


def _service(objective: Objective) -> str:
    """That of the label `service`, else the first probe: the same as in the series that are recorded."""
    named = objective.labels.get("service") or (objective.probes[0] if objective.probes else objective.name)
    return dns_label(named) or "service"


def _target(severity: str) -> str:
    return f"stormwatch-{severity}"


def _promise(objective: Objective) -> str:
    fast = "" if objective.slower_than is None else f" within {exact_duration(objective.slower_than)}"
    text = f"{show_ratio(objective.target)} of the runs of {', '.join(objective.probes)} are good{fast}."
    return (
        text
        if len(text) <= 1000
        else f"{show_ratio(objective.target)} of the runs of {len(objective.probes)} probes are good{fast}."
    )


def _whole_minutes(seconds: float) -> bool:
    return seconds > 0 and seconds % UNITS["m"] == 0


def _number(value: Fraction) -> float | int:
    """As near as YAML's binary numbers come to it."""
    return int(value) if value.denominator == 1 else float(value)
