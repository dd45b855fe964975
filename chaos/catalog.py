"""The faults that exist, one row a fault: its options, what a probe sees of it; options read as users write them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from stormwatch.chaos.browser_faults import BROWSER_FAULTS
from stormwatch.chaos.container_faults import CONTAINER_FAULTS
from stormwatch.chaos.dns_options import (
    DnsBogus,
    DnsCnameLoop,
    DnsEmpty,
    DnsNxdomain,
    DnsRefused,
    DnsServfail,
    DnsSlow,
    DnsStaleSoa,
    DnsTimeout,
    DnsTruncated,
    DnsWrongAddress,
)
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.host_faults import HOST_FAULTS
from stormwatch.chaos.http_options import HttpBody, HttpDelay, HttpHeader, HttpStatus
from stormwatch.chaos.load_faults import LOAD_FAULTS
from stormwatch.chaos.option import Options
from stormwatch.chaos.tcp_options import (
    TcpBandwidth,
    TcpBlackhole,
    TcpCorrupt,
    TcpLatency,
    TcpRefused,
    TcpReset,
    TcpSlicer,
    TcpSlowClose,
    TcpTimeout,
    TcpTruncate,
)
from stormwatch.chaos.tls_options import (
    TlsExpired,
    TlsExpiresSoon,
    TlsMissingIntermediate,
    TlsNotYetValid,
    TlsOldProtocol,
    TlsRevoked,
    TlsSelfSigned,
    TlsStalledHandshake,
    TlsUnknownCa,
    TlsWeakHash,
    TlsWeakKey,
    TlsWrongHost,
)
from stormwatch.chaos.toxiproxy_faults import TOXIPROXY_FAULTS
from stormwatch.chaos.workload_faults import WORKLOAD_FAULTS
from stormwatch.probes.result import Reason

_ON_ROUTES: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "tcp-latency",
        TcpLatency,
        "what passes arrives later",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
        reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
    ),
    FaultKind(
        "tcp-blackhole",
        TcpBlackhole,
        "connections are accepted and nothing is answered",
        frozenset({Reason.TIMEOUT}),
    ),
    FaultKind("tcp-reset", TcpReset, "connections end with RST", frozenset({Reason.RESET})),
    FaultKind(
        "tcp-bandwidth",
        TcpBandwidth,
        "what passes goes through a slow line",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
        reason_note="too-slow while the answer comes within the probe's timeout, timeout when it does not",
    ),
    FaultKind(
        "tcp-slicer",
        TcpSlicer,
        "what passes comes in small pieces",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
        reason_note="as with tcp-latency, by the number of pieces; a service that reads pieces wrongly shows as status or protocol",
    ),
    FaultKind(
        "tcp-slow-close",
        TcpSlowClose,
        "the end of a connection comes later",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
        reason_note="only of answers that end with their connection; others are whole before",
    ),
    FaultKind(
        "tcp-truncate",
        TcpTruncate,
        "connections are closed after so many bytes",
        frozenset({Reason.PROTOCOL, Reason.RESET}),
        reason_note="reset of HTTP; protocol where an answer may end with its connection",
    ),
    FaultKind(
        "tcp-corrupt",
        TcpCorrupt,
        "bits of what passes are turned over",
        frozenset({Reason.PROTOCOL, Reason.TLS, Reason.CERTIFICATE, Reason.ASSERTION, Reason.STATUS, Reason.TIMEOUT}),
        reason_note="by what the bytes meant; through TLS always tls or protocol",
    ),
    FaultKind(
        "tcp-timeout",
        TcpTimeout,
        "connections stay silent and are closed",
        frozenset({Reason.TIMEOUT, Reason.RESET, Reason.PROTOCOL}),
        reason_note="timeout when the probe's timeout is shorter than `after`",
    ),
    FaultKind("tcp-refused", TcpRefused, "new connections are refused", frozenset({Reason.REFUSED})),
    FaultKind(
        "http-status",
        HttpStatus,
        "matching requests are answered with a status of your choice",
        frozenset({Reason.STATUS, Reason.ASSERTION, Reason.STEP}),
        looks_inside=True,
        reason_note="assertion when the status is an accepted one and the body is not",
    ),
    FaultKind(
        "http-delay",
        HttpDelay,
        "matching requests wait",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT, Reason.STEP}),
        looks_inside=True,
        reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
    ),
    FaultKind(
        "http-header",
        HttpHeader,
        "headers of matching requests or their answers are set or removed",
        frozenset({Reason.ASSERTION, Reason.STATUS, Reason.STEP}),
        looks_inside=True,
        reason_note="status when the service does not understand the request any more",
    ),
    FaultKind(
        "http-body",
        HttpBody,
        "bodies of answers are replaced, patched or cut short",
        frozenset({Reason.ASSERTION, Reason.PROTOCOL, Reason.STEP}),
        looks_inside=True,
        reason_note="protocol when what is left cannot be decompressed",
    ),
    FaultKind(
        "tls-expired",
        TlsExpired,
        "the certificate has expired",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-not-yet-valid",
        TlsNotYetValid,
        "the certificate is not valid yet",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-expires-soon",
        TlsExpiresSoon,
        "the certificate expires soon",
        frozenset({Reason.CERTIFICATE}),
        reason_note="only of probes with expires_within; others are up",
    ),
    FaultKind(
        "tls-wrong-host",
        TlsWrongHost,
        "the certificate is for another name",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-self-signed",
        TlsSelfSigned,
        "the certificate is signed by itself",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-unknown-ca",
        TlsUnknownCa,
        "the certificate is signed by an authority that nobody knows",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-missing-intermediate",
        TlsMissingIntermediate,
        "the certificate's issuer is not sent along",
        frozenset({Reason.CERTIFICATE}),
    ),
    FaultKind(
        "tls-revoked",
        TlsRevoked,
        "the certificate is revoked",
        frozenset({Reason.CERTIFICATE}),
        reason_note="of a tls probe that asks, by its `revocation`; nobody else notices",
    ),
    FaultKind(
        "tls-weak-key",
        TlsWeakKey,
        "the certificate's key is too short",
        frozenset({Reason.CERTIFICATE}),
        reason_note="of probes whose OpenSSL or policy refuses it",
    ),
    FaultKind(
        "tls-weak-hash",
        TlsWeakHash,
        "the certificate is signed with SHA-1",
        frozenset({Reason.CERTIFICATE}),
        reason_note="of probes whose OpenSSL or policy refuses it",
    ),
    FaultKind(
        "tls-old-protocol",
        TlsOldProtocol,
        "only an old version of TLS is spoken",
        frozenset({Reason.TLS}),
    ),
    FaultKind(
        "tls-stalled-handshake",
        TlsStalledHandshake,
        "handshakes are not answered",
        frozenset({Reason.TIMEOUT}),
    ),
    FaultKind(
        "dns-nxdomain",
        DnsNxdomain,
        "names do not exist",
        frozenset({Reason.DNS}),
        of_names=True,
    ),
    FaultKind(
        "dns-servfail",
        DnsServfail,
        "the name server answers that it failed",
        frozenset({Reason.DNS}),
        of_names=True,
    ),
    FaultKind(
        "dns-refused",
        DnsRefused,
        "the name server refuses to answer",
        frozenset({Reason.DNS}),
        of_names=True,
    ),
    FaultKind(
        "dns-empty",
        DnsEmpty,
        "names exist and have no records",
        frozenset({Reason.DNS, Reason.ASSERTION}),
        reason_note="assertion of a dns probe that says which answers it expects",
        of_names=True,
    ),
    FaultKind(
        "dns-timeout",
        DnsTimeout,
        "questions get no answer",
        frozenset({Reason.TIMEOUT, Reason.DNS}),
        reason_note="dns where the system's resolver gives up before the probe does",
        of_names=True,
    ),
    FaultKind(
        "dns-slow",
        DnsSlow,
        "answers come later",
        frozenset({Reason.TOO_SLOW, Reason.TIMEOUT}),
        reason_note="too-slow while the delay is below the probe's timeout, timeout above it",
        of_names=True,
    ),
    FaultKind(
        "dns-truncated",
        DnsTruncated,
        "answers over UDP are cut off",
        frozenset({Reason.DNS, Reason.RESET, Reason.TIMEOUT}),
        reason_note="none where the question over TCP works; otherwise what happens to that",
        of_names=True,
    ),
    FaultKind(
        "dns-wrong-address",
        DnsWrongAddress,
        "names lead to another address",
        frozenset({Reason.ASSERTION, Reason.REFUSED, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.CERTIFICATE}),
        reason_note="assertion of a dns probe; other probes see what is (not) at that address",
        of_names=True,
    ),
    FaultKind(
        "dns-cname-loop",
        DnsCnameLoop,
        "names are aliases that lead back to themselves",
        frozenset({Reason.DNS, Reason.ASSERTION}),
        reason_note="assertion of a dns probe that says which answers it expects",
        of_names=True,
    ),
    FaultKind(
        "dns-bogus",
        DnsBogus,
        "signatures of DNSSEC are wrong",
        frozenset({Reason.ASSERTION, Reason.DNS}),
        reason_note="assertion of a dns probe that validates, dns where a resolver in between does",
        of_names=True,
    ),
    FaultKind(
        "dns-stale-soa",
        DnsStaleSoa,
        "the zone's serial number is an older one",
        frozenset({Reason.ASSERTION}),
        of_names=True,
    ),
)
"""What the fault proxy does to the traffic of a route."""

FAULTS: Mapping[str, FaultKind[Options]] = {
    kind.name: kind
    for kind in (
        *_ON_ROUTES,
        *HOST_FAULTS,
        *LOAD_FAULTS,
        *BROWSER_FAULTS,
        *CONTAINER_FAULTS,
        *WORKLOAD_FAULTS,
        *TOXIPROXY_FAULTS,
    )
}
"""Every fault, by the name that users write."""


def read_options(kind: str, document: Mapping[str, Any]) -> Options:
    """Options from what users write (`{"delay": "2s"}`). Raises ValueError: unknown kind, key or value."""
    if kind not in FAULTS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
    return _adapter(kind).validate_python(dict(document))


def write_options(kind: str, options: Options) -> dict[str, Any]:
    """What `read_options` reads back equal; JSON values only."""
    return _adapter(kind).dump_python(options, mode="json")


@cache
def _adapter(kind: str) -> TypeAdapter[Options]:
    # At first use: to build all of them takes half a second, and a reaper or a keeper needs one.
    return TypeAdapter(FAULTS[kind].options)
