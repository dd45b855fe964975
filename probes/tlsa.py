"""TLSA records (RFC 6698, RFC 7671): which certificates a name's owner has pinned in the DNS, and whether the served one is.

Whether the answer was authenticated by DNSSEC is what the name server says with its AD flag: ask one that can be trusted,
over a way that can be.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stormwatch.probes.certificate import NotTrusted, Trust, Verified, parse
from stormwatch.probes.endpoint import Endpoint, is_address
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.nameserver import ask
from stormwatch.probes.question import Edns, Question, make_question, rdata_of
from stormwatch.probes.resolve import resolve
from stormwatch.probes.result import Reason

PHASE: Final = "tlsa"
ASK_AGAIN: Final = 1.0
"""Seconds after which the question is sent again."""
MOST: Final = 32
"""Records of a name that are looked at."""

PKIX_TA, PKIX_EE, DANE_TA, DANE_EE = range(4)
_DIGESTS: Final = {1: "sha256", 2: "sha512"}


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """One record. RFC 7218 names the numbers."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """As it is written in a zone, its data shortened."""
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()[:16]}…"

    @property
    def usable(self) -> bool:
        """Whether all its numbers are known."""
        return self.usage <= DANE_EE and self.selector <= 1 and (self.matching == 0 or self.matching in _DIGESTS)

    def fits(self, certificate: x509.Certificate) -> bool:
        """Whether it is about this certificate, or its key."""
        if self.selector == 0:
            selected = certificate.public_bytes(serialization.Encoding.DER)
        else:
            selected = certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        if self.matching:
            selected = hashlib.new(_DIGESTS[self.matching], selected).digest()
        return hmac.compare_digest(selected, self.data)


@dataclass(frozen=True, slots=True)
class Pins:
    """What the DNS says about a port."""

    name: str
    pins: tuple[Pin, ...]
    authenticated: bool
    """The name server says that DNSSEC vouches for the answer."""


def system_server() -> Endpoint:
    """The name server of this machine. Raises ValueError when it has none."""
    from dns.resolver import Resolver  # only here, because DNS over QUIC comes with it, and all that it stands on

    try:
        servers = Resolver().nameservers
    except dns.exception.DNSException as error:
        raise ValueError(f"expect.tlsa: this machine has no name server to ask ({error}): give `resolver`") from None
    found = next((str(each) for each in servers if is_address(str(each))), None)
    if found is None:
        raise ValueError("expect.tlsa: this machine has no name server to ask: give `resolver`")
    return Endpoint(found, 53)


def pins_question(host: str, port: int) -> Question:
    """The question for the records of `_port._tcp.host`. Raises ValueError for a host that has none."""
    try:
        name = dns.name.from_text(f"_{port}._tcp.{host}")
    except dns.exception.DNSException as error:
        raise ValueError(f"expect.tlsa: {host!r} has no TLSA records: {error}") from None
    return make_question(name, dns.rdatatype.TLSA, authentic=True, edns=Edns())


async def look_up(question: Question, server: Endpoint, clock: Callable[[], float]) -> Pins:
    """The records; none when there are none. Raises ProbeFailed when that cannot be known.

    An answer SERVFAIL may mean that somebody tampers with the records, so it is never taken for "none" (RFC 7672 §2.1).
    """
    name = question.name.to_text(omit_final_dot=True)
    address = (await resolve(server.host, clock=clock))[0]
    try:
        answered = await ask(question, address, server.port, resend=ASK_AGAIN, clock=clock)
    except OSError as error:
        raise ProbeFailed(
            Reason.DNS, f"{name} could not be looked up at name server {server}: {error.strerror or error}", phase=PHASE
        ) from error
    rcode = answered.message.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise ProbeFailed(
            Reason.DNS,
            f"{name} could not be looked up at name server {server}: {dns.rcode.to_text(rcode)}",
            phase=PHASE,
        )
    return Pins(
        name=name,
        # Sorted, because name servers turn them round from answer to answer.
        pins=tuple(sorted(_pin(each) for each in rdata_of(answered.message, dns.rdatatype.TLSA)[:MOST])),
        authenticated=bool(answered.message.flags & dns.flags.AD),
    )


def _pin(record: Any) -> Pin:
    return Pin(usage=record.usage, selector=record.selector, matching=record.mtype, data=bytes(record.cert))


def match(pins: Sequence[Pin], chain: Sequence[bytes], verified: Verified | None, name: str, at: float) -> Pin | None:
    """The first record that the served chain fits; None when it fits none. Unusable records fit nothing.

    `verified` is the path by which trusted authorities vouch for the chain, which usages 0 and 1 want besides.
    """
    certificates: list[x509.Certificate] = []
    for der in chain:
        try:
            certificates.append(parse(der))
        except ValueError:
            break
    for pin in pins:
        try:
            if certificates and pin.usable and _fits(pin, certificates, verified, name, at):
                return pin
        except (ValueError, TypeError):  # a key of a kind that nobody knows
            continue
    return None


def _fits(pin: Pin, certificates: Sequence[x509.Certificate], verified: Verified | None, name: str, at: float) -> bool:
    if pin.usage == DANE_EE:  # RFC 7671 §5.1: names and dates in the certificate do not matter
        return pin.fits(certificates[0])
    if pin.usage == PKIX_EE:
        return verified is not None and pin.fits(certificates[0])
    if pin.usage == PKIX_TA:
        return verified is not None and any(pin.fits(each) for each in verified.path[1:])
    anchors = [each for each in certificates[1:] if pin.fits(each)]
    if not anchors and pin.selector == pin.matching == 0:  # the record itself is the authority's certificate
        anchors = [parse(pin.data)]
    return any(_leads_to(anchor, certificates, name, at) for anchor in anchors[:1])


def _leads_to(anchor: x509.Certificate, certificates: Sequence[x509.Certificate], name: str, at: float) -> bool:
    try:
        Trust([anchor]).verify([each.public_bytes(serialization.Encoding.DER) for each in certificates], name, at)
    except NotTrusted:
        return False
    return True
