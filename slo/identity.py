"""What a rule's alert is called: the labels that identify it, the same in process and in Prometheus."""

from stormwatch.slo.rule import BudgetLeft, BurnRate, Rule


def labels_of(rule: Rule) -> dict[str, str]:
    """`alertname`, `severity`, the objective or the probe, and the rule's own labels, which never override the others."""
    subject = {"objective": rule.objective} if isinstance(rule, BurnRate | BudgetLeft) else {"probe": rule.probe}
    return {**rule.labels, "alertname": rule.alertname, "severity": rule.severity.value, **subject}
