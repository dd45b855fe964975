"""What an SLO of OpenSLO promises, in our terms; what our engine cannot keep is refused for the right reason."""

from fractions import Fraction
from pathlib import Path

import pytest

from stormwatch.harness.openslo_files import read_openslo
from stormwatch.slo.alert import Severity
from stormwatch.slo.openslo_promise import promises
from stormwatch.slo.policy import Burn
from stormwatch.slo.promise import Promise, Refusal

UP = 'stormwatch_probe_runs_total{{probe="{0}",outcome="up"}}'
ALL = 'stormwatch_probe_runs_total{{probe="{0}",outcome=~"up|down"}}'
HEAD = "apiVersion: openslo/v1\nkind: {kind}\nmetadata: {{name: {name}{more}}}\n"
RATIO = """\
ratioMetric:
  good: {{metricSource: {{type: Prometheus, spec: {{query: '{good}'}}}}}}
  total: {{metricSource: {{type: Prometheus, spec: {{query: '{total}'}}}}}}
"""
ROLLING = "{duration: 28d, isRolling: true}"


def indented(text: str, depth: int) -> str:
    """A block further to the right."""
    return "".join(f"{' ' * depth}{line}\n" for line in text.splitlines())


def slo(
    *,
    metric: str = RATIO.format(good=UP.format("front"), total=ALL.format("front")),
    window: str = ROLLING,
    method: str = "Occurrences",
    objectives: str = "[{target: 0.999}]",
    more: str = "",
    metadata: str = "",
) -> str:
    """An SLO about the probe front."""
    return (
        HEAD.format(kind="SLO", name="shop", more=metadata)
        + "spec:\n  service: web\n  indicator:\n    metadata: {name: runs}\n    spec:\n"
        + indented(metric, 6)
        + f"  timeWindow: [{window}]\n  budgetingMethod: {method}\n  objectives: {objectives}\n"
        + more
    )


def alerting(
    *,
    severity: str = "page",
    condition: str = "op: gt, threshold: 14.4, lookbackWindow: 1h",
    when: str = "alertWhenBreaching: true",
) -> str:
    """An alert policy called page, with its condition."""
    return (
        "---\n"
        + HEAD.format(kind="AlertPolicy", name="page", more="")
        + f"spec: {{{when}, conditions: [{{conditionRef: fast}}], notificationTargets: [{{targetRef: on-call}}]}}\n---\n"
        + HEAD.format(kind="AlertCondition", name="fast", more="")
        + f"spec: {{severity: {severity}, condition: {{kind: burnrate, {condition}}}}}\n"
    )


def said(directory: Path, text: str) -> list[Promise | Refusal]:
    """What all SLOs of a file promise."""
    path = directory / "slo.yaml"
    path.write_text(text)
    found = read_openslo([path])
    return [each for standing in found.slos for each in promises(standing.slo, found.library)]


def promised(directory: Path, text: str) -> Promise:
    """The only promise of a file."""
    (only,) = said(directory, text)
    assert isinstance(only, Promise), only.sentence
    return only


def refused(directory: Path, text: str) -> str:
    """Why the only promise of a file is refused."""
    (only,) = said(directory, text)
    assert isinstance(only, Refusal)
    return only.sentence


def test_a_ratio_of_runs_is_a_promise(tmp_path: Path) -> None:
    """Exactly the target; the service is a label, as are its own, lists joined."""
    found = promised(tmp_path, slo(metadata=", labels: {team: [a, b], cost-centre: c}"))
    assert (found.name, found.target, found.window) == ("shop", Fraction(999, 1000), 28 * 86400)
    assert found.indicator.match == {"probe": "front"}
    assert found.labels == {"service": "web", "team": "a,b", "cost-centre": "c"}
    assert (found.policy, found.burns, found.slice_seconds, found.calendar) == ("", None, None, "")


def test_percent_are_exact_too(tmp_path: Path) -> None:
    """99.95 percent are no binary number."""
    assert promised(tmp_path, slo(objectives="[{targetPercent: 99.95}]")).target == Fraction(9995, 10000)


def test_each_objective_of_a_ratio_is_one(tmp_path: Path) -> None:
    """Told apart by their titles, or by their numbers where those do not."""
    found = said(
        tmp_path, slo(objectives="[{target: 0.9, displayName: Internal goal}, {target: 0.8, displayName: SLA}]")
    )
    assert [each.name for each in found] == ["shop-internal-goal", "shop-sla"]
    found = said(
        tmp_path, slo(objectives="[{target: 0.9, displayName: SLA}, {target: 0.8, displayName: SLA}, {target: 0.7}]")
    )
    assert [each.name for each in found] == ["shop-1", "shop-2", "shop-3"]


def test_references_are_followed(tmp_path: Path) -> None:
    """To the indicator, the data source (whose type counts), the alert policy and its condition."""
    text = (
        HEAD.format(kind="SLO", name="shop", more="")
        + f"spec:\n  service: web\n  indicatorRef: runs\n  timeWindow: [{ROLLING}]\n  budgetingMethod: Occurrences\n"
        "  objectives: [{target: 0.99}]\n  alertPolicies: [{alertPolicyRef: page}]\n---\n"
        + HEAD.format(kind="SLI", name="runs", more="")
        + "spec:\n"
        + indented(RATIO.format(good=UP.format("a"), total=ALL.format("a")), 2).replace(
            "type: Prometheus", "metricSourceRef: here"
        )
        + "---\n"
        + HEAD.format(kind="DataSource", name="here", more="")
        + "spec: {type: prometheus, connectionDetails: {}}\n"
        + alerting(condition="op: gt, threshold: 14.4, lookbackWindow: 1h, alertAfter: 2m")
    )
    found = promised(tmp_path, text)
    assert found.indicator.match == {"probe": "a"}
    assert found.burns == (
        Burn(severity=Severity.PAGE, long=3600, short=3600, factor=Fraction(72, 5), lasting=120.0, literal=True),
    )
    for kind, name in (("SLI", "runs"), ("DataSource", "here"), ("AlertPolicy", "page"), ("AlertCondition", "fast")):
        without = "---\n".join(
            part
            for part in text.split("---\n")
            if not part.startswith(HEAD.split("\n", maxsplit=1)[0] + f"\nkind: {kind}\n")
        )
        assert refused(tmp_path, without) == (
            f"no {kind} is called {name} in the files that are read; name the file too that has it"
        )


def test_a_threshold_of_time_is_a_limit(tmp_path: Path) -> None:
    """Which each run keeps or does not."""
    metric = "thresholdMetric: {metricSource: {type: Prometheus, spec: {query: 'probe_duration_seconds{instance=\"https://a/\"}'}}}"
    found = promised(tmp_path, slo(metric=metric, objectives="[{target: 0.9, op: lte, value: 0.5}]"))
    assert found.indicator.match == {"instance": "https://a/"}
    assert found.indicator.slower_than == Fraction(1, 2)


def test_slices_and_calendars_are_promises(tmp_path: Path) -> None:
    """A month in Berlin, in slices of five minutes."""
    found = promised(
        tmp_path,
        slo(
            window="{duration: 1M, calendar: {startTime: 2026-02-01 00:00:00, timeZone: Europe/Berlin}}",
            method="Timeslices",
            objectives="[{target: 0.99, timeSliceTarget: 0.95, timeSliceWindow: 5m}]",
        ),
    )
    assert (found.calendar, found.timezone) == ("month", "Europe/Berlin")
    assert (found.slice_seconds, found.slice_target) == (300, Fraction(19, 20))


@pytest.mark.parametrize(
    ("duration", "start", "calendar"),
    [("1w", "2026-01-05", "week"), ("1M", "2026-01-01", "month"), ("1Q", "2026-04-01", "quarter")],
)
def test_calendars_that_are_ours(tmp_path: Path, duration: str, start: str, calendar: str) -> None:
    """They begin where ours do."""
    window = f"{{duration: {duration}, calendar: {{startTime: {start} 00:00:00, timeZone: UTC}}}}"
    assert promised(tmp_path, slo(window=window)).calendar == calendar


def test_a_rolling_month_is_thirty_days_and_that_is_said(tmp_path: Path) -> None:
    """As OpenSLO's SDK counts."""
    found = promised(tmp_path, slo(window="{duration: 1M, isRolling: true}"))
    assert found.window == 30 * 86400
    assert found.notes == ("a rolling window of 1M is taken as 30d, as OpenSLO's SDK does",)


FOREIGN = "asks a data source of type {}; read are queries for Prometheus about runs of our probes"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metric": RATIO.format(good="x", total="y").replace("Prometheus", "Datadog")}, FOREIGN.format("Datadog")),
        ({"metric": RATIO.format(good="x", total="y").replace("type: Prometheus, ", "")}, "the query has neither a type nor a metricSourceRef, so nobody knows whose it is"),
        ({"metric": RATIO.format(good="x", total="y").replace("query:", "q:")}, "a query for Prometheus stands under spec.query, and there is none"),
        ({"metric": RATIO.format(good='sum(http_requests{code="200"})', total="sum(http_requests)")}, "http_requests is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        ({"window": "{duration: 1m, isRolling: true}"}, "1m is 1 minute; for months write 1M, with a capital letter"),
        ({"window": "{duration: 1m, calendar: {startTime: 2022-01-01 12:00:00, timeZone: UTC}}"}, "1m is 1 minute; for months write 1M, with a capital letter"),
        ({"window": "{duration: 1w, calendar: {startTime: 2022-01-01 12:00:00, timeZone: UTC}}"}, "begins Saturday 2022-01-01 12:00:00, and a week of ours begins on a Monday at 00:00:00"),
        ({"window": "{duration: 1w, calendar: {startTime: 2026-01-06 00:00:00, timeZone: UTC}}"}, "begins Tuesday 2026-01-06 00:00:00, and a week of ours begins on a Monday at 00:00:00"),
        ({"window": "{duration: 1w, calendar: {startTime: 2026-01-05 00:00:01, timeZone: UTC}}"}, "begins Monday 2026-01-05 00:00:01, and a week of ours begins on a Monday at 00:00:00"),
        ({"window": "{duration: 1M, calendar: {startTime: 2022-01-02 00:00:00, timeZone: UTC}}"}, "begins Sunday 2022-01-02 00:00:00, and a month of ours begins on the first of a month at 00:00:00"),
        ({"window": "{duration: 1Q, calendar: {startTime: 2022-02-01 00:00:00, timeZone: UTC}}"}, "begins Tuesday 2022-02-01 00:00:00, and a quarter of ours begins on the first of January, April, July or October at 00:00:00"),
        ({"window": "{duration: 1Y, calendar: {startTime: 2022-01-01 00:00:00, timeZone: UTC}}"}, "a calendar window of 1Y is none of ours: week (1w), month (1M), quarter (1Q); or make it rolling"),
        ({"method": "RatioTimeslices", "objectives": "[{target: 0.9, timeSliceWindow: 1m}]"}, "RatioTimeslices average the shares of slices; ours are Occurrences (all runs count alike), and Timeslices (slices are good or bad)"),
        ({"method": "Timeslices", "objectives": "[{target: 0.9, timeSliceTarget: 1, timeSliceWindow: 1M}]"}, "a slice of 1M has no length of its own"),
        ({"objectives": "[{target: 0}]"}, "promises nothing; an objective of ours promises more than 0%"),
        ({"metadata": ', annotations: {stormwatch/slower-than: "1"}'}, "stormwatch/slower-than: a duration is written like 800ms, 15s, 5m, 1h30m or 30d, not '1' (str)"),
        ({"metadata": ", annotations: {stormwatch/labels: a}"}, "stormwatch/labels is written like {\"team\": \"web\"}, not 'a'"),
        ({"metadata": ", annotations: {stormwatch/factor: 1/0}"}, "stormwatch/factor is written like 14.4 or 14/15, not '1/0'"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(tmp_path: Path, change: dict[str, str], why: str) -> None:
    """The sentence says what is missing here, or what to write."""
    assert refused(tmp_path, slo(**change)) == why


def test_an_annotation_of_ours_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """A typing error would lose what it says."""
    assert refused(tmp_path, slo(metadata=", annotations: {stormwatch/prob: a}")).startswith(
        "no annotation is called stormwatch/prob; known: stormwatch/certificate-expires-within, "
    )


def test_a_composite_is_refused(tmp_path: Path) -> None:
    """One budget over several indicators is none of ours."""
    text = slo(objectives="[{target: 0.9, indicatorRef: a}]")
    text = text[: text.index("  indicator:")] + text[text.index("  timeWindow") :]
    assert refused(tmp_path, text) == (
        "is part of a composite SLO, and an objective of ours has one indicator: write an SLO for each"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"condition": "op: lte, threshold: 2, lookbackWindow: 1h"}, "the condition fast alerts while the budget burns slowly (lte 2); write op: gt"),
        ({"condition": "op: gt, threshold: 0, lookbackWindow: 1h"}, "the condition fast alerts always, at a burn rate of 0"),
        ({"condition": "op: gt, threshold: 2, lookbackWindow: 1M"}, "the condition fast looks back over 1M, which has no length of its own"),
        ({"severity": "loud"}, "the condition fast has the severity 'loud'; ours are page, high, ticket, info"),
    ],
)  # fmt: skip
def test_alerts_that_nobody_would_get_are_refused(tmp_path: Path, change: dict[str, str], why: str) -> None:
    """An SLO without the alert that its file promises is worse than none."""
    assert refused(tmp_path, slo(more="  alertPolicies: [{alertPolicyRef: page}]\n" + alerting(**change))) == why


def test_what_alerts_differ_in_is_said(tmp_path: Path) -> None:
    """Who is told, and that there is no data, are things of their own here."""
    text = slo(
        more="  alertPolicies: [{alertPolicyRef: page}]\n"
        + alerting(
            severity="SEV2",
            condition="op: gte, threshold: 6, lookbackWindow: 6h",
            when="alertWhenBreaching: true, alertWhenNoData: true",
        )
    )
    found = promised(tmp_path, text)
    assert found.burns == (Burn(severity=Severity.HIGH, long=21600, short=21600, factor=Fraction(6), literal=True),)
    assert found.notes == (
        "page: that there is no data is told by the probe's alert ProbeNoEvidence",
        "page tells on-call: who is told stands under alerts.notify here",
        "fast: a burn rate of exactly 6 is not enough for an alert here",
    )
    silent = promised(tmp_path, text.replace("alertWhenBreaching: true", "alertWhenResolved: true"))
    assert silent.burns is None
    assert silent.notes == ("page does not alert when its condition is breached, so nothing comes of it",)
