"""The options of the faults of names: which questions they are about, and what becomes of those."""

import ipaddress
import random
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Annotated, ClassVar, Literal

import dns.exception
import dns.rdatatype
from pydantic import ConfigDict, Field

from stormwatch.chaos.dns_alteration import age_serials, break_signatures
from stormwatch.chaos.dns_question import DnsQuestion, Treatment
from stormwatch.chaos.option import STRICT, share_is_some
from stormwatch.probes.units import Ratio, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsMatch:
    """Which questions a fault is about.

    Descriptions are arguments here, not docstrings: pydantic does not read the docstrings of inherited fields.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[
        str,
        Field(
            description="A glob over the name that is asked for, without its last dot and without regard to case: "
            "`*` is any text, also with dots, `?` one character."
        ),
    ] = "*"
    share: Annotated[
        Ratio, Field(description="The share of matching questions that it is drawn for, once for each.")
    ] = Fraction(1)
    seed: Annotated[int, Field(description="The same seed draws the same ones again, in the same order.")] = 0

    def __post_init__(self) -> None:
        if not self.name.rstrip("."):
            raise ValueError("name is a glob like *.shop.example, or * for all names; it is empty")
        share_is_some(self.share)

    def matches(self, question: DnsQuestion) -> bool:
        """Whether a question is meant (before the share is drawn)."""
        pattern = "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in self.name.rstrip("."))
        return bool(re.fullmatch(pattern, question.name, re.DOTALL | re.IGNORECASE))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsTyped(DnsMatch):
    """Which questions a fault is about that does not depend on the type of the record."""

    type: Annotated[
        str, Field(description="`*` for all record types, or one (`AAAA`), or several with commas (`A,AAAA`).")
    ] = "*"

    def __post_init__(self) -> None:
        DnsMatch.__post_init__(self)
        for one in self._types():
            try:
                dns.rdatatype.from_text(one)
            except (dns.exception.DNSException, ValueError):
                raise ValueError(f"type: there is no record type {one!r}; write *, A or A,AAAA") from None

    def matches(self, question: DnsQuestion) -> bool:
        """Name and type."""
        types = self._types()
        return (
            not types or question.type in {dns.rdatatype.to_text(dns.rdatatype.from_text(one)) for one in types}
        ) and (DnsMatch.matches(self, question))

    def _types(self) -> tuple[str, ...]:
        """Nothing for all."""
        return () if self.type == "*" else tuple(one.strip() for one in self.type.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsNxdomain(DnsTyped):
    """Matching questions are answered with NXDOMAIN: there is no such name.

    Without an SOA record, so that nobody may keep the answer (RFC 2308 §5) when the fault is gone.
    """

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """NXDOMAIN."""
        return Treatment(answer=question.answer("NXDOMAIN"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsServfail(DnsTyped):
    """Matching questions are answered with SERVFAIL."""

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """SERVFAIL."""
        return Treatment(answer=question.answer("SERVFAIL"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsRefused(DnsTyped):
    """Matching questions are answered with REFUSED."""

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """REFUSED."""
        return Treatment(answer=question.answer("REFUSED"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsEmpty(DnsTyped):
    """Matching questions are answered with NOERROR and no record."""

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """An answer without records."""
        return Treatment(answer=question.answer())


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsTimeout(DnsTyped):
    """Matching questions get no answer."""

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """Nothing."""
        return Treatment(silent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSlow(DnsTyped):
    """Answers to matching questions come later."""

    delay: Seconds
    """How much later."""
    jitter: Seconds = 0.0
    """Each delay is drawn evenly from delay - jitter to delay + jitter."""

    def __post_init__(self) -> None:
        DnsTyped.__post_init__(self)
        if self.delay <= 0:
            raise ValueError("delay must be more than 0s")
        if self.jitter > self.delay:
            raise ValueError(f"jitter ({self.jitter:g} s) must not be more than delay ({self.delay:g} s)")

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """The answer later."""
        return Treatment(later=self.delay + draw.uniform(-self.jitter, self.jitter))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsTruncated(DnsTyped):
    """Matching questions over UDP are answered with nothing but TC: ask again over TCP."""

    tcp: Literal["works", "resets", "is-silent"] = "works"
    """What the question over TCP then meets: it works; the connection ends with RST; no answer comes."""

    def matches(self, question: DnsQuestion) -> bool:
        """Over TCP only if something happens there."""
        return not (question.over_tcp and self.tcp == "works") and DnsTyped.matches(self, question)

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """TC over UDP; over TCP what is asked for."""
        if not question.over_tcp:
            return Treatment(answer=question.answer(cut=True))
        return Treatment(reset=self.tcp == "resets", silent=self.tcp == "is-silent")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsWrongAddress(DnsMatch):
    """Questions for addresses are answered with another one, whether the name has any or not.

    With a TTL of zero, so that nobody keeps it when the fault is gone.
    """

    ipv4: str = "192.0.2.1"
    """The answer to questions for A. Empty: they pass."""
    ipv6: str = "2001:db8::1"
    """The answer to questions for AAAA. Empty: they pass."""

    def __post_init__(self) -> None:
        DnsMatch.__post_init__(self)
        for key, text, version in (("ipv4", self.ipv4, 4), ("ipv6", self.ipv6, 6)):
            try:
                sound = not text or ipaddress.ip_address(text).version == version
            except ValueError:
                sound = False
            if not sound:
                raise ValueError(f"{key} is an IPv{version} address, or empty, not {text!r}")
        if not self.ipv4 and not self.ipv6:
            raise ValueError("ipv4 and ipv6 are both empty: give the address that is to be answered")

    def matches(self, question: DnsQuestion) -> bool:
        """Only what it has an answer for."""
        return bool(self.address(question)) and DnsMatch.matches(self, question)

    def address(self, question: DnsQuestion) -> str:
        """What is answered; empty: it passes."""
        return {"A": self.ipv4, "AAAA": self.ipv6}.get(question.type, "")

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """The other address."""
        return Treatment(answer=question.answer(records=(f"{question.type} {self.address(question)}",)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCnameLoop(DnsTyped):
    """Matching questions are answered with an alias for an alias for the name itself."""

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """The loop."""
        return Treatment(answer=question.loop())


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsBogus(DnsTyped):
    """Signatures in the answers to matching questions are changed, so that validation fails. The rest is as it was.

    Only questions that ask for signatures (DO) get any, so that others are not touched.
    """

    def matches(self, question: DnsQuestion) -> bool:
        """Only where signatures are wanted."""
        return question.dnssec_ok and DnsTyped.matches(self, question)

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """Other signatures."""
        return Treatment(alter=break_signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsStaleSoa(DnsMatch):
    """Answers to matching questions for SOA (and transfers of zones) carry an older serial number."""

    behind: Annotated[int, Field(ge=1, lt=2**31)] = 1
    """How much older, in the arithmetic of serial numbers (RFC 1982)."""

    def matches(self, question: DnsQuestion) -> bool:
        """Only where serial numbers are asked for."""
        return question.type in {"SOA", "AXFR", "IXFR"} and DnsMatch.matches(self, question)

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """An older serial number."""
        return Treatment(alter=partial(age_serials, behind=self.behind))


DnsOptions = (
    DnsNxdomain
    | DnsServfail
    | DnsRefused
    | DnsEmpty
    | DnsTimeout
    | DnsSlow
    | DnsTruncated
    | DnsWrongAddress
    | DnsCnameLoop
    | DnsBogus
    | DnsStaleSoa
)
"""The options of any fault of names."""
