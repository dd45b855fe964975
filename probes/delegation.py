"""The way down from the root, asked by ourselves: who is told to be in charge of a zone, and who says that they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from stormwatch.probes.dns_server import PLAIN, DnsServer, Line
from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.nameserver import Answered, Progress
from stormwatch.probes.question import Edns, make_question, rdata_of
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.root import SERVERS
from stormwatch.probes.watch import Watch

QUESTIONS: Final = 200
"""Questions that one run asks on its way. Zones can be built to lead nowhere for ever."""
REFERRALS: Final = 32

_EDNS: Final = Edns(dnssec_ok=True)


@dataclass(frozen=True, slots=True)
class Host:
    """A name server by name, with the addresses that are known of it."""

    name: dns.name.Name
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """A zone, and the servers to ask about it."""

    zone: dns.name.Name
    hosts: tuple[Host, ...]
    referred: bool = False
    """Whether the hosts are those that the parent named; otherwise its servers are in charge of this zone too."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin. Servers that are found are asked on the same port."""

    hosts: tuple[Host, ...]
    endpoint: Endpoint | None
    """A server that still has to be looked up, instead of hosts."""
    port: int

    @classmethod
    def parse(cls, text: str) -> "Start":
        """Read `root`, `host` or `host:port`. Raises ValueError."""
        if text in ("", "root"):
            hosts = tuple(Host(dns.name.from_text(name), tuple(addresses)) for name, *addresses in SERVERS)
            return cls(hosts, None, 53)
        place = Endpoint.parse(text, what="start", default_port=53)
        return cls((), place, place.port)


@dataclass(slots=True, eq=False)
class Walk:
    """One run's way. It keeps what it learnt, so that no question is asked twice."""

    watch: Watch
    start: Start
    ip: Family = "any"
    line: Line = PLAIN
    resolver: Endpoint | None = None
    questions: int = 0
    _cuts: dict[dns.name.Name, Cut] = field(default_factory=dict[dns.name.Name, Cut])
    _hosts: dict[dns.name.Name, tuple[str, ...]] = field(default_factory=dict[dns.name.Name, tuple[str, ...]])
    _sought: set[dns.name.Name] = field(default_factory=set[dns.name.Name])
    """Servers whose addresses are being asked for right now."""

    async def records(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """What the authorities answer; about DS records those of the parent."""
        place = name.parent() if kind == dns.rdatatype.DS and name != dns.name.root else name
        cut = await self.cut_of(place)
        return (await self._ask_any(cut, name, kind)).message

    async def cut_of(self, name: dns.name.Name) -> Cut:
        """The zone that a name is in. Raises ProbeFailed when the way to it does not lead on."""
        cut = self._nearest(name) or await self._begin()
        for _ in range(REFERRALS):
            if cut.zone == name:
                return cut
            answer = (await self._ask_any(cut, name, dns.rdatatype.SOA)).message
            further = referral(answer, cut.zone, name)
            if further is None:
                return self._authority(answer, cut, name) or await self._around_alias(answer, cut, name)
            cut = self._cuts[further.zone] = further
        raise ProbeFailed(Reason.DNS, f"more than {REFERRALS} referrals on the way to {name}")

    async def _begin(self) -> Cut:
        start = self.start
        hosts = start.hosts
        if start.endpoint is not None:
            addresses = await resolve(
                start.endpoint.host, ip=self.ip, server=self.resolver, clock=self.watch.clock.monotonic
            )
            hosts = (Host(dns.name.from_text(start.endpoint.host), addresses),)
        cut = self._cuts[dns.name.root] = Cut(dns.name.root, hosts)
        return cut

    def _nearest(self, name: dns.name.Name) -> Cut | None:
        known = [zone for zone in self._cuts if name.is_subdomain(zone)]
        return self._cuts[max(known, key=len)] if known else None

    def _authority(self, answer: dns.message.Message, cut: Cut, name: dns.name.Name) -> Cut | None:
        """The zone that the answering server says it is an authority of: deeper than the last referral where it has both."""
        for rrset in (*answer.answer, *answer.authority):
            if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
                if len(rrset.name) > len(cut.zone):
                    cut = self._cuts[rrset.name] = Cut(rrset.name, cut.hosts)
                return cut
        return None

    async def _around_alias(self, answer: dns.message.Message, cut: Cut, name: dns.name.Name) -> Cut:
        """A name that is an alias is in the zone that its parent is in, for no zone begins at an alias."""
        alias = any(rrset.rdtype in (dns.rdatatype.CNAME, dns.rdatatype.DNAME) for rrset in answer.answer)
        return await self.cut_of(name.parent()) if alias and len(name) > len(cut.zone) else cut

    async def addresses(self, host: Host) -> tuple[str, ...]:
        """The addresses of a name server: as referred, or asked for on a way of their own."""
        if host.addresses:
            return host.addresses
        if host.name not in self._hosts:
            if host.name in self._sought:
                raise ProbeFailed(Reason.DNS, f"the address of {host.name} depends on itself, and there is no glue")
            self._sought.add(host.name)
            found: list[str] = []
            try:
                for kind in self._kinds():
                    answer = await self.records(host.name, kind)
                    found += [record.address for record in rdata_of(answer, kind)]
            finally:
                self._sought.discard(host.name)
            self._hosts[host.name] = tuple(found)
        return self._hosts[host.name]

    def _kinds(self) -> Sequence[dns.rdatatype.RdataType]:
        if self.ip == "4":
            return (dns.rdatatype.A,)
        return (dns.rdatatype.AAAA,) if self.ip == "6" else (dns.rdatatype.A, dns.rdatatype.AAAA)

    def suits(self, address: str) -> bool:
        """Whether addresses of this family are to be used."""
        return self.ip not in ("4", "6") or (":" in address) == (self.ip == "6")

    async def _ask_any(self, cut: Cut, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Answered:
        """Ask the servers of a zone, one after the other, until one answers well."""
        failure: ProbeFailed | ProbeBroken | None = None
        for host in cut.hosts:
            try:
                addresses = [each for each in await self.addresses(host) if self.suits(each)]
            except ProbeFailed as error:
                failure = failure or error
                continue
            for address in addresses:
                try:
                    answered = await self.ask(host, address, name, kind, limit=self.watch.remaining() / 3)
                except (ProbeFailed, ProbeBroken) as error:
                    if isinstance(error, ProbeBroken) and error.reason is not Reason.NETWORK:
                        raise
                    failure = error
                    continue
                if answered.message.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return answered
                said = dns.rcode.to_text(answered.message.rcode())
                failure = ProbeFailed(Reason.DNS, f"{show_host(host, address)} answered {said} to {name}")
        raise failure or ProbeFailed(Reason.DNS, f"no server of zone {cut.zone} has an address")

    async def ask(
        self, host: Host, address: str, name: dns.name.Name, kind: dns.rdatatype.RdataType, *, limit: float
    ) -> Answered:
        """Ask one server at one address, without recursion. Raises ProbeFailed or ProbeBroken that name it."""
        self.questions += 1
        if self.questions > QUESTIONS:
            raise ProbeFailed(Reason.DNS, f"more than {QUESTIONS} questions would have to be asked")
        shown = show_host(host, address)
        self.watch.reach.permitted((address,), shown)
        question = make_question(name, kind, recursion=False, edns=_EDNS)
        server = DnsServer(Endpoint(address, self.start.port))
        progress = Progress()
        try:
            async with asyncio.timeout(limit):
                return await self.line.ask(self.watch, question, server, address, limit=limit, progress=progress)
        except TimeoutError:
            raise ProbeFailed(Reason.TIMEOUT, f"{shown} did not answer {question} within {limit:.2g} s") from None
        except (ProbeFailed, ProbeBroken) as error:
            raise type(error)(error.reason, f"{shown}: {error.message}") from error


def referral(answer: dns.message.Message, zone: dns.name.Name, name: dns.name.Name) -> Cut | None:
    """The zone below `zone`, on the way to `name`, whose servers an answer names; None when it is no referral.

    Of the addresses only those of servers within the zone that refers are taken: for others it may not speak.
    """
    if answer.flags & dns.flags.AA and answer.answer:
        return None
    for rrset in answer.authority:
        below = len(rrset.name) > len(zone) and rrset.name.is_subdomain(zone) and name.is_subdomain(rrset.name)
        if rrset.rdtype == dns.rdatatype.NS and below:
            targets: list[dns.name.Name] = [record.target for record in list(rrset)]
            return Cut(
                rrset.name,
                tuple(Host(target, glue(answer, target) if target.is_subdomain(zone) else ()) for target in targets),
                referred=True,
            )
    return None


def glue(answer: dns.message.Message, name: dns.name.Name) -> tuple[str, ...]:
    """The addresses of a server that come with a referral."""
    return tuple(
        str(record.address)
        for rrset in answer.additional
        if rrset.name == name
        and rrset.rdclass == dns.rdataclass.IN
        and rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
        for record in list(rrset)
    )


def show_host(host: Host, address: str) -> str:
    """A server in a sentence."""
    name = host.name.to_text(omit_final_dot=True)
    return address if is_address(name) else f"{name} ({address})"
