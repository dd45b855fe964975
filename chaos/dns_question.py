"""A question to a name server as it passes by, and the answers that are made here. No I/O.

A message that is not one plain question (an update, a signed question, several at once, rubbish) is none of ours: it
passes without being looked at.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

LOOP: Final = dns.name.from_text("loop.stormwatch.invalid.")
"""The alias between a name and itself. `invalid` is nobody's (RFC 6761 §6.4)."""
_PLAIN_UDP: Final = 512
"""Bytes of a datagram for a client that does not speak EDNS (RFC 1035 §4.2.1)."""


@dataclass(frozen=True, slots=True)
class DnsQuestion:
    """One question of a client."""

    message: dns.message.QueryMessage
    over_tcp: bool

    @property
    def name(self) -> str:
        """What is asked for, without the last dot; empty for the root."""
        return self.message.question[0].name.to_text(omit_final_dot=True).removesuffix(".").lower()

    @property
    def type(self) -> str:
        """The record type, like `AAAA`."""
        return dns.rdatatype.to_text(self.message.question[0].rdtype)

    @property
    def dnssec_ok(self) -> bool:
        """Whether signatures are wanted (DO)."""
        return bool(self.message.ednsflags & dns.flags.DO)

    @property
    def key(self) -> tuple[int, bytes]:
        """What an answer repeats of it."""
        return question_key(self.message.to_wire()) or (self.message.id, b"")

    def answer(self, rcode: str = "NOERROR", *, cut: bool = False, records: tuple[str, ...] = ()) -> bytes:
        """The wire form of an answer made here; `records` are `type data` of the name itself, with a TTL of zero.

        A client that speaks EDNS is told whom it met (RFC 8914, extended error 0).
        """
        response = dns.message.make_response(self.message, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(rcode))
        if cut:
            response.flags |= dns.flags.TC
        for record in records:
            rdtype, _, data = record.partition(" ")
            response.answer.append(dns.rrset.from_text(self.message.question[0].name, 0, "IN", rdtype, data))
        return self._render(response)

    def loop(self) -> bytes:
        """An alias for an alias for the name itself."""
        response = dns.message.make_response(self.message, recursion_available=True)
        name = self.message.question[0].name
        response.answer.append(dns.rrset.from_text(name, 0, "IN", "CNAME", LOOP.to_text()))
        response.answer.append(dns.rrset.from_text(LOOP, 0, "IN", "CNAME", name.to_text()))
        return self._render(response)

    def _render(self, response: dns.message.Message) -> bytes:
        if self.message.edns >= 0:
            told = dns.edns.EDEOption(dns.edns.EDECode.OTHER, "a fault of stormwatch")
            response.use_edns(edns=0, ednsflags=self.message.ednsflags & dns.flags.DO, payload=1232, options=[told])
        room = 65535 if self.over_tcp else max(_PLAIN_UDP, self.message.payload)
        return response.to_wire(max_size=room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What becomes of one question that a fault was drawn for."""

    answer: bytes | None = None
    """The answer made here: the question goes no further."""
    silent: bool = False
    """No answer, and the question goes no further."""
    reset: bool = False
    """The connection ends with RST (over TCP)."""
    later: float = 0.0
    """Seconds that the server's answer waits."""
    alter: Callable[[bytes], bytes] | None = None
    """What is changed in the server's answer; the fault has met it if it comes out different."""


@runtime_checkable
class ActsOnQuestions(Protocol):
    """What the options of a fault of names implement."""

    def matches(self, question: DnsQuestion) -> bool:
        """Whether a question is meant (before the share is drawn)."""
        ...

    def treat(self, question: DnsQuestion, draw: random.Random) -> Treatment:
        """What becomes of a question that matches."""
        ...


def read_question(wire: bytes, *, over_tcp: bool) -> DnsQuestion | None:
    """The question in a message; None for what is not one plain question."""
    try:
        message = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None
    if (
        isinstance(message, dns.message.QueryMessage)
        and not message.flags & dns.flags.QR
        and message.opcode() == dns.opcode.QUERY
        and len(message.question) == 1
        and not message.answer
        and not message.had_tsig
    ):
        return DnsQuestion(message, over_tcp)
    return None


def question_key(wire: bytes) -> tuple[int, bytes] | None:
    """Id and question section of a message, lower case: equal for a question and its answer. None for rubbish."""
    if len(wire) < 12 or wire[4:6] != b"\x00\x01":
        return None
    at = 12
    while at < len(wire) and wire[at]:
        if wire[at] >= 64:  # nothing stands before it that a pointer could lead to
            return None
        at += 1 + wire[at]
    return (int.from_bytes(wire[:2]), wire[12 : at + 5].lower()) if at + 5 <= len(wire) else None
