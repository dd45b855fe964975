"""Time budgets of what Prometheus and Alertmanager run: which rule, how long, by which route, and what cannot be."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.drill import ExpectedAlert, ExpectedProbe, Side
from stormwatch.chaos.plan import Plan, Span
from stormwatch.harness.config import Config, load
from stormwatch.harness.drilling import plan_of
from stormwatch.harness.live_chain import Delivery, Evaluated, Live, delivery_of, possible_routes, spread_of
from stormwatch.slo.drift import RuleText, RunningGroup, RunningRule

CONFIG = """\
probes:
  - {name: shop, kind: http, target: "http://127.0.0.1:18080/", every: 10s, timeout: 2s, confirm: {attempts: 1}}
objectives:
  - {name: shop-up, probe: shop, target: 99.9%}
proxies:
  routes:
    - {name: shop, listen: "127.0.0.1:18080", upstream: "127.0.0.1:8080"}
watch: {prometheus: "http://u:${env:KEY}@127.0.0.1:9090", alertmanager: "http://127.0.0.1:9093", receiver: "127.0.0.1:9099"}
drills:
  - name: d
    fault: {kind: tcp-refused, target: shop}
    expect: {alert: EXPECTED, resolves_within: 10m}
"""
THEIRS = "{labels: {alertname: HighErrorRate, severity: page}, within: 10m, delivered_within: 10m}"
OURS = "{probe: shop, within: 10m}"


def group(*rules: RunningRule, interval: float = 15.0) -> RunningGroup:
    """A group of Prometheus."""
    return RunningGroup(name="g", file="/f", interval=interval, rules=rules)


def alerting(expr: str = "up == 0", *, health: str = "ok", **more: Any) -> RunningRule:
    """A rule for alerts."""
    text: dict[str, Any] = {"name": "HighErrorRate", "labels": {"severity": "page"}, "annotations": {}, **more}
    return RunningRule(text=RuleText(is_alert=True, expr=expr, **text), health=health, error="no such function")


def recording(name: str, expr: str) -> RunningRule:
    """A rule for a series."""
    return RunningRule(text=RuleText(name=name, is_alert=False, expr=expr, labels={}, annotations={}), health="ok")


def webhook(port: int = 9099, **more: Any) -> dict[str, Any]:
    """A receiver that tells a webhook."""
    return {"name": "drill", "webhook_configs": [{"url": f"http://127.0.0.1:{port}/", **more}]}


ROUTING: dict[str, Any] = {
    "route": {
        "receiver": "people",
        "group_by": ["alertname"],
        "group_wait": "10s",
        "group_interval": "1m",
        "routes": [{"receiver": "drill", "continue": True}, {"receiver": "people"}],
    },
    "receivers": [webhook(), {"name": "people", "pagerduty_configs": [{"routing_key": "<secret>"}]}],
}
LIVE = Live(groups=[group(alerting(lasting=20.0, keep=30.0))], intervals={"app": 30.0}, routing=ROUTING)


def config(directory: Path, expected: str = THEIRS) -> Config:
    """A configuration with one drill."""
    path = directory / "stormwatch.yaml"
    path.write_text(CONFIG.replace("EXPECTED", expected))
    return load(path, environ={"KEY": "hunter2"})


def planned(directory: Path, live: Live, expected: str = THEIRS) -> Plan:
    """Its plan."""
    loaded = config(directory, expected)
    return plan_of(loaded, loaded.drills[0], live)


def test_a_rule_of_others_is_bounded_by_what_it_runs(tmp_path: Path) -> None:
    """`for` of 20 s is two evaluations of 15 s; the scrape, the evaluation and our look come on top at worst."""
    plan = planned(tmp_path, LIVE)
    assert plan.alert == Span(30.0, 30 + 15 + 30 + 2)
    assert plan.notified == Span(30.0, 30 + 15 + 30 + 2 + 2)
    assert plan.delivered == Span(30 + 10, 30 + 15 + 30 + 2 + 10 + 2)
    assert plan.recovery == Span(30.0, 30 + 15 + 30 + 2)
    assert plan.cleared == Span(30.0, 30 + 15 + 30 + 2 + 60 + 2)
    assert (plan.refusals, plan.warnings) == ((), ())
    assert dict(plan.links)["for"] == Span(30.0, 30.0)
    before_delivery = [span for name, span in plan.links if name != "group in Alertmanager"]
    assert sum(span.worst for span in before_delivery) == 77
    assert "  the receiver is told: asked within 10m, can be 40.0 s to 89.0 s" in plan.lines()
    assert plan.as_json()["delivered"] == {"best": 40.0, "worst": 89.0}


def test_a_rule_of_ours_has_the_bounds_of_our_own_arithmetic(tmp_path: Path) -> None:
    """With the intervals and the `for` that Prometheus runs, not those of our evaluator; and the scrape."""
    text: dict[str, Any] = {"name": "ProbeDown", "labels": {"severity": "page", "probe": "shop"}}
    short = planned(tmp_path, replace(LIVE, groups=[group(alerting("probe_success == 0", **text))]), OURS)
    assert short.alert == Span(0.0, 10 + 2 + 15 + 30 + 2)
    held = planned(tmp_path, replace(LIVE, groups=[group(alerting("probe_success == 0", lasting=16.0, **text))]), OURS)
    assert held.alert == Span(30.0, 10 + 2 + 15 + 30 + 30 + 2)


@pytest.mark.parametrize(
    ("expr", "seconds"),
    [
        ("up == 0", 0),
        ("rate(x[5m]) > 1", 300),
        ("rate(x[5m]) > rate(y[1h30m])", 5400),
        ('x{path=~"[5m]"} > 1', 0),
        ("x offset 10m > 1", 600),
        ("max_over_time(rate(x[5m])[1h:1m]) > 1", 3900),
        ("job:errors:rate5m > 1", 30 + 300),
        ("deep > 1", 30 + 30 + 300),
        ("loop > 1", 30),
        ("rate(x[300]) > 1", 300),
        ("rate(x[1y1d]) > 1", 366 * 86400),
        ("x offset -5m > 1", 0),
    ],
)
def test_how_far_an_expression_looks_back(expr: str, seconds: float) -> None:
    """Its ranges, those of series recorded for it and when those are recorded; text in quotes is no range."""
    rule = alerting(expr)
    recorded = group(
        recording("job:errors:rate5m", "rate(x[5m])"),
        recording("deep", "job:errors:rate5m * 2"),
        recording("loop", "loop + 1"),
        interval=30,
    )
    assert spread_of(Evaluated(rule, group(rule)), Live(groups=[group(rule), recorded])) == seconds


def test_of_several_jobs_the_one_that_is_named_counts(tmp_path: Path) -> None:
    """Without a name, the slowest."""
    live = replace(LIVE, intervals={"app": 5.0, "batch": 300.0})
    named = planned(tmp_path, replace(live, groups=[group(alerting('up{job="app"} == 0'))])).alert
    assert named == Span(0.0, 5 + 15 + 2)
    assert planned(tmp_path, replace(live, groups=[group(alerting())])).alert == Span(0.0, 300 + 15 + 2)


def test_what_reads_our_probes_begins_with_their_failure(tmp_path: Path) -> None:
    """Though the rule is not ours."""
    live = replace(LIVE, groups=[group(alerting("avg_over_time(probe_success[1m]) < 1"))])
    assert planned(tmp_path, live).alert == Span(0.0, (10 + 2) + 60 + 30 + 15 + 2)


@pytest.mark.parametrize(
    ("live", "refusal"),
    [
        (
            replace(LIVE, groups=[]),
            (
                "HighErrorRate{severity=page}: no rule of Prometheus at http://127.0.0.1:9090 makes it; "
                "it has no rules for alerts at all"
            ),
        ),
        (
            replace(LIVE, groups=[group(alerting(labels={"severity": "ticket"}))]),
            (
                "HighErrorRate{severity=page}: no rule of Prometheus at http://127.0.0.1:9090 makes it; "
                "those of that name have the labels HighErrorRate{severity=ticket}"
            ),
        ),
        (
            replace(LIVE, groups=[group(alerting(health="err"))]),
            "HighErrorRate{severity=page}: Prometheus at http://127.0.0.1:9090 cannot evaluate its rule: no such function",
        ),
        (
            replace(LIVE, tells=False),
            "HighErrorRate{severity=page}: Prometheus sends to no Alertmanager: name one under `alerting`",
        ),
        (
            replace(LIVE, routing={**ROUTING, "receivers": [webhook(9000)]}),
            (
                "HighErrorRate{severity=page}: Alertmanager tells drill, people of it, and no webhook on port 9099: "
                "add a route with `continue: true`"
            ),
        ),
    ],
)
def test_what_can_never_be_is_refused(tmp_path: Path, live: Live, refusal: str) -> None:
    """Each with what is there instead, and no secret."""
    assert planned(tmp_path, live).refusals == (refusal,)


def test_of_several_rules_any_may_be_the_first(tmp_path: Path) -> None:
    """And any may be the one that fires on."""
    groups = [group(alerting(lasting=60.0)), group(alerting(lasting=0.0, keep=90.0), interval=60.0)]
    plan = planned(tmp_path, replace(LIVE, groups=groups))
    assert plan.alert == Span(0.0, 30 + 60 + 2)
    assert plan.recovery == Span(0.0, 30 + 60 + 120 + 2)


def test_a_label_that_a_template_makes_may_be_the_expected_one(tmp_path: Path) -> None:
    """It is known when the alert is there."""
    live = replace(LIVE, groups=[group(alerting(labels={"severity": "{{ $labels.severity }}"}))])
    assert planned(tmp_path, live).refusals == ()


def way(routing: dict[str, Any], **live: Any) -> Delivery:
    """The delivery of the expected alert."""
    found = delivery_of(
        {"alertname": "HighErrorRate", "severity": "page"}, replace(LIVE, routing=routing, **live), port="9099"
    )
    assert isinstance(found, Delivery), found
    return found


def top(**more: Any) -> dict[str, Any]:
    """The routing with settings of its top."""
    return {**ROUTING, "route": {**ROUTING["route"], **more}}


def test_a_group_that_may_be_there_goes_by_its_own_rhythm() -> None:
    """Then it may be told at once, or an interval later; `group_wait` is for a group that begins."""
    same = {"alertname": "HighErrorRate", "severity": "ticket", "instance": "b"}
    assert way(ROUTING).first == Span(10.0, 12.0)
    assert way(ROUTING, recent=[{"alertname": "Other"}]).first == Span(10.0, 12.0)
    assert way(ROUTING, recent=[same]).first == Span(0.0, 62.0)
    assert way(top(group_by=None)).first == Span(0.0, 62.0)
    assert way(top(group_wait=0)).first == Span(0.0, 2.0)
    assert way(top(group_by=["severity"])).first == Span(0.0, 62.0)
    assert way(top(group_by=["..."])).first == Span(10.0, 12.0)
    page = {**same, "severity": "page"}
    assert way(top(group_by=["severity"]), recent=[page]).first.best == 0


def test_an_alert_that_comes_back_before_its_end_was_told_is_news_again_after_the_repeat_interval() -> None:
    """Alertmanager has told that it fires, and knows of no end; then a moment of the group has to come."""
    same = {"alertname": "HighErrorRate", "severity": "page", "instance": "b"}
    assert way(ROUTING, recent=[same]).first == Span(0.0, 4 * 3600 + 60 + 2)
    assert way(top(repeat_interval="90s"), recent=[same]).first == Span(0.0, 120 + 60 + 2)
    assert way(top(group_by=["..."]), recent=[same]).first == Span(0.0, 4 * 3600 + 60 + 2)


def test_the_all_clear_comes_with_the_groups_next_message_if_at_all() -> None:
    """Not where the receiver is not told of ends."""
    assert way(ROUTING).cleared == Span(0.0, 62.0)
    silent = {**ROUTING, "receivers": [webhook(send_resolved=False)]}
    assert way(silent).cleared == Span(math.inf, math.inf)


def test_hours_may_hold_back_for_ever() -> None:
    """At best it is not night."""
    routing = top(routes=[{"receiver": "drill", "mute_time_intervals": ["nights"]}])
    assert way(routing).first == Span(10.0, math.inf)


def test_an_address_that_alertmanager_hides_may_be_ours() -> None:
    """Newer ones tell no webhook's address."""
    routing = {**ROUTING, "receivers": [{"name": "drill", "webhook_configs": [{"url": "<secret>"}]}]}
    assert way(routing).receivers == ("drill",)


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        ([], ["top"]),
        ([{"receiver": "a"}, {"receiver": "b"}], ["a"]),
        ([{"receiver": "a", "continue": True}, {"receiver": "b"}], ["a", "b"]),
        ([{"receiver": "a", "continue": True}], ["a"]),
        ([{"receiver": "a", "matchers": ['alertname="X"']}], ["top"]),
        ([{"receiver": "a", "matchers": ['team="web"']}], ["a", "top"]),
        ([{"receiver": "a", "matchers": ['team="web"', 'alertname="X"']}], ["top"]),
        ([{"receiver": "a", "match": {"alertname": "A"}}, {"receiver": "b"}], ["a"]),
        ([{"receiver": "a", "routes": [{"receiver": "c", "matchers": ['alertname=~"A|B"']}]}], ["c"]),
    ],
)
def test_the_routes_that_an_alert_may_take(routes: list[dict[str, Any]], told: list[str]) -> None:
    """A label that is not known may have any value; the route itself is for what no route below it takes."""
    found = possible_routes({"receiver": "top", "routes": routes}, {"alertname": "A"})
    assert [one["receiver"] for one in found] == told


def test_settings_come_from_the_routes_above() -> None:
    """And have Alertmanager's defaults where nobody says otherwise."""
    tree = {"receiver": "top", "group_wait": "1s", "routes": [{"group_interval": "7s"}]}
    (found,) = possible_routes(tree, {})
    assert (found["receiver"], found["group_wait"], found["group_interval"], found["repeat_interval"]) == (
        "top",
        "1s",
        "7s",
        "4h",
    )


def test_our_own_alerts_by_way_of_alertmanager_have_a_delivery_too(tmp_path: Path) -> None:
    """Prometheus is not watched: our evaluator fires, Alertmanager tells."""
    loaded = config(tmp_path, "{probe: shop, within: 10m, delivered_within: 10m}")
    loaded = replace(loaded, watch=replace(loaded.watch, prometheus=""))
    plan = plan_of(loaded, loaded.drills[0], Live(routing=ROUTING))
    assert plan.alert is not None
    assert plan.delivered == Span(plan.alert.best, plan.alert.worst + 62)


def test_on_the_probers_side_the_alerts_are_ours(tmp_path: Path) -> None:
    """Prometheus scrapes a service whose probe is not bent: an alert of its own rules is refused, ours has our own budget."""
    loaded = config(tmp_path, THEIRS)
    drill = replace(loaded.drills[0], side=Side.PROBER, probe=ExpectedProbe(name="shop"))
    (refusal,) = plan_of(loaded, drill, LIVE).refusals
    assert (
        refusal == "only rules of ours are told of a bent probe, and none makes the expected alert: expect one of ours"
    )
    ours = replace(drill, alert=ExpectedAlert(labels={"alertname": "ProbeDown", "probe": "shop"}))
    plan = plan_of(loaded, ours, LIVE)
    assert plan.refusals == ()
    assert plan.alert == Span(0.0, 10 + 2 + 1)


def test_a_budget_that_burned_for_a_moment_may_be_whole_in_a_moment(tmp_path: Path) -> None:
    """The drill ends when its alert fires, long before it would give up: not the whole of `within` is in the window."""
    loaded = config(tmp_path, "{objective: shop-up, within: 20m}")
    loaded = replace(loaded, watch=replace(loaded.watch, prometheus="", alertmanager="", receiver=""))
    plan = plan_of(loaded, loaded.drills[0])
    assert plan.recovery is not None
    assert plan.recovery.best < 300
    assert plan.recovery.worst > 1200
