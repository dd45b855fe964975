"""A name server, and the line to it: transport, certificates, own address, patience."""

import importlib.util
import ssl
import warnings
from dataclasses import dataclass
from typing import Any, Final

import pycurl

from stormwatch.probes.certificate import load_trust
from stormwatch.probes.curl import CurlEngine
from stormwatch.probes.dns_options import DnsOptions
from stormwatch.probes.doh import PATH, Doh
from stormwatch.probes.doq import Doq
from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain, explain_connection
from stormwatch.probes.nameserver import Answered, Progress, Transport, ask
from stormwatch.probes.question import Question
from stormwatch.probes.result import Reason
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch

PORTS: Final = {"udp": 53, "tcp": 53, "tls": 853, "https": 443, "quic": 853}
"""Where servers listen unless it is said otherwise."""
MARGIN: Final = 0.02
"""Share of the time-out that is kept back for saying why: after the deadline there is only `timeout` to say."""


@dataclass(frozen=True, slots=True)
class DnsServer:
    """One name server as people name it."""

    place: Endpoint
    url: Url | None = None
    """For DNS over HTTPS."""

    def __str__(self) -> str:
        return self.url.text if self.url else str(self.place)

    @classmethod
    def parse(cls, text: str, transport: Transport, *, what: str) -> "DnsServer":
        """Read `host`, `host:port`, or a URL for `https`. Raises ValueError that begins with `what`."""
        if transport != "https":
            if "://" in text:
                raise ValueError(f"{what}: {text!r} is a URL, which only `transport: https` has")
            return cls(Endpoint.parse(text, what=what, default_port=PORTS[transport]))
        if "://" not in text:
            text = f"https://{Endpoint.parse(text, what=what, default_port=443)}{PATH}"
        try:
            url = Url.parse(text)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        if not url.tls:
            raise ValueError(f"{what}: DNS over HTTPS needs an https URL, not {text!r}")
        return cls(url.place, url)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """How servers are spoken to. Made once."""

    transport: Transport = "udp"
    context: ssl.SSLContext | None = None
    server_name: str = ""
    source: str = ""
    resend: float | None = None
    """Seconds; None: a third of the time that a question may take."""
    whole: bool = True
    doh: Doh | None = None
    doq: Doq | None = None

    async def ask(
        self, watch: Watch, question: Question, server: DnsServer, address: str, *, limit: float, progress: Progress
    ) -> Answered:
        """Ask once at an address, for which `limit` seconds may be taken; the caller keeps to them.

        Raises ProbeFailed or ProbeBroken that name the phase.
        """
        clock = watch.clock.monotonic
        port = server.place.port
        name = self.server_name or server.place.host
        try:
            if self.doh is not None:
                assert server.url is not None
                return await self.doh.ask(
                    question,
                    server.url,
                    address,
                    engine=watch.resources.get(CurlEngine),
                    timeout=watch.timeout,
                    progress=progress,
                    clock=clock,
                )
            if self.doq is not None:
                return await self.doq.ask(
                    question,
                    address,
                    port,
                    server_name=name,
                    source=self.source,
                    now=watch.clock.now(),
                    progress=progress,
                    clock=clock,
                )
            return await ask(
                question,
                address,
                port,
                transport="tls" if self.transport == "tls" else "tcp" if self.transport == "tcp" else "udp",
                context=self.context,
                server_name=name,
                source=self.source,
                resend=limit / 3 if self.resend is None else self.resend,
                until=clock() + limit * (1 - MARGIN),
                whole=self.whole,
                progress=progress,
                clock=clock,
            )
        except (ProbeFailed, ProbeBroken, OSError) as error:
            failure = _explain(error, Endpoint(address, port))
            failure.phase = failure.phase or self.phase(progress)
            raise failure from error

    def phase(self, progress: Progress) -> str:
        """The phase in which a question was that got no further."""
        return "request" if progress.connected or self.transport == "udp" else "connect"


def _explain(error: ProbeFailed | ProbeBroken | OSError, place: Endpoint) -> ProbeFailed | ProbeBroken:
    if isinstance(error, ProbeFailed | ProbeBroken | ssl.SSLError):
        return explain(error)
    if isinstance(error, ConnectionError) and not error.errno:  # asyncio's, for a handshake that was cut off
        return ProbeFailed(Reason.RESET, f"{place} closed the connection: {error}")
    failure = explain_connection(error, place)
    failure.phase = ""
    return failure


PLAIN: Final = Line()
"""For questions to the authorities that are found on the way: UDP, and TCP for what is too long."""


def make_line(options: DnsOptions) -> Line:
    """Raises ValueError for options that cannot work together."""
    encrypted = options.transport in ("tls", "https", "quic")
    _check(options, encrypted=encrypted)
    if not encrypted:
        return Line(
            transport=options.transport, source=options.source, resend=options.resend, whole=options.retry_truncated
        )
    if options.tls_min > options.tls_max:
        raise ValueError(f"tls_max: {options.tls_max} is older than tls_min, {options.tls_min}")
    if options.client_certificate is not None:
        options.client_certificate.check("client_certificate")
    ca_file = load_trust(options.ca_file)[0] if options.verify else ""
    return Line(
        transport=options.transport,
        server_name=options.server_name,
        source=options.source,
        context=_context(options, ca_file) if options.transport == "tls" else None,
        doh=_doh(options, ca_file) if options.transport == "https" else None,
        doq=_doq(options) if options.transport == "quic" else None,
    )


def _check(options: DnsOptions, *, encrypted: bool) -> None:
    if not encrypted and (options.ca_file or options.server_name or not options.verify or options.client_certificate):
        raise ValueError(
            "ca_file, server_name, verify and client_certificate are for `transport: tls`, `https` and `quic`"
        )
    if options.transport != "udp" and (not options.retry_truncated or options.resend is not None):
        raise ValueError("retry_truncated and resend are for `transport: udp`")
    if options.method == "GET" and options.transport != "https":
        raise ValueError("method: GET is for `transport: https`")
    if options.source and not is_address(options.source):
        raise ValueError(f"source: {options.source!r} is not an address")
    if options.source and options.ip in (("4", "prefer-4") if ":" in options.source else ("6", "prefer-6")):
        raise ValueError(f"source: {options.source} is not of the family that `ip` allows")


_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

_OLDEST: Final = {
    "1.0": pycurl.SSLVERSION_TLSv1_0,
    "1.1": pycurl.SSLVERSION_TLSv1_1,
    "1.2": pycurl.SSLVERSION_TLSv1_2,
    "1.3": pycurl.SSLVERSION_TLSv1_3,
}
_NEWEST: Final = {
    "1.0": pycurl.SSLVERSION_MAX_TLSv1_0,
    "1.1": pycurl.SSLVERSION_MAX_TLSv1_1,
    "1.2": pycurl.SSLVERSION_MAX_TLSv1_2,
    "1.3": pycurl.SSLVERSION_MAX_TLSv1_3,
}
_EVEN_WEAK: Final = "DEFAULT:@SECLEVEL=0"
"""OpenSSL does without the versions before 1.2 otherwise."""


def _context(options: DnsOptions, ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.tls_min in ("1.0", "1.1"):
        context.set_ciphers(_EVEN_WEAK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are asked for on purpose
        context.minimum_version = _VERSIONS[options.tls_min]
        context.maximum_version = _VERSIONS[options.tls_max]
    if options.client_certificate is not None:
        certificate, key = _key_pair(options)
        context.load_cert_chain(certificate, key)
    return context


def _key_pair(options: DnsOptions) -> tuple[str, str]:
    given = options.client_certificate
    assert given is not None
    if given.certificate_pem or given.key_pem:
        raise ValueError("client_certificate: for `transport: tls` and `quic`, give files")
    return given.certificate, given.key


def _doh(options: DnsOptions, ca_file: str) -> Doh:
    settings: list[tuple[int, Any]] = []
    if (options.tls_min, options.tls_max) != ("1.2", "1.3"):
        settings.append((pycurl.SSLVERSION, _OLDEST[options.tls_min] | _NEWEST[options.tls_max]))
    if options.tls_min in ("1.0", "1.1"):
        settings.append((pycurl.SSL_CIPHER_LIST, _EVEN_WEAK))
    if not options.verify:
        settings += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
    if options.client_certificate is not None:
        settings += options.client_certificate.settings()
    if options.source:
        settings.append((pycurl.INTERFACE, f"host!{options.source}"))
    return Doh(ca_file=ca_file, server_name=options.server_name, method=options.method, settings=tuple(settings))


def _doq(options: DnsOptions) -> Doq:
    if importlib.util.find_spec("aioquic") is None:
        raise ValueError("transport: quic needs a driver that is not installed: pip install 'stormwatch[doq]'")
    certificate, key = _key_pair(options) if options.client_certificate is not None else ("", "")
    return Doq(
        trust=load_trust(options.ca_file)[1] if options.verify else None,
        certificate=certificate,
        key=key,
    )
