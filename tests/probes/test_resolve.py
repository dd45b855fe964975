"""From a name to addresses by a name server that is given: families, preferences, failures, what is sent again."""

import asyncio
import time
from collections.abc import Sequence

import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from tests.servers.nameserver import Behaviour, NameServer, mute, naming, only, zone
from tests.servers.process import free_port

BOTH = {
    ("both.test.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("both.test.", "AAAA"): ["2001:db8::1", "2001:db8::2"],
    ("old.test.", "A"): ["192.0.2.3"],
    ("new.test.", "AAAA"): ["2001:db8::3"],
    ("none.test.", "TXT"): ['"nothing"'],
}


async def look_up(host: str, ip: Family, server: NameServer) -> Sequence[str]:
    """By a server of ours."""
    return await resolve(host, ip=ip, server=Endpoint("127.0.0.1", server.port), clock=time.monotonic)


FOUND: list[tuple[str, Family, list[str]]] = [
    ("both.test", "4", ["192.0.2.1", "192.0.2.2"]),
    ("both.test", "6", ["2001:db8::1", "2001:db8::2"]),
    ("both.test", "prefer-4", ["192.0.2.1", "192.0.2.2"]),
    ("both.test", "prefer-6", ["2001:db8::1", "2001:db8::2"]),
    ("old.test", "prefer-4", ["192.0.2.3"]),
    ("old.test", "prefer-6", ["192.0.2.3"]),
    ("new.test", "prefer-4", ["2001:db8::3"]),
    ("new.test", "any", ["2001:db8::3"]),
    ("192.0.2.9", "prefer-6", ["192.0.2.9"]),
    ("2001:db8::9", "prefer-4", ["2001:db8::9"]),
]


@pytest.mark.parametrize(("host", "ip", "addresses"), FOUND, ids=[f"{row[0]} {row[1]}" for row in FOUND])
async def test_the_family_that_is_wanted_is_used(host: str, ip: Family, addresses: list[str]) -> None:
    """A preference takes the first address of that family, and of the other one only where there is none."""
    async with naming(zone(BOTH)) as server:
        found = await look_up(host, ip, server)
    assert len(found) == (1 if ip.startswith("prefer") else len(addresses))
    assert set(found) <= set(addresses)


async def test_either_family_will_do_where_none_is_preferred() -> None:
    """All addresses of both."""
    async with naming(zone(BOTH)) as server:
        found = await look_up("both.test", "any", server)
    assert sorted(found) == ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    assert found[0].startswith("192")


async def test_a_preferred_family_is_asked_alone_while_it_has_an_address() -> None:
    """The other one costs no question."""
    async with naming(zone(BOTH)) as server:
        await look_up("both.test", "prefer-6", server)
        assert server.asked == ["udp both.test. AAAA"]


NOT_FOUND: list[tuple[str, Family, Behaviour, str]] = [
    ("none.test", "any", zone(BOTH), "none.test has no address at name server "),
    ("old.test", "6", zone(BOTH), "old.test has no IPv6 address at name server "),
    ("none.test", "prefer-6", zone(BOTH), "none.test has no IPv4 address at name server "),
    ("gone.test", "4", zone(BOTH), "gone.test did not resolve at name server "),
    ("both.test", "any", only("SERVFAIL"), "both.test did not resolve at name server "),
    ("192.0.2.9", "6", zone(BOTH), "192.0.2.9 is not an IPv6 address"),
]


@pytest.mark.parametrize(("host", "ip", "behaviour", "message"), NOT_FOUND, ids=[f"{r[0]} {r[1]}" for r in NOT_FOUND])
async def test_a_name_without_an_address_is_a_failure_of_dns(
    host: str, ip: Family, behaviour: Behaviour, message: str
) -> None:
    """And says whom it asked."""
    async with naming(behaviour) as server:
        with pytest.raises(ProbeFailed) as failed:
            await look_up(host, ip, server)
    assert failed.value.reason is Reason.DNS
    assert failed.value.message.startswith(message)


async def test_a_closed_port_and_a_silent_server() -> None:
    """The one is told at once, the other is waited for until the caller cancels."""
    with pytest.raises(ProbeFailed, match=r"did not resolve at name server .*: Connection refused"):
        await resolve("a.test", ip="4", server=Endpoint("127.0.0.1", free_port()), clock=time.monotonic)
    async with naming(mute) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await look_up("a.test", "4", server)


@pytest.mark.parametrize("rdclass", [dns.rdataclass.CH, dns.rdataclass.RdataClass(1024)])
async def test_addresses_of_another_class_are_none(rdclass: dns.rdataclass.RdataClass) -> None:
    """In Chaosnet they are numbers, and in unknown classes anything: a server that sends them has no address for us."""

    def behave(query: dns.message.Message, _transport: str) -> bytes:
        response = dns.message.make_response(query)
        name = query.question[0].name
        rdata = dns.rdata.from_wire(rdclass, dns.rdatatype.A, b"\0\x7f\x01", 0, 3)
        response.answer.append(dns.rrset.from_rdata(name, 60, rdata))
        return response.to_wire()

    async with naming(behave) as server:
        with pytest.raises(ProbeFailed) as caught:
            await resolve("shop.test", ip="4", server=Endpoint("127.0.0.1", server.port), clock=time.monotonic)
    assert caught.value.reason is Reason.DNS
