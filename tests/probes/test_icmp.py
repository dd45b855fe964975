"""The kind `icmp`: loopback, and a network behind a tunnel that loses, delays, repeats, damages and reports packets."""

import asyncio
import ctypes
import os
import re
import struct
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import icmp_message
from stormwatch.probes.echo import Echoes, Packet
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.icmp import KIND, Seen
from stormwatch.probes.icmp_message import Reply, Trouble
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from tests.program import program
from tests.servers.island import HOST, on_an_island
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, measures, open_files, phase_names, run
from tests.servers.tunnel import HOST4, HOST6, OURS4, ROUTER4, ROUTER6, Answer, Ping, tunnel, whole

QUICK = {"interval": "5ms", "wait": "300ms"}


def ping(
    answer: Answer, options: dict[str, Any] | None = None, *, target: str = HOST4, unprivileged: bool = False
) -> tuple[Result, list[Ping]]:
    """One run against a host behind a tunnel, and what came out of the tunnel."""

    async def work() -> tuple[Result, list[Ping]]:
        async with tunnel(answer, unprivileged=unprivileged) as seen:
            return await run(KIND, target, {**QUICK, **(options or {})}), seen

    return on_an_island(work)


def round_trips(result: Result) -> dict[str, float]:
    """By the name of the statistic."""
    return {
        each.labels["statistic"]: each.value for each in result.measures if each.name == "stormwatch_icmp_rtt_seconds"
    }


@pytest.mark.shows("icmp", "up")
@pytest.mark.parametrize("unprivileged", [False, True])
@pytest.mark.parametrize("target", [HOST4, HOST6])
def test_packets_are_counted_and_timed(target: str, unprivileged: bool) -> None:
    """By a raw socket and by one for everybody, over both versions of IP."""
    result, seen = ping(
        lambda ping: [(0.05 * ping.number, ping.reply(ttl=57))],
        {"count": 3, "ttl": 9, "size": "100B", "payload": "storm"},
        target=target,
        unprivileged=unprivileged,
    )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "setup", "rtt"]
    assert {each.ttl for each in seen} == {9}
    assert {len(each.message) for each in seen} == {108}
    assert seen[0].message[16:].startswith(b"stormstorm")
    told = measures(result)
    assert told["probe_icmp_reply_hop_limit"] == 57
    assert told["probe_ip_protocol"] == (6 if ":" in target else 4)
    assert (told["stormwatch_icmp_packets_sent"], told["stormwatch_icmp_packets_received"]) == (3, 3)
    trips = round_trips(result)
    assert 0 < trips["min"] < 0.045
    assert 0.1 <= trips["max"] < 0.29
    assert trips["min"] < trips["mean"] < trips["max"]
    assert trips["jitter"] == pytest.approx((trips["max"] - trips["min"]) / 2)


@pytest.mark.shows("icmp", "assertion", "too-slow")
def test_loss_and_slowness_are_judged() -> None:
    """Each packet that is lost is none of 0 seconds."""

    def half(ping: Ping) -> Iterable[bytes]:
        return [ping.reply()] if ping.number % 2 else []

    lossy, _ = ping(half, {"count": 10, "expect": {"loss_at_most": "40%"}})
    assert (lossy.outcome, lossy.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert lossy.message == f"5 of 10 packets to {HOST4} were lost, wanted at most 40%"
    assert measures(lossy)["stormwatch_icmp_loss_ratio"] == 0.5
    assert round_trips(lossy)["min"] > 0
    assert Outcome.UP is ping(half, {"count": 10, "expect": {"loss_at_most": "50%"}})[0].outcome
    late: Answer = lambda ping: [(0.06 if ping.number == 1 else 0, ping.reply())]  # noqa: E731 - three words
    mean, _ = ping(late, {"expect": {"slower_than": "15ms"}})
    assert mean.reason is Reason.TOO_SLOW
    assert mean.message.startswith(f"the mean round trip to {HOST4} is ")
    worst, _ = ping(late, {"expect": {"slower_than": "1s", "worst_slower_than": "50ms"}})
    assert (worst.reason, worst.failed_phase) == (Reason.TOO_SLOW, "rtt")
    assert worst.message.startswith(f"the slowest round trip to {HOST4} is ")
    jitter, _ = ping(late, {"expect": {"jitter_at_most": "10ms"}})
    assert jitter.reason is Reason.ASSERTION
    assert jitter.message.startswith(f"the jitter of round trips to {HOST4} is ")


@pytest.mark.shows("icmp", "timeout")
def test_silence_is_a_timeout_without_a_round_trip() -> None:
    """blackbox_exporter tells of one of 0 seconds there."""
    result, _ = ping(lambda _: [])
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "rtt")
    assert result.message == f"no answer of {HOST4} to any of 3 packets, 300ms after the last"
    assert phase_names(result) == ["resolve", "setup"]
    assert round_trips(result) == {}
    assert measures(result)["stormwatch_icmp_loss_ratio"] == 1


ERRORS = [
    (HOST4, (3, 1, ROUTER4, 0), f"{ROUTER4} says: host unreachable"),
    (HOST4, (3, 13, ROUTER4, 0), f"{ROUTER4} says: prohibited by a filter"),
    (HOST4, (11, 0, ROUTER4, 0), f"{ROUTER4} says: time to live exceeded (of 64 hops)"),
    (HOST4, (3, 4, ROUTER4, 1400), f"{ROUTER4} says: fragmentation needed, the next hop takes 1400 bytes"),
    (HOST6, (1, 0, ROUTER6, 0), f"{ROUTER6} says: no route"),
    (HOST6, (3, 0, ROUTER6, 0), f"{ROUTER6} says: hop limit exceeded (of 64 hops)"),
    (HOST6, (2, 0, ROUTER6, 1300), f"{ROUTER6} says: packet too big, the next hop takes 1300 bytes"),
]


@pytest.mark.shows("icmp", "unreachable")
@pytest.mark.parametrize("unprivileged", [False, True])
@pytest.mark.parametrize(("target", "error", "told"), ERRORS, ids=[told for _, _, told in ERRORS])
def test_what_a_router_says_is_told(
    target: str, error: tuple[int, int, str, int], told: str, unprivileged: bool
) -> None:
    """At once: nobody waits for an answer that will not come."""
    kind, code, router, rest = error
    result, seen = ping(
        lambda ping: [ping.error(kind, code, router=router, rest=rest)],
        {"count": 2, "dont_fragment": True, "size": "1000B", "wait": "3s"},
        target=target,
        unprivileged=unprivileged,
    )
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)
    assert result.message == f"no answer of {target} to any of 2 packets: {told}"
    assert result.seconds < 2
    assert not any(each.may_be_divided for each in seen)


def test_answers_come_twice_and_out_of_order() -> None:
    """Counted, and no reason to be down."""
    result, _ = ping(lambda ping: [(0.1 - 0.04 * ping.number, ping.reply())] * 2, {"count": 3})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["stormwatch_icmp_packets_reordered"] == 2
    assert 1 <= measures(result)["stormwatch_icmp_packets_duplicate"] <= 3
    first, _ = ping(lambda ping: [ping.reply()] * 3, {"count": 2})
    assert measures(first)["stormwatch_icmp_packets_received"] == 2


@pytest.mark.shows("icmp", "protocol")
def test_other_bytes_than_were_sent_are_damage() -> None:
    """Somebody on the way changes them."""
    result, _ = ping(lambda ping: [ping.reply(data=ping.message[8:-1] + b"\0")])
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL)
    assert result.message == f"an answer of {HOST4} carries other bytes than were sent to it"


@pytest.mark.parametrize("unprivileged", [False, True])
def test_answers_to_somebody_else_are_none(unprivileged: bool) -> None:
    """From another address, of another run, about another packet, cut off, or not ICMP at all."""

    def strange(ping: Ping) -> Iterable[bytes]:
        sound = ping.reply()
        yield ping.reply(origin=ROUTER4)
        yield ping.reply(data=bytes(8) + ping.message[16:])
        yield ping.reply(data=b"")
        yield ping.error(3, 1, router=ROUTER4)[:40]
        yield sound[:20]
        yield b"\x45" + bytes(19)

    result, _ = ping(strange, unprivileged=unprivileged)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)


def test_a_source_is_used() -> None:
    """One of two addresses of ours."""

    async def work() -> tuple[Result, list[Ping]]:
        async with tunnel(whole) as seen:
            subprocess.run([program("ip"), "addr", "add", "10.77.0.9/24", "dev", "storm"], check=True)
            return await run(KIND, HOST4, {**QUICK, "source": "10.77.0.9"}), seen

    result, seen = on_an_island(work)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert {each.source for each in seen} == {bytes([10, 77, 0, 9])}
    assert OURS4 != "10.77.0.9"


def test_a_packet_that_we_cannot_send_is_broken() -> None:
    """No route of ours, or more than fits into our own network; a route that says unreachable is the target's."""

    async def work() -> list[Result]:
        async with tunnel(whole):
            subprocess.run([program("ip"), "route", "add", "prohibit", "198.51.100.9"], check=True)
            subprocess.run([program("ip"), "route", "add", "blackhole", "198.51.100.8"], check=True)
            big = {"size": "5000B", "dont_fragment": True}
            return [
                await run(KIND, "203.0.113.1"),
                await run(KIND, HOST4, big),
                await run(KIND, "198.51.100.9"),
                await run(KIND, "198.51.100.8"),
                await run(KIND, HOST),
            ]

    results = on_an_island(work)
    assert [(each.outcome, each.reason) for each in results] == [
        *[(Outcome.BROKEN, Reason.NETWORK)] * 4,
        (Outcome.DOWN, Reason.UNREACHABLE),
    ]
    assert results[1].message == (
        f"no packet to {HOST4} was sent: 5008 bytes are more than our own network takes in one piece"
    )
    assert results[2].message.endswith("our own routes or filters prohibit it, or it is a broadcast address")
    assert results[3].message.endswith("our own routes drop it")
    assert results[4].message == f"no packet to {HOST} was sent: No route to host"


def test_many_probes_share_one_socket() -> None:
    """And each hears what is its own."""

    async def work() -> tuple[list[Result], int]:
        async with tunnel(lambda ping: [ping.reply(ttl=ping.destination[3])]), Resources() as resources:
            await run(KIND, HOST4, QUICK, resources=resources)
            before = open_files()
            targets = [f"10.77.0.{number}" for number in range(10, 210)]
            results = await asyncio.gather(
                *(run(KIND, target, {"interval": "20ms"}, resources=resources) for target in targets)
            )
            return results, open_files() - before

    results, more = on_an_island(work)
    assert more == 0
    assert {each.outcome for each in results} == {Outcome.UP}
    assert [measures(each)["probe_icmp_reply_hop_limit"] for each in results] == list(range(10, 210))


async def _loopback() -> None:
    async with Resources() as resources:
        first = await run(KIND, "127.0.0.1", {**QUICK, "size": "0B"}, resources=resources)
        second = await run(KIND, "[::1]", {**QUICK, "size": "60000B"}, resources=resources)
        before = open_files()
        cut_off = asyncio.ensure_future(run(KIND, "127.0.0.1", {"interval": "1s"}, resources=resources))
        await asyncio.sleep(0.05)
        cut_off.cancel()
        await asyncio.wait([cut_off])
        assert open_files() == before
        assert resources.get(Echoes).of(2)._packets == {}
    for result in (first, second):
        if result.reason is Reason.RESOURCES and not os.environ.get("CI"):
            pytest.skip(result.message)
        assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_loopback_answers() -> None:
    """Packets of every size; a run that is cut off forgets its packets."""
    await _loopback()


def test_loopback_answers_on_uvloop() -> None:
    """The service's loop."""
    uvloop.run(_loopback())


@pytest.mark.shows("icmp", "broken", "dns")
async def test_what_is_not_the_target_s_fault_and_a_name_that_is() -> None:
    """The policy, a source that is not ours, more packets than there is time."""
    near = await run(KIND, "127.0.0.1", reach=Reach(refuse=OWN_HOST))
    assert (near.outcome, near.reason) == (Outcome.BROKEN, Reason.POLICY)
    other = await run(KIND, "127.0.0.1", {"source": "192.0.2.7"})
    assert (other.reason, other.message) == (Reason.NETWORK, "source 192.0.2.7 is not an address of this machine")
    many = await run(KIND, "127.0.0.1", {"count": 10, "interval": "1s"})
    assert many.message == (
        "10 packets, one every 1s, take 9s, and the run may take 5s: give fewer of them, a shorter interval, "
        "or a longer timeout"
    )
    async with naming(zone({})) as names:
        unknown = await run(KIND, "shop.test", {"resolver": names.address})
    assert (unknown.outcome, unknown.reason) == (Outcome.DOWN, Reason.DNS)


def test_without_the_right_to_send_it_is_broken_and_says_what_helps() -> None:
    """In a thread that has given up the capability."""

    async def work() -> Result:
        async with tunnel(whole):
            _drop_raw_sockets()
            return await run(KIND, HOST4)

    result = on_an_island(work)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.BROKEN, Reason.RESOURCES, "setup")
    assert result.message == (
        "the prober may not send ICMP: let its group in sysctl net.ipv4.ping_group_range (now 1 to 0), "
        "or give it the capability CAP_NET_RAW"
    )


def _drop_raw_sockets() -> None:
    """Take CAP_NET_RAW (13) from this thread: capset(2), version 3."""
    head = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    sets = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(head, sets) == 0
    effective, *rest = struct.unpack("=6I", sets.raw)
    assert libc.capset(head, ctypes.create_string_buffer(struct.pack("=6I", effective & ~(1 << 13), *rest))) == 0


def test_the_order_of_answers_is_counted() -> None:
    """One that comes after an answer to a later request is out of order."""
    packets = [
        Packet(number, "", b"", 64, lambda: None, seconds=0.1, place=place) for number, place in enumerate([0, 3, 1, 2])
    ]
    assert Seen.of(packets).reordered == 2


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=120), family=st.sampled_from([2, 10]))
def test_any_bytes_are_a_message_or_none(data: bytes, family: int) -> None:
    """Or ProbeFailed, and never another exception."""
    try:
        message, _ = icmp_message.without_ip_header(data)
    except ProbeFailed:
        message = data
    try:
        read = icmp_message.read(family, message)
    except ProbeFailed:
        return
    assert read is None or isinstance(read, Reply | Trouble)


@settings(max_examples=200, deadline=None)
@given(
    identifier=st.integers(0, 65535),
    sequence=st.integers(0, 65535),
    data=st.binary(max_size=100),
    kind=st.sampled_from([(2, 3, 11), (10, 1, 3)]),
)
def test_what_is_asked_is_read_back(identifier: int, sequence: int, data: bytes, kind: tuple[int, int, int]) -> None:
    """An answer to it, and an error about it."""
    family, unreachable, _ = kind
    request = icmp_message.request(family, identifier, sequence, data)
    assert icmp_message.asked(family, request) == (identifier, sequence)
    if family == 2:
        assert icmp_message.checksum(request) == 0
        about = bytes([0x45]) + bytes(8) + b"\x01" + bytes(10) + request[:8]
    else:
        about = bytes(6) + b"\x3a" + bytes(33) + request
    error = icmp_message.read(family, bytes([unreachable, 1]) + bytes(6) + about)
    assert isinstance(error, Trouble)
    assert (error.identifier, error.sequence) == (identifier, sequence)
    answer = icmp_message.read(family, bytes([0 if family == 2 else 129]) + request[1:])
    assert answer == Reply(identifier, sequence, data)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop test", {}, "target 'shop test': 'shop test' is not a host name"),
    ("::1]:80", {}, "target '::1]:80': an IPv6 address with a port is written in brackets, like [2001:db8::1]:443"),
    ("shop.test", {"size": "64KiB"}, "size: 65536 bytes do not fit into a packet, 65507 do"),
    ("shop.test", {"source": "eth0"}, "source: 'eth0' is not an address"),
    (
        "shop.test",
        {"count": 1, "expect": {"jitter_at_most": "1ms"}},
        "expect.jitter_at_most: it takes two packets at least, give `count`",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES, ids=[row[2][:50] for row in MISTAKES])
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
