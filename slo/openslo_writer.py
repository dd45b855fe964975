"""Objectives as OpenSLO v1. The queries are exact for every one of them; what they judge stands in annotations."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from stormwatch.probes.units import show_ratio
from stormwatch.slo.objective import Objective
from stormwatch.slo.openslo import LONGEST_NAME, UNITS, VERSION, dns_label, shorthand
from stormwatch.slo.openslo_annotation import PREFIX, exact_duration
from stormwatch.slo.policy import show_pair
from stormwatch.slo.rule import BurnRate, Windows

Document = dict[str, Any]

SOURCE: Final = "stormwatch-prometheus"
"""The data source that all queries go to."""
_KEY = re.compile(r"[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


def documents(
    objectives: Iterable[Objective],
    rules: Iterable[object],
    policies: Mapping[str, str],
    *,
    prometheus: str,
) -> Iterator[Document]:
    """A data source, who is told, the services, and for each objective its SLO and alert policies.

    `rules` are those of the configuration, of which the burn rates are written; `policies` are the names of the policies by
    objective. `prometheus` is the address that queries go to.
    """
    objectives = list(objectives)
    burns: dict[str, list[BurnRate]] = {}
    for rule in rules:
        if isinstance(rule, BurnRate):
            burns.setdefault(rule.objective, []).append(rule)
    yield _object(
        "DataSource", SOURCE, {"type": "Prometheus", "connectionDetails": {"url": prometheus}}, title="Prometheus"
    )
    severities = dict.fromkeys(rule.severity.value for each in burns.values() for rule in each)
    for severity in severities:
        spec = {"description": f"Who is told of alerts with severity={severity}.", "target": "alertmanager"}
        yield _object("AlertNotificationTarget", _target(severity), spec)
    for service in dict.fromkeys(_service(each) for each in objectives):
        yield _object("Service", service, {})
    names = _Names()
    for objective in objectives:
        yield from _objective(objective, names, burns.get(objective.name, []), policies.get(objective.name, ""))


def _objective(objective: Objective, names: "_Names", rules: Iterable[BurnRate], policy: str) -> Iterator[Document]:
    name = names.of(objective.name)
    alerts = [_alert(name, rule, pair) for rule in rules for pair in rule.pairs]
    annotations = {"objective": objective.name, "probes": ", ".join(objective.probes)}
    if objective.slower_than is not None:
        annotations["slower-than"] = exact_duration(objective.slower_than)
    if not _whole_minutes(objective.window):
        annotations["window"] = exact_duration(objective.window)
    if policy:
        annotations["policy"] = policy
    labels = {key: value for key, value in objective.labels.items() if _KEY.fullmatch(key)}
    if others := {key: value for key, value in objective.labels.items() if key not in labels}:
        annotations["labels"] = json.dumps(others, ensure_ascii=False)
    if objective.runbook:
        annotations["runbook"] = objective.runbook
    slo = _object(
        "SLO",
        name,
        {
            "description": _promise(objective),
            "service": _service(objective),
            "indicator": {"metadata": {"name": name}, "spec": {"ratioMetric": _ratio(objective)}},
            "timeWindow": [{"duration": shorthand(objective.window), "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"target": _number(objective.target)}],
            **(
                {"alertPolicies": [{"alertPolicyRef": alert["metadata"]["name"]} for alert in alerts]} if alerts else {}
            ),
        },
        labels=labels,
        annotations=annotations,
    )
    yield from (slo, *alerts)


def _ratio(objective: Objective) -> Document:
    def events(labels: str) -> Document:
        # The evaluator's own counters: they know what slower_than makes bad, and no run of a maintenance.
        query = f"sum(rate(stormwatch_objective_events_total{{objective={json.dumps(objective.name)}{labels}}}[5m]))"
        return {"metricSource": {"metricSourceRef": SOURCE, "type": "Prometheus", "spec": {"query": query}}}

    return {"counter": True, "good": events(', judgement="good"'), "total": events("")}


def _alert(slo: str, rule: BurnRate, pair: Windows) -> Document:
    long, short = shorthand(pair.long), exact_duration(pair.short)
    tail = f"-{rule.severity.value}-{dns_label(exact_duration(pair.long))}-{dns_label(short)}"
    name = slo[: LONGEST_NAME - len(tail)].rstrip("-") + tail
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
