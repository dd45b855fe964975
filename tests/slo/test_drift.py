"""What counts as drift of rules, one change at a time; the same against a real Prometheus is in tests/harness."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import yaml

from stormwatch.slo.drift import GroupText, Moment, RunningGroup, RunningRule, drift_of_rules, groups_of
from stormwatch.slo.policy import rules_for_objective, rules_for_probe
from stormwatch.slo.prober import render_prober_rules
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.promql import plain_form
from tests.slo.story import START, objective, probe

PROBES = [probe("dns"), probe("front", depends_on=("dns",), labels={"team": "web"})]
OBJECTIVES = [objective(), objective("third", target=Fraction(9999999, 10000000))]
RULES = [
    *(rule for each in OBJECTIVES for rule in rules_for_objective(each, PROBES)),
    *(rule for each in PROBES for rule in rules_for_probe(each, lasting=30.0, keep=60.0)),
]
FILE = render_rules(OBJECTIVES, RULES, PROBES, version="1.2.3")
MOMENT = Moment(now=START + 600, loaded=START, interval=15.0)
DOWN = 'stormwatch-probes ▸ ProbeDown{probe="front", severity="page"}'


def running(text: str, **health: Any) -> list[RunningGroup]:
    """A Prometheus that runs a file, a moment after an evaluation."""
    return [
        RunningGroup(
            name=group.name,
            file="/etc/rules.yml",
            interval=group.interval or 15.0,
            rules=tuple(
                RunningRule(**{"text": rule, "health": "ok", "evaluated": MOMENT.now - 5} | health)
                for rule in group.rules
            ),
        )
        for group in groups_of(text)
    ]


def wanted() -> tuple[GroupText, ...]:
    """What the configuration says."""
    return groups_of(FILE)


def groups(document: Any) -> dict[str, Any]:
    """The groups of a rule file by name."""
    return {group["name"]: group for group in document["groups"]}


def down(document: Any) -> Any:
    """The alert that the front is down."""
    rules = groups(document)["stormwatch-probes"]["rules"]
    return next(rule for rule in rules if (rule["alert"], rule["labels"]["probe"]) == ("ProbeDown", "front"))


def info(document: Any) -> Any:
    """The series that says who wrote the rules."""
    rules = groups(document)["stormwatch-slo-third"]["rules"]
    return next(rule for rule in rules if rule.get("record") == "sloth_slo_info")


Change = Callable[[Any], Any]
CHANGES: dict[str, tuple[Change, tuple[str, str], str, str]] = {
    "comparison": (
        lambda file: down(file).update(
            expr=down(file)["expr"].replace('"front"}[15m]))) == 0', '"front"}[15m]))) < 1')
        ),
        ("expression", DOWN),
        "== 0",
        "< 1",
    ),
    "a mute is gone": (
        lambda file: down(file).update(
            expr=down(file)["expr"].replace(
                'unless on() ((max(probe_success{probe="dns"}) or '
                'max(last_over_time(probe_success{probe="dns"}[15m]))) == 0)',
                "",
            )
        ),
        ("expression", DOWN),
        'probe="dns"',
        "stormwatch_maintenance",
    ),
    "for": (lambda file: down(file).update({"for": "5m"}), ("for", DOWN), "30s", "5m"),
    "no for": (lambda file: down(file).pop("for"), ("for", DOWN), "30s", "0s"),
    "keep": (lambda file: down(file).pop("keep_firing_for"), ("keep-firing-for", DOWN), "1m", "0s"),
    "label": (lambda file: down(file)["labels"].update(team="no"), ("label", DOWN), "team: web", "team: no"),
    "severity": (lambda file: down(file)["labels"].update(severity="info"), ("label", DOWN), "page", "info"),
    "label besides": (lambda file: down(file)["labels"].update(a="b"), ("label", DOWN), "no a", "a: b"),
    "annotation": (
        lambda file: down(file)["annotations"].pop("summary"),
        ("annotation", DOWN),
        "summary: front",
        "no summary",
    ),
    "missing rule": (
        lambda file: groups(file)["stormwatch-probes"]["rules"].remove(down(file)),
        ("rule-missing", DOWN),
        "probe_success",
        "no such rule in /etc/rules.yml",
    ),
    "rule besides": (
        lambda file: groups(file)["stormwatch-probes"]["rules"].append({"alert": "ByHand", "expr": "up == 0"}),
        ("rule-extra", "stormwatch-probes ▸ ByHand"),
        "no such rule",
        "up == 0",
    ),
    "missing group": (
        lambda file: file["groups"].remove(groups(file)["stormwatch-slo-third"]),
        ("group-missing", "stormwatch-slo-third"),
        "ErrorBudgetBurn",
        "no group of this name",
    ),
    "group besides": (
        lambda file: file["groups"].append({"name": "stormwatch-slo-old", "rules": [{"record": "x", "expr": "up"}]}),
        ("group-extra", "stormwatch-slo-old"),
        "no such group",
        "1 rules in /etc/rules.yml: x",
    ),
    "group twice": (
        lambda file: file["groups"].insert(0, {"name": "stormwatch-probes", "rules": [{"record": "x", "expr": "up"}]}),
        ("group-twice", "stormwatch-probes"),
        "one group of this name",
        "x",
    ),
    "a rule of ours elsewhere": (
        lambda file: file["groups"].append({"name": "theirs", "rules": [down(file)]}),
        ("rule-twice", 'theirs ▸ ProbeDown{probe="front", severity="page"}'),
        "in a group of ours only",
        "/etc/rules.yml",
    ),
    "another interval": (
        lambda file: groups(file)["stormwatch-budget-third"].update(interval="2m"),
        ("evaluation-interval", "stormwatch-budget-third"),
        "1m",
        "2m",
    ),
    "too long an interval": (
        lambda file: groups(file)["stormwatch-probes"].update(interval="30s"),
        ("evaluation-interval", "stormwatch-probes"),
        "15s or less",
        "30s",
    ),
    "order": (
        lambda file: groups(file)["stormwatch-slo-third"]["rules"].reverse(),
        ("order", "stormwatch-slo-third"),
        "slo:sli_error:ratio_rate5m",
        "ErrorBudgetBurn",
    ),
    "older file": (
        lambda file: info(file)["labels"].update(sloth_version="1.2.2"),
        ("version", "stormwatch-slo-third"),
        "written by stormwatch 1.2.3",
        "written by stormwatch 1.2.2",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_found_and_nothing_else(change: str) -> None:
    """With what was expected, what was seen, and a remedy."""
    edit, found, expected, seen = CHANGES[change]
    document = yaml.safe_load(FILE)
    edit(document)

    (finding,) = drift_of_rules(wanted(), running(yaml.safe_dump(document)), plain_form, MOMENT)

    assert (finding.what, finding.subject) == found
    assert expected in finding.expected
    assert seen in finding.seen
    assert finding.remedy


def test_what_we_wrote_is_no_drift() -> None:
    """Nor are other peoples' groups."""
    theirs = yaml.safe_load(FILE)
    theirs["groups"].append({"name": "theirs", "rules": [{"record": "x", "expr": "up"}]})

    assert drift_of_rules(wanted(), running(yaml.safe_dump(theirs)), plain_form, MOMENT) == []


@pytest.mark.parametrize(
    ("health", "what", "seen"),
    [
        ({"health": "err", "error": "many-to-many"}, "evaluation-error", "many-to-many"),
        ({"evaluated": MOMENT.now - 200}, "evaluation-stale", "last evaluated 3m20s ago"),
        ({"health": "unknown", "evaluated": None}, "evaluation-stale", "not evaluated since it was loaded 10m ago"),
    ],
)
def test_rules_that_are_not_evaluated_are_found(health: dict[str, Any], what: str, seen: str) -> None:
    """Each of them."""
    wanted = groups_of(render_prober_rules())

    found = drift_of_rules(wanted, running(render_prober_rules(), **health), plain_form, MOMENT)

    assert {(each.what, each.seen) for each in found} == {(what, seen)}
    assert len(found) == len(wanted[0].rules)


def test_a_group_that_was_loaded_a_moment_ago_has_its_time() -> None:
    """Its first evaluation comes within an interval."""
    moment = Moment(now=START + 30, loaded=START, interval=15.0)

    assert drift_of_rules(wanted(), running(FILE, health="unknown", evaluated=None), plain_form, moment) == []


def test_a_prometheus_that_does_not_tell_of_keep_firing_for_is_not_accused() -> None:
    """Those before 2.42 have no such field."""
    old = [
        replace(group, rules=tuple(replace(rule, text=replace(rule.text, keep=None)) for rule in group.rules))
        for group in running(FILE)
    ]

    assert drift_of_rules(wanted(), old, plain_form, MOMENT) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('max(a{x="1", b="2"}) > 0.0144', 'max(a{b="2",x="1"})>1.44e-2', True),
        ("sum by (a)(rate(b[5m]))", "sum by(a) (rate(b[5m]))", True),
        ("a > 1814400", "a > 1.8144e+06", True),
        ('a{x="1, 2", b="{"}', 'a{b="{", x="1, 2"}', True),
        ('a{x="1 2"}', 'a{x="12"}', False),
        ('a{x="1", b="2"}', 'a{x="2", b="1"}', False),
        ('a{x="b,c"}', 'a{x="c,b"}', False),
        ("a > 1", "a >= 1", False),
        ("a[5m]", "a[50m]", False),
        ("a - b", "b - a", False),
        ("a on b", "aon b", False),
    ],
)
def test_two_writings_have_one_form_only_if_they_mean_the_same(one: str, other: str, *, same: bool) -> None:
    """Blanks, the order of matchers, the notation of numbers."""
    assert (plain_form(one) == plain_form(other)) is same
