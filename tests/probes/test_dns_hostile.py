"""The kind `dns` and servers that mean harm: every run ends by its deadline, with a reason, and the real answer is found."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.dns import KIND
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.question import make_question, read_message
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.records import lines
from stormwatch.probes.result import Outcome, Reason
from tests.servers.island import HOST, on_an_island
from tests.servers.nameserver import Behaviour, answer_from, mute, naming, truncated_over_udp, zone
from tests.servers.probing import measures, open_files, run, settle

ZONE = {("shop.test.", "A"): ["192.0.2.10"]}
NAME = dns.name.from_text("shop.test.")


def good(query: dns.message.Message) -> bytes:
    """The real answer."""
    return answer_from(query, ZONE).to_wire()


def other_number(query: dns.message.Message) -> bytes:
    """For somebody else's question, or forged."""
    wire = good(query)
    return ((query.id + 1) % 65536).to_bytes(2) + wire[2:]


def other_question(query: dns.message.Message) -> bytes:
    """Right number, another name."""
    other = dns.message.make_query("evil.test", "A", id=query.id)
    return answer_from(other, {("evil.test.", "A"): ["192.0.2.66"]}).to_wire()


def echo(query: dns.message.Message) -> bytes:
    """The question itself, sent back."""
    return query.to_wire()


STRANGERS = [lambda _query: b"junk", other_number, other_question, echo]


@pytest.mark.shows("dns", "up")
async def test_the_real_answer_is_taken_although_others_came_before_it() -> None:
    """Junk, another number, another question, an echo: four that do not count."""

    def behave(query: dns.message.Message, _transport: str) -> Sequence[bytes]:
        return [*(each(query) for each in STRANGERS), good(query)]

    async with naming(behave) as server:
        result = await run(
            KIND, "shop.test", {"server": server.address, "expect": {"answers": ["192.0.2.10"]}}, timeout=60
        )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["foreign_datagrams"] == 4
    assert result.seconds < 15


@pytest.mark.shows("dns", "protocol")
@pytest.mark.parametrize("stranger", [other_number, other_question, echo])
async def test_a_forged_answer_alone_is_never_believed(stranger: Callable[[dns.message.Message], bytes]) -> None:
    """The reason is said just before the deadline, when the real one can no longer come."""
    async with naming(lambda query, _transport: stranger(query)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "resend": "0s"}, timeout=1)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.PROTOCOL, "request")
    assert result.message.startswith("nothing came back but a datagram, the first of ")
    assert 0.9 < result.seconds < 10


async def test_a_flood_of_datagrams_ends_by_the_deadline_and_leaves_the_loop_to_others() -> None:
    """Five hundred at once, each time."""
    async with naming(lambda query, _transport: [other_number(query)] * 500) as server, naming(zone(ZONE)) as calm:
        flooded, fine = await asyncio.gather(
            run(KIND, "shop.test", {"server": server.address}, timeout=2),
            run(KIND, "shop.test", {"server": calm.address}, timeout=2),
        )
    assert (flooded.outcome, flooded.reason) == (Outcome.DOWN, Reason.PROTOCOL)
    assert flooded.seconds < 10
    assert (fine.outcome, fine.message) == (Outcome.UP, "")


def looping(query: dns.message.Message) -> bytes:
    """A name that points to itself."""
    question = query.question[0]
    head = query.id.to_bytes(2) + b"\x84\0\0\1\0\1\0\0\0\0"
    asked = (question.name.to_wire() or b"") + b"\0\1\0\1"
    where = len(head) + len(asked)
    return head + asked + (0xC000 | where).to_bytes(2) + b"\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"


def cut(query: dns.message.Message) -> bytes:
    """Without its last bytes."""
    return good(query)[:-14]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("wire", [looping, cut])
async def test_an_answer_that_cannot_be_read_is_down_at_once(
    wire: Callable[[dns.message.Message], bytes], transport: str
) -> None:
    """It has the right number and question: there is nothing to wait for."""
    async with naming(lambda query, _transport: wire(query)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "transport": transport}, timeout=60)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL)
    assert "bytes came back that are not a DNS message" in result.message
    assert result.seconds < 15


async def test_over_tcp_an_answer_to_another_question_is_down_at_once() -> None:
    """On our own connection nobody else can have sent it."""
    async with naming(lambda query, _transport: other_question(query)) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "transport": "tcp"})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL)
    assert result.message == "the answer belongs to another question"


async def test_an_answer_as_large_as_can_be_is_read() -> None:
    """Nearly 64 KiB over TCP."""
    records = [f'"{"x" * 240}{number:04}"' for number in range(253)]
    async with naming(truncated_over_udp({("shop.test.", "TXT"): records})) as server:
        result = await run(KIND, "shop.test", {"server": server.address, "type": "TXT"})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_dns_answer_rrs"] == 253
    assert measures(result)["stormwatch_dns_response_size_bytes"] > 64_000
    assert len(str(result.evidence)) < 6000


async def test_an_endless_chain_of_aliases_is_no_answer() -> None:
    """Each leads to the other."""

    def behave(query: dns.message.Message, _transport: str) -> bytes:
        response = dns.message.make_response(query)
        for one, other in (("shop.test.", "b.test."), ("b.test.", "shop.test.")):
            response.answer.append(dns.rrset.from_text(one, 60, "IN", "CNAME", other))
        return response.to_wire()

    async with naming(behave) as server:
        result = await run(KIND, "shop.test", {"server": server.address})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.DNS)
    assert result.message == "the name has no record of this type"


async def test_an_answer_that_drips_in_is_a_timeout() -> None:
    """Over TCP, one byte every twentieth of a second."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(100)
            for byte in b"\x10\x00" + bytes(200):
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.05)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = {"server": f"127.0.0.1:{port}", "transport": "tcp"}
        result = await run(KIND, "shop.test", options, timeout=0.3)
        assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "request")
        assert result.seconds < 5


async def test_an_answer_from_another_address_is_not_heard() -> None:
    """The socket is connected: the system keeps it away."""
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        asked.bind(("127.0.0.1", 0))
        asked.setblocking(False)

        def misdirect() -> None:
            data, sender = asked.recvfrom(4096)
            other.sendto(good(dns.message.from_wire(data)), sender)

        loop.add_reader(asked, misdirect)
        result = await run(KIND, "shop.test", {"server": f"127.0.0.1:{asked.getsockname()[1]}"}, timeout=0.2)
        loop.remove_reader(asked)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)


async def test_a_lost_datagram_is_sent_again_and_counted() -> None:
    """After a third of the time, or as `resend` says; not with `0s`."""
    seen: list[int] = []

    def deaf_once(query: dns.message.Message, _transport: str) -> bytes | None:
        seen.append(query.id)
        return good(query) if len(seen) % 2 == 0 else None

    async with naming(deaf_once) as server:
        by_default = await run(KIND, "shop.test", {"server": server.address}, timeout=1.5)
        soon = await run(KIND, "shop.test", {"server": server.address, "resend": "20ms"})
        seen.clear()
        never = await run(KIND, "shop.test", {"server": server.address, "resend": "0s"}, timeout=0.2)
    for result in (by_default, soon):
        assert (result.outcome, measures(result)["stormwatch_dns_sends"]) == (Outcome.UP, 2)
    assert 0.49 < by_default.seconds < 1.0
    assert soon.seconds < 1.5
    assert (never.reason, measures(never)["stormwatch_dns_sends"]) == (Reason.TIMEOUT, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a datagram came")
async def test_an_answer_that_we_read_late_was_not_late() -> None:
    """The kernel saw it come after 30 ms, while our loop was busy for 150."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        def serve() -> None:
            data, sender = server.recvfrom(4096)
            time.sleep(0.03)
            server.sendto(good(dns.message.from_wire(data)), sender)

        async def be_busy() -> None:
            await asyncio.sleep(0.015)
            time.sleep(1.0)

        thread = threading.Thread(target=serve)
        thread.start()
        options = {"server": f"127.0.0.1:{server.getsockname()[1]}"}
        result, _ = await asyncio.gather(run(KIND, "shop.test", options), be_busy())
        thread.join()
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert 0.025 < result.phases[2].seconds < 0.8
    assert 0.025 < result.seconds < 0.8


@pytest.mark.shows("dns", "unreachable", "broken")
def test_a_server_without_a_way_to_it_is_unreachable_and_no_network_is_our_own_fault() -> None:
    """Host unreachable is the target's; no route at all is ours."""
    there, nowhere = on_an_island(_on_the_island)
    assert (there.outcome, there.reason) == (Outcome.DOWN, Reason.UNREACHABLE)
    assert there.message == f"no connection to {HOST}:53: No route to host"
    assert (nowhere.outcome, nowhere.reason) == (Outcome.BROKEN, Reason.NETWORK)


async def _on_the_island() -> tuple[Any, Any]:
    return (await run(KIND, "shop.test", {"server": HOST}), await run(KIND, "shop.test", {"server": "203.0.113.1"}))


@pytest.mark.shows("dns", "broken")
async def test_no_question_is_sent_where_the_policy_refuses() -> None:
    """A server on this host."""
    async with naming(zone(ZONE)) as server:
        result = await run(KIND, "shop.test", {"server": server.address}, reach=Reach(refuse=OWN_HOST))
        assert server.asked == []
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.parametrize("behaviour", [mute, zone(ZONE)], ids=["silent", "answering"])
async def test_several_servers_leave_nothing_open(behaviour: Behaviour) -> None:
    """Whether they answer or not."""
    async with naming(behaviour) as one, naming(mute) as other:
        before = open_files()
        result = await run(KIND, "shop.test", {"servers": [one.address, other.address]}, timeout=0.2)
        assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
        assert await settle(before) <= before


QUESTION = make_question(NAME, dns.rdatatype.A)
WHOLE = answer_from(dns.message.make_query(NAME, "A", id=0), ZONE).to_wire()


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda tail: WHOLE[:27] + tail),
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)).map(
            lambda change: WHOLE[: change[0]] + bytes((change[1],)) + WHOLE[change[0] + 1 :]
        ),
    )
)
def test_any_bytes_are_a_message_or_a_failure(data: bytes) -> None:
    """Never another exception, neither together nor singly, nor when the records are written as text."""
    assert QUESTION.answered_by(data, 0) in {True, False}
    for singly in (False, True):
        try:
            message = read_message(data, singly=singly)
        except ProbeFailed as failure:
            assert failure.reason is Reason.PROTOCOL  # noqa: PT017 - one of two good endings
        else:
            for section in message.sections[1:]:
                assert all("\t" in line for line in lines(section))
