"""DNSSEC validation of the kind `dns`, against zones that Debian's tools signed well and badly; its parsers on any bytes."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.dns import KIND
from stormwatch.probes.dnssec import Bogus, Denial, Keys, Ledger, signed_sets, verify
from stormwatch.probes.result import Outcome, Reason
from tests.servers.named import RESOLVER, Space
from tests.servers.nameserver import Behaviour, naming, zone
from tests.servers.probing import check_of, measures, phase_names, run


def validated(names: Space, via: str, **expect: Any) -> dict[str, Any]:
    """Options that validate from the name space's own root, by the authorities or by a resolver."""
    asked: dict[str, Any] = {"start": names.root} if via == "start" else {"server": names.resolver}
    return {**asked, "dnssec": {"anchors": names.anchors}, "expect": expect}


BOTH = pytest.mark.parametrize("via", ["start", "server"])

SECURE = [
    ("www.shop.test", "A", {"answers": ["192.0.2.10", "192.0.2.11"]}),
    ("www.rsa.test", "A", {}),
    ("www.eddsa.test", "A", {}),
    ("www.three.test", "A", {}),
    ("alias.shop.test", "A", {"answers": ["192.0.2.10", "192.0.2.11"]}),
    ("nope.shop.test", "A", {"rcode": "NXDOMAIN"}),
    ("nope.three.test", "A", {"rcode": "NXDOMAIN"}),
    ("www.shop.test", "MX", {"answers": []}),
    ("www.three.test", "MX", {"answers": []}),
    ("empty.shop.test", "A", {"answers": []}),
    ("a.wild.shop.test", "A", {"answers": ["192.0.2.99"]}),
    ("a.wild.three.test", "A", {"answers": ["192.0.2.99"]}),
    ("a.wild.shop.test", "MX", {"answers": []}),
    ("a.wild.three.test", "MX", {"answers": []}),
    ("shop.test", "DS", {}),
    ("plain.test", "DS", {"answers": []}),
    ("shop.test", "DNSKEY", {}),
    (".", "SOA", {}),
]


@pytest.mark.shows("dns", "up")
@BOTH
@pytest.mark.parametrize(("name", "kind", "expect"), SECURE, ids=[f"{row[0]} {row[1]}" for row in SECURE])
async def test_an_answer_that_is_proved_from_the_root_down_is_secure(
    names: Space, via: str, name: str, kind: str, expect: dict[str, Any]
) -> None:
    """RSA, ECDSA, EdDSA; NSEC and NSEC3; aliases, wildcards, empty non-terminals; that there is nothing, too."""
    result = await run(KIND, name, {**validated(names, via, **expect), "type": kind})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["dnssec"]["verdict"] == "secure"
    assert measures(result)["stormwatch_dns_dnssec_secure"] == 1
    assert 800_000 < measures(result)["stormwatch_dns_rrsig_expires_seconds"] <= 864_000
    assert phase_names(result)[-1] == "validate"


INSECURE = [
    ("www.plain.test", {}, "zone test. proves that plain.test. has no DS records"),
    ("away.shop.test", {"min_answers": 0}, "zone test. proves that plain.test. has no DS records"),
    ("www.unknown.test", {}, "the keys of unknown.test. are of algorithms that are not supported: 200"),
    ("nope.optout.test", {"rcode": "NXDOMAIN"}, "zone optout.test. proves that nope.optout.test. has no DS records"),
]


@BOTH
@pytest.mark.parametrize(("name", "expect", "why"), INSECURE, ids=[row[0] for row in INSECURE])
async def test_what_is_proved_to_be_unsigned_is_insecure_which_is_a_verdict_of_its_own(
    names: Space, via: str, name: str, expect: dict[str, Any], why: str
) -> None:
    """Down unless it is expected."""
    result = await run(KIND, name, validated(names, via, **expect))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "validate")
    assert result.message == f"the answer is insecure, wanted secure: {why}"
    for wanted in ("insecure", "any"):
        result = await run(KIND, name, validated(names, via, dnssec=wanted, **expect))
        assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["stormwatch_dns_dnssec_secure"] == 0


BOGUS = [
    (
        "expired",
        r"expired\.test\. DNSKEY: the signature by key \d+ of expired\.test\. expired on 20\d\d-\d\d-\d\d .* UTC",
    ),
    ("early", r"early\.test\. DNSKEY: the signature by key \d+ of early\.test\. is not valid before 20.* UTC"),
    (
        "stranger",
        r"stranger\.test\. DNSKEY: the parent's DS records are of keys \d+ and none of the zone's keys matches, which are \d+",
    ),
    (
        "changed",
        r"www\.changed\.test\. A: the signature by key \d+ of changed\.test\. does not match: the records were changed .*",
    ),
    ("unsigned", r"unsigned\.test\. DNSKEY: the zone should be signed and has no keys \(NOERROR\)"),
]


@pytest.mark.shows("dns", "assertion")
@BOTH
@pytest.mark.parametrize(("label", "why"), BOGUS, ids=[row[0] for row in BOGUS])
async def test_a_bogus_answer_is_down_and_says_which_records_which_key_and_why(
    names: Space, via: str, label: str, why: str
) -> None:
    """Through a validating resolver, which says SERVFAIL, just as from the authorities; never good, whatever is wanted."""
    result = await run(KIND, f"www.{label}.test", validated(names, via, dnssec="any"))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "validate")
    assert re.fullmatch(f"the answer is bogus: {why}", result.message)
    assert result.evidence["dnssec"]["verdict"] == "bogus"
    assert measures(result)["stormwatch_dns_dnssec_secure"] == 0


async def test_a_signature_that_ends_soon_is_down_before_it_does(names: Space) -> None:
    """And the seconds that are left are a measure."""
    good = await run(KIND, "www.soon.test", validated(names, "start", rrsig_expires_within="1h"))
    late = await run(KIND, "www.soon.test", validated(names, "start", rrsig_expires_within="3d"))
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert (late.outcome, late.reason, late.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "validate")
    assert re.fullmatch(
        r"the signature over (soon|www\.soon)\.test\. \w+ expires in 1h\d+m(\d+s)?, on 20.* UTC, wanted at least 3d",
        late.message,
    )
    assert 6000 < measures(late)["stormwatch_dns_rrsig_expires_seconds"] <= 7200


async def test_other_trust_anchors_make_everything_bogus(names: Space) -> None:
    """IANA's, which are the default, are not those of this root."""
    result = await run(KIND, "www.shop.test", {"server": names.resolver, "dnssec": {}})
    assert result.reason is Reason.ASSERTION
    assert re.fullmatch(
        r"the answer is bogus: \. DNSKEY: the trust anchors are of keys 20326, 38696 and none of the zone's keys "
        r"matches, which are \d+",
        result.message,
    )


async def test_an_anchor_may_be_of_any_zone_and_stand_in_a_file(names: Space, tmp_path: Any) -> None:
    """What lies above it is not asked for."""
    zone_keys = await run(KIND, "shop.test", {"server": names.first, "type": "DNSKEY"})
    line = next(each for each in zone_keys.evidence["answer"].splitlines() if " DNSKEY " in each)
    file = tmp_path / "anchors"
    file.write_text(f"; the zone's own key\n{line}\n")
    options = {"server": names.first, "dnssec": {"anchor_file": str(file)}}
    good = await run(KIND, "www.shop.test", options)
    outside = await run(KIND, "www.three.test", options)
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert len(good.evidence["dnssec"]["verified"]) == 3  # its keys, that no zone begins at www, the answer
    assert outside.message == "the answer is bogus: no trust anchor is given for a zone that www.three.test. is in"


async def test_a_server_that_strips_signatures_is_caught(names: Space) -> None:
    """It answers everything, and nothing is signed."""
    async with naming(zone({("www.shop.test.", "A"): ["192.0.2.66"], (".", "DNSKEY"): []})) as liar:
        options = {"server": liar.address, "dnssec": {"anchors": names.anchors}}
        result = await run(KIND, "www.shop.test", options)
    assert result.message == "the answer is bogus: . DNSKEY: the zone should be signed and has no keys (NOERROR)"


PROOFS = (dns.rdatatype.NSEC, dns.rdatatype.NSEC3)


def lying(names: Space, about: tuple[str, str], how: Callable[[dns.message.Message], dns.message.Message]) -> Behaviour:
    """The resolver's answers, but for those to one question."""

    def behave(query: dns.message.Message, transport: str) -> bytes:
        place = names.resolver.partition(":")[0]
        send = dns.query.tcp if transport == "tcp" else dns.query.udp
        answer = send(query, place, port=names.port, timeout=3)
        question = query.question[0]
        if (question.name.to_text(), dns.rdatatype.to_text(question.rdtype)) == about:
            answer = how(answer)
        return answer.to_wire(max_size=4096)

    return behave


def without_proofs(answer: dns.message.Message) -> dns.message.Message:
    """No NSEC, no NSEC3, and no signatures over them."""
    answer.authority = [
        rrset for rrset in answer.authority if rrset.rdtype not in PROOFS and rrset.covers not in PROOFS
    ]
    return answer


def as_missing(answer: dns.message.Message) -> dns.message.Message:
    """A name that exists is said not to."""
    answer.answer.clear()
    answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer


async def test_the_proof_for_another_name_proves_nothing_about_this_one(names: Space) -> None:
    """It is good, signed, and of the right zone: NSEC and NSEC3."""
    for label in ("shop", "three"):
        other = dns.message.make_query(f"zz.{label}.test", "A", want_dnssec=True)
        proof = dns.query.udp(other, names.resolver.partition(":")[0], port=names.port, timeout=3)
        assert proof.rcode() == dns.rcode.NXDOMAIN

        def swap(answer: dns.message.Message, proof: dns.message.Message = proof) -> dns.message.Message:
            answer.answer.clear()
            answer.authority = proof.authority
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer

        for name in (f"www.{label}.test", f"ns1.{label}.test"):
            async with naming(lying(names, (f"{name}.", "A"), swap)) as liar:
                options = {"server": liar.address, "dnssec": {"anchors": names.anchors}}
                result = await run(KIND, name, {**options, "expect": {"rcode": "NXDOMAIN"}})
            assert result.message == (
                f"the answer is bogus: {name}.: the server says that the name does not exist, "
                f"and zone {label}.test. does not prove it"
            )


def stretched(answer: dns.message.Message) -> dns.message.Message:
    """A good record's TTL, owner and signature under another name."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.A:
            rrset.clear()
            rrset.add(dns.rdata.from_text("IN", "A", "192.0.2.66"))
    return answer


LIES = [
    (
        "www.plain.test",
        ("plain.test.", "DS"),
        without_proofs,
        "zone test. has no DS records for plain.test. and does not prove",
    ),
    (
        "a.wild.shop.test",
        ("a.wild.shop.test.", "A"),
        without_proofs,
        "a.wild.shop.test. A comes from a wildcard, and it is not",
    ),
    (
        "a.wild.three.test",
        ("a.wild.three.test.", "A"),
        without_proofs,
        "a.wild.three.test. A comes from a wildcard, and it is",
    ),
    (
        "nope.shop.test",
        ("nope.shop.test.", "A"),
        without_proofs,
        "nope.shop.test.: the server says that the name does not exist",
    ),
    (
        "nope.three.test",
        ("nope.three.test.", "A"),
        without_proofs,
        "nope.three.test.: the server says that the name does not exi",
    ),
    (
        "www.shop.test",
        ("www.shop.test.", "A"),
        as_missing,
        "www.shop.test.: the server says that the name does not exist, and",
    ),
    (
        "www.three.test",
        ("www.three.test.", "A"),
        as_missing,
        "www.three.test.: the server says that the name does not exist, ",
    ),
    ("www.shop.test", ("www.shop.test.", "A"), stretched, "www.shop.test. A: the signature by key "),
]


@pytest.mark.parametrize(("name", "about", "how", "why"), LIES, ids=[f"{row[0]}-{row[2].__name__}" for row in LIES])
async def test_a_server_in_between_that_lies_is_caught(
    names: Space, name: str, about: tuple[str, str], how: Callable[[dns.message.Message], dns.message.Message], why: str
) -> None:
    """Signatures stay as they are; what is left out or changed is missed."""
    async with naming(lying(names, about, how)) as liar:
        options = {"server": liar.address, "dnssec": {"anchors": names.anchors}, "expect": {"dnssec": "any"}}
        result = await run(KIND, name, options)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message.startswith(f"the answer is bogus: {why}")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"dnssec": {"anchors": ["nonsense"]}}, "dnssec.anchors: not records as in a zone file: "),
    ({"dnssec": {"anchors": ["shop.test. IN A 192.0.2.1"]}}, "dnssec.anchors: there is no DS and no DNSKEY record"),
    ({"dnssec": {"anchor_file": "/nowhere"}}, "dnssec.anchor_file: /nowhere could not be read: "),
    ({"dnssec": {}, "edns": False}, "edns: false, but dnssec_ok, client_subnet, nsid and dnssec are parts of EDNS"),
    (
        {"expect": {"rrsig_expires_within": "3d"}},
        "expect.dnssec and expect.rrsig_expires_within are for validated answers: give `dnssec: {}`",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[row[1][:30] for row in MISTAKES])
def test_a_mistake_in_the_options_is_one_sentence(options: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_of(KIND, "shop.test", {"server": RESOLVER, **options})


NAME = dns.name.from_text("a.shop.test.")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_signed_by_whom_ever_is_verified_or_bogus(data: st.DataObject) -> None:
    """Signatures, keys and proofs of any content: a verdict, never another exception."""
    small = st.integers(0, 255)
    key = f"{data.draw(st.sampled_from([256, 257, 385, 0]))} 3 {data.draw(st.sampled_from([5, 8, 13, 15, 250]))} "
    key += data.draw(st.sampled_from(["AwEAAag=", "AQ==", "q3oOEYh5aSqF1o8yMOJXHTKs", "////"]))
    labels, algorithm = data.draw(small), data.draw(st.sampled_from([5, 8, 10, 13, 14, 15, 16, 200]))
    text = f"""id 1
opcode QUERY
rcode NOERROR
flags QR AA
;QUESTION
a.shop.test. IN A
;ANSWER
a.shop.test. 60 IN A 192.0.2.1
a.shop.test. 60 IN RRSIG A {algorithm} {labels} 60 20400101000000 20200101000000 {data.draw(st.integers(0, 65535))} shop.test. AQID
;AUTHORITY
{data.draw(st.sampled_from(["a", "*", "z.a", "shop.test."]))} 60 IN NSEC {data.draw(st.sampled_from(["a", "shop.test.", "b.a"]))} A NS SOA
q.shop.test. 60 IN NSEC3 1 {data.draw(small)} {data.draw(st.integers(0, 150))} {data.draw(st.sampled_from(["-", "ab"]))} qg A
"""
    message = dns.message.from_text(
        text.replace("\na 60", "\na.shop.test. 60")
        .replace("\n* 60", "\n*.shop.test. 60")
        .replace("\nz.a 60", "\nz.a.shop.test. 60")
    )
    zone_name = dns.name.from_text("shop.test.")
    keys = dns.message.from_text(f"id 1\nopcode QUERY\n;QUESTION\n;ANSWER\nshop.test. 60 IN DNSKEY {key}\n").answer[0]
    (answer,) = signed_sets(message.answer)
    with pytest.raises(Bogus):
        verify(answer, Keys(zone_name, tuple(keys)), Ledger(1_800_000_000.0))
    with contextlib.suppress(Bogus):  # for too many iterations
        denial = Denial(zone_name, signed_sets(message.authority))
        for name in (NAME, NAME.parent(), dns.name.Name((b"*", *NAME.labels))):
            assert denial.prove(name, dns.rdatatype.MX) in {None, "nodata", "nxdomain", "insecure"}
            assert denial.delegation(name) in {None, "none", "nxdomain", "insecure"}
