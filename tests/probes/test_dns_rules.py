"""What answers of the kind `dns` can be held against: every record type, sections, flags, TTLs, several servers, EDNS."""

import re
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from stormwatch.probes.dns import KIND
from stormwatch.probes.result import Outcome, Reason
from tests.servers.named import FIRST, Space
from tests.servers.nameserver import Behaviour, answer_from, mute, naming, only, zone
from tests.servers.probing import check_of, measures, run

ZONE = {
    ("shop.test.", "A"): ["192.0.2.10", "192.0.2.11"],
    ("shop.test.", "AAAA"): ["2001:db8::10"],
    ("shop.test.", "TXT"): ['"v=spf1 -all" "more"'],
    ("shop.test.", "SOA"): ["ns.shop.test. admin.shop.test. 2026112101 3600 600 86400 60"],
}

TYPES = [
    ("www", "A", ["192.0.2.11", "192.0.2.10"]),
    ("aaaa", "AAAA", ["2001:DB8:0:0::10"]),
    ("caa", "CAA", ['0 issue "ca.example"']),
    ("https", "HTTPS", ['1 . alpn="h2,h3" ipv4hint="192.0.2.10"']),
    ("https", "TYPE65", ["1 . alpn=h2,h3 ipv4hint=192.0.2.10"]),
    ("svcb", "SVCB", ["1 svc.shop.test port=8443"]),
    ("tlsa", "TLSA", ["3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971"]),
    ("loc", "LOC", ["42 21 54.000 N 71 6 18.000 W -24.00m 30.00m"]),
    ("naptr", "NAPTR", ['100 10 "S" "SIP+D2U" "" _sip._udp.shop.test.']),
    ("mx", "MX", ["10 MAIL.shop.test"]),
    ("txt", "TXT", ['"v=spf1 -all" "more"']),
    ("srv", "SRV", ["1 2 443 www.shop.test"]),
    ("sshfp", "SSHFP", ["1 2 123456789abcdef67890123456789abcdef67890123456789abcdef678901234"]),
    ("alias", "A", ["192.0.2.10", "192.0.2.11"]),
    ("alias", "CNAME", ["www.shop.test"]),
]


@pytest.mark.shows("dns", "up")
@pytest.mark.parametrize(("label", "kind", "answers"), TYPES, ids=[f"{row[0]} {row[1]}" for row in TYPES])
async def test_records_of_every_type_are_compared_as_data(
    names: Space, label: str, kind: str, answers: list[str]
) -> None:
    """In any spelling, in any order; the alias in front of them changes nothing."""
    options = {"server": names.first, "type": kind, "expect": {"answers": answers, "authoritative": True}}
    result = await run(KIND, f"{label}.shop.test", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_the_class_chaos_tells_the_name_of_a_server_and_so_does_nsid(names: Space) -> None:
    """RFC 4892, RFC 5001."""
    chaos = await run(KIND, "id.server", {"server": names.first, "class": "CH", "type": "TXT"})
    nsid = await run(KIND, "www.shop.test", {"server": names.first, "nsid": True})
    assert f'"{FIRST}"' in chaos.evidence["answer"]
    assert nsid.evidence["nsid"] == FIRST


async def test_a_long_answer_over_udp_is_cut_off_and_fetched_over_tcp_unless_that_is_not_wanted(names: Space) -> None:
    """2.4 KiB of text do not fit."""
    options = {"server": names.first, "type": "TXT"}
    whole = await run(KIND, "big.shop.test", options)
    cut = await run(
        KIND,
        "big.shop.test",
        {**options, "retry_truncated": False, "expect": {"truncated": True, "min_answers": 0}},
    )
    large = await run(KIND, "big.shop.test", {**options, "buffer_size": 4096, "expect": {"truncated": False}})
    assert [(each.outcome, each.message) for each in (whole, cut, large)] == [(Outcome.UP, "")] * 3
    assert (whole.evidence["truncated"], measures(whole)["stormwatch_dns_sends"]) == (True, 2)
    assert "truncated" not in large.evidence
    assert measures(cut)["stormwatch_dns_response_size_bytes"] <= 1232


AS_EXPECTED: list[dict[str, Any]] = [
    {"answers_exclude": ["192.0.2.12"], "answers_not_match": ["^198"]},
    {"min_answers": 2, "max_answers": 2},
    {"max_ttl": "1m", "min_ttl": "1m"},
    {"rcode": ["NXDOMAIN", "NOERROR"], "truncated": False, "recursion_available": False, "authenticated": False},
    {"answer": {"all_match": [r"^shop\.test\.\t60\tIN\tA\t192\.0\.2\.1[01]$"], "min": 2}},
    {"answer": {"any_match": ["nothing", "11$"], "none_match": ["AAAA"]}},
    {"authority": {"max": 0, "all_match": ["never"]}, "additional": {"max": 0}},
    {"answer": {"types": ["CNAME"], "max": 0}},
]


@pytest.mark.parametrize("expect", AS_EXPECTED, ids=[str(sorted(each)) for each in AS_EXPECTED])
async def test_an_answer_as_expected_is_up(expect: dict[str, Any]) -> None:
    """Each rule alone."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")


SHOWN = "192.0.2.10, 192.0.2.11"
LINE = "shop.test. 60 IN A 192.0.2.10"
NOT_AS_EXPECTED: list[tuple[dict[str, Any], str]] = [
    ({"answers_exclude": ["192.0.2.11"]}, f"the answer is {SHOWN}, wanted it without 192.0.2.11"),
    ({"answers_not_match": ["10$"]}, "the answer has the record 192.0.2.10, wanted none that matches '10$'"),
    ({"min_answers": 3}, "there are 2 answers, wanted at least 3"),
    ({"max_answers": 1}, "there are 2 answers, wanted at most 1"),
    ({"max_ttl": "30s"}, "a record has a TTL of 60 s, wanted at most 30s"),
    ({"authenticated": True}, "the server does not say that it validated the answer (no AD flag)"),
    ({"recursion_available": True}, "the server does not ask others (no RA flag)"),
    ({"truncated": True}, "the answer is not cut off (no TC flag), wanted one that is"),
    (
        {"answer": {"none_match": ["10$"]}},
        f"section answer has the record {LINE}, wanted none that matches '10$'",
    ),
    ({"answer": {"all_match": ["11$"]}}, f"section answer has the record {LINE}, wanted all to match '11$'"),
    (
        {"answer": {"any_match": ["x", "y"]}},
        f"section answer is {LINE}, shop.test. 60 IN A 192.0.2.11, wanted a record that matches 'x' or 'y'",
    ),
    ({"authority": {"any_match": ["x"]}}, "section authority is no record, wanted a record that matches 'x'"),
    ({"authority": {"min": 1}}, "there are 0 records in section authority, wanted at least 1"),
]


@pytest.mark.shows("dns", "assertion")
@pytest.mark.parametrize(("expect", "message"), NOT_AS_EXPECTED, ids=[row[1][:40] for row in NOT_AS_EXPECTED])
async def test_an_answer_not_as_expected_is_down_and_says_what_was_seen(expect: dict[str, Any], message: str) -> None:
    """As an assertion."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "expect": expect})
    assert (result.outcome, result.reason, result.message) == (Outcome.DOWN, Reason.ASSERTION, message)


@pytest.mark.parametrize(
    ("least", "good"), [(2026112101, True), (2026112000, True), (2026112102, False), (4173595749, True)]
)
async def test_a_serial_number_counts_round_the_clock(least: int, good: bool) -> None:
    """RFC 1982: 4173595749 is before 2026112101, for the way there is shorter."""
    async with naming(zone(ZONE)) as server:
        options = {"server": server.address, "type": "SOA", "expect": {"min_serial": least}}
        result = await run(KIND, "shop.test", options)
    assert (result.outcome is Outcome.UP) == good
    assert good or result.message == f"the serial number is 2026112101, wanted at least {least}"


async def test_what_a_server_says_about_its_error_is_in_the_message() -> None:
    """RFC 8914; on one line."""

    def refuse(query: dns.message.Message, _transport: str) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.REFUSED)
        response.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.PROHIBITED, "go\naway")])
        return response.to_wire()

    async with naming(refuse) as server:
        result = await run(KIND, "shop.test", {"server": server.address})
    assert result.message == "the server answered REFUSED, wanted NOERROR: PROHIBITED (go away)"


async def test_edns_is_as_the_options_say() -> None:
    """Seen by the server."""
    seen: list[dns.message.Message] = []

    def note(query: dns.message.Message, _transport: str) -> bytes:
        seen.append(query)
        return answer_from(query, ZONE).to_wire()

    async with naming(note) as server:
        for options in (
            {},
            {"edns": False, "recursion": False, "checking_disabled": True},
            {"buffer_size": 4096, "dnssec_ok": True, "client_subnet": "198.51.100.0/24", "nsid": True},
            {"expect": {"authenticated": False}},
        ):
            result = await run(KIND, "shop.test", {"server": server.address, **options})
            assert (result.outcome, result.message) == (Outcome.UP, "")
    plain, bare, rich, aware = seen
    assert (plain.edns, plain.payload, plain.flags) == (0, 1232, dns.flags.RD)
    assert (bare.edns, bare.flags) == (-1, dns.flags.CD)
    assert (rich.payload, rich.ednsflags) == (4096, dns.flags.DO)
    assert sorted(option.to_text() for option in rich.options) == ["ECS 198.51.100.0/24 scope/0", "NSID "]
    assert aware.flags == dns.flags.RD | dns.flags.AD
    assert len({query.id for query in seen}) > 1


OTHER = zone({("shop.test.", "A"): ["192.0.2.66"]})


@pytest.mark.shows("dns", "up", "assertion")
async def test_several_servers_must_agree_and_the_odd_one_is_named() -> None:
    """With a series for each."""
    async with naming(zone(ZONE)) as one, naming(zone(ZONE)) as two, naming(OTHER) as odd:
        same = await run(KIND, "shop.test", {"servers": [one.address, two.address], "agree": True})
        options = {"servers": [one.address, odd.address, two.address], "agree": True}
        differ = await run(KIND, "shop.test", options)
        alone = await run(KIND, "shop.test", {**options, "agree": False})
    assert (same.outcome, same.message) == (Outcome.UP, "")
    assert (differ.outcome, differ.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert differ.message == f"{odd.address} answers 192.0.2.66; 2 of 3 servers answer {SHOWN}"
    assert alone.outcome is Outcome.UP
    agrees = {
        each.labels["server"]: each.value for each in differ.measures if each.name == "stormwatch_dns_server_agrees"
    }
    assert agrees == {one.address: 1, two.address: 1, odd.address: 0}
    assert differ.evidence["servers"][odd.address] == "192.0.2.66"


@pytest.mark.parametrize(
    ("behaviour", "reason", "message"),
    [
        (mute, Reason.TIMEOUT, "no answer within 270ms"),
        (only("SERVFAIL"), Reason.DNS, "the server answered SERVFAIL, wanted NOERROR"),
    ],
    ids=["silent", "failing"],
)
async def test_of_several_servers_the_one_that_fails_is_named(
    behaviour: Behaviour, reason: Reason, message: str
) -> None:
    """Also the silent one: it is given up before the run's own time is over."""
    async with naming(zone(ZONE)) as one, naming(behaviour) as bad:
        result = await run(KIND, "shop.test", {"servers": [one.address, bad.address]}, timeout=0.3)
    assert (result.outcome, result.reason) == (Outcome.DOWN, reason)
    assert re.sub(r"2[67]\d(\.\d+)?ms", "270ms", result.message) == f"{bad.address}: {message}"
    answered = [each.value for each in result.measures if each.name == "stormwatch_dns_server_answered"]
    assert sorted(answered) == ([0, 1] if behaviour is mute else [1, 1])


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"server": "127.0.0.1", "servers": ["127.0.0.2"]}, "servers: give server or servers, not both"),
    ({"servers": ["127.0.0.1"], "agree": True}, "agree: give at least two `servers`"),
    ({"servers": ["127.0.0.1", "127.0.0.1:53"]}, "servers: one of them stands there twice"),
    ({"servers": ["127.0.0.1", "a b"]}, "servers[1] 'a b': 'a b' is not a host name"),
    ({"server": "https://a.test/"}, "server: 'https://a.test/' is a URL, which only `transport: https` has"),
    (
        {"server": "http://a.test/", "transport": "https"},
        "server: DNS over HTTPS needs an https URL, not 'http://a.test/'",
    ),
    (
        {"transport": "quic"},
        "server: the system does not say where `transport: quic` is spoken, give one",
    ),
    (
        {"server": "127.0.0.1", "verify": False},
        "ca_file, server_name, verify and client_certificate are for `transport: tls`, `https` and `quic`",
    ),
    (
        {"server": "127.0.0.1", "transport": "tcp", "resend": "1s"},
        "retry_truncated and resend are for `transport: udp`",
    ),
    ({"server": "127.0.0.1", "method": "GET"}, "method: GET is for `transport: https`"),
    ({"server": "127.0.0.1", "source": "here"}, "source: 'here' is not an address"),
    ({"server": "127.0.0.1", "source": "::1", "ip": "4"}, "source: ::1 is not of the family that `ip` allows"),
    (
        {"server": "127.0.0.1", "transport": "tls", "tls_min": "1.3", "tls_max": "1.2"},
        "tls_max: 1.2 is older than tls_min, 1.3",
    ),
    (
        {"server": "127.0.0.1", "client_subnet": "here"},
        "client_subnet: 'here' does not appear to be an IPv4 or IPv6 network",
    ),
    (
        {"server": "127.0.0.1", "expect": {"min_serial": 1}},
        "expect.min_serial: only records of type SOA have a serial number",
    ),
    (
        {"server": "127.0.0.1", "expect": {"min_answers": 2, "max_answers": 1}},
        "expect.max_answers: is less than min_answers",
    ),
    ({"server": "127.0.0.1", "expect": {"answer": {"min": 2, "max": 1}}}, "expect.answer.max: is less than min"),
    (
        {"server": "127.0.0.1", "expect": {"answer": {"types": ["NOPE"]}}},
        "expect.answer.types: there is no record type 'NOPE'",
    ),
    (
        {"server": "127.0.0.1", "expect": {"additional": {"any_match": ["("]}}},
        "expect.additional.any_match[0]: '(' is not an RE2 expression: missing ): (",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_a_mistake_in_the_options_is_one_sentence(options: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "shop.test", options)
