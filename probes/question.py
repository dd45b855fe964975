"""One DNS question, encoded once for all runs, and the answers that belong to it. Bytes in, values out."""

import ipaddress
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

BUFFER: Final = 1232
"""Bytes of an answer over UDP that are offered to take: what no network cuts into fragments (DNS Flag Day 2020)."""

_HEADER: Final = 12
_REMEMBERED: Final = BUFFER
"""Bytes of the largest answer that is remembered, so that the memory for them is bounded."""
_MAY_LACK_QUESTION: Final = frozenset(
    {dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.BADVERS & 0xF}
)
"""A server that did not understand or would not look may leave the question out of its answer (RFC 1035 §4.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edns:
    """What an OPT record offers and asks for (RFC 6891)."""

    buffer_size: int = BUFFER
    dnssec_ok: bool = False
    """Signatures are wanted (RFC 3225)."""
    client_subnet: str = ""
    """The network that the answer should suit, like 192.0.2.0/24 (RFC 7871)."""
    nsid: bool = False
    """The server is asked for its name (RFC 5001)."""
    padding: int = 0
    """Pad the question to a multiple of so many bytes (RFC 8467), where a connection is encrypted."""

    def options(self) -> list[dns.edns.Option]:
        """Raises ValueError for a network that is none."""
        found: list[dns.edns.Option] = []
        if self.nsid:
            found.append(dns.edns.GenericOption(dns.edns.OptionType.NSID, b""))
        if self.client_subnet:
            network = ipaddress.ip_network(self.client_subnet)
            found.append(dns.edns.ECSOption(str(network.network_address), network.prefixlen, 0))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question as it is sent, but for its number."""

    name: dns.name.Name
    kind: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    wire: bytes
    """The whole message, its number zero."""
    asked: bytes
    """Its question section, in lower case but for type and class."""

    def __str__(self) -> str:
        return f"{self.name} {dns.rdatatype.to_text(self.kind)}"

    def numbered(self, number: int) -> bytes:
        """The message to send under a number."""
        return number.to_bytes(2) + self.wire[2:]

    def answered_by(self, data: bytes, number: int) -> bool:
        """Whether bytes are a response with this number to this question, without reading the rest of them.

        What fails here is late, forged or of another service (RFC 5452 §9.1), and costs next to nothing.
        """
        if len(data) < _HEADER or int.from_bytes(data[:2]) != number or not data[2] & 0x80:
            return False
        asked = self.asked
        if int.from_bytes(data[4:6]) == 0:
            return data[3] & 0x0F in _MAY_LACK_QUESTION
        end = _HEADER + len(asked)
        return (
            int.from_bytes(data[4:6]) == 1
            and data[_HEADER : end - 4].lower() == asked[:-4]
            and data[end - 4 : end] == asked[-4:]
        )


def make_question(
    name: dns.name.Name,
    kind: dns.rdatatype.RdataType,
    rdclass: dns.rdataclass.RdataClass = dns.rdataclass.IN,
    *,
    recursion: bool = True,
    checking_disabled: bool = False,
    authentic: bool = False,
    edns: Edns | None = None,
) -> Question:
    """Encode a question. `authentic` says that we know what the AD flag of the answer means (RFC 6840 §5.7)."""
    message = dns.message.make_query(name, kind, rdclass)
    message.id = 0
    wanted = ((recursion, dns.flags.RD), (checking_disabled, dns.flags.CD), (authentic, dns.flags.AD))
    message.flags = dns.flags.Flag(sum(flag for want, flag in wanted if want))
    if edns is not None:
        message.use_edns(
            0,
            dns.flags.DO if edns.dnssec_ok else 0,
            edns.buffer_size,
            options=edns.options(),
            pad=edns.padding,
        )
    wire = message.to_wire()
    end = _HEADER + len(name.to_wire() or b"") + 4
    return Question(
        name=name, kind=kind, rdclass=rdclass, wire=wire, asked=wire[_HEADER : end - 4].lower() + wire[end - 4 : end]
    )


def new_number() -> int:
    """A number that nobody can guess."""
    return int.from_bytes(os.urandom(2))


def is_cut_off(data: bytes) -> bool:
    """Whether the answer was too long for its datagram (the TC flag)."""
    return len(data) > 2 and bool(data[2] & 0x02)


def read_message(data: bytes, *, singly: bool = False) -> dns.message.Message:
    """Read an answer. Raises ProbeFailed(protocol) for bytes that are none.

    `singly` keeps each record for itself; otherwise those of one name and type are together, and equal ones are one. What is
    returned is shared between runs: nobody may change it, and its number is not that of the answer.
    """
    if len(data) <= _REMEMBERED:
        return _read_known(data[2:], singly)
    return _read(data, singly)


def show_message(data: bytes) -> str:
    """An answer as text, for people: a line for each record, without the number."""
    return _show_known(data[2:]) if len(data) <= _REMEMBERED else _show(data)


def _read(data: bytes, singly: bool) -> dns.message.Message:
    try:
        return dns.message.from_wire(data, keyring=False, one_rr_per_rrset=singly)
    except (dns.exception.DNSException, ValueError, LookupError, ArithmeticError, OSError) as error:
        raise ProbeFailed(
            Reason.PROTOCOL,
            f"{len(data)} bytes came back that are not a DNS message: {str(error) or type(error).__name__}",
            phase="request",
        ) from error


@lru_cache(maxsize=512)
def _read_known(data: bytes, singly: bool) -> dns.message.Message:
    """Reading costs more than asking, and most answers are those of the run before, but for their number."""
    return _read(bytes(2) + data, singly)


def _show(data: bytes) -> str:
    return read_message(data).to_text().partition("\n")[2]


@lru_cache(maxsize=512)
def _show_known(data: bytes) -> str:
    return _show(bytes(2) + data)


def counts(data: bytes) -> tuple[int, int, int]:
    """Records in the sections answer, authority and additional as the header counts them, OPT included."""
    return int.from_bytes(data[6:8]), int.from_bytes(data[8:10]), int.from_bytes(data[10:12])


def rdata_of(message: dns.message.Message, kind: int) -> list[Any]:
    """The records of one type in the answer section, whatever their owner: also those behind a CNAME.

    Those of another class than was asked for are left out: an address of Chaosnet is a number.
    """
    asked = message.question[0].rdclass if message.question else dns.rdataclass.IN
    return [
        item
        for rrset in message.answer
        if rrset.rdtype == kind and asked in (rrset.rdclass, dns.rdataclass.ANY)
        for item in list[Any](rrset)
    ]
