"""What a rule's alert is called: the labels that identify it, the same in process and in Prometheus."""

import re
from collections.abc import Mapping

from stormwatch.slo.rule import BudgetLeft, BurnRate, LocationDown, PeerSilent, Rule

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


def labels_of(rule: Rule) -> dict[str, str]:
    """`alertname`, `severity`, the objective, the probe or the location, and the rule's own labels, which never override the others.

    Names become what Prometheus and Alertmanager accept, `cost-centre` is `cost_centre`; a label without a value is none.
    """
    return {**clean_labels(rule.labels), "alertname": rule.alertname, "severity": rule.severity.value, **_subject(rule)}


def _subject(rule: Rule) -> dict[str, str]:
    if isinstance(rule, BurnRate | BudgetLeft):
        return {"objective": rule.objective}
    if isinstance(rule, PeerSilent):
        return {"location": rule.location}
    return {"probe": rule.probe} | ({"location": rule.location} if isinstance(rule, LocationDown) else {})


def clean_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that Prometheus would have of these."""
    return {_label_name(name): value for name, value in labels.items() if value}


def _label_name(name: str) -> str:
    cleaned = _NOT_IN_A_NAME.sub("_", name)
    if cleaned.startswith("__"):  # reserved for Prometheus itself
        cleaned = "_" + cleaned.lstrip("_")
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned
