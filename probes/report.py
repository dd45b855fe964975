"""What is written down of a visit: its phases, its measures under blackbox_exporter's names, evidence for people."""

from functools import lru_cache
from typing import Final, NamedTuple

from stormwatch.probes import certificate
from stormwatch.probes.answer import show_head, show_version
from stormwatch.probes.certificate import NOT_VERIFIED, Trust
from stormwatch.probes.endpoint import address_hash, family
from stormwatch.probes.probe import Metric
from stormwatch.probes.result import Measure, Reason
from stormwatch.probes.visit import EXCERPT, Visit
from stormwatch.probes.watch import Watch

HOPS: Final = 20
"""Requests of one visit that have a series and evidence of their own."""

PHASES: Final = ("resolve", "connect", "tls", "processing", "transfer")


def write_down(watch: Watch, visit: Visit, trust: Trust | None) -> None:
    """Everything that a visit showed, however it ended. `trust` is what its certificates were verified against."""
    for name, (offset, seconds) in visit.phases.items():
        watch.add_phase(name, seconds, offset=offset, failed=name == visit.failed_phase)
    watch.took(visit.seconds)
    if visit.hops:
        visit.hop_ended()
    write_measures(watch, visit)
    if visit.address:
        watch.note("remote", visit.remote)
    if visit.proxy:
        watch.note("proxy", visit.proxy)
    if visit.secure:
        write_certificates(watch, visit, trust)
    write_evidence(watch, visit)


def write_cel(watch: Watch, visit: Visit) -> None:
    """Only for those that have CEL expressions: as blackbox_exporter exports it."""
    watch.measure("probe_failed_due_to_cel", _due_to(visit, "cel"))


def _due_to(visit: Visit, what: str) -> bool:
    """Whether expressions failed an answer whose status was right: blackbox_exporter does not look at others."""
    complaints = visit.complaints
    return any(getattr(each, what) for each in complaints) and complaints[0].reason is not Reason.STATUS


def write_measures(watch: Watch, visit: Visit) -> None:
    """The numbers of a visit, those of its last answer and those of its hops, but for its phases and its certificates."""
    if visit.lookup is not None:
        watch.measure("probe_dns_lookup_time_seconds", visit.lookup)
    for number, hop in enumerate(visit.hops[:HOPS], 1):
        watch.measure("stormwatch_http_hop_duration_seconds", hop["seconds"], hop=str(number))
    watch.measures.extend(
        _measures(
            _Seen(
                address=visit.address,
                proxy=bool(visit.proxy),
                status=visit.status,
                version=visit.version,
                tls=visit.secure and visit.status > 0,
                redirects=len(visit.redirects),
                content_length=visit.content_length if visit.status else 0,
                size=visit.content.size,
                regex=_due_to(visit, "regex"),
                last_modified=visit.last_modified,
            )
        )
    )


def write_certificates(watch: Watch, visit: Visit, trust: Trust | None) -> None:
    """What the last TLS handshake showed, also when it failed."""
    verified: float | None = None
    if visit.handshaken:
        verified = NOT_VERIFIED
        if trust is not None:
            verified = trust.expiry(visit.handshake.chain, visit.server_name, watch.clock.now())
    certificate.measure(watch, visit.handshake, verified_expiry=verified)


def write_evidence(watch: Watch, visit: Visit) -> None:
    """Where redirects led, the head of the last answer, and what is wrong with it."""
    if visit.redirects:
        watch.note("redirects", visit.redirects)
        if visit.hops:
            watch.note("hops", visit.hops[:HOPS])
        watch.note("url", visit.url.text if visit.url else "")
    head = visit.head
    if head:
        watch.note("status_line", head[0].decode("latin-1").strip())
        watch.note("response_head", _without(visit.secret, show_head(head)))
        watch.note("http_version", show_version(visit.version))
    if visit.complaints:
        watch.note("complaints", [each.message for each in visit.complaints])
    if visit.content.kept and (visit.complaints or visit.content.too_large):
        watch.note("body", _without(visit.secret, bytes(visit.content.kept[:EXCERPT]).decode("utf-8", "replace")))


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text


class _Seen(NamedTuple):
    """What a visit measures besides its times."""

    address: str
    proxy: bool
    status: int
    version: float
    tls: bool
    redirects: int
    content_length: float
    size: int
    regex: bool
    last_modified: float


@lru_cache(maxsize=8192)
def _measures(seen: _Seen) -> tuple[Measure, ...]:
    """The same in nearly every run of a probe: remembered, not made again."""
    found = [
        Measure("probe_http_status_code", float(seen.status)),
        Measure("probe_http_version", seen.version),
        Measure("probe_http_ssl", float(seen.tls)),
        Measure("probe_http_redirects", float(seen.redirects)),
        Measure("probe_http_content_length", float(seen.content_length)),
        Measure("probe_http_uncompressed_body_length", float(seen.size)),
        Measure("probe_failed_due_to_regex", float(seen.regex)),
    ]
    if not seen.proxy or seen.address:
        found.append(Measure("probe_ip_protocol", float(family(seen.address))))
    if seen.address:
        found.append(Measure("probe_ip_addr_hash", float(address_hash(seen.address))))
    if seen.last_modified >= 0:
        found.append(Measure("probe_http_last_modified_timestamp_seconds", seen.last_modified))
    return tuple(found)


PHASE_METRIC: Final = Metric(
    "probe_http_duration_seconds", "Seconds of an HTTP request by phase, summed over redirects"
)

METRICS: Final = (
    Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
    Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
    Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
    Metric("probe_http_status_code", "Status code of the last answer, 0 for none"),
    Metric("probe_http_version", "HTTP version of the last answer, 0 for none"),
    Metric("probe_http_ssl", "1 when the last answer came over TLS"),
    Metric("probe_http_redirects", "How many redirects were answered"),
    Metric("probe_http_content_length", "Content-Length of the last answer in bytes, -1 when it has none"),
    Metric("probe_http_uncompressed_body_length", "Bytes of the last body after decompression"),
    Metric("stormwatch_http_hop_duration_seconds", "Seconds of each request of a run with redirects, by its number"),
    Metric("probe_failed_due_to_regex", "1 when a regular expression did not hold"),
    Metric("probe_failed_due_to_cel", "1 when a CEL expression did not hold"),
    Metric("probe_http_last_modified_timestamp_seconds", "Last-Modified of the last answer as a Unix time"),
    *certificate.METRICS,
)
"""What `write_down` measures besides the phases."""
