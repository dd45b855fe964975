"""Signatures over DNS records, and proofs that there are none: pure functions over what was answered (RFC 4035, 5155).

A verdict is made of values: what verifies is returned, what does not is `Bogus`, with the record set, the key and why.
"""

import base64
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import dns.dnssec
import dns.exception
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rrset
from cryptography.exceptions import InvalidSignature
from dns.dnssectypes import Algorithm, DSDigest
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3
from dns.rdtypes.ANY.RRSIG import RRSIG

ALGORITHMS: Final = frozenset(
    {
        Algorithm.RSASHA1,
        Algorithm.RSASHA1NSEC3SHA1,
        Algorithm.RSASHA256,
        Algorithm.RSASHA512,
        Algorithm.ECDSAP256SHA256,
        Algorithm.ECDSAP384SHA384,
        Algorithm.ED25519,
        Algorithm.ED448,
    }
)
"""Algorithms of keys whose signatures can be checked here: those that RFC 8624 §3.1 wants validators to have."""
DIGESTS: Final = frozenset({DSDigest.SHA1, DSDigest.SHA256, DSDigest.SHA384})
"""Digests of DS records that can be checked here."""
ITERATIONS: Final = 100
"""More rounds of NSEC3 hashing than this are not computed: validators need not (RFC 9276 §3.2), and it costs."""
VERIFICATIONS: Final = 100
"""Signatures that one run checks. Hostile zones have thousands that fail, on purpose (CVE-2023-50387)."""

_OPT_OUT: Final = 1
_ZONE_KEY: Final = 0x0100
_REVOKED: Final = 0x0080


class Bogus(Exception):
    """Records that should be proved by signatures and are not. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Records of one name and type, and the signatures over them."""

    rrset: dns.rrset.RRset
    signatures: tuple[RRSIG, ...]

    def __str__(self) -> str:
        return f"{self.rrset.name} {dns.rdatatype.to_text(self.rrset.rdtype)}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a zone that are proved to be its own."""

    zone: dns.name.Name
    keys: tuple[DNSKEY, ...]


@dataclass(slots=True)
class Ledger:
    """What one run has checked: how much work it was, and which signature ends first."""

    now: float
    """Unix time that signatures are held against."""
    verifications: int = 0
    expires: int = 0
    """Unix time at which the first of the good signatures ends; 0 while there is none."""
    soonest: str = ""
    """The record set that it is over."""
    verified: list[str] = field(default_factory=list[str])

    def spend(self) -> None:
        """Before each computation. Raises Bogus when it is too much."""
        self.verifications += 1
        if self.verifications > VERIFICATIONS:
            raise Bogus(
                f"more than {VERIFICATIONS} signatures would have to be checked: the zone is built to cost time"
            )

    def credit(self, signed: Signed, signature: RRSIG) -> None:
        """A signature that is good."""
        if not self.expires or signature.expiration < self.expires:
            self.expires, self.soonest = signature.expiration, str(signed)
        self.verified.append(f"{signed} by key {signature.key_tag} of {signature.signer}")


def signed_sets(section: Sequence[dns.rrset.RRset]) -> list[Signed]:
    """The record sets of a section with their signatures."""
    signatures: dict[tuple[dns.name.Name, int], list[RRSIG]] = {}
    for rrset in section:
        if rrset.rdtype == dns.rdatatype.RRSIG:
            for each in list[Any](rrset):
                signatures.setdefault((rrset.name, each.type_covered), []).append(each)
    return [
        Signed(rrset, tuple(signatures.get((rrset.name, rrset.rdtype), ())))
        for rrset in section
        if rrset.rdtype != dns.rdatatype.RRSIG
    ]


def verify(signed: Signed, keys: Keys, ledger: Ledger) -> RRSIG:
    """The signature by one of the zone's keys that proves the records. Raises Bogus: why none of them does."""
    if not signed.signatures:
        raise Bogus(f"{signed} is not signed, and zone {keys.zone} is")
    wrong: list[str] = []
    for signature in signed.signatures:
        problem = _problem(signed, signature, keys, ledger)
        if not problem:
            ledger.credit(signed, signature)
            return signature
        wrong.append(problem)
    raise Bogus(f"{signed}: {'; '.join(dict.fromkeys(wrong))}")


def _problem(signed: Signed, signature: RRSIG, keys: Keys, ledger: Ledger) -> str:
    """Why a signature proves nothing; empty for a good one. RFC 4035 §5.3.1."""
    made = f"the signature by key {signature.key_tag} of {signature.signer}"
    if signature.signer != keys.zone:
        return f"{made} is not by zone {keys.zone}"
    if signature.algorithm not in ALGORITHMS:
        return f"{made} is of an algorithm that is not supported ({_algorithm(signature.algorithm)})"
    if not signed.rrset.name.is_subdomain(keys.zone) or signature.labels > len(signed.rrset.name) - 1:
        return f"{made} is for another name"
    if signature.expiration < ledger.now:
        return f"{made} expired on {show_moment(signature.expiration)}"
    if signature.inception > ledger.now:
        return f"{made} is not valid before {show_moment(signature.inception)}"
    candidates = [
        key
        for key in keys.keys
        if key.algorithm == signature.algorithm
        and key.flags & _ZONE_KEY
        and not (key.flags & _REVOKED and signed.rrset.rdtype != dns.rdatatype.DNSKEY)
        and key.protocol == 3
        and dns.dnssec.key_id(key) == signature.key_tag
    ]
    if not candidates:
        return f"{made} is by none of the zone's keys, which are {_tags(keys.keys)}"
    for key in candidates:
        ledger.spend()
        try:
            known: Any = {keys.zone: dns.rdataset.from_rdata_list(0, [key])}
            dns.dnssec.validate_rrsig(signed.rrset, signature, known, None, ledger.now)
        except (dns.exception.DNSException, InvalidSignature, ValueError) as error:
            if isinstance(error, dns.exception.UnsupportedAlgorithm):
                return f"{made} is of an algorithm that is not supported ({_algorithm(signature.algorithm)})"
            continue
        return ""
    return f"{made} does not match: the records were changed after they were signed"


def zone_keys(dnskeys: Signed, anchors: Sequence[DS | DNSKEY], ledger: Ledger, *, what: str) -> Keys:
    """The keys of a zone, proved by one that an anchor or the parent's DS records name. Raises Bogus."""
    zone = dnskeys.rrset.name
    offered = tuple(list[Any](dnskeys.rrset))
    trusted = tuple(key for key in offered if any(_names(zone, anchor, key) for anchor in anchors))
    if not trusted:
        wanted = ", ".join(sorted({str(_tag(anchor)) for anchor in anchors}))
        raise Bogus(f"{dnskeys}: {what} {wanted} and none of the zone's keys matches, which are {_tags(offered)}")
    verify(dnskeys, Keys(zone, trusted), ledger)
    return Keys(zone, offered)


def usable(anchors: Sequence[DS | DNSKEY]) -> list[DS | DNSKEY]:
    """Those that can be checked here. With none, the zone counts as not signed (RFC 4035 §5.2)."""
    known = [
        each
        for each in anchors
        if each.algorithm in ALGORITHMS and (isinstance(each, DNSKEY) or each.digest_type in DIGESTS)
    ]
    digests = {each.digest_type for each in known if isinstance(each, DS)}
    if digests - {DSDigest.SHA1}:  # RFC 4509 §3
        known = [each for each in known if isinstance(each, DNSKEY) or each.digest_type != DSDigest.SHA1]
    return known


def _names(zone: dns.name.Name, anchor: DS | DNSKEY, key: DNSKEY) -> bool:
    if isinstance(anchor, DNSKEY):
        return anchor == key
    if anchor.algorithm != key.algorithm or anchor.key_tag != dns.dnssec.key_id(key):
        return False
    try:
        made = dns.dnssec.make_ds(zone, key, DSDigest(anchor.digest_type), policy=dns.dnssec.allow_all_policy)
    except (dns.exception.DNSException, ValueError):
        return False
    return made.digest == anchor.digest


# Proofs that there is nothing

Proof = Literal["nodata", "nxdomain", "insecure"]
"""The name has no such records; it does not exist; or it is in a part of the zone that need not be signed (opt-out)."""


class Denial:
    """The NSEC or NSEC3 records of one answer, all of them verified, and what they prove about a zone."""

    def __init__(self, zone: dns.name.Name, signed: Sequence[Signed]) -> None:
        """Raises Bogus for parameters that need not be computed with."""
        self._zone = zone
        self._nsec: list[tuple[dns.name.Name, NSEC]] = []
        self._nsec3: list[tuple[str, NSEC3]] = []
        self._hashes: dict[tuple[dns.name.Name, bytes, int], str] = {}
        for each in signed:
            for record in list[Any](each.rrset):
                if isinstance(record, NSEC):
                    self._nsec.append((each.rrset.name, record))
                elif isinstance(record, NSEC3) and len(each.rrset.name) > 1 and each.rrset.name.parent() == zone:
                    if record.iterations > ITERATIONS:
                        raise Bogus(
                            f"{each} has {record.iterations} iterations, and validators need not compute more than "
                            f"{ITERATIONS} (RFC 9276)"
                        )
                    if record.algorithm == 1:
                        self._nsec3.append((each.rrset.name.labels[0].decode("ascii", "replace").lower(), record))

    def prove(self, name: dns.name.Name, kind: int) -> Proof | None:
        """What is proved about records of a type at a name; None: nothing."""
        if self._nsec:
            return self._by_nsec(name, kind)
        return self._by_nsec3(name, kind) if self._nsec3 else None

    def delegation(self, name: dns.name.Name) -> Literal["insecure", "none", "nxdomain"] | None:
        """What a zone proves when it has no DS records for a name; None: nothing.

        An unsigned zone begins there (`insecure`), no zone begins there (`none`), or the name does not exist.
        """
        types = self._types_at(name)
        if types is not None:
            if dns.rdatatype.DS in types or (dns.rdatatype.SOA in types and name != dns.name.root):
                return None  # from below the cut: that is not the parent speaking
            return "insecure" if dns.rdatatype.NS in types else "none"
        proof = self.prove(name, dns.rdatatype.DS)
        return {"nodata": "none", "nxdomain": "nxdomain", "insecure": "insecure", None: None}[proof]  # type: ignore[return-value]

    def no_closer(self, name: dns.name.Name, labels: int) -> bool:
        """Whether nothing stands between a wildcard of so many labels and the name that was answered by it."""
        next_closer = name.split(labels + 2)[1] if len(name) > labels + 2 else name
        if any(self._covers(owner, record, name) for owner, record in self._nsec):
            return True
        return any(self._covers3(owner, record, next_closer) for owner, record in self._nsec3)

    def _types_at(self, name: dns.name.Name) -> frozenset[int] | None:
        """The types that exist at a name, if a record stands right there."""
        for owner, record in self._nsec:
            if owner == name:
                return frozenset(_types(record))
        for owner, record in self._nsec3:
            if owner == self._hash(name, record):
                return frozenset(_types(record))
        return None

    def _lacks(self, types: frozenset[int], kind: int) -> bool:
        if kind in types or dns.rdatatype.CNAME in types:
            return False
        # At a cut the parent speaks of DS and nothing else (RFC 6840 §4.1).
        return not (dns.rdatatype.NS in types and dns.rdatatype.SOA not in types and kind != dns.rdatatype.DS)

    def _by_nsec(self, name: dns.name.Name, kind: int) -> Proof | None:
        types = self._types_at(name)
        if types is not None:
            return "nodata" if self._lacks(types, kind) else None
        for owner, record in self._nsec:
            if not self._covers(owner, record, name):
                continue
            if record.next.is_subdomain(name):
                return "nodata"  # an empty non-terminal
            closest = max((_common(name, owner), _common(name, record.next)), key=len)
            wildcard = dns.name.Name((b"*", *closest.labels))
            types = self._types_at(wildcard)
            if types is not None:
                return "nodata" if self._lacks(types, kind) else None
            if any(self._covers(other, each, wildcard) for other, each in self._nsec):
                return "nxdomain"
        return None

    def _by_nsec3(self, name: dns.name.Name, kind: int) -> Proof | None:
        types = self._types_at(name)
        if types is not None:
            return "nodata" if self._lacks(types, kind) else None
        closest = name
        while closest != self._zone and len(closest) > 1:
            next_closer, closest = closest, closest.parent()
            types = self._types_at(closest)
            if types is None:
                continue
            if dns.rdatatype.DNAME in types or (dns.rdatatype.NS in types and dns.rdatatype.SOA not in types):
                return None  # the closest encloser is not the zone's to speak of (RFC 5155 §8.3)
            covering = [each for owner, each in self._nsec3 if self._covers3(owner, each, next_closer)]
            if not covering:
                return None
            if any(each.flags & _OPT_OUT for each in covering):
                return "insecure"
            wildcard = dns.name.Name((b"*", *closest.labels))
            types = self._types_at(wildcard)
            if types is not None:
                return "nodata" if self._lacks(types, kind) else None
            return "nxdomain" if any(self._covers3(owner, each, wildcard) for owner, each in self._nsec3) else None
        return None

    def _covers(self, owner: dns.name.Name, record: NSEC, name: dns.name.Name) -> bool:
        types = frozenset(_types(record))
        below = name.is_subdomain(owner) and name != owner
        if below and (dns.rdatatype.DNAME in types or (dns.rdatatype.NS in types and dns.rdatatype.SOA not in types)):
            return False  # what is below a cut is not the parent's to deny (RFC 6840 §4.1)
        if owner < record.next:
            return owner < name < record.next
        return name > owner and name.is_subdomain(self._zone)  # the last one leads back to the zone's own name

    def _covers3(self, owner: str, record: NSEC3, name: dns.name.Name) -> bool:
        hashed, following = self._hash(name, record), _base32(record.next)
        if owner < following:
            return owner < hashed < following
        return hashed > owner or hashed < following

    def _hash(self, name: dns.name.Name, record: NSEC3) -> str:
        key = (name, record.salt, record.iterations)
        if key not in self._hashes:
            self._hashes[key] = dns.dnssec.nsec3_hash(name, record.salt, record.iterations, 1).lower()
        return self._hashes[key]


def _types(record: NSEC | NSEC3) -> Iterator[int]:
    for window, bitmap in record.windows:
        for number, byte in enumerate(bitmap):
            for bit in range(8):
                if byte & (0x80 >> bit):
                    yield window * 256 + number * 8 + bit


def _common(one: dns.name.Name, other: dns.name.Name) -> dns.name.Name:
    """The longest name that both are in."""
    _, _, labels = one.fullcompare(other)
    return one.split(labels)[1]


def _base32(data: bytes) -> str:
    return base64.b32hexencode(data).decode().rstrip("=").lower()


def _tag(anchor: DS | DNSKEY) -> int:
    return anchor.key_tag if isinstance(anchor, DS) else dns.dnssec.key_id(anchor)


def _tags(keys: Sequence[DNSKEY]) -> str:
    return ", ".join(sorted(str(dns.dnssec.key_id(key)) for key in keys)[:8]) or "none"


def _algorithm(number: int) -> str:
    return dns.dnssec.algorithm_to_text(Algorithm.make(number))


def show_moment(moment: float) -> str:
    """A moment as people read it: 2026-11-21 05:57:16 UTC."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
