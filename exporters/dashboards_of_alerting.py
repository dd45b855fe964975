"""Dashboards about what follows from results: objectives and budgets, alerts, drills."""

from dataclasses import replace

from stormwatch.exporters.dashboard import Dashboard, Row
from stormwatch.exporters.dashboard_panel import UP_OR_DOWN, Named, Panel, Query, Threshold
from stormwatch.exporters.dashboard_selection import (
    ALERT_NAMES,
    FAULTS,
    JOB,
    MARKS,
    PROBES,
    SLO,
    SLO_SERVICE,
    STATUS_PAGE,
    of_job,
    of_probes,
    of_slo,
    shown,
)

BUDGET_LEFT = (Threshold(0, "orange"), Threshold(0.25, "green"))
BURNING = (Threshold(1, "orange"), Threshold(6, "red"))
ALERT_STATES = (Named(1, "pending", "orange"), Named(2, "firing", "red"))
_FAULT = Named(5, "fault", "purple")
_ALERT = 10
"""Added to the state of an alert where probes are in the same graph, whose 1 is good."""
_FIRING = f'ALERTS{{alertname=~"{ALERT_NAMES}", alertstate="firing"}}'
CHOSEN_SLO = 'objective=~"$slo"'
_EVENTS = "stormwatch_objective_events_total"
_BY = "sloth_service, sloth_slo"

OBJECTIVES = Dashboard(
    name="slo",
    title="Objectives and budgets",
    description="How much may still fail, how fast it is being used up. Reads the rules of `stormwatch rules`, or those of sloth.",
    variables=(JOB, SLO_SERVICE, SLO),
    marks=MARKS,
    since="now-30d",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Least budget left",
                    description="The objective that may fail least. Below 0 it is missed for the whole window.",
                    kind="stat",
                    unit="percentunit",
                    base="red",
                    queries=(Query(expression=f"min({of_slo('slo:period_error_budget_remaining:ratio')})"),),
                    thresholds=BUDGET_LEFT,
                    width=6,
                ),
                Panel(
                    title="Fastest burn",
                    description="How many budgets would be used in a window, if the last five minutes went on.",
                    kind="stat",
                    queries=(Query(expression=f"max({of_slo('slo:current_burn_rate:ratio')})"),),
                    thresholds=BURNING,
                    width=6,
                ),
                Panel(
                    title="Objectives",
                    description="What is promised, what is left of it, and how fast it goes.",
                    kind="table",
                    queries=(
                        Query(
                            expression=f"max by ({_BY}) ({of_slo('slo:objective:ratio')})",
                            legend="objective",
                            instant=True,
                            unit="percentunit",
                        ),
                        Query(
                            expression=f"max by ({_BY}) ({of_slo('slo:time_period:days')})",
                            legend="days",
                            instant=True,
                            unit="none",
                        ),
                        Query(
                            expression=f"min by ({_BY}) ({of_slo('slo:period_error_budget_remaining:ratio')})",
                            legend="budget left",
                            instant=True,
                            unit="percentunit",
                        ),
                        Query(
                            expression=f"min by ({_BY}) ({of_slo('slo:period_error_budget_remaining:ratio')}"
                            f" * {of_slo('slo:error_budget:ratio')} * {of_slo('slo:time_period:days')}) * 1440",
                            legend="minutes left",
                            instant=True,
                            unit="m",
                        ),
                        Query(
                            expression=f"max by ({_BY}) ({of_slo('slo:current_burn_rate:ratio')})",
                            legend="burn rate",
                            instant=True,
                            unit="short",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Budgets",
            (
                Panel(
                    title="Budget left",
                    description="Share of the window's budget that is left. A period that is not full yet is taken as full.",
                    unit="percentunit",
                    queries=(
                        Query(expression=of_slo("slo:period_error_budget_remaining:ratio"), legend="{{sloth_slo}}"),
                    ),
                ),
                Panel(
                    title="Burn rate",
                    description="1 uses up the budget exactly in the window; 14.4 uses 2 % of a month's in an hour.",
                    queries=(
                        Query(expression=of_slo("slo:current_burn_rate:ratio"), legend="{{sloth_slo}} now"),
                        Query(expression=of_slo("slo:period_burn_rate:ratio"), legend="{{sloth_slo}} over the window"),
                    ),
                ),
                Panel(
                    title="Bad results, by window",
                    description="The ratios that the burn-rate alerts compare; an alert needs its short and its long window.",
                    unit="percentunit",
                    queries=(
                        Query(
                            expression='{__name__=~"slo:sli_error:ratio_rate.+", sloth_service=~"$service", sloth_slo=~"$slo"}',
                            legend="{{sloth_slo}} {{sloth_window}}",
                        ),
                    ),
                ),
                Panel(
                    title="Judged results in the shown time",
                    description="Good and bad. Few results make a coarse objective: with 100 of them 99.9 % is all or nothing.",
                    kind="table",
                    queries=(
                        Query(
                            expression=f"sum by (objective) ({shown(of_job(_EVENTS, CHOSEN_SLO, judgement='good'))})",
                            legend="good",
                            instant=True,
                        ),
                        Query(
                            expression=f"sum by (objective) ({shown(of_job(_EVENTS, CHOSEN_SLO, judgement='bad'))})",
                            legend="bad",
                            instant=True,
                        ),
                        Query(
                            expression=f"max by (objective) ({of_job('stormwatch_objective_target_ratio', CHOSEN_SLO)})",
                            legend="target",
                            instant=True,
                            unit="percentunit",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

ALERTS = Dashboard(
    name="alerts",
    title="Alerts",
    description="What fires, what is pending, and whether anybody was told.",
    variables=(JOB, STATUS_PAGE),
    marks=(FAULTS,),
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Firing in Prometheus",
                    description="Alerts of our rules, and those about the prober, that Prometheus fires.",
                    kind="stat",
                    queries=(Query(expression=f"count({_FIRING}) or vector(0)"),),
                    thresholds=(Threshold(1, "red"),),
                    width=6,
                ),
                Panel(
                    title="Firing in stormwatch",
                    description="Alerts that the prober itself fires, by the same rules. It has none about itself.",
                    kind="stat",
                    queries=(Query(expression=f"count({of_job('stormwatch_alert_state')} == 2) or vector(0)"),),
                    thresholds=(Threshold(1, "red"),),
                    width=6,
                ),
                Panel(
                    title="Alerts",
                    description="Each alert that is pending (1) or firing (2), as the prober has it.",
                    kind="table",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (alertname, severity, probe, objective) ({of_job('stormwatch_alert_state')})",
                            legend="state",
                            instant=True,
                        ),
                    ),
                    names=ALERT_STATES,
                    empty="no alert is pending or firing",
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    title="Alerts over time",
                    description="Orange is pending, red is firing.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (alertname, probe, objective) ({of_job('stormwatch_alert_state')})",
                            legend="{{alertname}} {{probe}}{{objective}}",
                        ),
                    ),
                    names=ALERT_STATES,
                    empty="no alert in this time",
                    width=24,
                ),
                Panel(
                    title="Firing, by severity",
                    description="In Prometheus. More than one page at a time is usually one cause.",
                    queries=(Query(expression=f"count by (severity) ({_FIRING})", legend="{{severity}}"),),
                    empty="no alert in this time",
                    stacked=True,
                ),
                Panel(
                    title="Most often firing",
                    description="Seconds in the shown time, by alert: what is always red is read by nobody.",
                    kind="table",
                    unit="s",
                    queries=(
                        Query(
                            expression="sort_desc(count_over_time("
                            f"(max by (alertname, probe, objective) ({_FIRING}))[$__range:15s]) * 15)",
                            legend="firing",
                            instant=True,
                        ),
                    ),
                    empty="no alert in this time",
                ),
            ),
        ),
    ),
)

DRILLS = Dashboard(
    name="drills",
    title="Drills and detection",
    description="What was broken on purpose, which probes noticed, which alerts followed: the order from left to right is the proof.",
    variables=PROBES,
    marks=MARKS,
    since="now-1h",
    rows=(
        Row(
            "Injected, noticed, told",
            (
                Panel(
                    title="Faults now",
                    description="Injected by a drill and not yet taken back. One that stays without a drill: `stormwatch undo`.",
                    kind="stat",
                    queries=(Query(expression=f"sum({of_job('stormwatch_fault_active')}) or vector(0)"),),
                    thresholds=(Threshold(1, "purple"),),
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Time with a fault",
                    description="Seconds of the shown time in which a fault was in place.",
                    kind="stat",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"sum(count_over_time((max({of_job('stormwatch_fault_active')}) > 0)[$__range:5s])) * 5",
                            instant=True,
                        ),
                    ),
                    empty="no fault in this time",
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Down while a fault is active",
                    description="Probes that are red at this moment and may be meant to be. 0 while nothing is injected.",
                    kind="stat",
                    queries=(
                        Query(
                            expression=f"(count({of_probes('probe_success')} == 0)"
                            f" and on () (sum({of_job('stormwatch_fault_active')}) > 0)) or vector(0)"
                        ),
                    ),
                    thresholds=(Threshold(1, "orange"),),
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Down without a fault",
                    description="Probes that are red although nothing is injected: a real outage.",
                    kind="stat",
                    queries=(
                        Query(
                            expression=f"(count({of_probes('probe_success')} == 0)"
                            f" unless on () (sum({of_job('stormwatch_fault_active')}) > 0)) or vector(0)"
                        ),
                    ),
                    thresholds=(Threshold(1, "red"),),
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Faults, probes, alerts",
                    description="In one graph, so that the order is exact: a fault is injected (purple), a probe turns red, an alert"
                    " is pending (orange) and fires. The first green after the fault is the recovery.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"(max by (kind, target) ({of_job('stormwatch_fault_active')}) > bool 0) * {_FAULT.value}",
                            legend="fault: {{kind}} on {{target}}",
                        ),
                        Query(
                            expression=f"min by (probe) ({of_probes('probe_success')})",
                            legend="probe: {{probe}}",
                        ),
                        Query(
                            expression=f"max by (alertname, probe, objective) ({of_job('stormwatch_alert_state')}) + {_ALERT}",
                            legend="alert: {{alertname}} {{probe}}{{objective}}",
                        ),
                    ),
                    names=(*UP_OR_DOWN, _FAULT, *(replace(each, value=each.value + _ALERT) for each in ALERT_STATES)),
                    width=24,
                    height=20,
                ),
            ),
        ),
    ),
)
