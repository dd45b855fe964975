"""The kind `dns`: up, down for each reason, phases, measures, evidence, against a name server that misbehaves on request."""

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.clock import SystemClock
from stormwatch.probes.dns import KIND
from stormwatch.probes.dns_server import DnsServer
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.run import run_once
from tests.servers.certificates import Issued
from tests.servers.nameserver import Behaviour, garbled, mute, naming, only, truncated_over_udp, zone
from tests.servers.probing import check_of, measures, note_ending, open_files, phase_names, run, settle
from tests.servers.process import free_port

ZONE: Mapping[tuple[str, str], Sequence[str]] = {
    ("shop.test.", "A"): ["192.0.2.10", "192.0.2.11"],
    ("shop.test.", "MX"): ["10 Mail.shop.test."],
    ("shop.test.", "TXT"): ['"v=spf1 -all"'],
    ("shop.test.", "SOA"): ["ns.shop.test. admin.shop.test. 2026112101 3600 600 86400 60"],
    ("empty.test.", "TXT"): ['"here"'],
}


@pytest.mark.shows("dns", "up")
async def test_an_answer_is_up_with_measures_phases_and_its_text() -> None:
    """blackbox_exporter's DNS measures, and what was answered."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "request"]
    assert measures(result) == {
        "probe_dns_answer_rrs": 2,
        "probe_dns_authority_rrs": 0,
        "probe_dns_additional_rrs": 1,  # OPT
        "probe_dns_query_succeeded": 1,
        "stormwatch_dns_sends": 1,
        "stormwatch_dns_rcode": 0,
        "stormwatch_dns_response_size_bytes": 70,
        "stormwatch_dns_ttl_seconds": 60,
        "probe_dns_lookup_time_seconds": pytest.approx(0, abs=0.01),
        "probe_ip_protocol": 4,
        "probe_ip_addr_hash": 3668918509,
    }
    assert "shop.test. 60 IN A 192.0.2.10" in result.evidence["answer"]
    assert ("NOERROR", server.address) == (result.evidence["rcode"], result.evidence["server"])


async def test_the_serial_of_a_zone_is_a_measure() -> None:
    """For questions of type SOA."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "type": "SOA"})
    assert measures(result)["probe_dns_serial"] == 2026112101


AS_EXPECTED: list[tuple[str, dict[str, Any]]] = [
    ("shop.test", {"expect": {"answers": ["192.0.2.11", "192.0.2.10"]}}),
    ("shop.test", {"expect": {"answers_include": ["192.0.2.11"], "min_ttl": "60s", "authoritative": True}}),
    ("shop.test", {"type": "MX", "expect": {"answers": ["10 mail.shop.test"]}}),
    ("shop.test", {"type": "TXT", "expect": {"answers_match": ["spf1.+-all"]}}),
    ("none.test", {"expect": {"rcode": "NXDOMAIN"}}),
    ("empty.test", {"expect": {"answers": []}}),
    ("shop.test", {"transport": "tcp", "recursion": False, "expect": {"slower_than": "5s"}}),
]


@pytest.mark.parametrize(("name", "options"), AS_EXPECTED)
async def test_an_answer_as_expected_is_up(name: str, options: dict[str, Any]) -> None:
    """In any order, whatever the case and the last dot of names."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, name, {"server": server.address, **options})
    assert (result.outcome, result.message) == (Outcome.UP, "")


NOT_AS_EXPECTED: list[tuple[str, dict[str, Any], Reason, str]] = [
    (
        "shop.test",
        {"expect": {"answers": ["192.0.2.10"]}},
        Reason.ASSERTION,
        "the answer is 192.0.2.10, 192.0.2.11, wanted 192.0.2.10",
    ),
    (
        "shop.test",
        {"expect": {"answers_include": ["192.0.2.10", "192.0.2.12"]}},
        Reason.ASSERTION,
        "the answer is 192.0.2.10, 192.0.2.11, wanted 192.0.2.12 in it",
    ),
    (
        "shop.test",
        {"expect": {"answers_match": ["^198"]}},
        Reason.ASSERTION,
        "the answer is 192.0.2.10, 192.0.2.11, wanted a record that matches '^198'",
    ),
    ("shop.test", {"expect": {"rcode": "REFUSED"}}, Reason.DNS, "the server answered NOERROR, wanted REFUSED"),
    ("none.test", {}, Reason.DNS, "the server answered NXDOMAIN, wanted NOERROR"),
    ("empty.test", {}, Reason.DNS, "the name has no record of this type"),
    (
        "empty.test",
        {"expect": {"answers": ["192.0.2.1"]}},
        Reason.ASSERTION,
        "the answer is no record, wanted 192.0.2.1",
    ),
    ("shop.test", {"expect": {"min_ttl": "5m"}}, Reason.ASSERTION, "a record has a TTL of 60 s, wanted at least 5m"),
    (
        "shop.test",
        {"expect": {"authoritative": False}},
        Reason.ASSERTION,
        "the answer is from an authority for the name, wanted one that is not",
    ),
]


@pytest.mark.parametrize(("name", "options", "reason", "message"), NOT_AS_EXPECTED)
async def test_an_answer_not_as_expected_is_down_and_says_what_was_answered(
    name: str, options: dict[str, Any], reason: Reason, message: str
) -> None:
    """The question was answered, so `probe_dns_query_succeeded` stays 1."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, name, {"server": server.address, **options})
    assert (Outcome.DOWN, reason, message, "request") == (
        result.outcome,
        result.reason,
        result.message,
        result.failed_phase,
    )
    assert measures(result)["probe_dns_query_succeeded"] == 1


@pytest.mark.shows("dns", "dns")
@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
async def test_an_error_of_the_server_is_down_as_dns(rcode: str) -> None:
    """With its name."""
    async with naming(only(rcode)) as server:
        result = await run(KIND, "shop.test", {"server": server.address})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.DNS)
    assert result.message == f"the server answered {rcode}, wanted NOERROR"


async def test_an_answer_that_was_cut_off_is_fetched_over_tcp() -> None:
    """RFC 7766: both times count."""
    async with naming(truncated_over_udp(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "expect": {"answers_include": ["192.0.2.10"]}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert server.asked == ["udp shop.test. A", "tcp shop.test. A"]
    assert result.evidence["truncated"] is True


SILENT: list[tuple[str, Behaviour]] = [("udp", mute), ("tcp", mute)]


@pytest.mark.shows("dns", "timeout")
@pytest.mark.parametrize(("transport", "behaviour"), SILENT)
async def test_a_silent_server_is_a_timeout_in_time(transport: str, behaviour: Behaviour) -> None:
    """With the phase, and no answer."""
    async with naming(behaviour) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "transport": transport}, timeout=0.3)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert result.failed_phase == "request"
    assert 0.28 < result.seconds < 10
    assert measures(result)["probe_dns_query_succeeded"] == 0


@pytest.mark.shows("dns", "refused")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_closed_port_is_refused_at_once(transport: str) -> None:
    """Over UDP too: the port's ICMP message is heard, nobody waits for the time-out."""
    options = {"server": f"127.0.0.1:{free_port()}", "transport": transport}
    result = await run(KIND, "shop.test", options, timeout=60)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.REFUSED)
    assert result.seconds < 15


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_bytes_that_are_no_dns_message_are_down_as_protocol(transport: str) -> None:
    """Somebody else listens there."""
    async with naming(garbled) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "transport": transport}, timeout=0.3)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.PROTOCOL, "request")
    said = {"udp": "nothing came back but 3 datagrams, the first of 17 bytes", "tcp": "17 bytes came back that are not"}
    assert result.message.startswith(said[transport])


@pytest.mark.shows("dns", "reset")
async def test_a_connection_that_is_closed_is_down_as_reset() -> None:
    """Two bytes of length, and no message."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await run(KIND, "shop.test", {"server": f"127.0.0.1:{port}", "transport": "tcp"})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.RESET)


async def test_dns_over_tls_is_up_with_a_trusted_certificate_and_down_with_another(
    issued: Issued, ca_file: Path
) -> None:
    """RFC 7858; the certificate is for the server's host or the name that is given."""
    async with naming(zone(ZONE), tls=issued.server_context()) as server:
        options = {"server": server.address, "transport": "tls", "ca_file": str(ca_file)}
        trusted = await run(KIND, "shop.test", options)
        stranger = await run(KIND, "shop.test", {**options, "server_name": "other.test"})
    assert (trusted.outcome, trusted.message) == (Outcome.UP, "")
    assert (stranger.outcome, stranger.reason, stranger.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "connect")


async def test_a_server_that_does_not_resolve_is_down_in_phase_resolve() -> None:
    """Names that end in `.invalid` never do (RFC 6761)."""
    result = await run(KIND, "shop.test", {"server": "ns.invalid"}, timeout=1)
    assert Outcome.DOWN is result.outcome
    assert result.reason in {Reason.DNS, Reason.TIMEOUT}
    assert result.failed_phase == "resolve"


@pytest.mark.shows("dns", "too-slow")
async def test_too_slow_is_down_as_too_slow() -> None:
    """Whatever was answered."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)


async def test_many_at_once_and_cancelled_ones_leave_no_socket_open() -> None:
    """A hundred answers, thirty questions nobody answers."""
    async with naming(zone(ZONE)) as server, naming(mute) as silent:
        before = open_files()
        results = await asyncio.gather(*(run(KIND, "shop.test", {"server": server.address}) for _ in range(100)))
        assert {Outcome.UP} == {each.outcome for each in results}
        await asyncio.gather(
            *(
                run(KIND, "shop.test", {"server": silent.address, "transport": transport}, timeout=0.2)
                for transport in ("udp", "tcp") * 15
            )
        )
        assert await settle(before) <= before


def test_it_works_on_uvloop_too() -> None:
    """The service's loop."""

    async def main() -> list[Reason]:
        async with naming(zone(ZONE)) as server, naming(mute) as silent:
            return [
                (await run(KIND, "shop.test", {"server": server.address})).reason,
                (await run(KIND, "shop.test", {"server": server.address, "transport": "tcp"})).reason,
                (await run(KIND, "shop.test", {"server": silent.address}, timeout=0.2)).reason,
                (await run(KIND, "shop.test", {"server": f"127.0.0.1:{free_port()}"}, timeout=2)).reason,
            ]

    assert uvloop.run(main()) == [Reason.NONE, Reason.NONE, Reason.TIMEOUT, Reason.REFUSED]


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a..b", {"server": "127.0.0.1"}, "target 'a..b' is not a domain name: A DNS label is empty."),
    ("shop.test", {"server": "127.0.0.1", "type": "NOPE"}, "type: there is no record type 'NOPE'"),
    ("shop.test", {"server": "127.0.0.1", "class": "NO"}, "class: there is no class 'NO'"),
    (
        "shop.test",
        {"server": "127.0.0.1", "expect": {"rcode": "NOPE"}},
        "expect.rcode: there is no response code 'NOPE'",
    ),
    ("shop.test", {"server": "127.0.0.1:0"}, "server '127.0.0.1:0': '0' is not a port between 1 and 65535"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


def test_a_context_for_tls_verifies() -> None:
    """Nobody turned it off by accident."""
    check: Any = check_of(KIND, "shop.test", {"server": "127.0.0.1", "transport": "tls"})
    assert (check.line.context.verify_mode, check.line.context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.shows("dns", "up", "refused")
async def test_of_the_systems_servers_the_next_is_asked_when_one_fails() -> None:
    """As a stub resolver does: refused, SERVFAIL, silent; the last one's failure counts."""
    closed = DnsServer(Endpoint("127.0.0.1", free_port()))
    async with naming(zone(ZONE)) as good, naming(mute) as silent, naming(only("SERVFAIL")) as failing:
        well, never, badly = (DnsServer(Endpoint("127.0.0.1", each.port)) for each in (good, silent, failing))

        async def ask(*servers: DnsServer) -> Result:
            check = replace(check_of(KIND, "shop.test", {"server": "127.0.0.1"}), servers=servers, in_order=True)
            probe = Probe(name="watched", kind="dns", target="shop.test", check=check, timeout=1.2)
            async with Resources() as resources:
                return note_ending(await run_once(probe, clock=SystemClock(), resources=resources))

        result = await ask(closed, badly, never, well)
        last = await ask(badly, closed)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["tried"] == [str(closed), failing.address, silent.address, good.address]
    assert result.evidence["server"] == good.address
    assert result.seconds < 1.2
    assert (last.outcome, last.reason) == (Outcome.DOWN, Reason.REFUSED)


def test_without_a_server_those_of_the_system_are_asked() -> None:
    """In their order, from /etc/resolv.conf."""
    check: Any = check_of(KIND, "shop.test")
    assert check.in_order
    assert [server.place.port for server in check.servers] == [53] * len(check.servers)
