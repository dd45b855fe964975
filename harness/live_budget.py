"""The time budget of a drill whose alerts are Prometheus': computed from what Prometheus and Alertmanager run at this moment."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from stormwatch.chaos.drill import Drill
from stormwatch.chaos.plan import Span
from stormwatch.chaos.verdict import show_labels
from stormwatch.harness.config import Config
from stormwatch.harness.drift_sources import PrometheusApi, alertmanager_api, shown
from stormwatch.harness.live_chain import (
    LINGERS,
    LOOK,
    SENT,
    Delivery,
    Evaluated,
    Labels,
    Live,
    anyhow,
    delivery_of,
    longest_group_interval,
    may_make,
    plus,
    scrape_of,
    soonest,
    spread_of,
)
from stormwatch.harness.rule_span import Subjects
from stormwatch.harness.watch_section import Watch
from stormwatch.probes.probe import Probe
from stormwatch.slo.identity import labels_of
from stormwatch.slo.latency import first_failure
from stormwatch.slo.policy import longest_run
from stormwatch.slo.rule import BudgetLeft, BurnRate, Rule

_OF_PROBES = ("probe_", "stormwatch_")
"""How the names of the metrics begin that come from our probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBudget:
    """What the way of the expected alert takes, in seconds; None where nothing is known of it."""

    firing: Span | None = None
    """From the injection until Prometheus is seen to fire it."""
    notified: Span | None = None
    """From the injection until Alertmanager is seen to have it."""
    delivered: Span | None = None
    """From the injection until the receiver is told."""
    resolved: Span | None = None
    """From the undo until Prometheus is seen not to fire it any more."""
    cleared: Span | None = None
    """From the undo until the receiver is told that it is over."""
    links: tuple[tuple[str, Span], ...] = ()
    """The stretches of the way, by name."""
    refusals: tuple[str, ...] = ()


async def ask(watch: Watch) -> Live:
    """Ask both what they run. Raises Problem (no verdict) when one of them does not answer as it should."""
    async with AsyncExitStack() as stack:
        live, recent = Live(), 0.0
        if watch.alertmanager:
            alertmanager = await stack.enter_async_context(
                alertmanager_api(watch.alertmanager, asked="watch.alertmanager")
            )
            routing = await alertmanager.config()
            recent = longest_group_interval(routing) + LINGERS
            live = replace(live, routing=routing, recent=await alertmanager.labels())
        if watch.prometheus:
            prometheus = await stack.enter_async_context(PrometheusApi(watch.prometheus, asked="watch.prometheus"))
            live = replace(
                live,
                groups=await prometheus.groups(),
                intervals=await prometheus.intervals(),
                tells=await prometheus.tells(),
                external_labels=await prometheus.external_labels(),
                recent=[*live.recent, *(await prometheus.fired(recent) if recent else ())],
            )
        return live


def live_budget(config: Config, drill: Drill, live: Live, *, ours: Span | None = None) -> LiveBudget:
    """The budget of the expected alert. `ours` is that of our own evaluator, where Prometheus is not watched."""
    if drill.alert is None:
        return LiveBudget()
    expected, watch = drill.alert.labels, config.watch
    if not watch.prometheus:
        return _delivered(LiveBudget(firing=ours), drill, live, watch, expected)
    where = f"Prometheus at {shown(watch.prometheus)}"
    found = may_make(expected, live)
    if not found:
        return LiveBudget(refusals=(_no_rule(drill, live, where),))
    failing = [one for one in found if one.rule.health == "err"]
    if len(failing) == len(found):
        why = f"{show_labels(expected)}: {where} cannot evaluate its rule: {failing[0].rule.error}"
        return LiveBudget(refusals=(why,))
    spans = {id(one): _firing(config, drill, live, one) for one in found}
    first = min(found, key=lambda one: spans[id(one)].worst)
    budget = LiveBudget(
        firing=soonest(list(spans.values())),
        resolved=anyhow([_resolving(config, drill, live, one) for one in found]),
        links=_links(config, drill, live, first),
    )
    static = {name: value for name, value in first.rule.text.labels.items() if "{{" not in value}
    return _delivered(budget, drill, live, watch, {**static, **expected})


def _delivered(budget: LiveBudget, drill: Drill, live: Live, watch: Watch, labels: Labels) -> LiveBudget:
    """With the way from the firing to the receiver."""
    assert drill.alert is not None
    if not live.tells and (watch.alertmanager or drill.alert.delivered_within is not None):
        why = f"{show_labels(drill.alert.labels)}: Prometheus sends to no Alertmanager: name one under `alerting`"
        return replace(budget, refusals=(*budget.refusals, why))
    if live.routing is None or budget.firing is None:
        return budget
    firing = budget.firing
    budget = replace(budget, notified=plus(firing, Span(0.0, SENT)))
    if not watch.receiver:
        return budget
    way = delivery_of(labels, live, port=watch.receiver.rpartition(":")[2])
    if isinstance(way, Delivery):
        return replace(
            budget,
            delivered=plus(firing, way.first),
            cleared=budget.resolved and plus(budget.resolved, way.cleared),
            links=(*budget.links, ("group in Alertmanager", way.first)),
        )
    if drill.alert.delivered_within is None:
        return budget
    return replace(budget, refusals=(*budget.refusals, f"{show_labels(drill.alert.labels)}: {way}"))


def _no_rule(drill: Drill, live: Live, where: str) -> str:
    assert drill.alert is not None
    expected = drill.alert.labels
    rules = [rule.text for group in live.groups for rule in group.rules if rule.text.is_alert]
    near = [
        show_labels({"alertname": text.name, **text.labels}) for text in rules if text.name == expected["alertname"]
    ]
    there = (
        f"those of that name have the labels {' and '.join(dict.fromkeys(near))}"
        if near
        else f"it has {', '.join(sorted({text.name for text in rules})) or 'no rules for alerts at all'}"
    )
    return f"{show_labels(expected)}: no rule of {where} makes it; {there}"


def _own_rule(config: Config, one: Evaluated) -> Rule | None:
    """Which rule of ours it is that Prometheus evaluates, with what it runs: `for` and `keep_firing_for`."""
    for rule in config.rules:
        labels = labels_of(rule)
        if labels.pop("alertname") == one.rule.text.name and labels.items() <= one.rule.text.labels.items():
            return replace(rule, lasting=one.rule.text.lasting, keep=one.rule.text.keep or 0.0)
    return None


def _firing(config: Config, drill: Drill, live: Live, one: Evaluated) -> Span:
    interval, scrape = one.group.interval, scrape_of(one.rule.text.expr, live)
    rule = _own_rule(config, one)
    if rule is not None:
        span = Subjects.of(config).firing(rule, drill, interval)
        # A rate needs two samples, and the first that shows a failure may be the second's neighbour.
        samples = 2 if isinstance(rule, BurnRate | BudgetLeft) else 1
        return Span(span.best, span.worst + samples * scrape + LOOK)
    source = _source(config, drill, one)
    return Span(one.holding, source + spread_of(one, live) + scrape + interval + one.holding + LOOK)


def _resolving(config: Config, drill: Drill, live: Live, one: Evaluated) -> Span:
    interval, scrape = one.group.interval, scrape_of(one.rule.text.expr, live)
    rule = _own_rule(config, one)
    if rule is not None:
        span = Subjects.of(config).resolving(rule, drill, interval)
        samples = 2 if isinstance(rule, BurnRate | BudgetLeft) else 1
        return Span(span.best, span.worst + samples * scrape + LOOK)
    source = max((probe.every + 2 * longest_run(probe) for probe in _probes(config, drill, one)), default=0.0)
    return Span(one.keeping, source + spread_of(one, live) + scrape + interval + one.keeping + LOOK)


def _source(config: Config, drill: Drill, one: Evaluated) -> float:
    """Seconds at the most until what the rule reads begins to change."""
    return max((first_failure(probe).worst for probe in _probes(config, drill, one)), default=0.0)


def _probes(config: Config, drill: Drill, one: Evaluated) -> Sequence[Probe]:
    """Whose results a rule may read; none when it is about metrics of others."""
    if not any(name in one.rule.text.expr for name in _OF_PROBES):
        return ()
    expected = drill.probe.name if drill.probe else ""
    return [probe for probe in config.probes if probe.name == expected] or config.probes


def _links(config: Config, drill: Drill, live: Live, one: Evaluated) -> tuple[tuple[str, Span], ...]:
    """What the way to the firing is made of. The first is what remains of the whole."""
    whole, scrape = _firing(config, drill, live, one), scrape_of(one.rule.text.expr, live)
    parts = (
        ("scrape", Span(0.0, scrape)),
        ("evaluation", Span(0.0, one.group.interval)),
        ("for", Span(one.holding, one.holding)),
        ("until it is seen", Span(0.0, LOOK)),
    )
    best = whole.best - sum(span.best for _, span in parts)
    worst = whole.worst - sum(span.worst for _, span in parts)
    return (("condition of the rule", Span(max(0.0, best), worst)), *parts)
