"""Dashboards about what is probed: the overview, one probe, certificates, DNS, journeys."""

from stormwatch.exporters.dashboard import Dashboard, Row
from stormwatch.exporters.dashboard_panel import UP_OR_DOWN, YES_IS_BAD, YES_IS_GOOD, Panel, Query, Threshold
from stormwatch.exporters.dashboard_selection import (
    DETAIL,
    MARKS,
    PROBES,
    THIS_PROBE,
    THIS_ROW,
    of_job,
    of_probes,
    rate,
    shown,
)

RUNS = "stormwatch_probe_runs_total"
FRESH = (Threshold(300, "orange"), Threshold(900, "red"))
"""Seconds without evidence that deserve a look: most probes run every minute or more often."""
DAYS_LEFT = (Threshold(7 * 86400, "orange"), Threshold(21 * 86400, "green"))
BELOW_TARGET = (Threshold(0.99, "orange"), Threshold(0.999, "green"))
JUDGED = 'outcome=~"up|down"'
NOT_UP = 'outcome!="up"'
SCRIPTED = 'kind=~"journey|api"'
HAS_PHASE = 'phase!=""'
_PHASES = '__name__=~"(probe|stormwatch)_.+_duration_seconds"'
"""Every kind has a metric of its own with its phases; the name is how they are found without a list of kinds."""


def _availability(by: str) -> str:
    up = shown(of_probes(RUNS, outcome="up"))
    judged = shown(of_probes(RUNS, JUDGED))
    return f"sum by ({by}) ({up})\n/\n(sum by ({by}) ({judged}) > 0)"


def _quantile(share: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) ({rate(of_probes('stormwatch_probe_duration_seconds_bucket'))}))"


_EVIDENCE_AGE = f"time() - {of_probes('stormwatch_probe_evidence_timestamp_seconds')}"

OVERVIEW = Dashboard(
    name="overview",
    title="Overview",
    description="What is up, what is not, since when, and how sure we are. Start here.",
    variables=PROBES,
    marks=MARKS,
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Up",
                    description="Probes whose last run was up.",
                    kind="stat",
                    queries=(Query(expression=f"count({of_probes('probe_success')} == 1) or vector(0)"),),
                    width=4,
                    height=4,
                ),
                Panel(
                    title="Down",
                    description="Probes whose last run was down after all its confirming attempts.",
                    kind="stat",
                    queries=(Query(expression=f"count({of_probes('probe_success')} == 0) or vector(0)"),),
                    thresholds=(Threshold(1, "red"),),
                    width=4,
                    height=4,
                ),
                Panel(
                    title="Broken",
                    description="Probes whose last run failed through us: it says nothing about the target, so look at the prober.",
                    kind="stat",
                    queries=(Query(expression=f"sum({of_probes('stormwatch_probe_broken')})"),),
                    thresholds=(Threshold(1, "orange"),),
                    width=4,
                    height=4,
                ),
                Panel(
                    title="Oldest evidence",
                    description="Time since the least recent run that was up or down. When it grows, we are blind somewhere.",
                    kind="stat",
                    unit="s",
                    queries=(Query(expression=f"max({_EVIDENCE_AGE})"),),
                    thresholds=FRESH,
                    width=4,
                    height=4,
                ),
                Panel(
                    title="Availability",
                    description="Share of the runs in the shown time that were up. Broken runs are no evidence and not counted.",
                    kind="stat",
                    unit="percentunit",
                    base="red",
                    queries=(Query(expression=_availability("job"), instant=True),),
                    thresholds=BELOW_TARGET,
                    width=4,
                    height=4,
                ),
                Panel(
                    title="Faults of drills",
                    description="Faults that a drill has injected and not yet taken back: what is red now may be meant to be.",
                    kind="stat",
                    queries=(Query(expression=f"sum({of_job('stormwatch_fault_active')}) or vector(0)"),),
                    thresholds=(Threshold(1, "purple"),),
                    width=4,
                    height=4,
                ),
            ),
        ),
        Row(
            "Probes",
            (
                Panel(
                    title="State over time",
                    description="Red is down. A gap is a time without evidence, in which the probe was broken or not run.",
                    kind="state-timeline",
                    unit="none",
                    queries=(Query(expression=f"min by (probe) ({of_probes('probe_success')})", legend="{{probe}}"),),
                    names=UP_OR_DOWN,
                    links=THIS_PROBE,
                    width=24,
                    height=10,
                ),
                Panel(
                    title="All probes",
                    description="The last run of each probe, and its share of runs that were up in the shown time.",
                    kind="table",
                    queries=(
                        Query(
                            expression=f"min by (probe, kind, location, instance) ({of_probes('probe_success')})",
                            legend="last run",
                            instant=True,
                            unit="none",
                            names=UP_OR_DOWN,
                        ),
                        Query(
                            expression=f"max by (probe, kind, location, instance) ({of_probes('probe_duration_seconds')})",
                            legend="duration",
                            instant=True,
                            unit="s",
                        ),
                        Query(
                            expression=_availability("probe, kind, location, instance"),
                            legend="availability",
                            instant=True,
                            unit="percentunit",
                        ),
                        Query(
                            expression=f"max by (probe, kind, location, instance) ({_EVIDENCE_AGE})",
                            legend="age of evidence",
                            instant=True,
                            unit="s",
                        ),
                    ),
                    links=THIS_ROW,
                    width=24,
                    height=10,
                ),
            ),
        ),
        Row(
            "Failures and durations",
            (
                Panel(
                    title="Down, by reason",
                    description="Runs a second that were down, by what the target did wrong.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (reason) ({rate(of_probes(RUNS, outcome='down'))}) > 0",
                            legend="{{reason}}",
                        ),
                    ),
                    empty="nothing was down",
                    stacked=True,
                ),
                Panel(
                    title="Broken, by reason",
                    description="Runs a second that failed through us, by what was wrong with us.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (reason) ({rate(of_probes(RUNS, outcome='broken'))}) > 0",
                            legend="{{reason}}",
                        ),
                    ),
                    empty="nothing was broken",
                    stacked=True,
                ),
                Panel(
                    title="Slowest probes",
                    description="The ten probes whose deciding attempt took longest.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"topk(10, max by (probe) ({of_probes('probe_duration_seconds')}))",
                            legend="{{probe}}",
                        ),
                    ),
                    links=THIS_PROBE,
                ),
                Panel(
                    title="Duration of all runs",
                    description="Quantiles over all chosen probes: when the median moves too, it is not one target.",
                    unit="s",
                    queries=tuple(
                        Query(expression=_quantile(share), legend=name)
                        for share, name in (("0.5", "median"), ("0.95", "95 %"), ("0.99", "99 %"))
                    ),
                ),
            ),
        ),
    ),
)

PROBE_DETAIL = Dashboard(
    name="probe",
    title="Probe",
    description="Everything about one probe: its states, where its time goes, what its protocol said, how sure its timings are.",
    variables=DETAIL,
    marks=MARKS,
    rows=(
        Row(
            "State",
            (
                Panel(
                    title="Last run",
                    description="Whether the last run was up. Nothing is shown while the probe is broken.",
                    kind="stat",
                    unit="none",
                    queries=(Query(expression=of_probes("probe_success"), legend="{{probe}}"),),
                    names=UP_OR_DOWN,
                    links=THIS_PROBE,
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Broken",
                    description="Whether the last run failed through us.",
                    kind="stat",
                    unit="none",
                    queries=(Query(expression=of_probes("stormwatch_probe_broken"), legend="{{probe}}"),),
                    names=YES_IS_BAD,
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Age of evidence",
                    description="Time since the last run that was up or down.",
                    kind="stat",
                    unit="s",
                    queries=(Query(expression=_EVIDENCE_AGE, legend="{{probe}}"),),
                    thresholds=FRESH,
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Maintenance",
                    description="Whether the probe is under maintenance: measured, not judged, its alerts muted.",
                    kind="stat",
                    unit="none",
                    queries=(
                        Query(expression=of_job("stormwatch_maintenance", 'probe=~"$probe"'), legend="{{probe}}"),
                    ),
                    names=YES_IS_BAD,
                    width=6,
                    height=5,
                ),
                Panel(
                    title="States",
                    description="Red is down. A gap is a time without evidence.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"min by (probe, location) ({of_probes('probe_success')})",
                            legend="{{probe}} from {{location}}",
                        ),
                    ),
                    names=UP_OR_DOWN,
                    width=24,
                    height=6,
                ),
                Panel(
                    title="Runs by how they ended",
                    description="Runs a second by outcome and reason.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (outcome, reason) ({rate(of_probes(RUNS))}) > 0",
                            legend="{{outcome}} {{reason}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Availability over the shown time",
                    description="Share of runs that were up among those that were up or down.",
                    kind="stat",
                    unit="percentunit",
                    base="red",
                    queries=(Query(expression=_availability("probe"), legend="{{probe}}", instant=True),),
                    thresholds=BELOW_TARGET,
                ),
            ),
        ),
        Row(
            "Where the time goes",
            (
                Panel(
                    title="Phases",
                    description="Seconds of each phase of the last run, whichever protocol it speaks. A failed run ends in the phase that failed.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"avg by (probe, phase) ({of_probes('', _PHASES, HAS_PHASE)})",
                            legend="{{probe}} {{phase}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Duration and time-out",
                    description="How long the deciding attempt took. One that comes near to the time-out will be down soon.",
                    unit="s",
                    queries=(
                        Query(expression=of_probes("probe_duration_seconds"), legend="{{probe}}"),
                        Query(expression=of_probes("probe_timeout_seconds"), legend="{{probe}} time-out"),
                    ),
                ),
                Panel(
                    title="Quantiles of duration",
                    description="Of all runs that were up or down, not only of those that a scrape happened to see.",
                    unit="s",
                    queries=tuple(
                        Query(expression=_quantile(share, "le, probe"), legend=f"{{{{probe}}}} {name}")
                        for share, name in (("0.5", "median"), ("0.95", "95 %"), ("0.99", "99 %"))
                    ),
                ),
                Panel(
                    title="Distribution of duration",
                    description="How many runs took how long: two bands are two ways through the target, such as with and without a cache.",
                    kind="heatmap",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"sum by (le) ({rate(of_probes('stormwatch_probe_duration_seconds_bucket'))})",
                            legend="{{le}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "HTTP",
            (
                Panel(
                    title="Status code",
                    description="Of the last answer; 0 when there was none.",
                    unit="none",
                    queries=(Query(expression=of_probes("probe_http_status_code"), legend="{{probe}}"),),
                    width=8,
                ),
                Panel(
                    title="Size of the answer",
                    description="Bytes after decompression. A page that shrinks is often an error page.",
                    unit="bytes",
                    queries=(Query(expression=of_probes("probe_http_uncompressed_body_length"), legend="{{probe}}"),),
                    width=8,
                ),
                Panel(
                    title="HTTP version, TLS and redirects",
                    description="How the last answer came.",
                    kind="table",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (probe, instance) ({of_probes('probe_http_version')})",
                            legend="HTTP version",
                            instant=True,
                        ),
                        Query(
                            expression=f"max by (probe, instance) ({of_probes('probe_http_ssl')})",
                            legend="TLS",
                            instant=True,
                        ),
                        Query(
                            expression=f"max by (probe, instance) ({of_probes('probe_http_redirects')})",
                            legend="redirects",
                            instant=True,
                        ),
                    ),
                    width=8,
                ),
            ),
        ),
        Row(
            "How sure the timings are",
            (
                Panel(
                    title="Start delay and queue wait",
                    description="How late the last run began, and how much of that it waited for other runs. It is never counted as the target's time.",
                    unit="s",
                    queries=(
                        Query(expression=of_probes("stormwatch_probe_start_delay_seconds"), legend="{{probe}} delay"),
                        Query(expression=of_probes("stormwatch_probe_queue_wait_seconds"), legend="{{probe}} queue"),
                    ),
                ),
                Panel(
                    title="Lag during the last run",
                    description="How far the timings of the last run can be off through the prober itself.",
                    unit="s",
                    queries=(Query(expression=of_probes("stormwatch_probe_loop_lag_seconds"), legend="{{probe}}"),),
                    thresholds=(Threshold(0.01, "orange"),),
                ),
                Panel(
                    title="Marked runs",
                    description="Runs a second whose timings may be the prober's own.",
                    unit="ops",
                    queries=(
                        Query(expression=rate(of_probes("stormwatch_probe_lagged_runs_total")), legend="{{probe}}"),
                    ),
                ),
                Panel(
                    title="Name look-up",
                    description="How long looking up the target's name took.",
                    unit="s",
                    queries=(Query(expression=of_probes("probe_dns_lookup_time_seconds"), legend="{{probe}}"),),
                ),
            ),
        ),
    ),
)

CERTIFICATES = Dashboard(
    name="tls",
    title="TLS and certificates",
    description="Which certificate expires when, what was agreed on, whether it is revoked. The facts stay when a run fails.",
    variables=PROBES,
    marks=MARKS,
    since="now-7d",
    rows=(
        Row(
            "Expiry",
            (
                Panel(
                    title="Expires first",
                    description="Time until the first certificate of any chosen probe expires.",
                    kind="stat",
                    unit="s",
                    base="red",
                    queries=(Query(expression=f"min({of_probes('probe_ssl_earliest_cert_expiry')}) - time()"),),
                    thresholds=DAYS_LEFT,
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Within three weeks",
                    description="Probes with a certificate that expires within 21 days, or has expired.",
                    kind="stat",
                    queries=(
                        Query(
                            expression=f"count({of_probes('probe_ssl_earliest_cert_expiry')} - time() < 21 * 86400) or vector(0)"
                        ),
                    ),
                    thresholds=(Threshold(1, "orange"),),
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Time left",
                    description="Time until the first certificate expires, by probe. It jumps up at a renewal; a line that does not is a renewal that failed.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"min by (probe) ({of_probes('probe_ssl_earliest_cert_expiry')}) - time()",
                            legend="{{probe}}",
                        ),
                    ),
                    links=THIS_PROBE,
                    height=5,
                ),
                Panel(
                    title="Certificates",
                    description="What each server showed last.",
                    kind="table",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"min by (probe, instance) ({of_probes('probe_ssl_earliest_cert_expiry')}) * 1000",
                            legend="expires first",
                            instant=True,
                            unit="dateTimeAsIso",
                        ),
                        Query(
                            expression=f"min by (probe, instance) ({of_probes('probe_ssl_last_chain_expiry_timestamp_seconds')}) * 1000",
                            legend="verified chain expires",
                            instant=True,
                            unit="dateTimeAsIso",
                        ),
                        Query(
                            expression=f"max by (probe, instance, subject, issuer) ({of_probes('probe_ssl_last_chain_info')})",
                            legend="chain",
                            instant=True,
                            hidden=True,
                        ),
                    ),
                    links=THIS_ROW,
                    width=24,
                ),
                Panel(
                    title="Every certificate of the chain",
                    description="Time left of each certificate that a `tls` probe was shown; 0 is the server's own. An intermediate can expire first.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"{of_probes('stormwatch_tls_certificate_expiry_timestamp_seconds')} - time()",
                            legend="{{probe}} {{chain_pos}}",
                        ),
                    ),
                ),
                Panel(
                    title="Certificate files",
                    description="Time left of certificates in files, which are renewed before a server shows them.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"{of_probes('stormwatch_certificate_file_expiry_timestamp_seconds')} - time()",
                            legend="{{file}} {{position}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Handshakes",
            (
                Panel(
                    title="Versions and ciphers",
                    description="What was agreed on in the last run.",
                    kind="table",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (probe, version) ({of_probes('probe_tls_version_info')})",
                            legend="version",
                            instant=True,
                            hidden=True,
                        ),
                        Query(
                            expression=f"max by (probe, cipher) ({of_probes('probe_tls_cipher_info')})",
                            legend="cipher",
                            instant=True,
                            hidden=True,
                        ),
                    ),
                    links=THIS_ROW,
                ),
                Panel(
                    title="Handshake",
                    description="Seconds of the TLS handshake, of every kind that makes one.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"max by (probe) ({of_probes('', _PHASES, phase='tls')}) > 0", legend="{{probe}}"
                        ),
                    ),
                    links=THIS_PROBE,
                ),
                Panel(
                    title="Stapled OCSP response",
                    description="Whether the server sent one along.",
                    kind="stat",
                    unit="none",
                    base="text",
                    queries=(
                        Query(
                            expression=f"max by (probe) ({of_probes('stormwatch_tls_ocsp_stapled')})",
                            legend="{{probe}}",
                        ),
                    ),
                    names=YES_IS_GOOD,
                    empty="no probe asks for revocation",
                ),
                Panel(
                    title="Revoked",
                    description="Whether a certificate of the chain is revoked, where somebody could say.",
                    kind="stat",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (probe, chain_pos) ({of_probes('stormwatch_tls_revoked')})",
                            legend="{{probe}} {{chain_pos}}",
                        ),
                    ),
                    names=YES_IS_BAD,
                    empty="no probe asks for revocation",
                ),
            ),
        ),
    ),
)

DNS = Dashboard(
    name="dns",
    title="DNS",
    description="Whether names resolve, how fast, to what, and whether all servers say the same.",
    variables=PROBES,
    marks=MARKS,
    rows=(
        Row(
            "Answers",
            (
                Panel(
                    title="Answered",
                    description="Whether an answer came, whatever it said.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"min by (probe) ({of_probes('probe_dns_query_succeeded')})", legend="{{probe}}"
                        ),
                    ),
                    names=YES_IS_GOOD,
                    links=THIS_PROBE,
                ),
                Panel(
                    title="Phases",
                    description="Seconds of each phase of a question.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"avg by (probe, phase) ({of_probes('probe_dns_duration_seconds')})",
                            legend="{{probe}} {{phase}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Records",
                    description="Records in the answer section and beside it. A pool that shrinks is seen here.",
                    unit="none",
                    queries=(
                        Query(expression=of_probes("probe_dns_answer_rrs"), legend="{{probe}} answer"),
                        Query(expression=of_probes("probe_dns_authority_rrs"), legend="{{probe}} authority"),
                        Query(expression=of_probes("probe_dns_additional_rrs"), legend="{{probe}} additional"),
                    ),
                ),
                Panel(
                    title="Response code",
                    description="0 is NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.",
                    unit="none",
                    queries=(Query(expression=of_probes("stormwatch_dns_rcode"), legend="{{probe}}"),),
                ),
                Panel(
                    title="Least TTL",
                    description="How long the answer may be remembered: how fast a change gets round, and how long an outage of the servers is bridged.",
                    unit="s",
                    queries=(Query(expression=of_probes("stormwatch_dns_ttl_seconds"), legend="{{probe}}"),),
                ),
                Panel(
                    title="Sends and size",
                    description="More than one send is a lost packet; an answer above 1232 bytes may not fit into one.",
                    unit="none",
                    queries=(
                        Query(expression=of_probes("stormwatch_dns_sends"), legend="{{probe}} sends"),
                        Query(expression=of_probes("stormwatch_dns_response_size_bytes"), legend="{{probe}} bytes"),
                    ),
                ),
            ),
        ),
        Row(
            "Servers",
            (
                Panel(
                    title="Each server",
                    description="Seconds that each of several servers took.",
                    unit="s",
                    queries=(
                        Query(expression=of_probes("stormwatch_dns_server_seconds"), legend="{{probe}} {{server}}"),
                    ),
                    empty="no probe asks several servers",
                ),
                Panel(
                    title="Servers that answer",
                    description="Whether each of several servers answered.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(expression=of_probes("stormwatch_dns_server_answered"), legend="{{probe}} {{server}}"),
                    ),
                    names=YES_IS_GOOD,
                    empty="no probe asks several servers",
                ),
                Panel(
                    title="Serial number of the zone",
                    description="As each question of type SOA saw it.",
                    unit="none",
                    queries=(Query(expression=of_probes("probe_dns_serial"), legend="{{probe}}"),),
                    empty="no probe asks for SOA",
                ),
                Panel(
                    title="Signatures expire",
                    description="Time until the first DNSSEC signature that was used ends.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"{of_probes('stormwatch_dns_rrsig_expiry_timestamp_seconds')} - time()",
                            legend="{{probe}}",
                        ),
                    ),
                    empty="no probe validates DNSSEC",
                ),
            ),
        ),
    ),
)

JOURNEYS = Dashboard(
    name="journeys",
    title="Journeys",
    description="Browser journeys and API scripts, step by step: which step fails, which became slow.",
    variables=PROBES,
    marks=MARKS,
    rows=(
        Row(
            "Journeys",
            (
                Panel(
                    title="State over time",
                    description="Red is down. A gap is a time without evidence, such as no browser to be had.",
                    kind="state-timeline",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"min by (probe) ({of_probes('probe_success', SCRIPTED)})",
                            legend="{{probe}}",
                        ),
                    ),
                    names=UP_OR_DOWN,
                    links=THIS_PROBE,
                    width=24,
                    height=6,
                ),
                Panel(
                    title="Steps of journeys",
                    description="Seconds of each step that the last run came to. A step that is missing here was not reached.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"avg by (probe, step) ({of_probes('stormwatch_journey_step_duration_seconds')})",
                            legend="{{probe}} {{step}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Steps that came to their end",
                    description="Where the line dips, a journey stopped half-way.",
                    unit="none",
                    queries=(Query(expression=of_probes("stormwatch_journey_steps_completed"), legend="{{probe}}"),),
                    links=THIS_PROBE,
                ),
                Panel(
                    title="Console errors",
                    description="Errors in the browser's console and exceptions of pages, which may not fail the journey yet.",
                    unit="none",
                    queries=(Query(expression=of_probes("stormwatch_journey_console_errors"), legend="{{probe}}"),),
                ),
                Panel(
                    title="Failures by reason",
                    description="Runs a second of journeys that were down or broken, by reason.",
                    unit="ops",
                    queries=(
                        Query(
                            expression=f"sum by (probe, reason) ({rate(of_probes(RUNS, NOT_UP, SCRIPTED))}) > 0",
                            legend="{{probe}} {{reason}}",
                        ),
                    ),
                    empty="no journey failed",
                    stacked=True,
                ),
            ),
        ),
        Row(
            "API scripts",
            (
                Panel(
                    title="Steps of API scripts",
                    description="Seconds of each step, its attempts and the waiting between them included.",
                    unit="s",
                    queries=(
                        Query(
                            expression=f"avg by (probe, step) ({of_probes('stormwatch_api_step_duration_seconds')})",
                            legend="{{probe}} {{step}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Last status and attempts",
                    description="What each step was answered last, and how often it had to ask.",
                    kind="table",
                    unit="none",
                    queries=(
                        Query(
                            expression=f"max by (probe, step) ({of_probes('stormwatch_api_step_status_code')})",
                            legend="status",
                            instant=True,
                        ),
                        Query(
                            expression=f"max by (probe, step) ({of_probes('stormwatch_api_step_attempts')})",
                            legend="attempts",
                            instant=True,
                        ),
                    ),
                    links=THIS_ROW,
                ),
            ),
        ),
    ),
)
