"""The kind `dns`: one question to one name server, the answer judged record by record."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from pydantic import ConfigDict, Field

from stormwatch.probes.certificate import load_trust
from stormwatch.probes.endpoint import Endpoint, address_hash, family
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.nameserver import Answered, Transport, ask, rdata_of
from stormwatch.probes.options import STRICT, File
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Seconds, show_duration
from stormwatch.probes.watch import Watch

SHOWN: Final = 4096
"""Characters of the answer that are kept as evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectDns:
    """What the answer must be. Records are compared as text, in any order, names with or without their last dot."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    answers: tuple[str, ...] | None = None
    """The records of the asked type: exactly these. An empty list wants none; not given, there must be some."""
    answers_include: tuple[str, ...] = ()
    """Records that must be among them."""
    answers_match: tuple[str, ...] = ()
    """RE2 expressions, each of which must be found in one of the records."""
    rcode: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "NOERROR"
    """The response code, by its name in IANA's registry: NOERROR, NXDOMAIN, REFUSED …"""
    min_ttl: Seconds | None = None
    """The least time for which every answered record may be kept."""
    authoritative: bool | None = None
    """Whether the server must, or must not, be an authority for the name (the AA flag)."""
    slower_than: Seconds | None = None
    """Down, with reason too-slow, when the run takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsOptions:
    """What to ask, whom, and what the answer must be. The target is the name that is asked for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    type: Annotated[str, Field(pattern=r"^[A-Z0-9]+$")] = "A"
    """Record type, by its name in IANA's registry: A, AAAA, MX, TXT, SOA …"""
    server: str = ""
    """Name server to ask, `host` or `host:port`; the first one of the system when empty."""
    transport: Transport = "udp"
    """`udp` asks again over TCP when the answer was cut off; `tls` is DNS over TLS (RFC 7858)."""
    rdclass: Annotated[str, Field(pattern=r"^[A-Z0-9]+$", alias="class")] = "IN"
    """Class of the records."""
    recursion: bool = True
    """Whether the server may ask others (the RD flag)."""
    ip: Family = "any"
    """Which address of the server to use, when it is given by name."""
    ca_file: File = ""
    """For `tls`: PEM file of the certificate authorities to trust; the system's when empty."""
    server_name: str = ""
    """For `tls`: the name that the server's certificate must be for; the server's host when empty."""
    expect: ExpectDns = field(default_factory=ExpectDns)
    """What the answer must be."""


def build(target: str, options: DnsOptions) -> Check:
    """A check of one name. Raises ValueError for a name, type or server that cannot be asked."""
    try:
        name = dns.name.from_text(target)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(f"target {target!r} is not a domain name: {error or type(error).__name__}") from None
    try:
        kind = dns.rdatatype.from_text(options.type)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"type: there is no record type {options.type!r}") from None
    try:
        rdclass = dns.rdataclass.from_text(options.rdclass)
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"class: there is no class {options.rdclass!r}") from None
    server = _server(options)
    context = None
    if options.transport == "tls":
        ca_file, _ = load_trust(options.ca_file)
        context = ssl.create_default_context(cafile=ca_file)
    return DnsCheck(
        name=name,
        kind=kind,
        rdclass=rdclass,
        server=server,
        options=options,
        context=context,
        expectations=_Expectations(options, kind),
    )


@dataclass(frozen=True, slots=True, eq=False)
class DnsCheck:
    """Asks one question."""

    name: dns.name.Name
    kind: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    server: Endpoint
    options: DnsOptions
    context: ssl.SSLContext | None
    expectations: "_Expectations"

    async def __call__(self, watch: Watch) -> None:
        """Resolve the server, ask it, judge its answer."""
        lookup, address, succeeded = 0.0, "", False
        try:
            with watch.phase("resolve"):
                began = watch.clock.monotonic()
                try:
                    found = await resolve(self.server.host, ip=self.options.ip, clock=watch.clock.monotonic)
                finally:
                    lookup = watch.clock.monotonic() - began
            address = found[0]
            watch.note("server", str(Endpoint(address, self.server.port)))
            answered = await self._ask(watch, address)
            succeeded = True
            self._write_answer(watch, answered)
            self.expectations.judge(answered.message, lookup + answered.connect + answered.request)
        finally:
            watch.measure("probe_dns_lookup_time_seconds", lookup)
            watch.measure("probe_ip_protocol", family(address))
            if address:
                watch.measure("probe_ip_addr_hash", address_hash(address))
            watch.measure("probe_dns_query_succeeded", succeeded)

    async def _ask(self, watch: Watch, address: str) -> Answered:
        clock = watch.clock.monotonic
        query = dns.message.make_query(self.name, self.kind, self.rdclass)
        if not self.options.recursion:
            query.flags &= ~dns.flags.RD
        began = clock()
        try:
            answered = await ask(
                query,
                address,
                self.server.port,
                transport=self.options.transport,
                context=self.context,
                server_name=self.options.server_name or self.server.host,
                clock=clock,
            )
        except (Exception, asyncio.CancelledError) as error:
            phase = "request" if isinstance(error, ProbeFailed) or self.options.transport == "udp" else "connect"
            watch.add_phase(phase, clock() - began, offset=began - watch.began, failed=True)
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                raise self._refused(error, address, phase) from error
            raise
        watch.add_phase("connect", answered.connect, offset=began - watch.began)
        watch.add_phase("request", answered.request, offset=began - watch.began + answered.connect)
        return answered

    def _refused(self, error: OSError, address: str, phase: str) -> ProbeFailed | ProbeBroken:
        failure = explain_connection(error, Endpoint(address, self.server.port))
        failure.phase = phase
        return failure

    def _write_answer(self, watch: Watch, answered: Answered) -> None:
        message = answered.message
        watch.measure("probe_dns_answer_rrs", _count(message.answer))
        watch.measure("probe_dns_authority_rrs", _count(message.authority))
        watch.measure("probe_dns_additional_rrs", _count(message.additional))
        if self.kind == dns.rdatatype.SOA:
            for record in rdata_of(message, dns.rdatatype.SOA)[:1]:
                watch.measure("probe_dns_serial", record.serial)
        watch.note("rcode", dns.rcode.to_text(message.rcode()))
        watch.note("answer", message.to_text()[:SHOWN])
        if answered.truncated:
            watch.note("truncated", True)


class _Expectations:
    """What is expected, compiled once."""

    def __init__(self, options: DnsOptions, kind: dns.rdatatype.RdataType) -> None:
        expect = options.expect
        self._expect = expect
        self._kind = kind
        try:
            self._rcode = dns.rcode.from_text(expect.rcode)
        except (dns.exception.DNSException, ValueError):
            raise ValueError(f"expect.rcode: there is no response code {expect.rcode!r}") from None
        self._patterns: list[tuple[str, Pattern]] = [
            (text, compile_pattern(text, f"expect.answers_match[{number}]"))
            for number, text in enumerate(expect.answers_match)
        ]

    def judge(self, message: dns.message.Message, seconds: float) -> None:
        """Raises ProbeFailed for the first expectation that does not hold."""
        for failure in self._failures(message, seconds):
            raise failure

    def _failures(self, message: dns.message.Message, seconds: float) -> Iterator[ProbeFailed]:
        expect = self._expect
        if message.rcode() != self._rcode:
            said = f"the server answered {dns.rcode.to_text(message.rcode())}, wanted {expect.rcode}"
            yield ProbeFailed(Reason.DNS, said, phase="request")
        records = sorted(record.to_text() for record in self._records(message))
        yield from self._record_failures(records)
        if expect.min_ttl is not None and message.answer:
            least = min(rrset.ttl for rrset in message.answer)
            if least < expect.min_ttl:
                yield _unlike(f"a record has a TTL of {least} s, wanted at least {show_duration(expect.min_ttl)}")
        authoritative = bool(message.flags & dns.flags.AA)
        if expect.authoritative is not None and authoritative != expect.authoritative:
            yield _unlike(
                "the answer is not from an authority for the name"
                if expect.authoritative
                else "the answer is from an authority for the name, wanted one that is not"
            )
        if expect.slower_than is not None and seconds > expect.slower_than:
            yield ProbeFailed(
                Reason.TOO_SLOW,
                f"took {seconds * 1000:.0f} ms, wanted at most {show_duration(expect.slower_than)}",
                phase="request",
            )

    def _record_failures(self, records: list[str]) -> Iterator[ProbeFailed]:
        expect = self._expect
        shown = ", ".join(records) or "no record"
        seen = {_plain(record) for record in records}
        if expect.answers is not None:
            if seen != {_plain(record) for record in expect.answers}:
                yield _unlike(f"the answer is {shown}, wanted {', '.join(expect.answers) or 'no record'}")
        elif not records and self._rcode == dns.rcode.NOERROR:
            yield ProbeFailed(Reason.DNS, "the name has no record of this type", phase="request")
        missing = [record for record in expect.answers_include if _plain(record) not in seen]
        if missing:
            yield _unlike(f"the answer is {shown}, wanted {', '.join(missing)} in it")
        for text, pattern in self._patterns:
            if not any(pattern.search(record.encode()) for record in records):
                yield _unlike(f"the answer is {shown}, wanted a record that matches {text!r}")

    def _records(self, message: dns.message.Message) -> list[Any]:
        if self._kind == dns.rdatatype.ANY:
            return [record for rrset in message.answer for record in list(rrset)]
        return rdata_of(message, self._kind)


def _unlike(message: str) -> ProbeFailed:
    return ProbeFailed(Reason.ASSERTION, message, phase="request")


def _plain(record: str) -> str:
    """A record as it is compared: names in lower case, without their last dot; quoted text as it is."""
    if '"' in record:
        return record
    return " ".join(part.lower().removesuffix(".") for part in record.split())


def _count(section: list[Any]) -> int:
    return sum(len(rrset) for rrset in section)


def _server(options: DnsOptions) -> Endpoint:
    port = 853 if options.transport == "tls" else 53
    if options.server:
        return Endpoint.parse(options.server, what="server", default_port=port)
    try:
        nameservers = dns.resolver.Resolver().nameservers
    except (dns.exception.DNSException, OSError) as error:
        raise ValueError(f"the system has no name server, give `server`: {error or type(error).__name__}") from None
    return Endpoint(str(nameservers[0]), port)


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
        Metric("probe_dns_additional_rrs", "Records in the additional section"),
        Metric("probe_dns_query_succeeded", "1 when an answer came, whatever it said"),
        Metric("probe_dns_serial", "Serial number of the zone, for questions of type SOA"),
    ),
)
