"""What several fields of an OpenSLO object must be together. Each rule is one sentence at the place that is to be changed."""

from collections.abc import Iterator
from typing import TypeVar

from stormwatch.slo.openslo import (
    SLI,
    SLO,
    AlertPolicy,
    AlertPolicySpec,
    ConditionItem,
    Object,
    Objective,
    PolicyItem,
    RatioMetric,
    SLISpec,
    SLOSpec,
    TargetItem,
    TimeWindow,
)

Place = tuple[str | int, ...]
Breach = tuple[Place, str]
"""Where, and the sentence that says what is wrong."""

T = TypeVar("T")


def breaches(thing: Object) -> Iterator[Breach]:
    """Every rule that an object breaks."""
    if isinstance(thing, SLO):
        yield from _at(("spec",), _slo(thing.spec))
    elif isinstance(thing, SLI):
        yield from _at(("spec",), _sli(thing.spec))
    elif isinstance(thing, AlertPolicy):
        yield from _at(("spec",), _policy(thing.spec))


def _slo(spec: SLOSpec) -> Iterator[Breach]:
    yield from _indicators(spec)
    if len(spec.time_window) != 1:
        yield (
            ("timeWindow",) if spec.time_window else (),
            f"timeWindow is a list of exactly one window, not of {len(spec.time_window)}"
            if spec.time_window
            else "timeWindow is missing; add `timeWindow:` with one window",
        )
    for index, window in enumerate(spec.time_window):
        yield from _at(("timeWindow", index), _window(window))
    if not spec.objectives:
        yield ("objectives",), "there are no objectives, so nothing is promised; add one"
    sli = spec.indicator.spec if spec.indicator else None
    if sli and sli.threshold_metric and len(spec.objectives) > 1:
        yield ("objectives", 1), "an SLO with a thresholdMetric has one objective; write an SLO for each"
    for index, objective in enumerate(spec.objectives):
        own = objective.indicator.spec if objective.indicator else sli
        yield from _at(("objectives", index), _objective(objective, spec, own))
    for index, item in enumerate(spec.alert_policies):
        yield from _at(
            ("alertPolicies", index), _reference(item, "alertPolicyRef", item.alert_policy_ref, "AlertPolicy")
        )
        if item.spec is not None:
            yield from _at(("alertPolicies", index, "spec"), _policy(item.spec))


def _indicators(spec: SLOSpec) -> Iterator[Breach]:
    """An SLO has one indicator, or (composite) each of its objectives has one."""
    composite = [each.indicator is not None or each.indicator_ref is not None for each in spec.objectives]
    standing = spec.indicator is not None or spec.indicator_ref is not None
    if spec.indicator is not None:
        yield from _at(("indicator", "spec"), _sli(spec.indicator.spec))
        if spec.indicator_ref is not None:
            yield ("indicatorRef",), "indicator and indicatorRef are both given; give one of them"
    if any(composite) and standing:
        yield (
            ("objectives", composite.index(True)),
            "an objective has an indicator, and so has the SLO: give it in the one place, or (composite) in the other",
        )
    elif any(composite):
        for index, given in enumerate(composite):
            if not given:
                yield ("objectives", index), "each objective of a composite SLO has an indicator; add `indicator:`"
    elif not standing:
        yield (), "indicator is missing; add `indicator:` or `indicatorRef:`"


def _window(window: TimeWindow) -> Iterator[Breach]:
    if window.is_rolling and window.calendar is not None:
        yield ("calendar",), "a rolling window has no calendar; leave it out, or write isRolling: false"
    elif not window.is_rolling and window.calendar is None:
        yield (), "a window that is not rolling needs a calendar; add `calendar:`, or write isRolling: true"


def _objective(objective: Objective, spec: SLOSpec, sli: SLISpec | None) -> Iterator[Breach]:
    if objective.target is not None and objective.target_percent is not None:
        yield ("targetPercent",), "target and targetPercent are both given; give one of them"
    elif objective.target is None and objective.target_percent is None:
        yield (), "target is missing; add `target:` (0 to below 1) or `targetPercent:` (0 to below 100)"
    if objective.target is not None and not 0 <= objective.target < 1:
        remedy = "; write it as targetPercent, or divide it by 100" if 1 < objective.target < 100 else ""
        yield ("target",), f"wanted at least 0 and less than 1, not {float(objective.target):.12g}{remedy}"
    if objective.target_percent is not None and not 0 <= objective.target_percent < 100:
        yield ("targetPercent",), f"wanted at least 0 and less than 100, not {float(objective.target_percent):.12g}"
    if sli and sli.threshold_metric:
        for key, given in (("op", objective.op), ("value", objective.value)):
            if given is None:
                yield (), f"a thresholdMetric is compared with something; add `{key}:`"
    # The SDK also refuses `op` here; the specification's own examples of ratios carry it, and it means nothing.
    if sli and sli.ratio_metric and objective.value is not None:
        yield ("value",), "a ratioMetric is compared with the target only; leave value out"
    yield from _slices(objective, spec)
    if objective.composite_weight is not None and objective.composite_weight <= 0:
        yield ("compositeWeight",), f"wanted more than 0, not {float(objective.composite_weight):g}"
    if objective.indicator is not None:
        yield from _at(("indicator", "spec"), _sli(objective.indicator.spec))
        if objective.indicator_ref is not None:
            yield ("indicatorRef",), "indicator and indicatorRef are both given; give one of them"


def _slices(objective: Objective, spec: SLOSpec) -> Iterator[Breach]:
    if spec.budgeting_method == "Timeslices" and objective.time_slice_target is None:
        yield (), "Timeslices need to know when a slice is good; add `timeSliceTarget:`"
    if objective.time_slice_target is not None and not 0 < objective.time_slice_target <= 1:
        yield (
            ("timeSliceTarget",),
            f"wanted more than 0 and at most 1, not {float(objective.time_slice_target):.12g}",
        )
    if spec.budgeting_method != "Occurrences" and objective.time_slice_window is None:
        yield (), f"{spec.budgeting_method} need to know how long a slice is; add `timeSliceWindow:`"


def _sli(spec: SLISpec) -> Iterator[Breach]:
    if spec.threshold_metric is not None and spec.ratio_metric is not None:
        yield ("ratioMetric",), "thresholdMetric and ratioMetric are both given; give one of them"
    elif spec.threshold_metric is None and spec.ratio_metric is None:
        yield (), "a metric is missing; add `thresholdMetric:` or `ratioMetric:`"
    if spec.ratio_metric is not None:
        yield from _at(("ratioMetric",), _ratio(spec.ratio_metric))


def _ratio(metric: RatioMetric) -> Iterator[Breach]:
    parts = {"good": metric.good, "bad": metric.bad, "total": metric.total}
    given = [name for name, part in parts.items() if part is not None]
    if metric.raw is not None:
        if given:
            yield (given[0],), f"raw is a ratio already; leave {' and '.join(given)} out, or raw"
        if metric.raw_type is None:
            yield (), "raw may be a ratio of success or of failure; add `rawType:`"
        return
    if metric.raw_type is not None:
        yield ("rawType",), "rawType belongs to raw; leave it out, or add `raw:`"
    if metric.total is None:
        yield (
            (),
            "a ratio is good or bad events of all; add `total:`" if given else "is empty; add `good:` and `total:`",
        )
    if metric.good is not None and metric.bad is not None:
        yield ("bad",), "good and bad are both given; give one of them"
    elif metric.good is None and metric.bad is None and metric.total is not None:
        yield (), "total is all events; add `good:` or `bad:`"


def _policy(spec: AlertPolicySpec) -> Iterator[Breach]:
    if len(spec.conditions) != 1:
        yield ("conditions",), f"conditions is a list of exactly one condition, not of {len(spec.conditions)}"
    if not spec.notification_targets:
        yield ("notificationTargets",), "nobody is told; add a target"
    for index, item in enumerate(spec.conditions):
        yield from _at(("conditions", index), _reference(item, "conditionRef", item.condition_ref, "AlertCondition"))
    for index, target in enumerate(spec.notification_targets):
        yield from _at(
            ("notificationTargets", index),
            _reference(target, "targetRef", target.target_ref, "AlertNotificationTarget"),
        )


def _reference(
    item: PolicyItem | ConditionItem | TargetItem, key: str, reference: str | None, kind: str
) -> Iterator[Breach]:
    inline = {"kind": item.kind, "metadata": item.metadata, "spec": item.spec}
    given = [name for name, value in inline.items() if value is not None]
    if reference is not None and given:
        yield (key,), f"{key} and {given[0]} are both given: refer to an {kind}, or write it out here"
    elif reference is None:
        for name in inline.keys() - given if given else ():
            yield (), f"{name} is missing; add `{name}:`"
        if not given:
            yield (), f"is empty; add `{key}:`, or an {kind} with kind, metadata and spec"


def _at(place: Place, found: Iterator[Breach]) -> Iterator[Breach]:
    for where, sentence in found:
        yield (*place, *where), sentence
