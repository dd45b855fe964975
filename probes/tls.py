"""The kind `tls`: a handshake, the facts of every certificate that was served, and whether they are trusted.

The handshake itself accepts any certificate, so that its facts are seen in every case. Trust is judged afterwards by
`cryptography`, for the moment of the run or for one that is given.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import pycurl
from pydantic import AwareDatetime, ConfigDict

from stormwatch.probes import certificate
from stormwatch.probes.answer import expiry_message
from stormwatch.probes.certificate import (
    NOT_VERIFIED,
    NotTrusted,
    Trust,
    check_key_pair,
    load_trust,
    show_time,
)
from stormwatch.probes.curl import CURVES, CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.handshake import Handshake
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import Clocks, blame
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

Starttls = Literal["", "smtp", "imap", "pop3"]
_SCHEMES: Final = {"": "https", "smtp": "smtp", "imap": "imap", "pop3": "pop3"}
_RANKS: Final = {"SSL 3.0": 0, "TLS 1.0": 1, "TLS 1.1": 2, "TLS 1.2": 3, "TLS 1.3": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How to shake hands, and whom to trust."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    server_name: str = ""
    """Name to ask for (SNI), and that the certificate must be for; the target's host when empty."""
    verify: bool = True
    """Whether the chain must lead to a trusted authority, for this name, at this time."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use: `any` tries the others when one family does not answer."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version that the server may agree on, when it may choose."""
    expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    at: AwareDatetime | None = None
    """The moment to judge the certificates for, with its time zone; now when it is not given."""
    starttls: Starttls = ""
    """Ask for TLS in this protocol first."""
    certificate: File = ""
    """PEM file of a client certificate, for servers that ask for one."""
    key: File = ""
    """PEM file of its private key, not encrypted."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


def build(target: str, options: TlsOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place = Endpoint.parse(target)
    if bool(options.certificate) != bool(options.key):
        raise ValueError("certificate and key belong together: give both or none")
    if options.certificate:
        check_key_pair(options.certificate, options.key)
    name = check_host(options.server_name, what="server_name") if options.server_name else place.host
    return TlsCheck(
        place=place,
        name=name,
        options=options,
        trust=load_trust(options.ca_file)[1] if options.verify else None,
        server=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TlsCheck:
    """Shakes hands with one endpoint."""

    place: Endpoint
    name: str
    options: TlsOptions
    trust: Trust | None
    server: Endpoint | None

    async def __call__(self, watch: Watch) -> None:
        """Resolve, connect, shake hands, judge. The certificates are written down whatever is wrong with them."""
        began = watch.clock.monotonic()
        address = ""
        try:
            with watch.phase("resolve"):
                addresses = await resolve(
                    self.place.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                )
            resolved = watch.clock.monotonic()
            lookup = resolved - began
            address = addresses[0]
            hands = await self._shake(watch, addresses, resolved - watch.began)
            address = hands.address or address
            watch.took(lookup + hands.clocks.ended)
            self._judge(watch, hands, lookup + hands.clocks.ended)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", watch.phases[0].seconds)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.place.port)))

    async def _shake(self, watch: Watch, addresses: tuple[str, ...], offset: float) -> "Hands":
        hands = Hands(watch.clock.monotonic)
        try:
            await shake_hands(
                watch.resources.get(CurlEngine),
                hands,
                addresses,
                self.place.port,
                name=self.name,
                timeout=watch.remaining(),
                clock=watch.clock.monotonic,
                starttls=self.options.starttls,
                client=(self.options.certificate, self.options.key) if self.options.certificate else None,
            )
        finally:
            completed = hands.ended is not None and hands.ended.code == 0
            reached = hands.clocks.reached(tls=True)
            for name, start, seconds in hands.clocks.phases(tls=True):
                if name in ("connect", "tls"):
                    watch.add_phase(name, seconds, offset=offset + start, failed=not completed and name == reached)
        ended = hands.ended
        if ended is not None and ended.code:
            certificate.measure(watch, hands.seen, verified_expiry=None)
            raise blame(ended, target=str(self.place), phase=reached, os_errno=hands.os_errno, alert=hands.seen.alert)
        return hands

    def _judge(self, watch: Watch, hands: "Hands", seconds: float) -> None:
        options, seen = self.options, hands.seen
        at = options.at.timestamp() if options.at is not None else watch.clock.now()
        verified: float | None = NOT_VERIFIED
        distrust: NotTrusted | None = None
        if self.trust is not None:
            try:
                verified = self.trust.verify(seen.chain, self.name, at)
            except NotTrusted as error:
                verified, distrust = None, error
        chain = certificate.measure(watch, seen, verified_expiry=verified)
        for position, each in enumerate(chain.certificates):
            watch.measure(
                "stormwatch_tls_certificate_expiry_timestamp_seconds",
                each.not_after,
                chain_pos=str(position),
                subject=each.subject,
            )
        if options.at is not None:
            watch.note("judged_at", show_time(at))
        if distrust is not None:
            raise ProbeFailed(Reason.CERTIFICATE, str(distrust), phase="tls") from distrust
        least = f"TLS {options.minimum_version}"
        if _RANKS.get(seen.version, 0) < _RANKS[least]:
            raise ProbeFailed(Reason.TLS, f"the server agreed on {seen.version}, wanted at least {least}", phase="tls")
        left = chain.expires - at
        if options.expires_within is not None and left < options.expires_within:
            raise ProbeFailed(Reason.CERTIFICATE, expiry_message(left, options.expires_within), phase="tls")
        if options.slower_than is not None and seconds > options.slower_than:
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(options.slower_than)}",
                phase="tls",
            )


class Hands:
    """What one handshake saw, also when it was cancelled."""

    __slots__ = ("address", "clocks", "ended", "os_errno", "seen")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seen = Handshake(clock)
        self.clocks = Clocks(lookup=0.0, connected=0.0, secured=0.0, first_byte=0.0, ended=0.0)
        self.ended: Ended | None = None
        self.address = ""
        self.os_errno = 0


async def shake_hands(
    engine: CurlEngine,
    hands: Hands,
    addresses: tuple[str, ...],
    port: int,
    *,
    name: str,
    timeout: float,
    clock: Callable[[], float],
    starttls: Starttls = "",
    client: tuple[str, str] | None = None,
) -> None:
    """Connect to the first of the addresses that answers, shake hands whatever the certificate says, and hang up.

    `name` is asked for (SNI). What was seen is in `hands`, whatever happens; `hands.ended` says how it ended.
    """
    handle = engine.take()
    began = clock()
    try:
        shown = f"[{name}]" if ":" in name else name
        handle.setopt(pycurl.URL, f"{_SCHEMES[starttls]}://{shown}:{port}/")
        for option, value in _OPTIONS:
            handle.setopt(option, value)
        connect_to(handle, addresses, port)
        if client is not None:
            handle.setopt(pycurl.SSLCERT, client[0])
            handle.setopt(pycurl.SSLKEY, client[1])
        if starttls:
            handle.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
        handle.setopt(pycurl.DEBUGFUNCTION, hands.seen.take)
        # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
        handle.setopt(pycurl.TIMEOUT_MS, int(timeout * 1000) + 250)
        try:
            hands.ended = await engine.perform(handle)
        except asyncio.CancelledError:
            hello = hands.seen.began
            hands.clocks = Clocks.read(handle).cut_off(clock() - began, None if hello is None else hello - began)
            raise
        hands.clocks = Clocks.read(handle)
        hands.address = handle.getinfo(pycurl.PRIMARY_IP)
        hands.os_errno = own_error(handle) if hands.ended.code else 0
    finally:
        engine.give_back(handle)


_OPTIONS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.CONNECT_ONLY, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),  # or libcurl would take one from the environment
    (pycurl.SSL_VERIFYPEER, 0),
    (pycurl.SSL_VERIFYHOST, 0),
    (pycurl.SSL_ENABLE_ALPN, 0),  # a server of another protocol would have to refuse http/1.1
    (pycurl.SSL_EC_CURVES, CURVES),
    (pycurl.VERBOSE, 1),
)

KIND: Final = Kind(
    name="tls",
    options=TlsOptions,
    build=build,
    phases=("resolve", "connect", "tls"),
    phase_metric=Metric("stormwatch_tls_duration_seconds", "Seconds of a TLS handshake by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        *certificate.METRICS,
        Metric(
            "stormwatch_tls_certificate_expiry_timestamp_seconds",
            "Unix time at which each certificate of the served chain expires; position 0 is the server's",
        ),
    ),
)
