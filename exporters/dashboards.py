"""The set of Grafana dashboards that stormwatch brings along. `stormwatch dashboards` writes them."""

import json
from collections.abc import Sequence
from dataclasses import replace

from stormwatch.exporters.dashboard import Dashboard, Row
from stormwatch.exporters.dashboard_panel import Panel, Query, Threshold
from stormwatch.exporters.dashboard_selection import JOB, MARKS, STATUS_PAGE, of_job, rate
from stormwatch.exporters.dashboards_of_alerting import ALERTS, DRILLS, OBJECTIVES
from stormwatch.exporters.dashboards_of_probes import CERTIFICATES, DNS, JOURNEYS, OVERVIEW, PROBE_DETAIL


def dashboard_json(dashboard: Dashboard, *, status_page: str = STATUS_PAGE.default) -> str:
    """A dashboard as the text of a file, in an order that compares well. `status_page` is where its links lead."""
    known = replace(STATUS_PAGE, default=status_page)
    dashboard = replace(dashboard, variables=[known if each is STATUS_PAGE else each for each in dashboard.variables])
    return json.dumps(dashboard.classic(), indent=2, ensure_ascii=False) + "\n"


def _quantile(share: str, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) ({rate(of_job(f'{metric}_bucket'))}))"


PROBER = Dashboard(
    name="prober",
    title="The prober itself",
    description="Whether stormwatch can be trusted at this moment: late runs, lag, lost results, resources.",
    variables=(JOB,),
    marks=MARKS,
    rows=(
        Row(
            "Schedule",
            (
                Panel(
                    title="Lateness of runs",
                    description="Between the moment that a run was due and its start. It is never counted as the target's time.",
                    unit="s",
                    queries=tuple(
                        Query(expression=_quantile(share, "stormwatch_schedule_delay_seconds"), legend=name)
                        for share, name in (("0.5", "median"), ("0.99", "99 %"))
                    ),
                ),
                Panel(
                    title="Waiting for other runs",
                    description="How much of the lateness is the cap on runs at a time: raise `concurrency`, or spread the probes.",
                    unit="s",
                    queries=tuple(
                        Query(expression=_quantile(share, "stormwatch_queue_wait_seconds"), legend=name)
                        for share, name in (("0.5", "median"), ("0.99", "99 %"))
                    ),
                ),
                Panel(
                    title="Due moments that were let go",
                    description="A second, of the ten probes with most of them: a run was not over, or the prober was late.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"topk(10, sum by (probe) ({rate(of_job('stormwatch_schedule_skipped_total'))}))",
                            legend="{{probe}}",
                        ),
                    ),
                ),
                Panel(
                    title="Runs under way",
                    description="Runs that have begun or wait for their turn.",
                    unit="none",
                    queries=(Query(expression=of_job("stormwatch_runs_under_way"), legend="under way"),),
                ),
                Panel(
                    title="Lag of the event loop",
                    description="How far timings can be off through the prober. Above 10 ms runs are marked.",
                    unit="s",
                    queries=(Query(expression=of_job("stormwatch_loop_lag_seconds"), legend="worst"),),
                    thresholds=(Threshold(0.01, "orange"),),
                ),
                Panel(
                    title="Runs",
                    description="Runs a second by outcome. When the rate falls, fewer probes are looked after.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (outcome) ({rate(of_job('stormwatch_probe_runs_total'))})",
                            legend="{{outcome}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "What becomes of results",
            (
                Panel(
                    title="Results that a sink did not take",
                    description="A second, by sink. Anything above 0 is a result that somebody will miss.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (sink) ({rate(of_job('stormwatch_sink_errors_total'))})",
                            legend="{{sink}}",
                        ),
                    ),
                    empty="no sink failed since the start",
                ),
                Panel(
                    title="History",
                    description="Results and transitions a second that are on disk, could not be written, or were given up.",
                    unit="ops",
                    queries=(
                        Query(expression=rate(of_job("stormwatch_history_written_total")), legend="written"),
                        Query(expression=rate(of_job("stormwatch_history_write_errors_total")), legend="errors"),
                        Query(expression=rate(of_job("stormwatch_history_dropped_total")), legend="given up"),
                    ),
                ),
                Panel(
                    title="Waiting for the disk",
                    description="Results and transitions that are not on disk yet.",
                    unit="none",
                    queries=(Query(expression=of_job("stormwatch_history_waiting"), legend="waiting"),),
                ),
                Panel(
                    title="Notifications",
                    description="Notifications a second that a receiver took, that have to be tried again, and that were given up.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (notifier) ({rate(of_job('stormwatch_notifications_sent_total'))})",
                            legend="{{notifier}} sent",
                        ),
                        Query(
                            expression=f"sum by (notifier) ({rate(of_job('stormwatch_notifications_failed_total'))})",
                            legend="{{notifier}} failed",
                        ),
                        Query(
                            expression=f"sum by (notifier) ({rate(of_job('stormwatch_notifications_refused_total'))})",
                            legend="{{notifier}} given up",
                        ),
                    ),
                    empty="no receiver is configured",
                ),
                Panel(
                    title="Notifications that nobody has yet",
                    description="When it grows, a receiver is away and nobody is told.",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"sum by (notifier) ({of_job('stormwatch_notifications_waiting')})",
                            legend="{{notifier}}",
                        ),
                    ),
                    empty="no receiver is configured",
                ),
                Panel(
                    title="How long the oldest of them waits",
                    description="A receiver that takes some and not others is seen here: the number stays small, the age grows.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"max by (notifier) ({of_job('stormwatch_notifications_oldest_seconds')})",
                            legend="{{notifier}}",
                        ),
                    ),
                    empty="no receiver is configured",
                ),
            ),
        ),
        Row(
            "Process",
            (
                Panel(
                    title="CPU",
                    description="Processors in use.",
                    unit="percentunit",
                    queries=(Query(expression=rate(of_job("process_cpu_seconds_total")), legend="CPU"),),
                    width=8,
                ),
                Panel(
                    title="Memory",
                    description="Resident memory of the prober, without the browsers of journeys.",
                    unit="bytes",
                    queries=(Query(expression=of_job("process_resident_memory_bytes"), legend="resident"),),
                    width=8,
                ),
                Panel(
                    title="File descriptors",
                    description="Open, and how many may be. When they meet, runs are broken for want of resources.",
                    unit="none",
                    queries=(
                        Query(expression=of_job("process_open_fds"), legend="open"),
                        Query(expression=of_job("process_max_fds"), legend="limit"),
                    ),
                    width=8,
                ),
                Panel(
                    title="Version and age",
                    description="Time since the start. A restart is a gap in counters and in what is remembered of alerts.",
                    kind="stat",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"(time() - {of_job('process_start_time_seconds')})"
                            f" * on (job, instance) group_left (version) {of_job('stormwatch_build_info')}",
                            legend="{{version}}",
                        ),
                    ),
                    width=8,
                    height=5,
                ),
                Panel(
                    title="Scrapes",
                    description="How long Prometheus takes to read the metrics, and how many samples they are.",
                    unit="none",
                    queries=(
                        Query(expression=of_job("scrape_duration_seconds"), legend="seconds"),
                        Query(expression=of_job("scrape_samples_scraped"), legend="samples"),
                    ),
                    width=16,
                    height=5,
                ),
            ),
        ),
    ),
)

DASHBOARDS: Sequence[Dashboard] = (
    OVERVIEW,
    PROBE_DETAIL,
    CERTIFICATES,
    DNS,
    JOURNEYS,
    OBJECTIVES,
    ALERTS,
    DRILLS,
    PROBER,
)
"""All of them, in the order in which a reader meets them."""
