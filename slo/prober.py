"""Alerts about the prober itself: who watches the watchman. Prometheus has to, since a dead process tells nothing.

Each alert comes with the series that make it fire and those that do not, and so with its unit test for promtool.

`Watchdog` fires always. Alertmanager sends it to a dead man's switch outside, which calls when it falls silent: the only alert
about a chain that is broken somewhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stormwatch.slo.alert import Severity
from stormwatch.slo.document import yaml_text

GROUP = "stormwatch-prober"
WATCHDOG = "Watchdog"
WATCHDOG_SEVERITY = "none"
"""Nobody is told of the watchdog as long as it fires."""
STEP = "1m"
_AT = "30m"
"""When tests look: longer than every `for`."""

Histories = Mapping[str, str]
"""Values in promtool's notation, a minute apart, by series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProberAlert:
    """One alert, and what shows that it works. `JOB` stands for the selector of the job's label."""

    name: str
    severity: str
    expr: str
    lasting: str
    summary: str
    description: str
    fires: Histories
    silent: tuple[Histories, ...]
    labels: Mapping[str, str]
    """Labels that it has in the history that makes it fire, besides the severity."""


ALERTS: tuple[ProberAlert, ...] = (
    ProberAlert(
        name="StormwatchDown",
        severity=Severity.PAGE.value,
        expr="max by (job) (up{JOB}) == 0 or absent(up{JOB})",
        lasting="1m",
        summary="no stormwatch can be scraped: nothing is watched",
        description="Every scrape of the job failed for a minute, or there is no such target. Outages are not seen.",
        fires={'up{JOB,instance="one"}': "1 1 0x30", 'up{JOB,instance="two"}': "1 1 0x30"},
        silent=({'up{JOB,instance="one"}': "0x30", 'up{JOB,instance="two"}': "1x30"},),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name="StormwatchInstanceDown",
        severity=Severity.TICKET.value,
        expr="up{JOB} == 0",
        lasting="5m",
        summary="stormwatch at {{ $labels.instance }} cannot be scraped",
        description="What only it watches is not seen.",
        fires={'up{JOB,instance="one"}': "1 0x30"},
        silent=({'up{JOB,instance="one"}': "1x26 0x4"},),
        labels={"job": "JOB", "instance": "one"},
    ),
    ProberAlert(
        name="StormwatchMetricsAbsent",
        severity=Severity.PAGE.value,
        expr="max by (job) (up{JOB}) == 1 unless on () stormwatch_build_info",
        lasting="2m",
        summary="what is scraped as stormwatch is none",
        description="The target answers and has no metrics of ours: another program took its place, or relabelling drops them.",
        fires={'up{JOB,instance="one"}': "1x30"},
        silent=({'up{JOB,instance="one"}': "1x30", 'stormwatch_build_info{JOB,instance="one"}': "1x30"},),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name="StormwatchRuleEvaluationFailing",
        severity=Severity.HIGH.value,
        expr='sum(increase(prometheus_rule_evaluation_failures_total{rule_group=~".*;stormwatch-.*"}[10m])) > 0',
        lasting="0s",
        summary="Prometheus cannot evaluate our rules",
        description="Alerts of these rules do not fire while it lasts. Prometheus has to scrape itself for this.",
        fires={'prometheus_rule_evaluation_failures_total{rule_group="/r.yml;stormwatch-probes"}': "0x20 1x10"},
        silent=(
            {'prometheus_rule_evaluation_failures_total{rule_group="/r.yml;another"}': "0+1x30"},
            {'prometheus_rule_evaluation_failures_total{rule_group="/r.yml;stormwatch-probes"}': "1x30"},
        ),
        labels={},
    ),
    ProberAlert(
        name="StormwatchRunsLate",
        severity=Severity.TICKET.value,
        expr="histogram_quantile(0.99, sum by (le) (rate(stormwatch_schedule_delay_seconds_bucket[10m]))) > 1",
        lasting="10m",
        summary="probes start late",
        description="One run in a hundred started more than a second late: there are too many for this machine.",
        fires={
            'stormwatch_schedule_delay_seconds_bucket{le="1"}': "0+90x30",
            'stormwatch_schedule_delay_seconds_bucket{le="5"}': "0+100x30",
            'stormwatch_schedule_delay_seconds_bucket{le="+Inf"}': "0+100x30",
        },
        silent=(
            {
                'stormwatch_schedule_delay_seconds_bucket{le="1"}': "0+1000x30",
                'stormwatch_schedule_delay_seconds_bucket{le="+Inf"}': "0+1000x30",
            },
        ),
        labels={},
    ),
    ProberAlert(
        name="StormwatchLoopLag",
        severity=Severity.TICKET.value,
        expr="avg_over_time(stormwatch_loop_lag_seconds[10m]) > 0.1",
        lasting="0s",
        summary="the event loop lags, so timings are off",
        description="The worst lag of the event loop was above 100 ms in most scrapes of ten minutes: give it a core of its own.",
        fires={"stormwatch_loop_lag_seconds{JOB}": "0.2x30"},
        silent=({"stormwatch_loop_lag_seconds{JOB}": "0.01x24 0.9 0.01x5"},),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name="StormwatchClockOff",
        severity=Severity.HIGH.value,
        expr="abs(stormwatch_time_seconds - timestamp(stormwatch_time_seconds)) > 10",
        lasting="1m",
        summary="the clock of a stormwatch is not that of Prometheus",
        description="They differ by more than ten seconds. Certificates, budgets and maintenance are judged by a wrong clock.",
        fires={"stormwatch_time_seconds{JOB}": "30+60x30"},
        silent=({"stormwatch_time_seconds{JOB}": "5+60x30"}, {"stormwatch_time_seconds{JOB}": "0+60x29 9000"}),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name="StormwatchRunsSkipped",
        severity=Severity.TICKET.value,
        expr="sum by (probe) (increase(stormwatch_schedule_skipped_total[15m])) > 2",
        lasting="0s",
        summary="{{ $labels.probe }} skips runs",
        description="Its runs take longer than its interval, or the prober is late. It sees less than it promises.",
        fires={'stormwatch_schedule_skipped_total{probe="front"}': "0x20 1+1x9"},
        silent=({'stormwatch_schedule_skipped_total{probe="front"}': "0x20 1x9"},),
        labels={"probe": "front"},
    ),
    ProberAlert(
        name="StormwatchSinkErrors",
        severity=Severity.TICKET.value,
        expr="sum by (sink) (increase(stormwatch_sink_errors_total[10m])) > 0",
        lasting="0s",
        summary="the sink {{ $labels.sink }} does not take results",
        description="The log has the traceback.",
        fires={'stormwatch_sink_errors_total{sink="jsonl"}': "0x25 1x5"},
        silent=({'stormwatch_sink_errors_total{sink="jsonl"}': "7x30"},),
        labels={"sink": "jsonl"},
    ),
    ProberAlert(
        name="StormwatchHistoryErrors",
        severity=Severity.TICKET.value,
        expr="increase(stormwatch_history_write_errors_total[10m]) > 0 or increase(stormwatch_history_dropped_total[10m]) > 0",
        lasting="0s",
        summary="the history is not written",
        description="The disk is full, read-only or too slow. Reports and budgets after a restart miss what is dropped.",
        fires={"stormwatch_history_write_errors_total": "0x25 1x5", "stormwatch_history_dropped_total": "0x30"},
        silent=({"stormwatch_history_write_errors_total": "3x30", "stormwatch_history_dropped_total": "3x30"},),
        labels={},
    ),
    ProberAlert(
        name="StormwatchNotificationsFailing",
        severity=Severity.PAGE.value,
        expr="increase(stormwatch_notifications_failed_total[5m]) > 0 and min_over_time(stormwatch_notifications_waiting[5m]) > 0",
        lasting="0s",
        summary="{{ $labels.notifier }} takes no notifications",
        description="Notifications have waited for five minutes, and requests fail: people are not told of alerts.",
        fires={
            'stormwatch_notifications_failed_total{notifier="webhook"}': "0+1x30",
            'stormwatch_notifications_waiting{notifier="webhook"}': "2x30",
        },
        silent=(
            {
                'stormwatch_notifications_failed_total{notifier="webhook"}': "0+1x30",
                'stormwatch_notifications_waiting{notifier="webhook"}': "2x28 0 2",
            },
            {
                'stormwatch_notifications_failed_total{notifier="webhook"}': "4x30",
                'stormwatch_notifications_waiting{notifier="webhook"}': "2x30",
            },
        ),
        labels={"notifier": "webhook"},
    ),
    ProberAlert(
        name="StormwatchNotificationsRefused",
        severity=Severity.HIGH.value,
        expr="increase(stormwatch_notifications_refused_total[15m]) > 0",
        lasting="0s",
        summary="{{ $labels.notifier }} refused notifications for good",
        description="Nobody was told of these alerts through it. The log says what it answered.",
        fires={'stormwatch_notifications_refused_total{notifier="webhook"}': "0x25 1x5"},
        silent=({'stormwatch_notifications_refused_total{notifier="webhook"}': "1x30"},),
        labels={"notifier": "webhook"},
    ),
    ProberAlert(
        name="StormwatchNotificationsOld",
        severity=Severity.HIGH.value,
        expr="max by (notifier) (stormwatch_notifications_oldest_seconds) > 600",
        lasting="0s",
        summary="{{ $labels.notifier }} has not delivered a notification for ten minutes",
        description="It waits without a request that fails: the receiver asked to wait, or what delivers stands still.",
        fires={'stormwatch_notifications_oldest_seconds{notifier="webhook"}': "0+60x30"},
        silent=({'stormwatch_notifications_oldest_seconds{notifier="webhook"}': "600x30"},),
        labels={"notifier": "webhook"},
    ),
    ProberAlert(
        name="StormwatchOutboxUnwritten",
        severity=Severity.PAGE.value,
        expr="min_over_time(stormwatch_outbox_unwritten[2m]) == 1",
        lasting="0s",
        summary="the outbox cannot be written",
        description="People are still told, but a crash now would lose what has to be told: the disk is full or read-only.",
        fires={"stormwatch_outbox_unwritten{JOB}": "0x20 1x10"},
        silent=({"stormwatch_outbox_unwritten{JOB}": "0x29 1"},),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name="StormwatchNotWell",
        severity=Severity.PAGE.value,
        expr="stormwatch_well == 0",
        lasting="2m",
        summary="stormwatch does not work as it should",
        description="Its schedule stands still, rules are not evaluated, or it cannot write to disk. The log says which.",
        fires={"stormwatch_well{JOB}": "1 0x30"},
        silent=({"stormwatch_well{JOB}": "1x28 0 0"}, {"stormwatch_build_info{JOB}": "1x30"}),
        labels={"job": "JOB"},
    ),
    ProberAlert(
        name=WATCHDOG,
        severity=WATCHDOG_SEVERITY,
        expr="vector(1)",
        lasting="0s",
        summary="fires always",
        description="Send it to a dead man's switch: when it is silent, Prometheus or Alertmanager is broken.",
        fires={},
        silent=(),
        labels={},
    ),
)


def render_prober_rules(*, job: str = "stormwatch") -> str:
    """The alerts about the prober as a rule file. `job` is that of its scrape configuration."""
    return yaml_text({"groups": [{"name": GROUP, "rules": [_rule(alert, job) for alert in ALERTS]}]})


def render_prober_tests(*, rule_file: str, job: str = "stormwatch") -> str:
    """Their unit tests, for promtool: each fires, with its labels, and does not fire."""
    tests = [
        _test(f"{alert.name} {'fires' if fires else 'does not fire'}", alert, history, job, fires=fires)
        for alert in ALERTS
        for fires, history in ((True, alert.fires), *((False, each) for each in alert.silent))
    ]
    return yaml_text({"rule_files": [rule_file], "evaluation_interval": STEP, "tests": tests})


def _rule(alert: ProberAlert, job: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": _of_job(alert.expr, job),
        **({"for": alert.lasting} if alert.lasting != "0s" else {}),
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }


def _test(name: str, alert: ProberAlert, history: Histories, job: str, *, fires: bool) -> dict[str, Any]:
    labels = {label: job if value == "JOB" else value for label, value in alert.labels.items()}
    summary = alert.summary
    for label, value in labels.items():
        summary = summary.replace(f"{{{{ $labels.{label} }}}}", value)
    expected = {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": {"summary": summary, "description": alert.description},
    }
    return {
        "name": name,
        "interval": STEP,
        "input_series": [{"series": _of_job(series, job), "values": values} for series, values in history.items()],
        "alert_rule_test": [
            {"eval_time": _AT, "alertname": alert.name, "exp_alerts": [expected] if fires else []},
        ],
    }


def _of_job(text: str, job: str) -> str:
    return text.replace("{JOB", "{job=" + json.dumps(job, ensure_ascii=False))
