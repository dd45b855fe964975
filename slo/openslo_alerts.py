"""OpenSLO's alert policies as burn rates of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stormwatch.slo.alert import Severity
from stormwatch.slo.openslo import (
    AlertCondition,
    AlertConditionSpec,
    AlertPolicy,
    AlertPolicySpec,
    Metadata,
    PolicyItem,
    SLOSpec,
)
from stormwatch.slo.openslo_annotation import annotations_of
from stormwatch.slo.openslo_library import Library, missing
from stormwatch.slo.policy import Burn
from stormwatch.slo.promise import NotCarried, Place

SEVERITIES: Final[Mapping[str, Severity]] = {
    **dict.fromkeys(("page", "critical", "sev1", "p1", "emergency"), Severity.PAGE),
    **dict.fromkeys(("high", "error", "sev2", "p2"), Severity.HIGH),
    **dict.fromkeys(("ticket", "warning", "warn", "medium", "sev3", "p3"), Severity.TICKET),
    **dict.fromkeys(("info", "low", "notice", "sev4", "sev5", "p4", "p5"), Severity.INFO),
}
"""OpenSLO leaves the names of severities to its users; these are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alert:
    """A policy with its condition, wherever each of them stands."""

    place: Place
    policy: Metadata
    spec: AlertPolicySpec
    name: str
    """That of the condition."""
    condition: AlertConditionSpec


def burns(spec: SLOSpec, library: Library, notes: list[str]) -> tuple[Burn, ...] | None:
    """The burn-rate alerts of an SLO; None when it has none of its own. Raises NotCarried for what we cannot watch."""
    found: list[Burn] = []
    for index, item in enumerate(spec.alert_policies):
        alert = _alert(item, ("spec", "alertPolicies", index), library)
        if not alert.spec.alert_when_breaching:
            notes.append(f"{alert.policy.name} does not alert when its condition is breached, so nothing comes of it")
            continue
        if alert.spec.alert_when_no_data:
            notes.append(f"{alert.policy.name}: that there is no data is told by the probe's alert ProbeNoEvidence")
        targets = [
            item.target_ref or (item.metadata.name if item.metadata else "") for item in alert.spec.notification_targets
        ]
        notes.append(f"{alert.policy.name} tells {', '.join(targets)}: who is told stands under alerts.notify here")
        found.append(_burn(alert, notes))
    return tuple(found) or None


def _burn(alert: _Alert, notes: list[str]) -> Burn:
    condition = alert.condition.condition
    threshold = f"{float(condition.threshold):g}"
    if condition.op in ("lt", "lte"):
        raise NotCarried(
            alert.place,
            f"the condition {alert.name} alerts while the budget burns slowly ({condition.op} {threshold}); write op: gt",
        )
    if condition.threshold <= 0:
        raise NotCarried(alert.place, f"the condition {alert.name} alerts always, at a burn rate of {threshold}")
    severity = SEVERITIES.get(alert.condition.severity.lower())
    if severity is None:
        raise NotCarried(
            alert.place,
            f"the condition {alert.name} has the severity {alert.condition.severity!r}; ours are page, high, ticket, info",
        )
    if not condition.lookback_window.steady:
        raise NotCarried(
            alert.place,
            f"the condition {alert.name} looks back over {condition.lookback_window}, which has no length of its own",
        )
    if condition.op == "gte":
        notes.append(f"{alert.name}: a burn rate of exactly {threshold} is not enough for an alert here")
    ours = annotations_of(alert.policy, alert.place)
    long = ours.long or condition.lookback_window.seconds
    lasting = condition.alert_after.seconds if condition.alert_after else 0
    return Burn(
        severity=severity,
        long=float(long),
        short=float(ours.short or long),
        factor=ours.factor or condition.threshold,
        lasting=float(lasting if ours.lasting is None else ours.lasting),
        literal=True,
    )


def _alert(item: PolicyItem, place: Place, library: Library) -> _Alert:
    if item.alert_policy_ref is None:
        assert item.metadata is not None
        assert item.spec is not None
        policy, spec = item.metadata, item.spec
    else:
        found = library.objects.get(("AlertPolicy", item.alert_policy_ref))
        if not isinstance(found, AlertPolicy):
            raise NotCarried((*place, "alertPolicyRef"), missing("AlertPolicy", item.alert_policy_ref))
        policy, spec = found.metadata, found.spec
    (condition,) = spec.conditions
    if condition.condition_ref is None:
        assert condition.metadata is not None
        assert condition.spec is not None
        return _Alert(place=place, policy=policy, spec=spec, name=condition.metadata.name, condition=condition.spec)
    known = library.objects.get(("AlertCondition", condition.condition_ref))
    if not isinstance(known, AlertCondition):
        raise NotCarried(place, missing("AlertCondition", condition.condition_ref))
    return _Alert(place=place, policy=policy, spec=spec, name=known.metadata.name, condition=known.spec)
