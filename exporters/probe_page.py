"""The answer to one scrape of `/probe`: what one run saw, as blackbox_exporter tells it, and why it ended as it did.

Nothing is remembered between two answers, so there are no labels of ours on the families and no counters. A run that is
broken is told as `probe_success 0`, because who scrapes `/probe` knows no third state; `stormwatch_probe_outcome` says
which of the two it was.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stormwatch.exporters.exposition import Family, Sample, render
from stormwatch.probes.probe import Kind
from stormwatch.probes.result import Measure, Outcome, Reason, Result

_ZERO: Final[Mapping[str, tuple[Measure, ...]]] = {
    "http": tuple(
        Measure(name, 0.0)
        for name in (
            "probe_failed_due_to_regex",
            "probe_http_content_length",
            "probe_http_redirects",
            "probe_http_ssl",
            "probe_http_status_code",
            "probe_http_uncompressed_body_length",
            "probe_http_version",
        )
    ),
    "dns": tuple(
        Measure(name, 0.0)
        for name in (
            "probe_dns_additional_rrs",
            "probe_dns_answer_rrs",
            "probe_dns_authority_rrs",
            "probe_dns_query_succeeded",
        )
    ),
    "tcp": (Measure("probe_failed_due_to_regex", 0.0),),
    "unix": (Measure("probe_failed_due_to_regex", 0.0),),
    "grpc": (Measure("probe_grpc_ssl", 0.0), Measure("probe_grpc_status_code", 0.0)),
    "websocket": tuple(
        Measure(name, 0.0)
        for name in (
            "probe_websocket_connection_upgraded",
            "probe_websocket_failed_due_to_regex",
            "probe_websocket_status_code",
        )
    ),
}
"""What blackbox_exporter exports of every run, however early it ended."""


_PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "http": ("resolve", "connect", "tls", "processing", "transfer"),
    "dns": ("resolve", "connect", "request"),
    "icmp": ("resolve", "setup", "rtt"),
    "grpc": ("resolve", "check"),
}
"""The phases that blackbox_exporter has, there from the start."""
_BLAMES: Final = ("probe_failed_due_to_regex", "probe_failed_due_to_cel")


def probe_page(result: Result, kind: Kind[Any], *, timeout: float) -> bytes:
    """The text of one run: families sorted by name, each with HELP and TYPE.

    `timeout` is how many seconds answering might take; the run had what was left of them after waiting for its turn.
    """
    return render(_families(result, kind, timeout))


def _families(result: Result, kind: Kind[Any], timeout: float) -> Iterator[Family]:
    yield _gauge(
        "probe_success", "Displays whether or not the probe was a success", float(result.outcome is Outcome.UP)
    )
    yield _gauge("probe_duration_seconds", "Returns how long the probe took to complete in seconds", result.seconds)
    yield _gauge("probe_timeout_seconds", "Returns how long the probe timeout is in seconds", timeout)
    yield Family(
        "stormwatch_probe_outcome",
        "Always 1; the labels say how the run ended and why. Broken: we failed, and it says nothing of the target.",
        "gauge",
        [Sample(1.0, {"outcome": result.outcome.value, "reason": result.reason.value})],
    )
    yield _gauge("stormwatch_probe_queue_wait_seconds", "Seconds that the run waited for others to end.", result.queued)
    yield _gauge(
        "stormwatch_probe_loop_lag_seconds",
        "Worst lag of the event loop during the run: how far its timings can be off through the prober.",
        result.loop_lag,
    )
    yield from _phases(result, kind)
    yield from _measured(result, kind)


def _gauge(name: str, help: str, value: float) -> Family:  # noqa: A002 - the word of the format
    return Family(name, help, "gauge", [Sample(value)])


def _phases(result: Result, kind: Kind[Any]) -> Iterator[Family]:
    metric = kind.phase_metric
    if metric is None:
        return
    # Phases that only options of ours bring with them are there when they were.
    usual = _PHASES.get(kind.name, kind.phases)
    seconds = {} if _only_resolved(result) else dict.fromkeys(usual, 0.0)
    for phase in result.phases:
        seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
    yield Family(metric.name, metric.help, "gauge", [Sample(value, {"phase": name}) for name, value in seconds.items()])


def _only_resolved(result: Result) -> bool:
    """blackbox_exporter has the other phases of a request only when it knew whom to send it to."""
    return result.kind in ("http", "grpc") and {phase.name for phase in result.phases} == {"resolve"}


def _measured(result: Result, kind: Kind[Any]) -> Iterator[Family]:
    helps = {metric.name: metric.help for metric in kind.metrics}
    grouped: dict[str, list[Measure]] = {}
    for measure in result.measures:
        grouped.setdefault(measure.name, []).append(measure)
    for measure in _ZERO.get(kind.name, ()):
        grouped.setdefault(measure.name, [measure])
    if "probe_ip_protocol" in grouped:
        grouped.setdefault("probe_ip_addr_hash", [Measure("probe_ip_addr_hash", 0.0)])
    if result.reason is Reason.STATUS:  # then blackbox_exporter looks no further, and blames nothing else
        grouped |= {name: [Measure(name, 0.0)] for name in _BLAMES if name in grouped}
    for name, those in grouped.items():
        # Of two measures with the same labels the later one counts: a run may correct itself.
        samples = {tuple(sorted(each.labels.items())): Sample(each.value, dict(each.labels)) for each in those}
        yield Family(name, helps.get(name, f"Measured by probes of kind {kind.name}."), "gauge", list(samples.values()))
