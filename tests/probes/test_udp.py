"""The kind `udp`: answers, loss, refusals and silence; up, down for each reason, and nothing left open."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.udp import KIND, ExpectUdp, Wanted
from tests.servers.datagrams import Answer, answering, closed_port
from tests.servers.island import HOST, on_an_island
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle


def echo(data: bytes, _number: int) -> Iterable[bytes]:
    """The same bytes."""
    return [data]


def silent(_data: bytes, _number: int) -> Iterable[bytes]:
    """Nothing."""
    return []


async def ask(answer: Answer, options: dict[str, Any] | None = None, **more: Any) -> tuple[Result, list[bytes]]:
    """One run against a server, and what it heard."""
    async with answering(answer, **more) as (port, heard):
        return await run(KIND, f"127.0.0.1:{port}", {"send": "hello", "wait": "150ms", **(options or {})}), heard


def times(result: Result) -> dict[str, float]:
    """By the name of the statistic."""
    return {each.labels["stat"]: each.value for each in result.measures if each.name == "stormwatch_udp_rtt_seconds"}


@pytest.mark.shows("udp", "up")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer_is_up(host: str) -> None:
    """Over both versions of IP."""
    async with answering(echo, host=host) as (port, heard):
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options = {"send_hex": "00 ff 41", "count": 3, "interval": "1ms", "source": host}
        result = await run(KIND, target, {**options, "expect": {"matches_raw": r"^\x00\xffA$", "contains_hex": "ff41"}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "exchange"]
    assert heard == [b"\x00\xffA"] * 3
    told = measures(result)
    assert (told["stormwatch_udp_datagrams_sent"], told["stormwatch_udp_loss_ratio"]) == (3, 0)
    assert told["probe_ip_protocol"] == (6 if ":" in host else 4)
    assert 0 < times(result)["min"] <= times(result)["mean"] <= times(result)["max"] < 1


@pytest.mark.shows("udp", "assertion")
async def test_another_answer_than_expected_is_down_with_what_came() -> None:
    """Wrong ones are passed over, as long as a right one may still come."""
    result, _ = await ask(echo, {"expect": {"matches": "^pong"}})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "exchange")
    assert re.fullmatch(r"127.0.0.1:\d+ answered 'hello', wanted an answer that matches '\^pong'", result.message)
    assert (measures(result)["probe_failed_due_to_regex"], measures(result)["probe_failed_due_to_bytes"]) == (1, 0)
    assert result.evidence["heard"] == "hello"
    other, _ = await ask(echo, {"expect": {"contains": "world"}})
    assert measures(other)["probe_failed_due_to_bytes"] == 1
    late, _ = await ask(lambda data, _: [data, data, (0.02, b"pong")], {"expect": {"matches": "^pong"}})
    assert (late.outcome, late.message) == (Outcome.UP, "")
    assert 0.015 < times(late)["mean"] < 0.9


async def test_loss_is_counted_and_judged() -> None:
    """An exchange without an answer took no time, and none of 0 seconds."""

    def second(data: bytes, number: int) -> Iterable[bytes]:
        return [data] if number % 2 else []

    options = {"count": 4, "wait": "40ms", "interval": "1ms"}
    fine, _ = await ask(second, options)
    assert (fine.outcome, measures(fine)["stormwatch_udp_loss_ratio"]) == (Outcome.UP, 0.5)
    assert times(fine)["min"] > 0
    lossy, _ = await ask(second, {**options, "expect": {"contains": "hello", "loss_at_most": "25%"}})
    assert re.fullmatch(
        r"2 of 4 exchanges with 127.0.0.1:\d+ had no answer with 'hello', wanted at most 25%", lossy.message
    )


async def test_what_is_lost_is_sent_again() -> None:
    """As often as asked for; the time counts from the first."""

    def third(data: bytes, number: int) -> Iterable[bytes]:
        return [data] if number == 2 else []

    options = {"resend_after": "30ms", "wait": "1s"}
    result, heard = await ask(third, {**options, "resend": 2})
    assert (result.outcome, len(heard)) == (Outcome.UP, 3)
    assert 0.05 < times(result)["mean"] < 0.9
    less, heard = await ask(third, {**options, "resend": 1, "wait": "150ms"})
    assert (less.outcome, len(heard)) == (Outcome.DOWN, 2)
    assert less.message.endswith("to any of 2 datagrams within 150ms")


@pytest.mark.shows("udp", "refused")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_closed_port_is_refused_at_once(host: str) -> None:
    """The host says so, to a socket that is not connected as well."""
    port = closed_port(host.strip("[]"))
    result = await run(KIND, f"{host}:{port}", {"send": "hello", "wait": "50s"}, timeout=60)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "exchange")
    assert result.message == f"nothing gets to {host}:{port}: Connection refused"
    assert result.seconds < 30


@pytest.mark.shows("udp", "timeout")
async def test_silence_is_a_timeout_and_answers_of_others_are_none() -> None:
    """They are told of: a host with two addresses, or a router that changes them."""
    result, _ = await ask(silent)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert re.fullmatch(r"no answer from 127.0.0.1:\d+ to the datagram within 150ms", result.message)
    assert times(result) == {}
    stray, _ = await ask(echo, by_another=True)
    assert stray.reason is Reason.TIMEOUT
    assert re.search(r"; there came one from 127.0.0.1:\d+, which was not asked within 150ms$", stray.message)


async def test_no_answer_may_be_wanted() -> None:
    """An answer, or a refusal, is down then."""
    expect = {"expect": {"silence": "80ms"}, "count": 2, "interval": "1ms"}
    quiet, heard = await ask(silent, expect)
    assert (quiet.outcome, quiet.message, len(heard)) == (Outcome.UP, "", 2)
    loud, _ = await ask(echo, expect)
    assert (loud.outcome, loud.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert re.fullmatch(r"127.0.0.1:\d+ answered 'hello', wanted silence", loud.message)
    refused = await run(KIND, f"127.0.0.1:{closed_port()}", {"send": "hello", **expect})
    assert refused.reason is Reason.REFUSED


@pytest.mark.shows("udp", "too-slow", "dns")
async def test_slow_answers_and_names_that_are_not_there() -> None:
    """Reasons that many kinds share."""
    slow, _ = await ask(lambda data, _: [(0.05, data)], {"expect": {"slower_than": "20ms"}})
    assert slow.reason is Reason.TOO_SLOW
    assert slow.message.endswith(" ms, wanted at most 20ms")
    async with naming(zone({})) as names:
        unknown = await run(KIND, "shop.test:9", {"resolver": names.address, "send": "hello"})
    assert (unknown.reason, unknown.failed_phase) == (Reason.DNS, "resolve")


@pytest.mark.shows("udp", "unreachable")
def test_a_host_without_a_way_to_it_is_unreachable() -> None:
    """As a router says."""
    result = on_an_island(lambda: run(KIND, f"{HOST}:9", {"send": "hello"}))
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)


@pytest.mark.shows("udp", "broken")
async def test_the_source_and_the_policy_are_ours() -> None:
    """So the run is broken, and nothing is sent."""
    async with answering(echo) as (port, heard):
        target, send = f"127.0.0.1:{port}", {"send": "hello"}
        nobody = await run(KIND, target, {**send, "source": "192.0.2.7"})
        near = await run(KIND, target, send, reach=Reach(refuse=OWN_HOST))
    assert (nobody.reason, nobody.message) == (Reason.NETWORK, "source 192.0.2.7 is not an address of this machine")
    assert (near.outcome, near.reason) == (Outcome.BROKEN, Reason.POLICY)
    assert heard == []


async def test_a_flood_does_not_keep_the_deadline_from_coming() -> None:
    """Every wrong answer is followed by more of them."""
    flood: Answer = lambda data, _: [data] * 5000  # noqa: E731 - shorter than its name
    result, _ = await ask(flood, {"expect": {"matches": "^pong"}, "wait": "1500ms"})
    assert result.reason is Reason.ASSERTION
    assert result.seconds < 10


async def _leave_nothing() -> tuple[int, int]:
    async with answering(silent) as (quiet, _), answering(echo) as (loud, _):
        before = open_files()
        runs = [
            *(run(KIND, f"127.0.0.1:{loud}", {"send": "hello"}) for _ in range(20)),
            *(run(KIND, f"127.0.0.1:{quiet}", {"send": "hello", "wait": "50ms"}) for _ in range(10)),
        ]
        await asyncio.gather(*runs)
        cut_off = asyncio.ensure_future(run(KIND, f"127.0.0.1:{quiet}", {"send": "hello"}))
        await asyncio.sleep(0.02)
        cut_off.cancel()
        await asyncio.wait([cut_off])
        return before, await settle(before)


async def test_nothing_stays_open() -> None:
    """After answers, time-outs, and a run that was cut off."""
    before, after = await _leave_nothing()
    assert after <= before


def test_nothing_stays_open_on_uvloop() -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing())
    assert after <= before


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_answer_is_right_or_wrong(data: bytes) -> None:
    """And never an exception."""
    wanted = Wanted.of(ExpectUdp(matches="a.b", matches_raw=r"\xff", contains="x", contains_hex="00"))
    assert wanted.lacks(data) in {"", "probe_failed_due_to_regex", "probe_failed_due_to_bytes"}


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {"send": "a"}, "target is written like host:port, not 'shop.test': the port is missing"),
    ("shop.test:9", {}, "send: give what to send, as `send` or as `send_hex`"),
    ("shop.test:9", {"send": "a", "send_hex": "00"}, "send: give what to send, as `send` or as `send_hex`"),
    ("shop.test:9", {"send_hex": "0"}, "send_hex: bytes are written in pairs of hexadecimal digits, like 00 ff"),
    ("shop.test:9", {"send": "a" * 65508}, "send: a datagram has 1 to 65507 bytes, this one 65508"),
    ("shop.test:9", {"send": "a", "source": "lo"}, "source: 'lo' is not an address"),
    (
        "shop.test:9",
        {"send": "a", "expect": {"silence": "1s", "matches": "a"}},
        "expect.silence: where no answer may come, nothing else is expected of it",
    ),
    (
        "shop.test:9",
        {"send": "a", "expect": {"matches": "("}},
        "expect.matches: '(' is not an RE2 expression: missing ): (",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES, ids=[row[2][:50] for row in MISTAKES])
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
