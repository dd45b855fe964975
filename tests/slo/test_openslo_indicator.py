"""A query says which runs are counted, and which of them are good; about other things an objective cannot judge."""

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.indicator import (
    Indicator,
    NotOurs,
    of_error_ratio,
    of_ratio,
    of_success_ratio,
    of_threshold,
)
from stormwatch.slo.query import NotRead, read_query

FRONT = {"probe": "front"}
UP = 'stormwatch_probe_runs_total{probe="front",outcome="up"}'
DOWN = 'stormwatch_probe_runs_total{probe="front",outcome="down"}'
ALL = 'stormwatch_probe_runs_total{probe="front",outcome=~"up|down"}'
QUICK = 'stormwatch_probe_duration_seconds_bucket{probe="front",le="0.5"}'
MEASURED = 'stormwatch_probe_duration_seconds_count{probe="front"}'
SUCCESS = 'probe_success{probe="front"}'
SECONDS = 'probe_duration_seconds{probe="front"}'


@pytest.mark.parametrize(
    ("good", "total"),
    [
        (UP, ALL),
        (f"sum(rate({UP}[5m]))", f"sum(rate({ALL}[5m]))"),
        (f"sum(increase({UP}[{{{{.window}}}}]))", f"sum(increase({ALL}[{{{{.window}}}}]))"),
        (UP, 'stormwatch_probe_runs_total{probe="front", outcome!="broken"}'),
        (UP, 'stormwatch_probe_runs_total{outcome=~"down|up", probe="front",}'),
        (f"sum({ALL}) - sum({DOWN})", f"sum({ALL})"),
        (f"sum_over_time({SUCCESS}[1h])", f"count_over_time({SUCCESS}[1h])"),
        (f"sum(count_over_time(({SUCCESS} == 1)[1h:1m]))", f"sum(count_over_time({SUCCESS}[1h]))"),
        (f"count_over_time(({SUCCESS} == bool 1)[1h:])", f"count_over_time({SECONDS}[1h])"),
        ('stormwatch_objective_events_total{probe="front",judgement="good"}', 'stormwatch_objective_events_total{probe="front"}'),
        ("# all\n" + UP.replace('"', "'"), ALL.replace('"', "`")),
    ],
)  # fmt: skip
def test_good_runs_of_all(good: str, total: str) -> None:
    """Whatever makes rates of the counters, the share is the same."""
    found = of_ratio(good=good, total=total)
    assert (found.match, found.slower_than) == (FRONT, None)


@pytest.mark.parametrize(
    ("bad", "total"),
    [
        (DOWN, ALL),
        (f"({ALL} - {UP})", ALL),
        (f"count_over_time({SUCCESS}[1h]) - sum_over_time({SUCCESS}[1h])", f"count_over_time({SUCCESS}[1h])"),
        (f"count_over_time(({SUCCESS} == 0)[1h:])", f"count_over_time({SUCCESS}[1h])"),
        ('stormwatch_objective_events_total{probe="front",judgement!="good"}', 'stormwatch_objective_events_total{probe="front"}'),
    ],
)  # fmt: skip
def test_bad_runs_of_all(bad: str, total: str) -> None:
    """Sloth counts these."""
    found = of_ratio(bad=bad, total=total)
    assert (found.match, found.slower_than) == (FRONT, None)


@pytest.mark.parametrize(
    ("part", "total"),
    [
        ({"good": QUICK}, MEASURED),
        ({"good": QUICK}, QUICK.replace("0.5", "+Inf")),
        ({"bad": f"sum(rate({MEASURED}[5m])) - sum(rate({QUICK}[5m]))"}, f"sum(rate({MEASURED}[5m]))"),
        ({"good": f"count_over_time(({SECONDS} <= 0.5)[1h:])"}, f"count_over_time({SECONDS}[1h])"),
        ({"bad": f"count_over_time(({SECONDS} > 0.5)[1h:])"}, f"count_over_time({SECONDS}[1h])"),
    ],
)
def test_quick_runs_of_all(part: dict[str, str], total: str) -> None:
    """The limit becomes slower_than; what ours judges otherwise is said."""
    found = of_ratio(**part, total=total)
    assert (found.match, found.slower_than) == (FRONT, Fraction(1, 2))
    assert found.notes == ("a run that is down is bad, however quick it was",)


def test_ratios_that_are_there_already() -> None:
    """Quotients of the same counts, and the mean of what is 0 or 1."""
    share = f"sum(sum_over_time({SUCCESS}[1h])) / sum(count_over_time({SUCCESS}[1h]))"
    assert of_success_ratio(share) == of_error_ratio(f"1 - ({share})") == Indicator(match=FRONT)
    assert of_error_ratio(f"rate({DOWN}[5m]) / rate({ALL}[5m])").match == FRONT
    assert of_error_ratio(f"1 - avg(avg_over_time({SUCCESS}[1h]))").match == FRONT


def test_thresholds() -> None:
    """A run is quick enough, or up."""
    assert of_threshold(SECONDS, "lte", Fraction(1, 2)).slower_than == Fraction(1, 2)
    assert of_threshold(SECONDS, "lt", Fraction(1, 2)).notes[0] == "the limit itself counts as fast enough"
    assert (
        of_threshold(SUCCESS, "gte", Fraction(1)) == of_threshold(SUCCESS, "gt", Fraction(0)) == Indicator(match=FRONT)
    )


def test_steps_and_certificates() -> None:
    """Each with the metric that we export for it."""
    step = of_threshold('stormwatch_journey_step_duration_seconds{probe="front",step="pay"}', "lte", Fraction(2))
    assert (step.match, step.step, step.slower_than) == (FRONT, "pay", 2)
    assert step.notes == ("a step that fails is bad, however quick",)
    expiring = of_threshold('probe_ssl_earliest_cert_expiry{probe="front"} - time()', "gt", Fraction(14 * 86400))
    assert (expiring.match, expiring.expires_within) == (FRONT, 14 * 86400)
    assert expiring.notes == ("exactly this much is enough",)


def test_who_scraped_does_not_matter_and_every_other_label_does() -> None:
    """`job` says nothing about the probe."""
    total = 'stormwatch_probe_runs_total{job="stormwatch",service="shop",location="fra1"}'
    found = of_ratio(good=total.replace("}", ',outcome="up"}'), total=total)
    assert found.match == {"service": "shop", "location": "fra1"}
    assert found.notes == ("runs that were broken are no evidence and are not counted",)


@pytest.mark.parametrize(
    ("good", "total", "why"),
    [
        ('sum(http_requests_total{code="200"})', "sum(http_requests_total)", "http_requests_total is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        ("histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))", ALL, "x_bucket is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        ("sum(rate(probe_http_status_code[5m]))", ALL, "probe_http_status_code is ours, but no run is good or bad by it; ask for stormwatch_probe_runs_total or probe_success"),
        (DOWN, ALL, "counts the bad runs where the good ones are asked for"),
        (ALL, ALL, "counts all runs where the good ones are asked for"),
        (UP, UP, "counts only good runs where all are asked for"),
        (UP, ALL.replace("front", "back"), "counts runs of probe=front among those of probe=back; an objective has one set of probes"),
        (UP.replace('="front"', '=~"f.*"'), ALL, 'probe=~"f.*" selects probes by a pattern; objectives match labels that are equal: give the probes a label of their own'),
        ('stormwatch_probe_runs_total{outcome="up"}', "stormwatch_probe_runs_total", "selects every probe that is scraped; name one with probe or instance, or a label of some"),
        (UP.replace('"up"', '"good"'), ALL, 'outcome="good" is none of up, down, or both'),
        (f"sum by (phase) ({UP})", ALL, "the query is not one that is understood here: sum by makes several series, and an objective counts in one"),
        (f"sum({UP}) by (phase)", ALL, "the query is not one that is understood here: sum by makes several series, and an objective counts in one"),
        (f"{UP} offset 1h", ALL, "the query is not one that is understood here: offset looks at another time"),
        (f"{UP} or vector(0)", ALL, "the query is not one that is understood here: 'or' is not read here"),
        (f"sum({UP}", ALL, "the query is not one that is understood here: it ends where ')' belongs"),
        (f"{UP} * 2", ALL, "is computed from our metrics in a way that is not understood here"),
        (f"{UP} - {UP}", ALL, "a difference is understood when it is all runs less the good or the bad ones of the same probes"),
        (SUCCESS, f"count_over_time({SUCCESS}[1h])", "probe_success is no counter; count its samples with count_over_time and sum_over_time"),
        (QUICK.replace('le="0.5"', 'le=~"0.5|1"'), MEASURED, 'buckets are cumulative, so one is asked for, like le="0.5"'),
        (QUICK.replace("0.5", "fast"), MEASURED, "no bucket has le='fast'"),
    ],
)  # fmt: skip
def test_what_is_about_other_things_is_refused(good: str, total: str, why: str) -> None:
    """For the reason that people can act on: the metric before the syntax."""
    with pytest.raises(NotOurs) as refused:
        of_ratio(good=good, total=total)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("query", "op", "value", "why"),
    [
        (f"avg_over_time({SECONDS}[1m])", "lte", 1, "avg_over_time makes one number of several runs, and each run is judged by itself; ask for the metric, and let timeSliceTarget say how many must be good"),
        (SECONDS, "gte", 1, "probe_duration_seconds gte 1 is no promise that a run can keep"),
        (SECONDS, "lte", 0, "no run takes less than no time"),
        (SUCCESS, "lte", 0, "probe_success lte 0 is no promise that a run can keep"),
        ("sum(kafka_lag)", "lt", 5, "kafka_lag is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        ('stormwatch_api_step_duration_seconds{probe="front"}', "lt", 5, 'each step takes its own time, so one is asked for, like step="pay"'),
        ('probe_ssl_earliest_cert_expiry{probe="front"} - time()', "lt", 5, "a certificate is to be valid for some time more: op: gt and a value above 0"),
        ("process_start_time_seconds - time()", "gt", 5, "process_start_time_seconds is not measured by stormwatch: its objectives judge runs of probes. Write a probe that looks at what it measures"),
        (f"{SECONDS} * 2", "lt", 5, "a threshold is compared with one metric of a probe, and this is a computation"),
    ],
)  # fmt: skip
def test_thresholds_that_no_run_keeps_are_refused(query: str, op: str, value: int, why: str) -> None:
    """A mean of several runs hides the slow ones."""
    with pytest.raises(NotOurs) as refused:
        of_threshold(query, op, Fraction(value))
    assert str(refused.value) == why


@pytest.mark.parametrize("query", ["1 / 2", UP, f"1 - {UP}", "2 - 1", f"avg_over_time({SUCCESS}[1h])"])
def test_a_share_that_is_none_is_refused(query: str) -> None:
    """The last one is the share of good runs where that of bad ones is asked for."""
    with pytest.raises(NotOurs):
        of_error_ratio(query)


@given(st.text(alphabet="probe_success{}[]()\"=~!,.:-+*/<>0159ms \n\\'`#", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else comes of what people write."""
    for read, refusal in ((read_query, NotRead), (of_error_ratio, NotOurs), (of_success_ratio, NotOurs)):
        with suppress(refusal):
            read(text)


def test_brackets_without_end_are_refused() -> None:
    """Before Python's stack ends."""
    with pytest.raises(NotRead, match="nested too deep"):
        read_query("(" * 5000)
    with pytest.raises(NotRead, match="20,000 characters"):
        read_query(" " * 20_000)
