"""The kind `icmp`: answers, loss and errors on loopback and on a network that does as it is told."""

import asyncio
import math
import re
import socket
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.probes import echo
from stormwatch.probes.icmp import KIND, spread
from stormwatch.probes.icmp_packet import Refusal, Reply, echo_request, internet_checksum, read_packet
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import network
from tests.servers.network import Network, address, on_a_network
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle

BOTH = pytest.mark.parametrize("version", [4, 6])
EITHER = pytest.mark.parametrize("unprivileged", [False, True], ids=["raw", "datagram"])


def ping(
    host: int, options: Mapping[str, Any] | None = None, *, version: int = 4, unprivileged: bool = False
) -> tuple[Result, Network]:
    """One run against a host of the network."""

    async def look(there: Network) -> tuple[Result, Network]:
        short = {"wait": "150ms", "interval": "10ms", **(options or {})}
        return await run(KIND, address(version, host), short, timeout=30.0), there

    return on_a_network(look, unprivileged=unprivileged)


@pytest.mark.shows("icmp", "up")
@pytest.mark.parametrize("target", ["127.0.0.1", "::1", "localhost"])
async def test_loopback_answers(target: str) -> None:
    """Every packet, with its hop limit, in less time than the run took."""
    result = await run(KIND, target, {"count": 5, "interval": "10ms"})

    seen = measures(result)
    assert result.outcome is Outcome.UP, result.message
    assert (seen["stormwatch_icmp_packets_sent"], seen["stormwatch_icmp_packets_received"]) == (5, 5)
    assert seen["stormwatch_icmp_loss_ratio"] == 0
    assert seen["probe_icmp_reply_hop_limit"] == 64
    assert seen["probe_ip_protocol"] in (4, 6)
    assert phase_names(result) == ["resolve", "setup", "rtt"]
    stats = {m.labels["stat"]: m.value for m in result.measures if m.name == "stormwatch_icmp_rtt_seconds"}
    assert 0 < stats["min"] <= stats["mean"] <= stats["max"] < 1
    assert result.phases[2].seconds == pytest.approx(stats["mean"])
    assert len(result.evidence["round_trips_ms"]) == 5


@BOTH
@EITHER
def test_both_sorts_of_socket_measure_the_same(version: int, unprivileged: bool) -> None:
    """Raw sockets and those that need no privilege, in both families, with the options that go with each packet."""
    result, there = ping(network.ANSWERS, {"ttl": 9, "size": 400}, version=version, unprivileged=unprivileged)

    assert result.outcome is Outcome.UP, result.message
    assert measures(result)["probe_icmp_reply_hop_limit"] == 61
    assert measures(result)["stormwatch_icmp_packets_received"] == 3
    assert {packet[8 if version == 4 else 7] for packet in there.seen} == {9}
    assert {len(packet) for packet in there.seen} == {400 + 8 + (20 if version == 4 else 40)}


def test_a_slow_host_takes_its_time() -> None:
    """The round trip is what the network took, and the packets after it do not wait for it."""
    result, _ = ping(network.SLOW, {"wait": "5s"})

    stats = {m.labels["stat"]: m.value for m in result.measures if m.name == "stormwatch_icmp_rtt_seconds"}
    assert network.DELAY <= stats["min"] <= stats["max"] < 2 * network.DELAY
    assert stats["stddev"] < network.DELAY / 2


@BOTH
@EITHER
@pytest.mark.shows("icmp", "assertion")
def test_loss_is_counted_and_judged(version: int, unprivileged: bool) -> None:
    """Every second packet is lost: a share that may be allowed."""
    options = {"count": 4}
    result, _ = ping(network.LOSSY, options, version=version, unprivileged=unprivileged)
    assert result.outcome is Outcome.UP, result.message
    assert measures(result)["stormwatch_icmp_loss_ratio"] == 0.5

    result, _ = ping(
        network.LOSSY, {**options, "expect": {"loss_at_most": "25%"}}, version=version, unprivileged=unprivileged
    )
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "rtt")
    assert result.message == f"2 of 4 packets to {address(version, network.LOSSY)} were lost, wanted at most 25%"


@pytest.mark.shows("icmp", "timeout")
def test_a_host_that_does_not_answer_is_told_before_the_deadline() -> None:
    """Lost packets have no round trip: not 0, none."""
    result, _ = ping(network.SILENT)

    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert result.message == "none of 3 packets to 10.77.0.8 was answered within 150ms"
    assert result.seconds < 10.0
    names = {measure.name for measure in result.measures}
    assert "stormwatch_icmp_rtt_seconds" not in names
    assert "probe_icmp_reply_hop_limit" not in names
    assert measures(result)["stormwatch_icmp_loss_ratio"] == 1
    result, _ = ping(network.SILENT, {"count": 1})
    assert result.message == "the packet to 10.77.0.8 was not answered within 150ms"


@BOTH
@EITHER
@pytest.mark.shows("icmp", "unreachable")
@pytest.mark.parametrize(
    ("host", "said"),
    [
        (network.EXCEEDED, {4: "time exceeded in transit", 6: "time exceeded in transit"}),
        (network.UNREACHABLE, {4: "host unreachable", 6: "address unreachable"}),
        (
            network.FORBIDDEN,
            {4: "communication administratively prohibited", 6: "communication administratively prohibited"},
        ),
    ],
)
def test_a_router_s_word_is_told_with_its_address(
    version: int, unprivileged: bool, host: int, said: dict[int, str]
) -> None:
    """At once, and not after the time to wait."""
    result, _ = ping(host, {"count": 2, "wait": "20s"}, version=version, unprivileged=unprivileged)

    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)
    where = address(version, host)
    assert result.message == f"no answer from {where}: {said[version]}, says {network.ROUTER[version]}"
    assert result.seconds < 15.0


@EITHER
def test_a_packet_that_does_not_fit_names_the_mtu(unprivileged: bool) -> None:
    """When fragments are forbidden: by a router on the way, and by our own interface."""
    result, _ = ping(network.TOO_BIG, {"count": 1, "size": 1000, "dont_fragment": True}, unprivileged=unprivileged)
    assert result.reason is Reason.UNREACHABLE
    assert "576" in result.message or "Message too long" in result.message
    result, there = ping(network.ANSWERS, {"count": 1, "size": 3000, "dont_fragment": True}, unprivileged=unprivileged)
    assert result.reason is Reason.UNREACHABLE
    assert "Message too long" in result.message
    assert there.seen == []


def test_answers_that_come_twice_or_in_another_order_are_counted() -> None:
    """They are answers all the same."""
    result, _ = ping(network.DOUBLE, {"interval": "30ms"})
    assert result.outcome is Outcome.UP
    assert measures(result)["stormwatch_icmp_packets_duplicate"] >= 2
    assert measures(result)["stormwatch_icmp_packets_received"] == 3
    result, _ = ping(network.SWAPPED, {"count": 4})
    assert result.outcome is Outcome.UP
    assert measures(result)["stormwatch_icmp_packets_reordered"] == 2


@pytest.mark.parametrize("host", [network.FOREIGN, network.GARBAGE])
def test_what_is_no_answer_to_our_packet_is_none(host: int) -> None:
    """The right number with other bytes, and noise."""
    result, _ = ping(host)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)


@pytest.mark.shows("icmp", "too-slow")
def test_slow_round_trips_are_down() -> None:
    """By their mean, and by their deviation."""
    result, _ = ping(network.SLOW, {"wait": "5s", "expect": {"slower_than": "20ms"}})
    assert (result.reason, result.failed_phase) == (Reason.TOO_SLOW, "rtt")
    assert re.fullmatch(r"the mean round trip took [3-9]\d\d\.\d ms, wanted at most 20ms", result.message)


async def test_jitter_is_judged() -> None:
    """Any deviation is more than a nanosecond."""
    result = await run(KIND, "127.0.0.1", {"count": 5, "interval": "10ms", "expect": {"jitter_at_most": "0ms"}})
    assert result.reason is Reason.TOO_SLOW
    assert result.message.startswith("round trips deviate by ")


@pytest.mark.shows("icmp", "dns")
async def test_a_name_that_is_not_there_is_down() -> None:
    """By the resolver that was given; nothing is sent."""
    result = await run(KIND, "127.0.0.1", {"ip": "6"})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.DNS, "resolve")


@pytest.mark.shows("icmp", "broken")
async def test_an_address_that_is_not_ours_is_broken() -> None:
    """Nothing was learnt about the target."""
    result = await run(KIND, "127.0.0.1", {"count": 1, "source": "198.51.100.7"})
    assert result.outcome is Outcome.BROKEN
    assert result.reason is Reason.NETWORK
    assert result.message.startswith("no packet could be sent to 127.0.0.1: ")
    result = await run(KIND, "127.0.0.1", {"source": "::1"})
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.NETWORK)
    assert result.message == "source ::1 cannot send to 127.0.0.1: another family of addresses"


async def test_without_the_right_it_says_which_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system refuses both sorts of socket to a plain user."""

    def refuse(*_arguments: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(echo.socket, "socket", refuse)
    result = await run(KIND, "127.0.0.1")
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.RESOURCES)
    assert "net.ipv4.ping_group_range" in result.message
    assert "CAP_NET_RAW" in result.message


async def test_the_policy_is_asked() -> None:
    """Before a socket is opened."""
    result = await run(KIND, "127.0.0.1", reach=Reach(refuse=OWN_HOST))
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)


def test_many_flows_share_a_socket_and_do_not_mix() -> None:
    """A hundred runs at once, half of them against a host that is silent."""

    async def look(_there: Network) -> list[Result]:
        options = {"count": 3, "interval": "10ms", "wait": "200ms"}
        async with Resources() as shared:
            before = open_files()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        run(
                            KIND,
                            address(4, network.ANSWERS if number % 2 else network.SILENT),
                            options,
                            resources=shared,
                        )
                    )
                    for number in range(100)
                ]
            assert open_files() <= before + 2
        return [task.result() for task in tasks]

    found = on_a_network(look)
    assert [result.outcome for result in found[:4]] == [Outcome.DOWN, Outcome.UP, Outcome.DOWN, Outcome.UP]
    assert sum(result.outcome is Outcome.UP for result in found) == 50


async def test_a_cancelled_run_leaves_nothing() -> None:
    """No descriptor, and no number that is waited for."""
    before = open_files()
    async with Resources() as shared:
        work: Coroutine[Any, Any, Result] = run(
            KIND, "127.0.0.1", {"count": 1000, "interval": "50ms"}, timeout=60.0, resources=shared
        )
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0.12)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        lines = shared.get(echo.Echoes)._lines.values()
        assert [line._flows for line in lines] == [{}]
    assert await settle(before) <= before


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("not a host", {}, "target: 'not a host' is not a host name"),
        ("127.0.0.1", {"source": "localhost"}, "source: 'localhost' is not an IP address"),
        (
            "127.0.0.1",
            {"interval": "1ms"},
            "interval: packets less than 10ms apart are a flood, not a measurement; give 10ms or more",
        ),
        (
            "127.0.0.1",
            {"count": 1, "expect": {"jitter_at_most": "1ms"}},
            "expect.jitter_at_most: one packet has no deviation; give a count of 2 or more",
        ),
    ],
)
def test_what_cannot_work_is_told_when_it_is_read(target: str, options: dict[str, Any], said: str) -> None:
    """One sentence."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        check_of(KIND, target, options)
    assert str(caught.value) == said


@given(version=st.sampled_from([4, 6]), packet=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(version: int, packet: bytes) -> None:
    """Never an exception."""
    assert isinstance(read_packet(version, packet), Reply | Refusal | None)


@given(
    version=st.sampled_from([4, 6]),
    identifier=st.integers(0, 65535),
    sequence=st.integers(0, 65535),
    payload=st.binary(min_size=16, max_size=100),
)
def test_what_a_host_sends_back_is_read(version: int, identifier: int, sequence: int, payload: bytes) -> None:
    """The number and the payload; our own request is no answer."""
    request = echo_request(version, identifier, sequence, payload)
    assert read_packet(version, request) is None
    reply = bytes([0 if version == 4 else 129]) + request[1:]
    assert read_packet(version, reply) == Reply(sequence, payload)
    if version == 4:
        assert internet_checksum(request) == 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_the_deviation_is_that_of_the_whole(values: list[float]) -> None:
    """Between nothing and half the range."""
    mean, deviation = spread(values)
    assert min(values) - 1e-9 <= mean <= max(values) + 1e-9
    assert 0 <= deviation <= (max(values) - min(values)) / 2 + 1e-9
    assert not math.isnan(deviation)
