"""The kind `dns`: one question to one name server or several, the answers judged record by record."""

import asyncio
import ipaddress
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import dns.edns
import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from stormwatch.probes.backend import judge_speed, show_words
from stormwatch.probes.dns_options import DnsOptions
from stormwatch.probes.dns_rules import Rules, read_type, show, unlike
from stormwatch.probes.dns_server import PORTS, DnsServer, Line, make_line
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain
from stormwatch.probes.nameserver import Answered, Progress
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.question import Edns, Question, counts, make_question, rdata_of
from stormwatch.probes.records import plain, text_of
from stormwatch.probes.resolve import resolve
from stormwatch.probes.result import Reason
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
            recursion=options.recursion,
            checking_disabled=options.checking_disabled,
            authentic=options.expect.authenticated is not None,
            edns=edns,
        ),
        servers=servers,
        in_order=in_order,
        line=line,
        edns=edns,
        resolver=Endpoint.parse(options.resolver, what="resolver", default_port=53) if options.resolver else None,
        options=options,
        rules=Rules(options.expect, kind, rdclass),
    )


def _name(target: str) -> dns.name.Name:
    try:
        return dns.name.from_text(target)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(f"target {target!r} is not a domain name: {error or type(error).__name__}") from None


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
    if options.server:
        return (DnsServer.parse(options.server, options.transport, what="server"),), False
    if options.transport in ("https", "quic"):
        raise ValueError(f"server: the system does not say where `transport: {options.transport}` is spoken, give one")
    try:
        nameservers = dns.resolver.Resolver().nameservers
    except (dns.exception.DNSException, OSError) as error:
        raise ValueError(f"the system has no name server, give `server`: {error or type(error).__name__}") from None
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
    options: DnsOptions
    rules: Rules

    async def __call__(self, watch: Watch) -> None:
        """Resolve the server, ask it, judge its answer."""
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
        self._judge(watch, inquiries)
        if self.options.expect.wildcard == "forbidden":
            await self._judge_wildcard(watch, inquiries[0])
        judge_speed(watch, self.options.expect.slower_than)

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
            if answered is not None and answered.message.rcode() not in _NEXT:
                break
        watch.note("tried", [each.place for each in reversed(tried)])
        return tried[:1]

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
        watch.note("answer", message.to_text()[:SHOWN])
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


_NEXT: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP})
"""After these a stub resolver asks the next server."""

KIND: Final = Kind(
    name="dns",
    options=DnsOptions,
    build=build,
    phases=("resolve", "connect", "request"),
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
