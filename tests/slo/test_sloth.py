"""Sloth's SLOs come over with their names, labels and alerts, and are recorded under the same series as before."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from stormwatch.harness.config import Config, load
from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.objective_import import Imported, Known, imported
from stormwatch.harness.problem import Problem
from stormwatch.harness.sloth_command import found_of
from stormwatch.harness.sloth_files import read_sloth
from stormwatch.slo.alert import Severity
from stormwatch.slo.prometheus import render_rules
from stormwatch.slo.rule import BurnRate, Windows

DAY = 86400.0
SPEC = """\
version: "prometheus/v1"
service: "shop"
labels: {owner: web, tier: 2}
slos:
  - name: "front-availability"
    objective: 99.9
    description: "Runs are good."
    labels: {cluster: a}
    sli:
      events:
        error_query: sum(rate(stormwatch_probe_runs_total{probe="front",outcome="down"}[{{.window}}]))
        total_query: sum(rate(stormwatch_probe_runs_total{probe="front",outcome=~"up|down"}[{{.window}}]))
    alerting:
      name: FrontBurns
      labels: {category: availability}
      annotations: {runbook: "https://runbooks.example/front", summary: Front}
      page_alert: {labels: {severity: pageteam}}
      ticket_alert: {labels: {severity: slack}, annotations: {title: T}}
"""
RAW = """\
  - name: "back"
    objective: 99
    sli:
      raw:
        error_ratio_query: 1 - avg_over_time(probe_success{instance="https://back.example/"}[{{.window}}])
    alerting: {page_alert: {disable: true}, ticket_alert: {disable: true}}
"""
RESOURCE = """\
apiVersion: sloth.slok.dev/v1
kind: PrometheusServiceLevel
metadata: {name: shop, namespace: monitoring, labels: {a: b}}
spec:
  service: shop
  labels: {owner: web}
  slos:
    - name: front-availability
      objective: 99.5
      sli:
        events:
          errorQuery: count_over_time((probe_success{probe="front"} == 0)[{{.window}}:])
          totalQuery: count_over_time(probe_success{probe="front"}[{{.window}}])
      alerting:
        name: FrontBurns
        pageAlert: {disable: true}
        ticketAlert: {labels: {severity: slack}}
"""
WEEK = """\
apiVersion: sloth.slok.dev/v1
kind: AlertWindows
spec:
  sloPeriod: 7d
  page:
    quick: {errorBudgetPercent: 8, shortWindow: 5m, longWindow: 1h}
    slow: {errorBudgetPercent: 12.5, shortWindow: 30m, longWindow: 6h}
  ticket:
    quick: {errorBudgetPercent: 20, shortWindow: 2h, longWindow: 1d}
    slow: {errorBudgetPercent: 42, shortWindow: 6h, longWindow: 3d}
"""


def moved(directory: Path, *texts: str, period: float = 30 * DAY) -> Imported:
    """What comes of files."""
    paths = [directory / f"{number}.yml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return imported("sloth", found_of(read_sloth(paths), period), Known())


def loaded(directory: Path, made: Imported) -> Config:
    """The configuration that is written."""
    path = directory / "stormwatch.yaml"
    path.write_text(made.text())
    return load(path, environ={})


def mistakes(directory: Path, text: str) -> list[str]:
    """The lines about a file, without the directory."""
    with pytest.raises(ConfigError) as caught:
        moved(directory, text)
    return [line.removeprefix(f"{directory}/0.yml:") for line in caught.value.lines]


def recorded(config: Config) -> dict[str, dict[str, str]]:
    """The series that Prometheus would record, with their labels."""
    text = render_rules(config.objectives, config.rules, config.probes)
    groups: Any = yaml.safe_load(text)["groups"]
    return {rule["record"]: rule["labels"] for group in groups for rule in group["rules"] if "record" in rule}


def test_names_labels_and_runbook_are_kept(tmp_path: Path) -> None:
    """Labels of the service, of the SLO and of its alerts; texts as they stand in the file."""
    (objective,) = loaded(tmp_path, moved(tmp_path, SPEC)).objectives
    assert (objective.name, objective.probes, objective.target) == (
        "front-availability",
        ("front",),
        Fraction(999, 1000),
    )
    assert objective.window == 30 * DAY
    assert objective.labels == {
        "owner": "web",
        "tier": "2",
        "cluster": "a",
        "category": "availability",
        "service": "shop",
    }
    assert objective.runbook == "https://runbooks.example/front"


@pytest.mark.parametrize(("period", "name"), [(30 * DAY, "30d"), (28 * DAY, "4w")])
def test_series_have_the_names_and_labels_that_they_had(tmp_path: Path, period: float, name: str) -> None:
    """Those that sloth records for its own windows: what reads them goes on reading them."""
    series = recorded(loaded(tmp_path, moved(tmp_path, SPEC, period=period)))
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", name)
    ratios = {f"slo:sli_error:ratio_rate{window}": window for window in windows}
    assert series.keys() == ratios.keys() | {
        "slo:objective:ratio",
        "slo:error_budget:ratio",
        "slo:time_period:days",
        "slo:current_burn_rate:ratio",
        "slo:period_burn_rate:ratio",
        "slo:period_error_budget_remaining:ratio",
        "sloth_slo_info",
    }
    identity = {"sloth_id": "shop-front-availability", "sloth_service": "shop", "sloth_slo": "front-availability"}
    theirs = {**identity, "owner": "web", "tier": "2", "cluster": "a"}
    for record, labels in series.items():
        assert theirs.items() <= labels.items(), record
        assert labels.get("sloth_window") == ratios.get(record)


def test_windows_of_sloth_are_those_of_our_policy(tmp_path: Path) -> None:
    """So nothing is written about them; the factors are 14.4, 6, 3 and 1, or 14/15 of it in 28 days."""
    made = moved(tmp_path, SPEC)
    assert "burns" not in made.objectives[0].data
    for period, scale in ((30 * DAY, Fraction(1)), (28 * DAY, Fraction(14, 15))):
        config = loaded(tmp_path, moved(tmp_path, SPEC, period=period))
        pairs = {rule.severity: rule.pairs for rule in config.rules if isinstance(rule, BurnRate)}
        assert pairs == {
            Severity.PAGE: (Windows(3600, 300, Fraction(72, 5) * scale), Windows(21600, 1800, 6 * scale)),
            Severity.TICKET: (Windows(DAY, 7200, 3 * scale), Windows(3 * DAY, 21600, scale)),
        }


def test_windows_of_their_own_become_burns(tmp_path: Path) -> None:
    """With the share of the budget as it was written: 8% of a week in an hour is a factor of 13.44."""
    made = moved(tmp_path, SPEC, WEEK, period=7 * DAY)
    assert made.objectives[0].data["burns"][1] == {"severity": "page", "long": "6h", "short": "30m", "share": "12.5%"}
    config = loaded(tmp_path, made)
    pairs = [(rule.severity.value, pair.long, pair.short, pair.factor) for rule in config.rules if isinstance(rule, BurnRate) for pair in rule.pairs]  # fmt: skip
    assert pairs == [
        ("page", 3600, 300, Fraction(336, 25)),
        ("page", 21600, 1800, Fraction(7, 2)),
        ("ticket", DAY, 7200, Fraction(7, 5)),
        ("ticket", 3 * DAY, 21600, Fraction(49, 50)),
    ]


def test_a_period_without_windows_of_its_own_is_told(tmp_path: Path) -> None:
    """Sloth would not take it either."""
    (objective,) = moved(tmp_path, SPEC, period=7 * DAY).objectives
    assert "sloth has no windows for 7d: those of the policy workbook shrink with the period" in objective.notes
    for texts, period, told in (
        ((SPEC, WEEK), 30 * DAY, "no AlertWindows are for a period of 30d, only for 7d; give --period"),
        ((SPEC, WEEK, WEEK), 7 * DAY, "several AlertWindows are for a period of 7d; name the file of one"),
    ):
        with pytest.raises(Problem) as problem:
            moved(tmp_path, *texts, period=period)
        assert problem.value.lines == (told,)


def test_the_resource_of_kubernetes_is_the_same_in_camel_case(tmp_path: Path) -> None:
    """Without the page that is disabled; what Kubernetes keeps in its metadata is its own."""
    made = moved(tmp_path, RESOURCE)
    config = loaded(tmp_path, made)
    assert config.objectives[0].labels == {"owner": "web", "service": "shop"}
    told = [rule for rule in config.rules if isinstance(rule, BurnRate)]
    assert [(rule.severity, len(rule.pairs)) for rule in told] == [(Severity.TICKET, 2)]


def test_alerts_that_are_disabled_page_nobody(tmp_path: Path) -> None:
    """Of both alerts an info is left, and that is said."""
    made = moved(tmp_path, SPEC + RAW)
    objective = made.objectives[1]
    assert [burn["severity"] for burn in objective.data["burns"]] == ["info", "info"]
    assert "its alerts were disabled: what would be a ticket is an info here, and there is no page" in objective.notes
    rules = loaded(tmp_path, made).rules
    assert {rule.severity for rule in rules if isinstance(rule, BurnRate) and rule.objective == "back"} == {
        Severity.INFO
    }


def test_probes_that_nobody_has_are_drafted(tmp_path: Path) -> None:
    """From their instance where it says enough, else to be completed."""
    made = moved(tmp_path, SPEC + RAW)
    assert [dict(probe.data) for probe in made.probes] == [
        {"name": "front", "kind": "http", "target": "https://example.org/"},
        {"name": "back.example", "kind": "http", "target": "https://back.example/"},
    ]
    assert {probe.name for probe in loaded(tmp_path, made).probes} == {"front", "back.example"}


def test_what_alerts_lose_is_said(tmp_path: Path) -> None:
    """Their name, and labels and annotations of one alert only."""
    (objective,) = moved(tmp_path, SPEC).objectives
    assert objective.notes == (
        "Runs are good.",
        "its alert FrontBurns is called ErrorBudgetBurn here, with the label objective: front-availability",
        "the labels severity=pageteam were those of its page alert; here it has severity: page",
        "the labels severity=slack were those of its ticket alert; here it has severity: ticket",
        "the annotations title of its ticket alert are not carried over",
        "the annotations summary of its alerts are not carried over: they say what burns here",
    )


def test_names_are_unique_over_all_services_here(tmp_path: Path) -> None:
    """In sloth within a service only: the second one is named after its service too."""
    made = moved(tmp_path, SPEC, SPEC.replace("shop", "bank"))
    assert [entry.data["name"] for entry in made.objectives] == ["front-availability", "bank-front-availability"]
    assert made.objectives[1].notes[-1] == (
        "another objective is called front-availability too, so this one and its sloth_slo are called bank-front-availability"
    )
    assert len(loaded(tmp_path, made).objectives) == 2
    again = moved(tmp_path, SPEC, SPEC.replace("shop", "bank"), SPEC.replace("shop", "bank"))
    assert [each.sentence for each in again.refused] == [
        "front-availability: another objective is called front-availability too; rename one of them"
    ]


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        ("stormwatch_probe_runs_total", "http_requests_total", "0.yml:9: slos[front-availability].sli: front-availability: http_requests_total is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        ("      events:", "      plugin: {id: sloth-common/http}\n      evnts:", None),
        ("    sli:\n", "    plugins: {chain: [{id: a}]}\n    sli:\n", "0.yml:5: slos[front-availability]: front-availability: plugins change its rules by programs of their own, and those cannot be carried over"),
        ("objective: 99.9", "objective: 100", "0.yml:6: slos[front-availability].objective: front-availability: 100% leaves no budget, so the first failure ends it; promise less, like 99.9"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_over_is_refused(tmp_path: Path, was: str, now: str, why: str | None) -> None:
    """With the line, and the reason."""
    text = SPEC.replace(was, now)
    if why is None:
        text = text[: text.index("      evnts")] + text[text.index("    alerting") :]
        why = "0.yml:9: slos[front-availability].sli: front-availability: is measured by the plugin sloth-common/http, a program of its own"
    made = moved(tmp_path, text)
    assert not made.objectives
    assert [str(each).removeprefix(f"{tmp_path}/") for each in made.refused] == [why]


@pytest.mark.parametrize(
    ("text", "was", "now", "told"),
    [
        (SPEC, "prometheus/v1", "prometheus/v2", "1: version: wanted prometheus/v1, not 'prometheus/v2'; no other version is read"),
        (SPEC, 'service: "shop"\n', "", "1: service is missing; add `service:`"),
        (SPEC, "page_alert", "pageAlert", "17: slos[front-availability].alerting.pageAlert: unknown key; did you mean page_alert?"),
        (RESOURCE, "pageAlert", "page_alert", "16: spec.slos[front-availability].alerting.page_alert: unknown key; did you mean pageAlert?"),
        (RESOURCE, "owner: web", "owner: 1", '6: spec.labels.owner: wanted text, not the number 1; put it in quotes: "1"'),
        (SPEC, "objective: 99.9", "objective: 0.999", "6: slos[front-availability].objective: wanted percent like 99.9, not 0.999; write 99.9 for 99.9%"),
        (SPEC, "objective: 99.9", "objective: 101", "6: slos[front-availability].objective: wanted percent above 0 and at most 100, not 101"),
        (SPEC, "objective: 99.9", 'objective: "99.9"', "6: slos[front-availability].objective: wanted a number, not '99.9'"),
        (SPEC, "      name: FrontBurns\n", "", "13: slos[front-availability].alerting: its alerts have no name; add `alerting.name:`"),
        (SPEC, "      events:", "      raw: {error_ratio_query: a}\n      events:", "9: slos[front-availability].sli: an SLO is measured in one way; raw and events are given; give one of them"),
        (SPEC, 'name: "front-availability"', 'name: "-front"', "5: slos[-front].name: a name is letters, digits, '-', '_' and '.', with a letter or digit at both ends, not '-front'"),
        (SPEC, "slos:", "slos: []\nslo:", "5: slo: unknown key; did you mean slos? It stands here already"),
        (WEEK, "8,", "0,", "6: spec.page.quick.errorBudgetPercent: wanted percent above 0, not 0"),
        (WEEK, "longWindow: 3d", "longWindow: 8d", "10: spec.ticket.slow: shortWindow is to be at most longWindow, and that at most sloPeriod"),
        (WEEK, "sloPeriod: 7d", "sloPeriod: week", "4: spec.sloPeriod: a duration is written like 800ms, 15s, 5m, 1h30m or 30d, not 'week' (str)"),
        (RESOURCE, "kind: PrometheusServiceLevel", "kind: PrometheusRule", "1: apiVersion: wanted sloth.slok.dev/v1 with kind PrometheusServiceLevel or AlertWindows, not 'sloth.slok.dev/v1' with 'PrometheusRule'"),
        (RESOURCE, "sloth.slok.dev/v1", "openslo/v1", "1: apiVersion: is OpenSLO; read it with `stormwatch import openslo`"),
        (SPEC, 'version: "prometheus/v1"\n', "", "1: apiVersion: is no file of sloth; it begins with `version: prometheus/v1` or `apiVersion: sloth.slok.dev/v1`"),
        (SPEC, SPEC, "- a\n", "1: wanted a mapping that begins with version or apiVersion, not a list"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_where_it_is(tmp_path: Path, text: str, was: str, now: str, told: str) -> None:
    """Strictly: sloth itself leaves out a `pageAlert` in a file of its own, and pages all the same."""
    assert text.count(was) == 1
    assert told in mistakes(tmp_path, text.replace(was, now))


def test_two_slos_of_a_service_have_two_names(tmp_path: Path) -> None:
    """They would be recorded as one."""
    twice = SPEC + SPEC[SPEC.index("  - name") :]
    assert mistakes(tmp_path, twice) == [
        "19: slos[front-availability].name: another SLO of this service is called front-availability too; give each its own name"
    ]
