"""Answers changed in place: nothing but what is meant changes, whatever the bytes are."""

import random

import dns.message
import dns.rdatatype
import dns.rrset
from hypothesis import example, given

from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.dns_alteration import age_serials, break_signatures
from stormwatch.chaos.dns_question import ActsOnQuestions, question_key, read_question
from tests.chaos.questions import hostile

RRSIG = (
    "A 13 2 300 20261231000000 20261101000000 4711 shop.test. "
    "q1w2e3r4t5z6u7i8o9p0q1w2e3r4t5z6u7i8o9p0q1w2e3r4t5z6u7i8o9p0q1w2e3r4t5z6u7i8o9p0q1w2eg=="
)


def answer(*records: tuple[str, str, str]) -> bytes:
    """An answer with these records: name, type, data."""
    response = dns.message.make_response(dns.message.make_query("www.shop.test", "A", want_dnssec=True))
    response.answer = [dns.rrset.from_text(name, 300, "IN", kind, data) for name, kind, data in records]
    return response.to_wire()


def test_the_last_byte_of_each_signature_changes_and_no_other() -> None:
    """Behind compressed names, between other records, in every section."""
    wire = answer(("www.shop.test.", "A", "192.0.2.10"), ("www.shop.test.", "RRSIG", RRSIG))
    changed = break_signatures(wire)
    assert len(wire) == len(changed)
    assert sum(one != other for one, other in zip(wire, changed, strict=True)) == 1
    before, after = (dns.message.from_wire(one).answer for one in (wire, changed))
    assert before[0] == after[0]
    assert before[1][0].signature[:-1] == after[1][0].signature[:-1]
    assert before[1][0].signature[-1] == after[1][0].signature[-1] ^ 0xFF
    assert before[1][0].replace(signature=b"") == after[1][0].replace(signature=b"")


def test_a_serial_is_older_also_across_zero() -> None:
    """RFC 1982: 0 comes after 2^32 - 1."""
    for serial, older in ((2026112101, 2026112098), (1, 4294967294)):
        wire = answer(("shop.test.", "SOA", f"ns.shop.test. admin.shop.test. {serial} 3600 600 86400 60"))
        soa = dns.message.from_wire(age_serials(wire, 3)).answer[0][0]
        assert soa.to_text() == f"ns.shop.test. admin.shop.test. {older} 3600 600 86400 60"


def test_without_such_records_nothing_changes() -> None:
    """So that such an answer does not count as met."""
    wire = answer(("www.shop.test.", "A", "192.0.2.10"))
    assert wire == break_signatures(wire) == age_serials(wire, 1)


@given(hostile())
@example(b"\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff" + b"\xc0\x0c" * 8)
def test_any_bytes_come_out_as_long_as_they_went_in(wire: bytes) -> None:
    """Truncated, with counts and lengths that lie, with pointers that lead in circles."""
    assert len(wire) == len(break_signatures(wire)) == len(age_serials(wire, 1))


OPTIONS = {"dns-slow": {"delay": "1s"}}
DNS_FAULTS = [read_options(name, OPTIONS.get(name, {})) for name, kind in FAULTS.items() if kind.of_names]


@given(hostile())
def test_any_question_that_can_be_read_is_treated_by_every_fault(wire: bytes) -> None:
    """What is answered here can be read by a client, and belongs to its question."""
    question = read_question(wire, over_tcp=False)
    if question is None:
        return
    assert question_key(wire) is not None
    for options in DNS_FAULTS:
        assert isinstance(options, ActsOnQuestions)
        if options.matches(question):
            made = options.treat(question, random.Random(0)).answer
            if made is not None:
                assert dns.message.from_wire(made).is_response is not None
                assert question_key(made) == question_key(wire)
