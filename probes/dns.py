"""The kind `dns`: one question to one name server or several, the answers judged record by record."""

import asyncio
import ipaddress
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from stormwatch.probes import authorities
from stormwatch.probes.authorities import compare
from stormwatch.probes.backend import judge_speed, show_words
from stormwatch.probes.delegation import Start, Walk
from stormwatch.probes.detour import Detour, Way, refuse, resolver_of, system_name_server
from stormwatch.probes.dns_options import DnsOptions
from stormwatch.probes.dns_rules import Rules, read_type, show, unlike
from stormwatch.probes.dns_server import PLAIN, PORTS, DnsServer, Line, make_line
from stormwatch.probes.dnssec import Bogus, Ledger, show_moment
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.nameserver import Answered, Progress
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.question import Edns, Question, counts, make_question, rdata_of, show_message
from stormwatch.probes.records import plain, text_of
from stormwatch.probes.resolve import resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.trust_chain import Anchors, TrustChain, Verdict, read_anchors
from stormwatch.probes.units import show_duration
from stormwatch.probes.watch import Watch

SHOWN: Final = 4096
"""Characters of the answer that are kept as evidence."""
SHARE: Final = 0.9
"""Share of the time left that each of several servers may take, so that the silent one can be named."""
PADDING: Final = 128
"""Questions over encrypted transports are padded to a multiple of so many bytes (RFC 8467 §4.1)."""


def build(target: str, options: DnsOptions) -> Check:
    """A check of one name. Raises ValueError for a name, type or server that cannot be asked."""
    name = _name(target)
    kind = read_type(options.type, "type")
    try:
        rdclass = dns.rdataclass.from_text(options.rdclass)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"class: there is no class {options.rdclass!r}") from None
    line = make_line(options)
    servers, in_order = _servers(options)
    edns = _edns(options)
    return DnsCheck(
        question=make_question(
            name,
            kind,
            rdclass,
            recursion=options.recursion and not options.start,
            checking_disabled=options.checking_disabled,
            authentic=options.expect.authenticated is not None,
            edns=edns,
        ),
        servers=servers,
        in_order=in_order,
        line=line,
        edns=edns,
        resolver=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        start=_start(options),
        anchors=_anchors(options),
        options=options,
        rules=Rules(options.expect, kind, rdclass),
    )


def _start(options: DnsOptions) -> Start | None:
    """Where to begin asking on our own, if that is asked for."""
    if not options.start and options.authorities is None:
        return None
    if options.start and (options.server or options.servers):
        raise ValueError("start: the authorities of the name are asked then, so give no server")
    if options.start and options.transport not in ("udp", "tcp"):
        raise ValueError(f"start: authorities are asked over udp or tcp, not {options.transport}")
    return Start.parse(options.start)


def _anchors(options: DnsOptions) -> Anchors | None:
    """What validation begins with, if it is asked for."""
    expect, asked = options.expect, options.dnssec
    if asked is None or not asked.validate:
        if expect.rrsig_expires_within is not None or expect.dnssec is not None:
            raise ValueError(
                "expect.dnssec and expect.rrsig_expires_within are for validated answers: give `dnssec: {}`"
            )
        return None
    return read_anchors(asked.anchors, asked.anchor_file)


def _name(target: str) -> dns.name.Name:
    try:
        return dns.name.from_text(target)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(f"target {target!r} is not a domain name: {str(error) or type(error).__name__}") from None


def _edns(options: DnsOptions) -> Edns | None:
    if not options.edns:
        if options.dnssec_ok or options.client_subnet or options.nsid or options.dnssec is not None:
            raise ValueError("edns: false, but dnssec_ok, client_subnet, nsid and dnssec are parts of EDNS")
        return None
    if options.client_subnet:
        try:
            ipaddress.ip_network(options.client_subnet)
        except ValueError as error:
            raise ValueError(f"client_subnet: {error}") from None
    return Edns(
        buffer_size=options.buffer_size,
        dnssec_ok=options.dnssec_ok or options.dnssec is not None,
        client_subnet=options.client_subnet,
        nsid=options.nsid,
        padding=PADDING if options.transport in ("tls", "https", "quic") else 0,
    )


def _servers(options: DnsOptions) -> tuple[tuple[DnsServer, ...], bool]:
    """Whom to ask, and whether one after the other until one answers."""
    if options.server and options.servers:
        raise ValueError("servers: give server or servers, not both")
    if options.agree and len(options.servers) < 2:
        raise ValueError("agree: give at least two `servers`")
    if options.servers:
        servers = tuple(
            DnsServer.parse(text, options.transport, what=f"servers[{number}]")
            for number, text in enumerate(options.servers)
        )
        if len({str(server) for server in servers}) < len(servers):
            raise ValueError("servers: one of them stands there twice")
        return servers, False
    if options.start:
        return (), True
    if options.server:
        return (DnsServer.parse(options.server, options.transport, what="server"),), False
    if options.transport in ("https", "quic"):
        raise ValueError(f"server: the system does not say where `transport: {options.transport}` is spoken, give one")
    from dns.resolver import Resolver  # only here, because DNS over QUIC comes with it, and all that it stands on

    try:
        nameservers = Resolver().nameservers
    except (dns.exception.DNSException, OSError) as error:
        raise ValueError(
            f"the system has no name server, give `server`: {str(error) or type(error).__name__}"
        ) from None
    return tuple(DnsServer(Endpoint(str(each), PORTS[options.transport])) for each in nameservers), True


@dataclass(slots=True, eq=False)
class _Inquiry:
    """What came of asking one server."""

    server: DnsServer
    began: float = 0.0
    lookup: float = 0.0
    seconds: float = 0.0
    address: str = ""
    progress: Progress = field(default_factory=Progress)
    answered: Answered | None = None
    failure: ProbeFailed | ProbeBroken | None = None

    @property
    def place(self) -> str:
        """Where it was asked."""
        return str(Endpoint(self.address, self.server.place.port)) if self.address else str(self.server)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DnsCheck:
    """Asks one question."""

    question: Question
    servers: tuple[DnsServer, ...]
    in_order: bool
    line: Line
    edns: Edns | None
    resolver: Endpoint | None
    start: Start | None
    anchors: Anchors | None
    options: DnsOptions
    rules: Rules

    async def __call__(self, watch: Watch) -> None:
        """Resolve the server, ask it, judge its answer."""
        walk = None
        if self.start is not None:
            line = Line(source=self.options.source) if self.options.source else PLAIN
            walk = Walk(watch, self.start, ip=self.options.ip, line=line, resolver=self.resolver)
        if self.options.start:
            assert walk is not None
            try:
                inquiries = [_Inquiry(server) for server in await self._find_authorities(watch, walk)]
            except BaseException:
                watch.measure("probe_dns_lookup_time_seconds", watch.seconds())
                watch.measure("probe_ip_protocol", 0)
                watch.measure("probe_dns_query_succeeded", 0)
                raise
        else:
            inquiries = [_Inquiry(server) for server in self.servers]
        try:
            if len(inquiries) == 1:
                await self._inquire(watch, inquiries[0], watch.remaining())
            elif self.in_order:
                inquiries = await self._one_after_the_other(watch, inquiries)
            else:
                await self._all(watch, inquiries)
        finally:
            self._write(watch, inquiries)
        if self.anchors is not None:
            await self._validate(watch, walk, inquiries)
        self._judge(watch, inquiries)
        answered = inquiries[0].answered
        if answered is not None and len(self.servers) == 1 and not self._goes_on:
            # Reading and judging the answer is our time, not the server's.
            watch.took(inquiries[0].lookup + answered.connect + answered.request)
        if self.options.expect.wildcard == "forbidden":
            await self._judge_wildcard(watch, inquiries[0])
        if self.options.authorities is not None:
            assert walk is not None
            with watch.phase("authorities"):
                await compare(watch, walk, self.question.name, self.options.authorities)
        judge_speed(watch, self.options.expect.slower_than)

    @property
    def _goes_on(self) -> bool:
        """Whether more is asked after the first answer."""
        options = self.options
        return self.anchors is not None or options.authorities is not None or options.expect.wildcard == "forbidden"

    async def _find_authorities(self, watch: Watch, walk: Walk) -> list[DnsServer]:
        """The servers of the zone that the name is in, in the order in which they are named."""
        name = self.question.name
        if self.question.kind == dns.rdatatype.DS and name != dns.name.root:
            name = name.parent()
        with watch.phase("resolve"):
            cut = await walk.cut_of(name)
            found = [each for host in cut.hosts for each in await walk.addresses(host) if walk.suits(each)]
            if not found:
                raise ProbeFailed(Reason.DNS, f"no server of zone {cut.zone} has an address", phase="resolve")
        return [DnsServer(Endpoint(address, walk.start.port)) for address in dict.fromkeys(found)]

    async def _inquire(self, watch: Watch, inquiry: _Inquiry, limit: float, question: Question | None = None) -> None:
        """Ask one server. What it did wrong is kept with the inquiry; only being cancelled gets out."""
        clock = watch.clock.monotonic
        inquiry.began = clock()
        try:
            host = inquiry.server.place.host
            try:
                found = await resolve(host, ip=self.options.ip, server=self.resolver, clock=clock)
            finally:
                inquiry.lookup = clock() - inquiry.began
            inquiry.address = watch.reach.permitted(found, host)[0]
            inquiry.answered = await self.line.ask(
                watch,
                question or self.question,
                inquiry.server,
                inquiry.address,
                limit=limit - inquiry.lookup,
                progress=inquiry.progress,
            )
        except (ProbeFailed, ProbeBroken) as failure:
            inquiry.failure = failure
        except OSError as error:
            inquiry.failure = explain(error)
        finally:
            inquiry.seconds = clock() - inquiry.began

    async def _limited(self, watch: Watch, inquiry: _Inquiry, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._inquire(watch, inquiry, limit)
        except TimeoutError:
            phase = self.line.phase(inquiry.progress) if inquiry.address else "resolve"
            inquiry.failure = ProbeFailed(Reason.TIMEOUT, f"no answer within {show_duration(limit)}", phase=phase)

    async def _all(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> None:
        limit = watch.remaining() * SHARE
        async with asyncio.TaskGroup() as group:
            for inquiry in inquiries:
                group.create_task(self._limited(watch, inquiry, limit))

    async def _one_after_the_other(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> list[_Inquiry]:
        """As a stub resolver does: the next server when one fails. The one whose answer, or failure, counts is first."""
        tried: list[_Inquiry] = []
        for number, inquiry in enumerate(inquiries):
            tried.insert(0, inquiry)
            if number == len(inquiries) - 1:
                await self._inquire(watch, inquiry, watch.remaining())
            else:
                await self._limited(watch, inquiry, watch.remaining() / (len(inquiries) - number))
            answered = inquiry.answered
            if answered is not None and self._counts(answered.message):
                break
        watch.note("tried", [each.place for each in reversed(tried)])
        return tried[:1]

    def _counts(self, answer: dns.message.Message) -> bool:
        """Whether the next server need not be asked: this one is neither unable nor, where it should be, no authority."""
        lame = bool(self.options.start) and not answer.flags & dns.flags.AA
        return answer.rcode() not in _NEXT and not lame

    # What is written down

    def _write(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> None:
        """Phases, measures and evidence, also of what failed or was cancelled."""
        first = next((each for each in inquiries if each.answered is not None), inquiries[0])
        slowest = max(inquiries, key=lambda each: each.seconds)
        self._write_phases(watch, slowest)
        watch.measure("probe_dns_lookup_time_seconds", first.lookup)
        watch.measure("probe_ip_protocol", family(first.address))
        if first.address:
            watch.measure("probe_ip_addr_hash", address_hash(first.address))
            watch.note("server", first.place)
        watch.measure("probe_dns_query_succeeded", first.answered is not None)
        watch.measure("stormwatch_dns_sends", sum(each.progress.sends for each in inquiries))
        strangers = sum(each.progress.strangers for each in inquiries)
        if strangers:
            watch.note("foreign_datagrams", strangers)
        if first.progress.truncated:
            watch.note("truncated", True)
        if first.answered is not None:
            self._write_answer(watch, first.answered)
        if len(self.servers) > 1 and not self.in_order:
            self._write_servers(watch, inquiries)

    def _write_phases(self, watch: Watch, inquiry: _Inquiry) -> None:
        offset = inquiry.began - watch.began
        ended = inquiry.seconds or watch.clock.monotonic() - inquiry.began
        connected = inquiry.progress.connected
        if inquiry.answered is not None:
            connect, request = inquiry.answered.connect, inquiry.answered.request
        else:
            connect, request = connected, ended - inquiry.lookup - connected
        failed = inquiry.answered is None
        reached = self.line.phase(inquiry.progress) if inquiry.address else "resolve"
        watch.add_phase("resolve", inquiry.lookup, offset=offset, failed=failed and reached == "resolve")
        if reached == "resolve":
            return
        stuck = failed and reached == "connect"
        watch.add_phase("connect", request if stuck else connect, offset=offset + inquiry.lookup, failed=stuck)
        if not stuck:
            watch.add_phase("request", request, offset=offset + inquiry.lookup + connect, failed=failed)

    def _write_answer(self, watch: Watch, answered: Answered) -> None:
        message = answered.message
        answers, authorities, additional = counts(answered.wire)
        watch.measure("probe_dns_answer_rrs", answers)
        watch.measure("probe_dns_authority_rrs", authorities)
        watch.measure("probe_dns_additional_rrs", additional)
        watch.measure("stormwatch_dns_response_size_bytes", len(answered.wire))
        watch.measure("stormwatch_dns_rcode", message.rcode())
        if message.answer:
            watch.measure("stormwatch_dns_ttl_seconds", min(rrset.ttl for rrset in message.answer))
        if self.question.kind == dns.rdatatype.SOA:
            for record in rdata_of(message, dns.rdatatype.SOA)[:1]:
                watch.measure("probe_dns_serial", record.serial)
        watch.note("rcode", dns.rcode.to_text(message.rcode()))
        watch.note("answer", show_message(answered.wire)[:SHOWN])
        for option in message.options:
            if isinstance(option, dns.edns.NSIDOption):
                watch.note("nsid", show_words(option.nsid.decode("utf-8", "replace")))

    def _write_servers(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> None:
        told: dict[str, Any] = {}
        for inquiry in inquiries:
            server, answered = str(inquiry.server), inquiry.answered
            watch.measure("stormwatch_dns_server_answered", answered is not None, server=server)
            if answered is None:
                told[server] = inquiry.failure.message if inquiry.failure is not None else "cancelled"
                continue
            watch.measure("stormwatch_dns_server_seconds", answered.connect + answered.request, server=server)
            told[server] = show(self._outcome(answered))
        watch.note("servers", told)

    # What is judged

    async def _validate(self, watch: Watch, walk: Walk | None, inquiries: Sequence[_Inquiry]) -> None:
        """Prove the answer, or say why it cannot be proved. What is no answer at all is judged elsewhere."""
        inquiry = next((each for each in inquiries if each.answered is not None), None)
        if self.anchors is None or inquiry is None or inquiry.answered is None:
            return
        answer = inquiry.answered.message
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL):
            return
        name, kind, ledger = self.question.name, self.question.kind, Ledger(watch.clock.now())

        async def ask(name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
            question = make_question(name, kind, checking_disabled=True, edns=_FOR_CHAIN)
            own = _Inquiry(inquiry.server)
            await self._inquire(watch, own, watch.remaining(), question)
            if own.answered is None:
                assert own.failure is not None
                raise own.failure
            return own.answered.message

        asked = walk.records if walk is not None and self.options.start else ask
        with watch.phase("validate"):
            try:
                if answer.rcode() == dns.rcode.SERVFAIL:  # what a validating resolver says of bogus answers
                    answer = await asked(name, kind)
                verdict = await TrustChain(self.anchors, asked, ledger).judge(answer, name, kind)
                self._judge_verdict(watch, verdict, ledger)
            except Bogus as error:
                watch.note("dnssec", {"verdict": "bogus", "why": str(error), "verified": ledger.verified})
                watch.measure("stormwatch_dns_dnssec_secure", 0)
                raise unlike(f"the answer is bogus: {error}", phase="validate") from error

    def _judge_verdict(self, watch: Watch, verdict: Verdict, ledger: Ledger) -> None:
        expect, seen = self.options.expect, "secure" if verdict.secure else "insecure"
        told: dict[str, Any] = {"verdict": seen, "verified": ledger.verified}
        if verdict.why:
            told["why"] = verdict.why
        watch.measure("stormwatch_dns_dnssec_secure", verdict.secure)
        left = ledger.expires - ledger.now
        if ledger.expires:
            told["first_signature_expires"] = f"{ledger.soonest}: {show_moment(ledger.expires)}"
            watch.measure("stormwatch_dns_rrsig_expires_seconds", left)
            watch.measure("stormwatch_dns_rrsig_expiry_timestamp_seconds", ledger.expires)
        watch.note("dnssec", told)
        wanted = expect.dnssec or "secure"
        if wanted not in (seen, "any"):
            why = f": {verdict.why}" if verdict.why else ""
            raise unlike(f"the answer is {seen}, wanted {wanted}{why}", phase="validate")
        within = expect.rrsig_expires_within
        if within is not None and ledger.expires and left < within:
            raise unlike(
                f"the signature over {ledger.soonest} expires in {show_duration(round(left))}, on "
                f"{show_moment(ledger.expires)}, wanted at least {show_duration(within)}",
                phase="validate",
            )

    def _judge(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> None:
        several = len(inquiries) > 1
        odd = self._disagreement(watch, inquiries) if self.options.agree else ""
        for inquiry in inquiries:
            try:
                if inquiry.failure is not None:
                    raise inquiry.failure
                assert inquiry.answered is not None
                self.rules.judge(inquiry.answered)
            except (ProbeFailed, ProbeBroken) as failure:
                if not several:
                    raise
                raise type(failure)(
                    failure.reason, f"{inquiry.server}: {failure.message}", phase=failure.phase
                ) from failure
        if odd:
            raise unlike(odd)

    def _disagreement(self, watch: Watch, inquiries: Sequence[_Inquiry]) -> str:
        """Who answers otherwise than most, in one sentence; empty when all agree. The silent ones are not judged here."""
        outcomes = {each.server: self._outcome(each.answered) for each in inquiries if each.answered is not None}
        if not outcomes:
            return ""
        ((most, many),) = Counter(outcomes.values()).most_common(1)
        odd = []
        for server, outcome in outcomes.items():
            watch.measure("stormwatch_dns_server_agrees", outcome == most, server=str(server))
            if outcome != most:
                odd.append(f"{server} answers {show(outcome)}")
        return f"{'; '.join(odd)}; {many} of {len(outcomes)} servers answer {show(most)}" if odd else ""

    def _outcome(self, answered: Answered) -> tuple[str, ...]:
        """What servers have to agree on."""
        rcode = answered.message.rcode()
        if rcode != dns.rcode.NOERROR:
            return (dns.rcode.to_text(rcode),)
        return tuple(sorted({plain(each) for each in self.rules.records(answered.message)}))

    async def _judge_wildcard(self, watch: Watch, inquiry: _Inquiry) -> None:
        """Ask for a name that nobody can have made. The answer must have no records."""
        label = f"stormwatch-{secrets.token_hex(8)}".encode()
        try:
            name = dns.name.Name((label, *self.question.name.labels))
        except dns.exception.DNSException:
            return  # the target's name is too long for any below it
        question = make_question(
            name, self.question.kind, self.question.rdclass, recursion=self.options.recursion, edns=self.edns
        )
        with watch.phase("wildcard"):
            own = _Inquiry(inquiry.server)
            await self._inquire(watch, own, watch.remaining(), question)
            if own.failure is not None:
                own.failure.phase = "wildcard"
                raise own.failure
            assert own.answered is not None
            answer = own.answered.message.answer
            if answer:
                records = [text_of(record) for rrset in answer for record in list[Any](rrset)]
                raise unlike(f"{name} exists, with {show(records)}: there is a wildcard, wanted none", phase="wildcard")


_FOR_CHAIN: Final = Edns(dnssec_ok=True)

_NEXT: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP})
"""After these a stub resolver asks the next server."""


def _way(_target: str, options: DnsOptions) -> Way:
    refuse(options, "servers", "start", "authorities", "source")
    if options.transport not in ("udp", "tcp"):
        raise ValueError(f"transport: a detour passes on questions over udp and tcp, not over {options.transport}")
    place = Endpoint.parse(options.server, what="server", default_port=53) if options.server else system_name_server()
    return Way(
        place=place,
        resolver=resolver_of(options.resolver),
        ip=options.ip,
        asks_names=True,
        datagrams=options.transport == "udp",
    )


def _via(target: str, options: DnsOptions, via: str) -> tuple[str, DnsOptions]:
    return target, replace(options, server=via, ip="any")


DETOUR: Final = Detour(way=_way, via=_via)

KIND: Final = Kind(
    name="dns",
    options=DnsOptions,
    build=build,
    detour=DETOUR,
    phases=("resolve", "connect", "request", "validate", "wildcard", "authorities"),
    phase_metric=Metric("probe_dns_duration_seconds", "Seconds of a DNS question by phase"),
    metrics=(
        Metric("probe_dns_lookup_time_seconds", "Seconds that looking up the target's name took"),
        Metric("probe_ip_protocol", "IP version of the address that was used: 4 or 6, 0 when the name did not resolve"),
        Metric("probe_ip_addr_hash", "FNV-1a hash of the address that was used: changes when the address does"),
        Metric("probe_dns_answer_rrs", "Records in the answer section"),
        Metric("probe_dns_authority_rrs", "Records in the authority section"),
        Metric("probe_dns_additional_rrs", "Records in the additional section, OPT included"),
        Metric("probe_dns_query_succeeded", "1 when an answer came, whatever it said"),
        Metric("probe_dns_serial", "Serial number of the zone, for questions of type SOA"),
        Metric("stormwatch_dns_sends", "How often the question was sent, to all servers together"),
        Metric("stormwatch_dns_rcode", "Response code of the answer as a number: 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN"),
        Metric("stormwatch_dns_response_size_bytes", "Bytes of the answer"),
        Metric("stormwatch_dns_ttl_seconds", "Least TTL in the answer section"),
        Metric("stormwatch_dns_dnssec_secure", "1 when the answer was proved from the trust anchor down, else 0"),
        Metric("stormwatch_dns_rrsig_expires_seconds", "Seconds until the first of the signatures that were used ends"),
        Metric("stormwatch_dns_rrsig_expiry_timestamp_seconds", "Unix time at which the first of them ends"),
        *authorities.METRICS,
        Metric("stormwatch_dns_server_answered", "Whether each of several servers answered"),
        Metric("stormwatch_dns_server_seconds", "Seconds that each of several servers took to answer"),
        Metric("stormwatch_dns_server_agrees", "Whether each of several servers answered what most of them did"),
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
            Reason.STATUS,
            Reason.ASSERTION,
            Reason.PROTOCOL,
            Reason.TOO_SLOW,
        }
    ),
)
