"""The kind `ntp`: servers with good clocks, bad clocks, no clocks, and bad manners."""

import asyncio
import re
import struct
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import ntp_packet
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.ntp import KIND, Sample
from stormwatch.probes.ntp_packet import Answer, ntp_time, question, read, unix_time
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import datagrams
from tests.servers.datagrams import answering, closed_port
from tests.servers.island import HOST, on_an_island
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle


def packet(
    asked: bytes, *, ahead: float = 0.0, first: int = 0x24, stratum: int = 2, age: float = 10.0, **more: Any
) -> bytes:
    """A server's answer to a question."""
    now = time.time() + ahead
    reference: bytes = more.get("reference", b"\xc0\x00\x02\x01")
    set_last = ntp_time(now - age) if age >= 0 else bytes(8)
    nonce: bytes = more.get("nonce", asked[40:48])
    head = struct.pack("!BBbbII", first, stratum, 6, -20, 1 << 15, 1 << 14) + reference
    return head + set_last + nonce + ntp_time(now) + ntp_time(now)


def server(**more: Any) -> datagrams.Answer:
    """Answers as `packet` has it."""
    return lambda asked, _: [packet(asked, **more)]


async def ask(answer: datagrams.Answer, options: dict[str, Any] | None = None, **more: Any) -> Result:
    """One run against a server."""
    async with answering(answer) as (port, _):
        return await run(KIND, f"127.0.0.1:{port}", options, **more)


@pytest.mark.shows("ntp", "up")
async def test_a_good_clock_is_up() -> None:
    """Ours: so there is hardly an offset."""
    async with answering(server()) as (port, heard):
        options = {
            "source": "127.0.0.1",
            "expect": {
                "offset_at_most": "500ms",
                "stratum_at_most": 2,
                "reference_age_at_most": "1m",
                "slower_than": "1s",
            },
        }
        result = await run(KIND, f"127.0.0.1:{port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "exchange"]
    told = measures(result)
    assert abs(told["stormwatch_ntp_offset_seconds"]) < 0.5
    assert 0 <= told["stormwatch_ntp_delay_seconds"] < 0.5
    assert told["stormwatch_ntp_reference_age_seconds"] == pytest.approx(10, abs=1)
    assert (told["stormwatch_ntp_stratum"], told["stormwatch_ntp_leap"]) == (2, 0)
    assert (told["stormwatch_ntp_root_delay_seconds"], told["stormwatch_ntp_root_dispersion_seconds"]) == (0.5, 0.25)
    assert result.evidence["ntp"]["reference"] == "192.0.2.1"
    (asked,) = heard
    assert (len(asked), asked[0], asked[1:40]) == (48, 0x23, bytes(39))  # nothing of our clock is told


COMPLAINTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"ahead": 5.0}, {"offset_at_most": "1s"}, r"the clock of \S+ is 5s ahead of this machine's, wanted at most 1s"),
    ({"ahead": -5.0}, {"offset_at_most": "1s"}, r"the clock of \S+ is 5s behind this machine's, wanted at most 1s"),
    ({"stratum": 4}, {"stratum_at_most": 3}, r"\S+ has stratum 4, wanted at most 3"),
    ({"age": 7200.0}, {"reference_age_at_most": "1h"}, r"the clock of \S+ was set last 2h ago, wanted at most 1h"),
    ({"age": -1}, {"reference_age_at_most": "1h"}, r"the clock of \S+ was set last never, wanted at most 1h"),
    ({"first": 0xE4}, {}, r"the clock of \S+ is not synchronized: leap indicator 3, stratum 2"),
    ({"stratum": 16}, {}, r"the clock of \S+ is not synchronized: leap indicator 0, stratum 16"),
    (
        {"stratum": 0, "reference": b"RATE"},
        {},
        r"\S+ answered with the kiss-o'-death RATE: it wants to be asked less often",
    ),
    ({"stratum": 0, "reference": b"\0\xffX\n"}, {}, r"\S+ answered with the kiss-o'-death X: it does not say why"),
]


@pytest.mark.shows("ntp", "assertion")
@pytest.mark.parametrize(("said", "expect", "message"), COMPLAINTS, ids=[row[2] for row in COMPLAINTS])
async def test_a_bad_clock_is_down(said: dict[str, Any], expect: dict[str, Any], message: str) -> None:
    """With what it said."""
    result = await ask(server(**said), {"expect": expect})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "exchange")
    assert re.fullmatch(message, result.message)


async def test_a_clock_that_knows_nothing_may_be_wanted() -> None:
    """Nothing but that it answers."""
    result = await ask(server(first=0xE4, stratum=16), {"expect": {"synchronized": False}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["stormwatch_ntp_leap"] == 3


@pytest.mark.shows("ntp", "timeout", "protocol")
async def test_answers_that_are_none() -> None:
    """Cut off, of another mode, or to somebody else's question."""
    short = await ask(lambda asked, _: [packet(asked)[:47]])
    assert (short.reason, short.message) == (Reason.PROTOCOL, "47 bytes came back, an NTP packet has 48")
    mirrored = await ask(lambda asked, _: [asked])
    assert mirrored.message == "an NTP packet of mode 3 came back, a server's has mode 4"
    forged = await ask(server(nonce=bytes(8)), timeout=0.2)
    assert (forged.reason, forged.failed_phase) == (Reason.TIMEOUT, "exchange")
    silent = await ask(lambda _asked, _number: [], timeout=0.1)
    assert silent.reason is Reason.TIMEOUT


async def test_a_lost_question_is_asked_again() -> None:
    """A second later, with other random bytes; an answer to the first one is as good."""

    def second(asked: bytes, number: int) -> Iterable[bytes]:
        return [packet(asked)] if number else []

    async with answering(second) as (port, heard):
        result = await run(KIND, f"127.0.0.1:{port}")
    assert (result.outcome, len(heard)) == (Outcome.UP, 2)
    assert heard[0] != heard[1]
    assert measures(result)["stormwatch_ntp_delay_seconds"] < 0.5


@pytest.mark.shows("ntp", "refused", "dns", "too-slow", "broken")
async def test_what_every_kind_can_end_with() -> None:
    """A closed port, no such name, a long way, the policy."""
    port = closed_port()
    closed = await run(KIND, f"127.0.0.1:{port}")
    assert (closed.reason, closed.message) == (Reason.REFUSED, f"nothing gets to 127.0.0.1:{port}: Connection refused")
    async with naming(zone({})) as names:
        unknown = await run(KIND, "time.test", {"resolver": names.address})
    assert (unknown.reason, unknown.failed_phase) == (Reason.DNS, "resolve")
    slow = await ask(lambda asked, _: [(0.05, packet(asked))], {"expect": {"slower_than": "20ms"}})
    assert slow.reason is Reason.TOO_SLOW
    near = await run(KIND, "127.0.0.1", reach=Reach(refuse=OWN_HOST))
    assert (near.outcome, near.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.shows("ntp", "unreachable")
def test_a_host_without_a_way_to_it_is_unreachable() -> None:
    """As a router says."""
    result = on_an_island(lambda: run(KIND, HOST))
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)


async def test_nothing_stays_open() -> None:
    """After answers, and when it is cut off."""
    async with answering(server()) as (port, _), answering(lambda _asked, _number: []) as (quiet, _):
        before = open_files()
        await asyncio.gather(*(run(KIND, f"127.0.0.1:{port}") for _ in range(20)))
        await run(KIND, f"127.0.0.1:{quiet}", timeout=0.05)
        assert await settle(before) <= before


def test_offset_and_delay_are_those_of_the_standard() -> None:
    """RFC 5905 §8: the server is 100 s ahead, 0.2 s on the way, 0.05 s to think."""
    answer = Answer(0, 4, 1, "GPS", 0, 0, 0, None, received=1100.1, sent=1100.15, nonce=b"")
    sample = Sample(answer, asked=1000.0, arrived=1000.25)
    assert sample.offset == pytest.approx(100.0)
    assert sample.delay == pytest.approx(0.2)


@pytest.mark.parametrize("year", [1972, 2026, 2036, 2037, 2100, 2500])
def test_times_are_of_the_nearest_era(year: int) -> None:
    """The first ended in 2036."""
    moment = datetime(year, 5, 4, 3, 2, 1, tzinfo=UTC).timestamp() + 0.25
    assert unix_time(ntp_time(moment), moment + 3600) == pytest.approx(moment, abs=1e-6)


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=100), head=st.sampled_from([b"", b"\x24\x02", b"\x24\x00"]))
def test_any_bytes_are_an_answer_or_none(data: bytes, head: bytes) -> None:
    """And never another exception."""
    try:
        answer = read(head + data, time.time())
    except ProbeFailed:
        return
    assert answer.reference.isprintable()
    assert 0 <= answer.stratum < 256


def test_a_question_is_no_answer() -> None:
    """Whoever only mirrors it is found out."""
    with pytest.raises(ProbeFailed, match=r"^an NTP packet of mode 3 came back"):
        read(question(b"12345678"), 0.0)
    assert len(question(bytes(8))) == ntp_packet.SIZE


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("time test", {}, "target 'time test': 'time test' is not a host name"),
        ("time.test:0", {}, "target 'time.test:0': '0' is not a port between 1 and 65535"),
        ("time.test", {"source": "lo"}, "source: 'lo' is not an address"),
    ],
)
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
