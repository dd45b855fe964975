"""What the reader chooses on our dashboards, and the selectors that keep to it."""

from dataclasses import replace

from stormwatch.exporters.dashboard import Mark, Text, Variable
from stormwatch.exporters.dashboard_panel import Link

JOB = Variable("job", "Job", "stormwatch_build_info", every=".+")
LOCATION = Variable("location", "Location", 'probe_timeout_seconds{job=~"$job"}', every=".+")
KIND = Variable("kind", "Kind", 'probe_timeout_seconds{job=~"$job", location=~"$location"}', every=".+")
SERVICE = Variable("service", "Service", 'probe_timeout_seconds{job=~"$job", location=~"$location", kind=~"$kind"}')
"""A label of the configuration, that not every probe has: `All` keeps those without it."""
PROBE = Variable(
    "probe",
    "Probe",
    'probe_timeout_seconds{job=~"$job", location=~"$location", kind=~"$kind", service=~"$service"}',
    every=".+",
)
"""The lists are made of `probe_timeout_seconds`, which is there before the first run and while a probe is broken."""
ONE_PROBE = replace(PROBE, every="")
"""Where every phase of every probe would be too much: one, or some to compare."""
STATUS_PAGE = Text("status_page", "Status page", "http://127.0.0.1:9797")
"""Where `stormwatch run` is for the reader's browser."""
SLO_SERVICE = Variable("service", "Service", "slo:objective:ratio", of="sloth_service", every=".+")
SLO = Variable("slo", "Objective", 'slo:objective:ratio{sloth_service=~"$service"}', of="sloth_slo", every=".+")

PROBES = (JOB, LOCATION, KIND, SERVICE, PROBE, STATUS_PAGE)
"""What is chosen on every dashboard of probes."""
DETAIL = (JOB, LOCATION, KIND, SERVICE, ONE_PROBE, STATUS_PAGE)
"""What is chosen where one probe is looked at."""

_KEPT = "${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
"""What a link does not change: source, job, shown time."""
THIS_PROBE = (
    Link("Details of this probe", f"/d/stormwatch-probe?var-probe=${{__field.labels.probe}}&{_KEPT}"),
    Link("Status page: evidence and runbook", "${status_page}/probes/${__field.labels.probe}"),
)
"""From a value of one probe, as a graph has it."""
THIS_ROW = (
    Link("Details of this probe", f"/d/stormwatch-probe?var-probe=${{__data.fields.probe}}&{_KEPT}"),
    Link("Status page: evidence and runbook", "${status_page}/probes/${__data.fields.probe}"),
)
"""The same from a row of a table."""

FAULTS = Mark(
    "Drills",
    'stormwatch_fault_active{job=~"$job"} > 0',
    "Fault injected",
    "{{kind}} on {{target}}",
    "purple",
)
ALERT_NAMES = "ProbeDown|ProbeNoEvidence|CertificateExpiring|ErrorBudgetBurn|ErrorBudgetLow|Stormwatch.+"
"""Alerts of our rules and about the prober: a Prometheus has others, too. Not the watchdog, which always fires."""
ALERTS = Mark(
    "Alerts",
    f'ALERTS{{alertname=~"{ALERT_NAMES}", alertstate="firing"}}',
    "{{alertname}}",
    "{{severity}}: {{probe}}{{objective}}",
    "red",
)
MARKS = (FAULTS, ALERTS)


_JOB = 'job=~"$job"'
_PROBE = ('location=~"$location"', 'kind=~"$kind"', 'service=~"$service"', 'probe=~"$probe"')


def of_probes(metric: str, *matchers: str, **equal: str) -> str:
    """The series of a metric that every probe has, of the chosen probes."""
    return _selector(metric, _JOB, *_PROBE, *matchers, **equal)


def of_job(metric: str, *matchers: str, **equal: str) -> str:
    """The series of a metric that the prober has once, or without the labels of a probe."""
    return _selector(metric, _JOB, *matchers, **equal)


def _selector(metric: str, *matchers: str, **equal: str) -> str:
    all_of_them = (*matchers, *(f'{label}="{value}"' for label, value in equal.items()))
    return f"{metric}{{{', '.join(all_of_them)}}}"


def of_slo(metric: str) -> str:
    """A recorded series of the chosen objectives. It has no job: the rules aggregate over what was scraped."""
    return f'{metric}{{sloth_service=~"$service", sloth_slo=~"$slo"}}'


def rate(series: str) -> str:
    """Per second, over a time that always holds some scrapes."""
    return f"rate({series}[$__rate_interval])"


def shown(series: str) -> str:
    """How much a counter grew in the time that is shown."""
    return f"increase({series}[$__range])"
