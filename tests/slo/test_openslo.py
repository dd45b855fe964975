"""OpenSLO v1 is read strictly: every rule of the specification, told with file, line, place and remedy."""

from fractions import Fraction
from pathlib import Path

import pytest

from stormwatch.harness.mistake import ConfigError
from stormwatch.harness.openslo_files import OpenSLO, read_openslo
from stormwatch.slo.openslo import (
    SLO,
    AlertPolicy,
    DataSource,
    Duration,
    Service,
    dns_label,
    parse_shorthand,
    shorthand,
)

SOUND = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: shop-availability
  displayName: The shop
  labels: {team: [web, shop], tier: one}
  annotations: {example.com/folder: ./shop, plain: "1"}
spec:
  description: Runs of the shop are good.
  service: shop
  indicator:
    metadata: {name: shop-runs}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Prometheus, spec: {query: "good"}}}
        total: {metricSource: {metricSourceRef: here, spec: {query: "total"}}}
  timeWindow:
    - duration: 30d
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - displayName: Good
      target: 0.999
  alertPolicies:
    - alertPolicyRef: page
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: page}
spec:
  alertWhenBreaching: true
  conditions:
    - kind: AlertCondition
      metadata: {name: fast}
      spec:
        severity: page
        condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h, alertAfter: 5m}
  notificationTargets:
    - targetRef: on-call
"""
"""An SLO with everything that it usually has, and its alert policy."""


def read(directory: Path, text: str) -> OpenSLO:
    """What is read of one file."""
    path = directory / "slo.yaml"
    path.write_text(text)
    return read_openslo([path])


def mistakes(directory: Path, text: str) -> list[str]:
    """The lines about a file, without the directory."""
    with pytest.raises(ConfigError) as caught:
        read(directory, text)
    return [line.removeprefix(f"{directory}/") for line in caught.value.lines]


def test_a_file_has_several_objects_and_each_is_kept(tmp_path: Path) -> None:
    """Numbers are the decimals that were written, labels are texts or lists of them."""
    found = read(tmp_path, SOUND)
    assert set(found.library.objects) == {("SLO", "shop-availability"), ("AlertPolicy", "page")}
    (standing,) = found.slos
    assert standing.slo.spec.objectives[0].target == Fraction(999, 1000)
    assert standing.slo.metadata.labels == {"team": ("web", "shop"), "tier": "one"}
    assert standing.slo.spec.time_window[0].duration == Duration(30, "d")
    policy = found.library.objects["AlertPolicy", "page"]
    assert isinstance(policy, AlertPolicy)
    assert policy.spec.conditions[0].spec is not None
    assert policy.spec.conditions[0].spec.condition.threshold == Fraction(72, 5)


def test_a_document_may_be_a_list_of_objects(tmp_path: Path) -> None:
    """As OpenSLO's SDK writes them; several files are one library."""
    (tmp_path / "one.yaml").write_text(
        "- {apiVersion: openslo/v1, kind: Service, metadata: {name: a}, spec: {description: A}}\n"
        "- {apiVersion: openslo/v1, kind: Service, metadata: {name: b}}\n---\n---\n"
        "apiVersion: openslo/v1\nkind: AlertNotificationTarget\nmetadata: {name: mail}\nspec: {target: email}\n"
    )
    (tmp_path / "two.yaml").write_text(
        "apiVersion: openslo/v1\nkind: DataSource\nmetadata: {name: p}\n"
        "spec: {type: Prometheus, connectionDetails: [{url: http://p/}, null]}\n"
    )
    found = read_openslo([tmp_path / "one.yaml", tmp_path / "two.yaml"])
    kinds = [type(each) for each in found.library.objects.values()]
    assert kinds.count(Service) == 2
    source = found.library.objects["DataSource", "p"]
    assert isinstance(source, DataSource)
    assert source.spec.connection_details == [{"url": "http://p/"}, None]


def test_a_key_without_a_value_is_not_there(tmp_path: Path) -> None:
    """As in Kubernetes, and in two of OpenSLO's own examples: `alertPolicies:` with a comment behind it."""
    text = SOUND.replace("    - alertPolicyRef: page\n", "")
    (standing,) = read(tmp_path, text).slos
    assert standing.slo.spec.alert_policies == ()


def test_op_is_tolerated_beside_a_ratio(tmp_path: Path) -> None:
    """The specification's examples carry it, its SDK refuses it; it means nothing."""
    (standing,) = read(tmp_path, SOUND.replace("      target: 0.999", "      op: gt\n      target: 0.999")).slos
    assert standing.slo.spec.objectives[0].op == "gt"


def test_calendar_and_slices_are_read(tmp_path: Path) -> None:
    """A slice may be a bare number, of minutes; percent are as good as a share."""
    text = (
        SOUND.replace("duration: 30d\n      isRolling: true", CALENDAR)
        .replace("Occurrences", "Timeslices")
        .replace("target: 0.999", "targetPercent: 99.95\n      timeSliceTarget: 1\n      timeSliceWindow: 5")
    )
    (standing,) = read(tmp_path, text).slos
    objective = standing.slo.spec.objectives[0]
    assert (objective.target_percent, objective.time_slice_target) == (Fraction(9995, 100), 1)
    assert objective.time_slice_window == Duration(5, "m")
    assert standing.slo.spec.time_window[0].calendar is not None


CALENDAR = "duration: 1M\n      calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}"
A_NAME = "a name is up to 63 lower-case letters, digits and '-', with a letter or digit at both ends (RFC 1123), not "
A_DURATION = (
    "a duration of OpenSLO is a whole number above 0 and one of m (minutes), h, d, w, M (months), Q, Y, like 30d, not "
)
RATIO = '        good: {metricSource: {type: Prometheus, spec: {query: "good"}}}\n'
METRIC = '{metricSource: {type: Prometheus, spec: {query: "q"}}}'


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("apiVersion: openslo/v1\nkind: SLO", "kind: SLO", "1: apiVersion: apiVersion is missing; add `apiVersion: openslo/v1`"),
        ("openslo/v1\nkind: SLO", "openslo/v1alpha\nkind: SLO", "1: apiVersion: wanted openslo/v1, not 'openslo/v1alpha'; only openslo/v1 is read"),
        ("openslo/v1\nkind: SLO", "v1\nkind: SLO", "1: apiVersion: wanted openslo/v1, not 'v1'; write openslo/v1"),
        ("kind: SLO", "kind: Slo", "2: kind: no kind of OpenSLO v1 is called 'Slo'; did you mean SLO?"),
        ("kind: SLO\n", "", "1: kind: kind is missing; add `kind:` with one of DataSource, SLO, SLI, AlertPolicy, AlertCondition, AlertNotificationTarget, Service"),
        ("name: shop-availability", "name: Shop availability", f"4: metadata.name: {A_NAME}'Shop availability'; write shop-availability"),
        ("name: shop-availability", f"name: {'a' * 64}", f"4: metadata.name: {A_NAME}{'a' * 64!r}; write {'a' * 63}"),
        ("name: shop-availability", "name: -shop", f"4: metadata.name: {A_NAME}'-shop'; write shop"),
        ("displayName: The shop", f"displayName: {'x' * 64}", f"5: metadata.displayName: wanted text of at most 63 characters, not {'x' * 59 + '…'!r}"),
        ("tier: one", "tier: 1", "6: metadata.labels.tier: wanted text or a list, not the number 1"),
        ("tier: one", "-tier: one", "6: metadata.labels.-tier: the name of a label is up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, not '-tier'"),
        ("plain:", "a/b/c:", "7: metadata.annotations.a/b/c: the name of an annotation is written like key or example.com/key, not 'a/b/c'"),
        ("  description: Runs", f"  description: {'x' * 1051} Runs", f"9: spec.description: wanted text of at most 1050 characters, not {'x' * 59 + '…'!r}"),
        ("  service: shop\n", "", "8: spec: service is missing; add `service:`"),
        ("  service: shop\n", "  servce: shop\n", "10: spec.servce: unknown key; did you mean service?"),
        ("counter: true", "counter: yes", "15: spec.indicator.spec.ratioMetric.counter: wanted true or false, not 'yes'; write true"),
        (RATIO, "", "14: spec.indicator.spec.ratioMetric: total is all events; add `good:` or `bad:`"),
        (RATIO, RATIO + f"        bad: {METRIC}\n", "17: spec.indicator.spec.ratioMetric.bad: good and bad are both given; give one of them"),
        ("        total: {m", "        totl: {m", "17: spec.indicator.spec.ratioMetric.totl: unknown key; did you mean total?"),
        (RATIO, RATIO + "        rawType: success\n", "17: spec.indicator.spec.ratioMetric.rawType: rawType belongs to raw; leave it out, or add `raw:`"),
        (RATIO, f"        raw: {METRIC}\n", "17: spec.indicator.spec.ratioMetric.total: raw is a ratio already; leave total out, or raw"),
        ('spec: {query: "good"}', "spec: {}", "16: spec.indicator.spec.ratioMetric.good.metricSource.spec: wanted at least 1 of them, not a mapping"),
        ("      ratioMetric:", f"      thresholdMetric: {METRIC}\n      ratioMetric:", "15: spec.indicator.spec.ratioMetric: thresholdMetric and ratioMetric are both given; give one of them"),
        ("metricSourceRef: here", "metricSourceRef: Here", f"17: spec.indicator.spec.ratioMetric.total.metricSource.metricSourceRef: {A_NAME}'Here'; write here"),
        ("  timeWindow:\n    - duration: 30d\n      isRolling: true\n", "", "8: spec: timeWindow is missing; add `timeWindow:` with one window"),
        ("      isRolling: true\n", "      isRolling: true\n    - {duration: 7d, isRolling: true}\n", "18: spec.timeWindow: timeWindow is a list of exactly one window, not of 2"),
        ("      isRolling: true\n", "", "19: spec.timeWindow[0]: a window that is not rolling needs a calendar; add `calendar:`, or write isRolling: true"),
        ("duration: 30d\n", CALENDAR + "\n", "20: spec.timeWindow[0].calendar: a rolling window has no calendar; leave it out, or write isRolling: false"),
        ("duration: 30d\n      isRolling: true", CALENDAR.replace(" 00:00:00", ""), "20: spec.timeWindow[0].calendar.startTime: a start is written like 2026-01-01 00:00:00, without a time zone, not '2026-01-01'"),
        ("duration: 30d\n      isRolling: true", CALENDAR.replace("01-01", "02-30"), "20: spec.timeWindow[0].calendar.startTime: a start is written like 2026-01-01 00:00:00, without a time zone, not '2026-02-30 00:00:00'"),
        ("duration: 30d\n      isRolling: true", CALENDAR.replace("Berlin", "Bärlin"), "20: spec.timeWindow[0].calendar.timeZone: a time zone is a name of the IANA database like Europe/Berlin or UTC, not 'Europe/Bärlin'"),
        ("30d", "30D", f"19: spec.timeWindow[0].duration: {A_DURATION}'30D'"),
        ("30d", "90s", f"19: spec.timeWindow[0].duration: {A_DURATION}'90s'; it has nothing shorter than a minute"),
        ("30d", "1h30m", f"19: spec.timeWindow[0].duration: {A_DURATION}'1h30m'; write 90m"),
        ("30d", "0d", f"19: spec.timeWindow[0].duration: {A_DURATION}'0d'"),
        ("30d", "30", f"19: spec.timeWindow[0].duration: {A_DURATION}30"),
        ("Occurrences", "Occurences", "21: spec.budgetingMethod: wanted Occurrences, Timeslices or RatioTimeslices, not 'Occurences'; did you mean Occurrences?"),
        ("Occurrences", "RatioTimeslices", "23: spec.objectives[0]: RatioTimeslices need to know how long a slice is; add `timeSliceWindow:`"),
        ("    - displayName: Good\n      target: 0.999\n", "    []\n", "22: spec.objectives: there are no objectives, so nothing is promised; add one"),
        ("      target: 0.999\n", "", "23: spec.objectives[0]: target is missing; add `target:` (0 to below 1) or `targetPercent:` (0 to below 100)"),
        ("target: 0.999", "target: 0.999\n      targetPercent: 99.9", "25: spec.objectives[0].targetPercent: target and targetPercent are both given; give one of them"),
        ("target: 0.999", "target: 99.9", "24: spec.objectives[0].target: wanted at least 0 and less than 1, not 99.9; write it as targetPercent, or divide it by 100"),
        ("target: 0.999", "target: 1.0", "24: spec.objectives[0].target: wanted at least 0 and less than 1, not 1"),
        ("target: 0.999", "targetPercent: 100", "24: spec.objectives[0].targetPercent: wanted at least 0 and less than 100, not 100"),
        ("target: 0.999", 'target: "0.999"', "24: spec.objectives[0].target: wanted a number, not '0.999'"),
        ("target: 0.999", "target: 0.999\n      value: 1", "25: spec.objectives[0].value: a ratioMetric is compared with the target only; leave value out"),
        ("target: 0.999", "target: 0.999\n      op: le", "25: spec.objectives[0].op: wanted lte, gte, lt or gt, not 'le'; did you mean lte?"),
        ("target: 0.999", "target: 0.999\n      indicatorRef: other", "23: spec.objectives[0]: an objective has an indicator, and so has the SLO: give it in the one place, or (composite) in the other"),
        ("  indicator:\n", "  indicatorRef: other\n  indicator:\n", "11: spec.indicatorRef: indicator and indicatorRef are both given; give one of them"),
        ("alertPolicyRef: page", "{}", "26: spec.alertPolicies[0]: is empty; add `alertPolicyRef:`, or an AlertPolicy with kind, metadata and spec"),
        ("alertPolicyRef: page", "kind: AlertPolicy", "26: spec.alertPolicies[0]: metadata is missing; add `metadata:`"),
        ("alertPolicyRef: page", "{alertPolicyRef: page, kind: AlertPolicy}", "26: spec.alertPolicies[0].alertPolicyRef: alertPolicyRef and kind are both given: refer to an AlertPolicy, or write it out here"),
        ("    - kind: AlertCondition", "    - conditionRef: a\n    - kind: AlertCondition", "33: spec.conditions: conditions is a list of exactly one condition, not of 2"),
        ("    - targetRef: on-call\n", "    []\n", "39: spec.notificationTargets: nobody is told; add a target"),
        ("kind: burnrate", "kind: latency", "38: spec.conditions[0].spec.condition.kind: wanted burnrate, not 'latency'"),
        ("threshold: 14.4, ", "", "38: spec.conditions[0].spec.condition: threshold is missing; add `threshold:`"),
        ("alertAfter: 5m", "alertAfter: 30s", f"38: spec.conditions[0].spec.condition.alertAfter: {A_DURATION}'30s'; it has nothing shorter than a minute"),
        ("        severity: page\n", "", "36: spec.conditions[0].spec: severity is missing; add `severity:`"),
        ("metadata: {name: page}", "metadata: {name: page}\nstatus: {}", "31: status: unknown key; nothing is known here"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_where_it_is(tmp_path: Path, was: str, now: str, told: str) -> None:
    """With its line and place, what was seen, and what to write instead."""
    assert SOUND.count(was) == 1
    assert f"slo.yaml:{told}" in mistakes(tmp_path, SOUND.replace(was, now))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: is empty"),
        ("---\n# nothing\n", "1: is empty"),
        ("just text\n", "1: wanted an object that begins with apiVersion and kind, not 'just text'"),
        ("- [1]\n", "1: [0]: wanted an object that begins with apiVersion and kind, not a list"),
        ("a: [\n", "2: is not YAML: did not find expected node content"),
        ("apiVersion: openslo/v1\nkind: Service\n", "1: metadata is missing; add `metadata:`"),
        ("apiVersion: openslo/v1\nkind: Service\nkind: SLO\nmetadata: {name: a}\n", "3: kind: the key stands twice, first on line 2; keep one of them"),
    ],
)  # fmt: skip
def test_what_is_no_object_is_told(tmp_path: Path, text: str, told: str) -> None:
    """One line each, never a traceback."""
    assert f"slo.yaml:{told}" in mistakes(tmp_path, text)


def test_two_objects_of_a_kind_have_two_names(tmp_path: Path) -> None:
    """Else a reference would mean either; an SLI and an SLO may be called alike."""
    service = "apiVersion: openslo/v1\nkind: Service\nmetadata:\n  name: a\n"
    told = mistakes(tmp_path, f"{service}---\n{service}")
    assert told == [
        f"slo.yaml:9: metadata.name: another Service is called a too, {tmp_path}/slo.yaml:4; give each its own name"
    ]


def test_a_threshold_is_compared_with_something(tmp_path: Path) -> None:
    """And an SLO with one has one objective."""
    text = SOUND[: SOUND.index("      ratioMetric")] + f"      thresholdMetric: {METRIC}\n"
    text += (
        SOUND[SOUND.index("  timeWindow") : SOUND.index("  alertPolicies")]
        + "    - {target: 0.9, op: lt, value: 0.5}\n"
    )
    told = mistakes(tmp_path, text)
    assert told == [
        "slo.yaml:20: spec.objectives[0]: a thresholdMetric is compared with something; add `op:`",
        "slo.yaml:20: spec.objectives[0]: a thresholdMetric is compared with something; add `value:`",
        "slo.yaml:22: spec.objectives[1]: an SLO with a thresholdMetric has one objective; write an SLO for each",
    ]


def test_each_objective_of_a_composite_has_an_indicator(tmp_path: Path) -> None:
    """Or none has, and the SLO has one."""
    text = SOUND[: SOUND.index("  indicator:")] + SOUND[SOUND.index("  timeWindow") : SOUND.index("---")]
    assert mistakes(tmp_path, text) == ["slo.yaml:8: spec: indicator is missing; add `indicator:` or `indicatorRef:`"]
    composite = text.replace(
        "target: 0.999", "target: 0.999\n      indicatorRef: one\n      compositeWeight: 0\n    - target: 0.9"
    )
    assert mistakes(tmp_path, composite) == [
        "slo.yaml:19: spec.objectives[0].compositeWeight: wanted more than 0, not 0",
        "slo.yaml:20: spec.objectives[1]: each objective of a composite SLO has an indicator; add `indicator:`",
    ]


@pytest.mark.parametrize(("seconds", "written"), [(60, "1m"), (90, "2m"), (3600, "1h"), (5400, "90m"), (86400, "1d"), (604800, "1w"), (30 * 86400, "30d"), (0.5, "1m")])  # fmt: skip
def test_seconds_are_written_in_the_largest_unit(seconds: float, written: str) -> None:
    """Rounded up to minutes: OpenSLO has nothing shorter."""
    assert shorthand(seconds) == written


def test_minutes_and_months_differ_by_their_size() -> None:
    """The trap of the specification: its own example of a month writes 1m."""
    assert (parse_shorthand("1m").seconds, parse_shorthand("1M").seconds) == (60, 30 * 86400)
    assert (parse_shorthand("1m").steady, parse_shorthand("1M").steady) == (True, False)
    assert [parse_shorthand(text).seconds for text in ("2h", "1d", "4w", "1Q", "1Y")] == [
        7200, 86400, 28 * 86400, 90 * 86400, 365 * 86400,
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "label"), [("Front_Fast", "front-fast"), ("--", ""), ("a" * 62 + "-b", "a" * 62), ("é1", "1")])  # fmt: skip
def test_names_become_labels_of_dns(text: str, label: str) -> None:
    """Lower case, dashes for the rest, none at the ends."""
    assert dns_label(text) == label


def test_secrets_of_data_sources_are_not_shown(tmp_path: Path) -> None:
    """Neither in a mistake nor in the value's own text."""
    text = (
        "apiVersion: openslo/v1\nkind: DataSource\nmetadata: {name: a}\n"
        "spec: {type: 1, connectionDetails: {password: hunter2}}\n"
    )
    assert "hunter2" not in str(mistakes(tmp_path, text))
    source = read(tmp_path, text.replace("type: 1", "type: A")).library.objects["DataSource", "a"]
    assert "hunter2" not in repr(source)
    assert SLO.__name__ not in repr(source)
