"""The kind `tls`: a handshake, the facts of every certificate that was served, whether they are trusted, and how it is done.

The handshake itself accepts any certificate, so that its facts are seen in every case. Trust is judged afterwards by
`cryptography`, for the moment of the run or for one that is given.
"""

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Final, Literal

from cryptography import x509
from pydantic import AwareDatetime, ConfigDict, Field

from stormwatch.probes import certificate, revocation, tlsa, transparency
from stormwatch.probes.answer import show_rough
from stormwatch.probes.certificate import (
    NOT_VERIFIED,
    SHOWN,
    Chain,
    NotTrusted,
    Trust,
    Verified,
    check_key_pair,
    load_trust,
    parse,
    read_trust,
    show_time,
)
from stormwatch.probes.curl import CurlEngine
from stormwatch.probes.detour import Detour, Way, resolver_of
from stormwatch.probes.endpoint import Endpoint, address_hash, check_host, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.handshake import ALERTS, Handshake, Session
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.question import Question
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.revocation import RevocationOptions
from stormwatch.probes.shake import Alpn, Hands, Offer, offer, open_connection, shake_hands, upgrade
from stormwatch.probes.starttls import Protocol, shown
from stormwatch.probes.tls_policy import VERSIONS, Policy, PolicyOptions, Version
from stormwatch.probes.transfer import blame
from stormwatch.probes.transparency import Log
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

_RANKS: Final = {"SSL 3.0": 0, "TLS 1.0": 1, "TLS 1.1": 2, "TLS 1.2": 3, "TLS 1.3": 4}
_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectTls:
    """What must come of the handshake."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    slower_than: Seconds | None = None
    """Down, with reason too-slow, when connection and handshake take longer. What is asked of others does not count."""
    rejected: bool = False
    """The server must refuse the handshake, as it must without a client certificate; nothing else is looked at."""
    alert: str = ""
    """The alert by which it must refuse, by its name in RFC 8446, like `certificate_required`."""
    untrusted: bool = False
    """The chain must not be trusted."""
    alpn: str = ""
    """The application protocol that must be agreed on."""
    asks_for_certificate: bool | None = None
    """Whether the server must ask for a client certificate, or must not."""
    scts_at_least: Annotated[int, Field(ge=1)] | None = None
    """From how many different logs the server's certificate must have a timestamp (Certificate Transparency)."""
    tlsa: Literal["", "required", "if-present"] = ""
    """Whether the chain must fit a TLSA record (DANE): `required` also wants that there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How to shake hands, whom to trust, and what must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ca_file: File = ""
    """PEM file of the certificate authorities to trust; the system's when empty."""
    ca: str = ""
    """The same, written down here."""
    server_name: str = ""
    """Name to ask for (SNI), and that the certificate must be for; the target's host when empty."""
    verify: bool = True
    """Whether the chain must lead to a trusted authority, for this name, at this time."""
    resolver: str = ""
    """Name server to resolve by, `host:port`; the system's resolver when empty."""
    ip: Family = "any"
    """Which addresses to use: `any` tries the others when one family does not answer."""
    minimum_version: Version = "1.2"
    """Oldest TLS version that the server may agree on, when it may choose."""
    maximum_version: Version = "1.3"
    """Newest TLS version that the server is offered."""
    alpn: tuple[Alpn, ...] = ()
    """Application protocols to offer; none by default."""
    expires_within: Seconds | None = None
    """Down, with reason certificate, when a certificate of the served chain expires sooner."""
    leaf_expires_within: Seconds | None = None
    """Down, with reason certificate, when the server's own certificate expires sooner."""
    at: AwareDatetime | None = None
    """The moment to judge the certificates for, with its time zone; now when it is not given."""
    starttls: Protocol | Literal[""] = ""
    """Ask for TLS in this protocol first."""
    certificate: File = ""
    """PEM file of a client certificate, for servers that ask for one."""
    key: File = ""
    """PEM file of its private key, not encrypted."""
    log_list: File = ""
    """List of the logs of Certificate Transparency, version 3 in JSON: timestamps must be signed by one of them."""
    revocation: RevocationOptions = field(default_factory=RevocationOptions)
    """How to find out whether certificates have been revoked."""
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    """What must hold for TLS itself, whoever is trusted."""
    expect: ExpectTls = field(default_factory=ExpectTls)
    """What must come of it."""


def build(target: str, options: TlsOptions) -> Check:
    """A check of one endpoint. Raises ValueError for a target or an option that cannot work."""
    place = Endpoint.parse(target)
    _check_options(options)
    server = Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None
    name = check_host(options.server_name, what="server_name") if options.server_name else place.host
    client = (options.certificate, options.key) if options.certificate else None
    oldest: Version = min(options.minimum_version, "1.2", options.maximum_version)  # versions sort as text
    return TlsCheck(
        place=place,
        name=name,
        options=options,
        trust=_trust(options),
        server=server,
        policy=Policy(options.policy),
        offered=offer(
            oldest=oldest,
            newest=options.maximum_version,
            alpn=options.alpn,
            staple=options.revocation.wants_staple,
            client=client,
        ),
        trials=tuple(
            (version, version in options.policy.supports, offer(oldest=version, newest=version, client=client))
            for version in VERSIONS
            if version in (*options.policy.supports, *options.policy.refuses)
        ),
        logs=transparency.load_logs(options.log_list) if options.log_list else None,
        pins=(tlsa.pins_question(name, place.port), server or tlsa.system_server()) if options.expect.tlsa else None,
    )


def _check_options(options: TlsOptions) -> None:
    """Raises ValueError for options that contradict each other."""
    expect = options.expect
    if bool(options.certificate) != bool(options.key):
        raise ValueError("certificate and key belong together: give both or none")
    if options.certificate:
        check_key_pair(options.certificate, options.key)
    if options.ca and options.ca_file:
        raise ValueError("ca and ca_file: give only one of them")
    if options.maximum_version < options.minimum_version:
        raise ValueError(
            f"maximum_version {options.maximum_version} is older than minimum_version {options.minimum_version}"
        )
    if expect.alert and not expect.rejected:
        raise ValueError("expect.alert is about a handshake that is refused: give `rejected: true` too")
    if expect.alert and expect.alert not in ALERTS.values():
        raise ValueError(f"expect.alert: {expect.alert!r} is no alert of TLS; there are {', '.join(ALERTS.values())}")
    if expect.alpn and expect.alpn not in options.alpn:
        raise ValueError(f"expect.alpn: {expect.alpn!r} is not among the protocols that `alpn` offers")
    if expect.untrusted and not options.verify:
        raise ValueError("expect.untrusted wants the chain to be verified: do not give `verify: false`")
    if options.revocation.asks and not options.verify:
        raise ValueError("revocation: only a certificate that is verified may say where to ask: give `verify: true`")


def _trust(options: TlsOptions) -> Trust | None:
    if not options.verify:
        return None
    return read_trust(options.ca) if options.ca else load_trust(options.ca_file)[1]


@dataclass(frozen=True, slots=True, eq=False)
class TlsCheck:
    """Shakes hands with one endpoint."""

    place: Endpoint
    name: str
    options: TlsOptions
    trust: Trust | None
    server: Endpoint | None
    policy: Policy
    offered: Offer
    trials: tuple[tuple[Version, bool, Offer], ...]
    """Versions that are offered alone, whether each must be agreed on, and how it is offered."""
    logs: Mapping[str, Log] | None
    pins: tuple[Question, Endpoint] | None
    """The question for TLSA records, and the name server that is asked; None when they are not looked at."""

    async def __call__(self, watch: Watch) -> None:
        """Resolve, connect, shake hands, judge. The certificates are written down whatever is wrong with them."""
        address = ""
        try:
            with watch.phase("resolve"):
                addresses = await resolve(
                    self.place.host, ip=self.options.ip, server=self.server, clock=watch.clock.monotonic
                )
            address = addresses[0]
            addresses = watch.reach.permitted(addresses, self.place.host)
            address = addresses[0]
            hands = await self._shake(watch, addresses)
            address = hands.address or address
            if self.options.expect.rejected:
                self._judge_refusal(watch, hands)
                return
            if not hands.completed:
                raise self._failure(hands, hands.clocks.reached(tls=True))
            await self._judge(watch, hands, (address,))
        finally:
            watch.measure("probe_dns_lookup_time_seconds", watch.phases[0].seconds)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
                watch.note("remote", str(Endpoint(address, self.place.port)))

    async def _shake(self, watch: Watch, addresses: tuple[str, ...]) -> Hands:
        """The handshake, with its phases; what it showed of certificates is written down by who judges it."""
        hands = Hands(watch.clock.monotonic)
        with ExitStack() as stack:
            connection: socket.socket | None = None
            if self.options.starttls:
                with watch.phase("connect"):
                    connection, address = await open_connection(addresses, self.place.port)
                    stack.callback(connection.close)
                    addresses = (address,)
                with watch.phase("starttls"):
                    watch.note("greeting", shown(await self._upgrade(connection)))
            offset = watch.clock.monotonic() - watch.began
            try:
                await self._handshake(watch, hands, addresses, self.offered, connection=connection)
            finally:
                reached = hands.clocks.reached(tls=True)
                for name, start, seconds in hands.clocks.phases(tls=True):
                    if name == "tls" or (name == "connect" and connection is None):
                        failed = not hands.completed and name == reached
                        watch.add_phase(name, seconds, offset=offset + start, failed=failed)
                if not hands.completed:
                    certificate.measure(watch, hands.seen, verified_expiry=None)
            watch.took(offset + hands.clocks.ended)
        return hands

    async def _handshake(
        self,
        watch: Watch,
        hands: Hands,
        addresses: tuple[str, ...],
        offered: Offer,
        *,
        connection: socket.socket | None,
    ) -> None:
        await shake_hands(
            watch.resources.get(CurlEngine),
            hands,
            addresses,
            self.place.port,
            name=self.name,
            timeout=watch.remaining(),
            clock=watch.clock.monotonic,
            offered=offered,
            connection=connection,
            linger=self.options.expect.rejected,
        )

    async def _upgrade(self, connection: socket.socket) -> bytes:
        assert self.options.starttls
        try:
            return await upgrade(connection, self.options.starttls, self.name)
        except OSError as error:
            raise explain_connection(error, self.place) from error

    def _failure(self, hands: Hands, phase: str) -> ProbeFailed | ProbeBroken:
        assert hands.ended is not None
        return blame(hands.ended, target=str(self.place), phase=phase, os_errno=hands.os_errno, alert=hands.seen.alert)

    def _judge_refusal(self, watch: Watch, hands: Hands) -> None:
        expect, seen = self.options.expect, hands.seen
        if hands.completed:
            certificate.measure(watch, seen, verified_expiry=None)
            without = "" if self.options.certificate else " without a client certificate"
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.place} accepted the handshake{without}, wanted it refused", phase="tls"
            )
        failure = self._failure(hands, hands.clocks.reached(tls=True))
        refused = bool(seen.alert) or (
            failure.reason in (Reason.TLS, Reason.RESET) and failure.phase != "connect" and seen.began is not None
        )
        if not refused:
            raise failure
        watch.failed_phase = ""
        if expect.alert and seen.alert != expect.alert:
            said = f"with the alert {seen.alert}" if seen.alert else "without an alert"
            raise ProbeFailed(
                Reason.ASSERTION, f"{self.place} refused the handshake {said}, wanted {expect.alert}", phase="tls"
            )
        self._judge_pace(watch)

    async def _judge(self, watch: Watch, hands: Hands, addresses: tuple[str, ...]) -> None:
        options, seen = self.options, hands.seen
        at = options.at.timestamp() if options.at is not None else watch.clock.now()
        verified: Verified | None = None
        distrust: NotTrusted | None = None
        if self.trust is not None:
            try:
                verified = self.trust.path(seen.chain, self.name, at)
            except NotTrusted as error:
                distrust = error
        chain = certificate.measure(
            watch,
            seen,
            verified_expiry=verified.expires
            if verified is not None
            else None
            if distrust is not None
            else NOT_VERIFIED,
        )
        session = seen.session
        self._write_down(watch, seen, session, chain, at=at)
        self._judge_trust(watch, distrust)
        least = f"TLS {options.minimum_version}"
        if _RANKS.get(seen.version, 0) < _RANKS[least]:
            raise ProbeFailed(Reason.TLS, f"the server agreed on {seen.version}, wanted at least {least}", phase="tls")
        self._judge_session(session)
        self.policy.judge(seen.version, seen.cipher, session, chain)
        self._judge_expiry(chain, at)
        self._judge_timestamps(watch, chain, seen.chain, verified, at)
        self._judge_pace(watch)
        path = verified.path if verified is not None else _served_path(seen.chain, chain)
        await revocation.check(watch, options.revocation, path, seen.staple, server=self.server, at=at)
        if self.pins is not None:
            with watch.phase(tlsa.PHASE):
                await self._judge_pins(watch, *self.pins, hands=hands, verified=verified, at=at)
        if self.trials:
            with watch.phase("policy"):
                await self._try_versions(watch, addresses)

    def _write_down(self, watch: Watch, seen: Handshake, session: Session, chain: Chain, *, at: float) -> None:
        for position, each in enumerate(chain.certificates[:SHOWN]):
            watch.measure(
                "stormwatch_tls_certificate_expiry_timestamp_seconds", each.not_after, chain_pos=str(position)
            )
            watch.measure("stormwatch_tls_certificate_days_left", (each.not_after - at) / _DAY, chain_pos=str(position))
        watch.note(
            "tls",
            {
                "version": seen.version,
                "cipher": seen.cipher,
                "group": session.group,
                "signature": session.signature,
                "alpn": session.alpn,
                "asks_for_certificate": session.asks_for_certificate,
                "secure_renegotiation": session.secure_renegotiation,
                "stapled": bool(seen.staple),
            },
        )
        order = chain.order
        watch.note(
            "chain",
            {
                "length": len(chain.certificates),
                "in_order": order.right,
                "superfluous": len(order.superfluous),
                "issuer_not_served": order.missing,
            },
        )
        if self.options.at is not None:
            watch.note("judged_at", show_time(at))

    def _judge_trust(self, watch: Watch, distrust: NotTrusted | None) -> None:
        if self.options.expect.untrusted:
            if distrust is None:
                raise ProbeFailed(
                    Reason.ASSERTION, f"the chain of {self.place} is trusted, wanted it not to be", phase="tls"
                )
            watch.note("untrusted", str(distrust))
        elif distrust is not None:
            raise ProbeFailed(Reason.CERTIFICATE, str(distrust), phase="tls") from distrust

    def _judge_session(self, session: Session) -> None:
        expect = self.options.expect
        if expect.alpn and session.alpn != expect.alpn:
            raise ProbeFailed(
                Reason.ASSERTION,
                f"the server agreed on {session.alpn or 'no application protocol'}, wanted {expect.alpn}",
                phase="tls",
            )
        if expect.asks_for_certificate not in (None, session.asks_for_certificate):
            said = "asked" if session.asks_for_certificate else "did not ask"
            wanted = "wanted it to" if expect.asks_for_certificate else "wanted it not to"
            raise ProbeFailed(Reason.ASSERTION, f"the server {said} for a client certificate, {wanted}", phase="tls")

    def _judge_expiry(self, chain: Chain, at: float) -> None:
        options = self.options
        if not chain.certificates:
            return
        for within, position in ((options.leaf_expires_within, 0), (options.expires_within, chain.soonest)):
            each = chain.certificates[position]
            left = each.not_after - at
            if within is not None and left < within:
                which = f"the certificate of {each.subject}"
                if position:
                    which += f", at position {position} of the chain,"
                raise ProbeFailed(Reason.CERTIFICATE, f"{which} {_ends(left, within)}", phase="tls")

    def _judge_timestamps(
        self, watch: Watch, chain: Chain, ders: tuple[bytes, ...], verified: Verified | None, at: float
    ) -> None:
        least = self.options.expect.scts_at_least
        if (least is None and self.logs is None) or not chain.certificates:
            return
        path = verified.path if verified is not None else _served_path(ders, chain)
        timestamps = transparency.read_timestamps(path[0], path[1] if len(path) > 1 else None, self.logs, at)
        count = transparency.logs_that_count(timestamps)
        watch.measure("stormwatch_tls_scts", count)
        watch.note("scts", [each.as_evidence(show_time(each.moment)) for each in timestamps])
        if least is not None and count < least:
            problems = "; ".join(each.problem for each in timestamps if each.problem)
            raise ProbeFailed(
                Reason.CERTIFICATE,
                f"the certificate has timestamps of {count} logs that count, wanted {least}"
                + (f": {problems}" if problems else ""),
                phase="tls",
            )

    def _judge_pace(self, watch: Watch) -> None:
        most, seconds = self.options.expect.slower_than, watch.seconds()
        if most is not None and seconds > most:
            slowest = max(watch.phases, key=lambda phase: phase.seconds).name
            raise ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(most)}; slowest was phase {slowest}",
                phase=slowest,
            )

    async def _judge_pins(
        self, watch: Watch, question: Question, server: Endpoint, *, hands: Hands, verified: Verified | None, at: float
    ) -> None:
        pins = await tlsa.look_up(question, server, watch.clock.monotonic)
        found = tlsa.match(pins.pins, hands.seen.chain, verified, self.name, at)
        watch.measure("stormwatch_tls_tlsa_authenticated", pins.authenticated)
        watch.measure("stormwatch_tls_tlsa_match", found is not None)
        told = {"name": pins.name, "records": [str(each) for each in pins.pins], "authenticated": pins.authenticated}
        if found is not None:
            told["matched"] = str(found)
        if pins.pins and not pins.authenticated:
            told["warning"] = f"name server {server} does not say that DNSSEC vouches for these records"
        watch.note("tlsa", told)
        if found is not None:
            return
        usable = [each for each in pins.pins if each.usable]
        if usable:
            shown_pins = ", ".join(str(each) for each in usable[:4])
            raise ProbeFailed(
                Reason.CERTIFICATE, f"the served chain fits none of the TLSA records of {pins.name}: {shown_pins}"
            )
        if self.options.expect.tlsa == "required":
            raise ProbeFailed(Reason.CERTIFICATE, f"{pins.name} has no usable TLSA record, wanted one")

    async def _try_versions(self, watch: Watch, addresses: tuple[str, ...]) -> None:
        """A handshake for each version alone. All are tried, so that the evidence is complete."""
        answers: dict[str, str] = {}
        complaint = ""
        watch.note("versions", answers)
        for version, wanted, offered in self.trials:
            answers[version] = await self._try_version(watch, addresses, version, offered)
            accepted = answers[version] == "accepted"
            watch.measure("stormwatch_tls_version_supported", accepted, version=f"TLS {version}")
            if accepted != wanted and not complaint:
                said = f"accepts TLS {version}" if accepted else f"does not accept TLS {version} ({answers[version]})"
                complaint = f"the server {said}, wanted it {'accepted' if wanted else 'refused'}"
        if complaint:
            raise ProbeFailed(Reason.TLS, complaint)

    async def _try_version(self, watch: Watch, addresses: tuple[str, ...], version: Version, offered: Offer) -> str:
        hands = Hands(watch.clock.monotonic)
        with ExitStack() as stack:
            connection: socket.socket | None = None
            if self.options.starttls:
                connection, _ = await open_connection(addresses, self.place.port)
                stack.callback(connection.close)
                await self._upgrade(connection)
            await self._handshake(watch, hands, addresses, offered, connection=connection)
        if hands.completed:
            return "accepted"
        if hands.seen.alert:
            return f"alert {hands.seen.alert}"
        failure = self._failure(hands, hands.clocks.reached(tls=True))
        if isinstance(failure, ProbeBroken) or failure.reason is Reason.TIMEOUT or failure.phase == "connect":
            raise failure
        if hands.seen.began is None:
            raise ProbeBroken(Reason.INTERNAL, f"this prober's OpenSSL cannot offer TLS {version}: {failure.message}")
        return "connection closed" if failure.reason is Reason.RESET else "handshake failed"


def _served_path(ders: tuple[bytes, ...], chain: Chain) -> tuple[x509.Certificate, ...]:
    """From the server's certificate along the issuers that were served, whom nobody vouches for."""
    return tuple(parse(ders[position]) for position in chain.order.path[:SHOWN])


def _ends(left: float, within: float) -> str:
    if left < 0:
        return f"expired {show_rough(-left)} ago"
    return f"expires in {show_rough(left)}, wanted more than {show_duration(within)}"


def _way(target: str, options: TlsOptions) -> Way:
    if options.expect.tlsa:
        raise ValueError("expect.tlsa: TLSA records are for a port, and a detour has another one")
    return Way(
        place=Endpoint.parse(target), resolver=resolver_of(options.resolver), ip=options.ip, tls=not options.starttls
    )


def _via(target: str, options: TlsOptions, via: str) -> tuple[str, TlsOptions]:
    return via, replace(options, server_name=options.server_name or Endpoint.parse(target).host, ip="any")


def _names_via(target: str, options: TlsOptions, via: str) -> tuple[str, TlsOptions]:
    return target, replace(options, resolver=via)


DETOUR: Final = Detour(way=_way, via=_via, names_via=_names_via)

KIND: Final = Kind(
    name="tls",
    options=TlsOptions,
    build=build,
    detour=DETOUR,
    phases=("resolve", "connect", "starttls", "tls", revocation.PHASE, tlsa.PHASE, "policy"),
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
        Metric(
            "stormwatch_tls_certificate_days_left",
            "Days until each certificate of the served chain expires, from the moment it is judged for; negative afterwards",
        ),
        *revocation.METRICS,
        Metric("stormwatch_tls_scts", "How many logs have signed a timestamp in the server's certificate that counts"),
        Metric("stormwatch_tls_tlsa_match", "1 when the served chain fits a TLSA record"),
        Metric(
            "stormwatch_tls_tlsa_authenticated", "1 when the name server says that DNSSEC vouches for the TLSA records"
        ),
        Metric("stormwatch_tls_version_supported", "1 when the server agrees on a version that is all it is offered"),
    ),
    reasons=frozenset(
        {
            Reason.DNS,
            Reason.REFUSED,
            Reason.UNREACHABLE,
            Reason.TIMEOUT,
            Reason.RESET,
            Reason.TLS,
            Reason.CERTIFICATE,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
