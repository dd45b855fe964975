"""From a trust anchor down to an answer: which zones are between, which keys they have, and whether all of it is proved."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zonefile
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from stormwatch.probes.dnssec import Bogus, Denial, Keys, Ledger, Signed, signed_sets, usable, verify, zone_keys
from stormwatch.probes.root import ANCHORS

LONGEST: Final = 16
"""CNAME records that are followed; a chain that does not end is no answer."""

Ask = Callable[[dns.name.Name, dns.rdatatype.RdataType], Awaitable[dns.message.Message]]
"""Asks somebody for records with their signatures, whoever is to be asked for them."""
Anchors = Mapping[dns.name.Name, tuple[DS | DNSKEY, ...]]


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone on the way, with its proved keys; without, it is proved to be unsigned."""

    name: dns.name.Name
    keys: Keys | None
    why: str = ""
    """Why it counts as unsigned."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What validating came to, where it was not bogus."""

    secure: bool
    why: str
    """Why it is not secure, or from which anchor it is."""


class TrustChain:
    """One validation. It keeps what it learnt, so that no question is asked twice."""

    def __init__(self, anchors: Anchors, ask: Ask, ledger: Ledger) -> None:
        self._anchors = anchors
        self._ask = ask
        self._ledger = ledger
        self._below: dict[dns.name.Name, Zone | None] = {}
        """By name: the zone that begins there; None: none does."""
        self._nothing_below: set[dns.name.Name] = set()
        """Names that do not exist, or are aliases: no zone begins below them."""

    async def judge(self, answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Verdict:
        """Validate an answer. Raises Bogus for one that should be proved and is not."""
        followed = 0
        while True:
            zone = await self.zone_of(name, above=kind == dns.rdatatype.DS)
            if zone.keys is None:
                return Verdict(secure=False, why=zone.why)
            sets = signed_sets(answer.answer)
            found = [
                each for each in sets if each.rrset.name == name and kind in (each.rrset.rdtype, dns.rdatatype.ANY)
            ]
            if found:
                for each in found:
                    self._verify(each, zone.keys, answer)
                return Verdict(secure=True, why="")
            target = self._alias(sets, name, zone.keys, answer)
            if target is None:
                return self._nothing(answer, name, kind, zone.keys)
            name, followed = target, followed + 1
            if followed > LONGEST:
                raise Bogus(f"more than {LONGEST} CNAME records lead from one to the next")
            if not _continues(answer, name):
                answer = await self._ask(name, kind)

    async def zone_of(self, name: dns.name.Name, *, above: bool = False) -> Zone:
        """The zone that a name is in, its keys proved; with `above`, the one that has the DS records of the name."""
        place = name.parent() if above and name != dns.name.root else name
        apex = max((each for each in self._anchors if place.is_subdomain(each)), key=len, default=None)
        if apex is None:
            raise Bogus(f"no trust anchor is given for a zone that {place} is in")
        if apex not in self._below:
            self._below[apex] = await self._keys(apex, self._anchors[apex], what="the trust anchors are of keys")
        zone = self._below[apex]
        assert zone is not None
        for labels in range(len(apex) + 1, len(place) + 1):
            if zone.keys is None or zone.name in self._nothing_below:
                break
            child = place.split(labels)[1]
            if child not in self._below:
                self._below[child] = await self._cut(child, zone.keys)
            zone = self._below[child] or zone
            if child in self._nothing_below:
                break
        return zone

    async def _cut(self, child: dns.name.Name, keys: Keys) -> Zone | None:
        """The zone that begins at a name, None if none does."""
        answer = await self._ask(child, dns.rdatatype.DS)
        sets = signed_sets(answer.answer)
        for each in sets:
            if each.rrset.name == child and each.rrset.rdtype == dns.rdatatype.DS:
                verify(each, keys, self._ledger)
                return await self._keys(child, tuple(list[Any](each.rrset)), what="the parent's DS records are of keys")
        if self._alias(sets, child, keys, answer) is not None:
            self._nothing_below.add(child)
            return None
        proved = self._denial(answer, keys).delegation(child)
        if proved is None:
            raise Bogus(f"zone {keys.zone} has no DS records for {child} and does not prove that there are none")
        if proved == "insecure":
            return Zone(child, None, f"zone {keys.zone} proves that {child} has no DS records")
        if proved == "nxdomain":
            self._nothing_below.add(child)
        return None

    async def _keys(self, zone: dns.name.Name, anchors: Sequence[DS | DNSKEY], *, what: str) -> Zone:
        known = usable(anchors)
        if not known:
            algorithms = ", ".join(sorted({str(int(each.algorithm)) for each in anchors}))
            return Zone(zone, None, f"the keys of {zone} are of algorithms that are not supported: {algorithms}")
        answer = await self._ask(zone, dns.rdatatype.DNSKEY)
        for each in signed_sets(answer.answer):
            if each.rrset.name == zone and each.rrset.rdtype == dns.rdatatype.DNSKEY:
                return Zone(zone, zone_keys(each, known, self._ledger, what=what))
        raise Bogus(f"{zone} DNSKEY: the zone should be signed and has no keys ({dns.rcode.to_text(answer.rcode())})")

    def _verify(self, signed: Signed, keys: Keys, answer: dns.message.Message) -> None:
        signature = verify(signed, keys, self._ledger)
        name = signed.rrset.name
        labels = len(name) - 1 - name.is_wild()
        if signature.labels < labels and not self._denial(answer, keys).no_closer(name, signature.labels):
            raise Bogus(f"{signed} comes from a wildcard, and it is not proved that the name itself does not exist")

    def _alias(
        self, sets: Iterable[Signed], name: dns.name.Name, keys: Keys, answer: dns.message.Message
    ) -> dns.name.Name | None:
        """Where a verified CNAME or DNAME record leads from a name."""
        for each in sets:
            owner = each.rrset.name
            if each.rrset.rdtype == dns.rdatatype.DNAME and name != owner and name.is_subdomain(owner):
                verify(each, keys, self._ledger)
                (record,) = list[Any](each.rrset)[:1]
                try:
                    return name.relativize(owner).concatenate(record.target)
                except dns.exception.DNSException:
                    raise Bogus(f"{each} leads to a name that is too long") from None
        for each in sets:
            if each.rrset.name == name and each.rrset.rdtype == dns.rdatatype.CNAME:
                self._verify(each, keys, answer)
                (record,) = list[Any](each.rrset)[:1]
                target: dns.name.Name = record.target
                return target
        return None

    def _nothing(
        self, answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType, keys: Keys
    ) -> Verdict:
        missing = answer.rcode() == dns.rcode.NXDOMAIN
        if not missing and answer.rcode() != dns.rcode.NOERROR:
            raise Bogus(f"{name}: the server answered {dns.rcode.to_text(answer.rcode())} instead of a proof")
        proved = self._denial(answer, keys).prove(name, kind)
        if proved == "insecure":
            return Verdict(secure=False, why=f"zone {keys.zone} lets {name} be unsigned (NSEC3 opt-out)")
        if proved != ("nxdomain" if missing else "nodata"):
            what = "the name does not exist" if missing else f"the name has no {dns.rdatatype.to_text(kind)} records"
            raise Bogus(f"{name}: the server says that {what}, and zone {keys.zone} does not prove it")
        return Verdict(secure=True, why="")

    def _denial(self, answer: dns.message.Message, keys: Keys) -> Denial:
        proofs: list[Signed] = []
        for each in signed_sets(answer.authority):
            if each.rrset.rdtype in (dns.rdatatype.NSEC, dns.rdatatype.NSEC3):
                verify(each, keys, self._ledger)
                proofs.append(each)
        return Denial(keys.zone, proofs)


def _continues(answer: dns.message.Message, name: dns.name.Name) -> bool:
    """Whether an answer goes on behind an alias, or ends there with a proof."""
    return any(rrset.name == name for rrset in answer.answer) or any(
        rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name) for rrset in answer.authority
    )


def read_anchors(texts: Iterable[str], file: str = "") -> Anchors:
    """DS and DNSKEY records as in a zone file, by zone; IANA's of the root when there are none. Raises ValueError."""
    given = [(text, "dnssec.anchors") for text in texts]
    if file:
        try:
            content = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ValueError(f"dnssec.anchor_file: {file} could not be read: {error}") from None
        given.append((content, "dnssec.anchor_file"))
    found: dict[dns.name.Name, tuple[DS | DNSKEY, ...]] = {}
    for text, where in given or [("\n".join(ANCHORS), "")]:
        try:
            rrsets = dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=0, origin=dns.name.root, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError(f"{where}: not records as in a zone file: {error}") from None
        for rrset in rrsets:
            records = [each for each in list[Any](rrset) if isinstance(each, DS | DNSKEY)]
            found[rrset.name] = (*found.get(rrset.name, ()), *records)
    if not any(found.values()):
        raise ValueError(f"{given[-1][1]}: there is no DS and no DNSKEY record")
    return {zone: records for zone, records in found.items() if records}
