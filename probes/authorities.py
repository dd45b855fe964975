"""All name servers of a zone, held against each other and against what the parent says (RFC 1034 §4.2.2, RFC 1912 §2.8)."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype
import dns.serial

from stormwatch.probes.delegation import Cut, Host, Walk, referral, show_host
from stormwatch.probes.dns_options import AuthoritiesOptions
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.probe import Metric
from stormwatch.probes.question import rdata_of
from stormwatch.probes.result import Reason
from stormwatch.probes.watch import Watch

SHARE: Final = 0.8
"""Share of the time left that each server may take, so that the silent ones can be named."""
TOLD: Final = 6
"""Complaints that a message has at most; the evidence has all."""

METRICS: Final = (
    Metric("stormwatch_dns_zone_servers", "Name servers that the zone and its parent name, together"),
    Metric("stormwatch_dns_zone_serial", "Serial number that each name server of the zone has, by its address"),
    Metric("stormwatch_dns_zone_lame", "1 for a name server of the zone that does not answer as one, by its address"),
)
"""What `compare` measures."""


@dataclass(slots=True)
class _Authority:
    """One server at one address."""

    host: Host
    address: str
    serial: int | None = None
    names: frozenset[dns.name.Name] = frozenset()
    """The servers that it says the zone has."""
    problem: str = ""

    def __str__(self) -> str:
        return show_host(self.host, self.address)


@dataclass(slots=True)
class _Survey:
    """What was found out about one zone."""

    zone: dns.name.Name
    referral: Cut | None
    """What the parent says; None where its servers are all in charge of this zone too, and so never refer to it."""
    authorities: list[_Authority] = field(default_factory=list[_Authority])
    homeless: list[str] = field(default_factory=list[str])
    """Servers whose addresses could not be found, and why."""

    @property
    def parent_names(self) -> frozenset[dns.name.Name]:
        return frozenset(host.name for host in self.referral.hosts) if self.referral else frozenset()

    @property
    def child_names(self) -> frozenset[dns.name.Name]:
        return frozenset(name for each in self.authorities for name in each.names)


async def compare(watch: Watch, walk: Walk, name: dns.name.Name, options: AuthoritiesOptions) -> None:
    """Ask every server of the zone that a name is in. Raises ProbeFailed that names those that are wrong."""
    cut = await walk.cut_of(name)
    survey = _Survey(cut.zone, await _parent(walk, cut))
    pending = list(survey.referral.hosts) if survey.referral is not None else await _own_hosts(walk, cut)
    known: set[dns.name.Name] = set()
    while pending:
        known |= {host.name for host in pending}
        await _ask_all(watch, walk, survey, pending)
        pending = [Host(each) for each in sorted(survey.child_names - known)]
    _write(watch, survey, len(known))
    complaints = list(_complaints(survey, options, len(known)))
    if complaints:
        more = f" and {len(complaints) - TOLD} more" if len(complaints) > TOLD else ""
        raise ProbeFailed(
            Reason.ASSERTION, f"zone {cut.zone}: {'; '.join(complaints[:TOLD])}{more}", phase="authorities"
        )


async def _parent(walk: Walk, cut: Cut) -> Cut | None:
    """What the parent's servers say of a zone: the first of them that refers, instead of answering itself."""
    if cut.zone == dns.name.root:
        return None
    parent = await walk.cut_of(cut.zone.parent())
    for host in parent.hosts:
        try:
            for address in await walk.addresses(host):
                if not walk.suits(address):
                    continue
                answered = await walk.ask(host, address, cut.zone, dns.rdatatype.NS, limit=walk.watch.remaining() / 3)
                found = referral(answered.message, parent.zone, cut.zone)
                if found is not None and found.zone == cut.zone:
                    return found
        except ProbeFailed:
            continue
    return None


async def _own_hosts(walk: Walk, cut: Cut) -> list[Host]:
    """What the zone itself says, where no referral tells."""
    answer = await walk.records(cut.zone, dns.rdatatype.NS)
    return [Host(record.target) for record in rdata_of(answer, dns.rdatatype.NS)]


async def _ask_all(watch: Watch, walk: Walk, survey: _Survey, hosts: Iterable[Host]) -> None:
    found: list[_Authority] = []
    for host in hosts:
        try:
            addresses = [address for address in await walk.addresses(host) if walk.suits(address)]
        except ProbeFailed as failure:
            survey.homeless.append(f"the address of {_plain(host.name)} was not found: {failure.message}")
            continue
        if not addresses:
            survey.homeless.append(f"{_plain(host.name)} has no address")
        found += [_Authority(host, address) for address in addresses]
    limit = watch.remaining() * SHARE
    async with asyncio.TaskGroup() as group:
        for each in found:
            group.create_task(_ask(walk, survey.zone, each, limit))
    # An address of a family that we have no way to is no evidence about its server.
    unreachable = [each for each in found if each.problem == _NO_WAY]
    if unreachable:
        watch.note("not_asked", [str(each) for each in unreachable])
    survey.authorities += [each for each in found if each.problem != _NO_WAY]
    if found and len(unreachable) == len(found):
        raise ProbeBroken(Reason.NETWORK, f"there is no way to any server of zone {survey.zone} from here")


_NO_WAY: Final = "no way"


async def _ask(walk: Walk, zone: dns.name.Name, authority: _Authority, limit: float) -> None:
    try:
        soa = await walk.ask(authority.host, authority.address, zone, dns.rdatatype.SOA, limit=limit)
        message = soa.message
        records = [
            record
            for rrset in message.answer
            if rrset.rdtype == dns.rdatatype.SOA and rrset.name == zone
            for record in list[Any](rrset)
        ]
        if message.rcode() != dns.rcode.NOERROR:
            authority.problem = f"{authority} is lame: it answers {dns.rcode.to_text(message.rcode())}"
        elif not message.flags & dns.flags.AA:
            authority.problem = f"{authority} is lame: it does not answer as an authority"
        elif not records:
            authority.problem = f"{authority} is lame: it has no SOA record of the zone"
        else:
            authority.serial = int(records[0].serial)
            names = await walk.ask(authority.host, authority.address, zone, dns.rdatatype.NS, limit=limit)
            authority.names = frozenset(record.target for record in rdata_of(names.message, dns.rdatatype.NS))
    except ProbeFailed as failure:
        authority.problem = failure.message
    except ProbeBroken as failure:
        if failure.reason is not Reason.NETWORK:
            raise
        authority.problem = _NO_WAY


def _write(watch: Watch, survey: _Survey, servers: int) -> None:
    watch.measure("stormwatch_dns_zone_servers", servers)
    told: dict[str, Any] = {}
    for each in survey.authorities:
        server = _plain(each.host.name)
        watch.measure("stormwatch_dns_zone_lame", bool(each.problem), server=server, address=each.address)
        if each.serial is not None:
            watch.measure("stormwatch_dns_zone_serial", each.serial, server=server, address=each.address)
        told[str(each)] = each.problem or each.serial
    watch.note("zone", survey.zone.to_text())
    watch.note("authorities", told)
    if survey.referral is not None:
        watch.note("parent_names", sorted(map(_plain, survey.parent_names)))
    watch.note("zone_names", sorted(map(_plain, survey.child_names)))


def _complaints(survey: _Survey, options: AuthoritiesOptions, servers: int) -> Iterable[str]:
    if options.glue == "required" and survey.referral is not None:
        for host in survey.referral.hosts:
            if host.name.is_subdomain(survey.zone) and not host.addresses:
                yield f"the parent names {_plain(host.name)} without its address (glue), and it is within the zone"
    if options.same_as_parent and survey.referral is not None and survey.child_names:
        only_parent, only_zone = survey.parent_names - survey.child_names, survey.child_names - survey.parent_names
        if only_parent:
            yield f"only the parent names {_list(only_parent)}"
        if only_zone:
            yield f"only the zone itself names {_list(only_zone)}"
    if options.lame == "forbidden":
        yield from survey.homeless
        yield from (each.problem for each in survey.authorities if each.problem)
    if not any(each.serial is not None for each in survey.authorities):
        yield "none of its servers answers as an authority"
    if options.agree:
        yield from _behind(survey.authorities)
    if servers < options.min_servers:
        yield f"it has {servers} name servers, wanted at least {options.min_servers}"


def _behind(authorities: Iterable[_Authority]) -> Iterable[str]:
    serials = {str(each): dns.serial.Serial(each.serial) for each in authorities if each.serial is not None}
    if len(set(serials.values())) < 2:
        return
    newest = max(serials.values())
    for server, serial in serials.items():
        if serial != newest:
            yield f"{server} has serial number {serial.value}, behind {newest.value}"


def _list(names: Iterable[dns.name.Name]) -> str:
    return ", ".join(sorted(map(_plain, names)))


def _plain(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
