"""The kind `nats` against a real nats-server."""

import asyncio
import contextlib
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import nats as driver
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import Error

from stormwatch.probes.nats import KIND, read_greeting
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Issued
from tests.servers.nats import USER, Nats, nats_server
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle

LOGIN = {"username": USER, "password": CANARY}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nats]:
    """One for all tests of this file."""
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, issued: Issued) -> Generator[Nats]:
    """One that demands TLS."""
    with nats_server(tmp_path_factory.mktemp("secure"), issued) as server:
        yield server


@pytest.mark.shows("nats", "up")
async def test_a_message_there_and_back_is_up(nats: Nats) -> None:
    """On a subject of its own."""
    result = await run(KIND, nats.target, LOGIN)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "login", "publish", "receive"]
    assert measures(result)["probe_ip_protocol"] == 4
    assert result.evidence["remote"] == nats.target
    without = await run(KIND, nats.target, {**LOGIN, "round_trip": False})
    assert phase_names(without) == ["resolve", "connect", "greeting", "login"]


@pytest.mark.shows("nats", "up")
async def test_messages_of_others_are_passed_over(nats: Nats) -> None:
    """On a subject that is given, and busy."""
    client, done = await driver.connect(nats.url, allow_reconnect=False), asyncio.Event()

    async def chatter() -> None:
        while not done.is_set():
            await client.publish("shared.subject", b"not yours")
            await client.flush()

    busy = asyncio.create_task(chatter())
    try:
        result = await run(KIND, nats.target, {**LOGIN, "subject": "shared.subject"})
    finally:
        done.set()
        await busy
        await client.close()
    assert (result.outcome, result.message) == (Outcome.UP, "")


@pytest.mark.shows("nats", "up", "assertion")
async def test_a_stream_and_its_consumer(nats: Nats) -> None:
    """How much is in it, and how far behind the consumer is."""
    client = await driver.connect(nats.url, allow_reconnect=False)
    try:
        streams = client.jetstream()
        await streams.add_stream(name="ORDERS", subjects=["orders.>"])
        await streams.add_consumer("ORDERS", durable_name="billing", ack_policy="explicit")
        for _ in range(3):
            await streams.publish("orders.new", b"x")
        options = {**LOGIN, "stream": "ORDERS", "consumer": "billing"}
        right = await run(
            KIND, nats.target, {**options, "expect": {"messages": {"above": 2}, "consumers": {"equals": 1}}}
        )
        behind = await run(KIND, nats.target, {**options, "expect": {"pending": {"below": 3}}})
        missing = await run(KIND, nats.target, {**LOGIN, "stream": "NONE"})
        alone = await run(KIND, nats.target, {**LOGIN, "stream": "ORDERS", "consumer": "none"})
        left = (await streams.stream_info("ORDERS")).state.messages
    finally:
        await client.close()
    assert (right.outcome, right.message) == (Outcome.UP, "")
    assert phase_names(right)[-1] == "stream"
    assert measures(right)["stormwatch_nats_stream_messages"] == 3
    assert measures(right)["stormwatch_nats_stream_pending"] == 3
    assert ending(behind) == (Outcome.DOWN, Reason.ASSERTION, "stream")
    assert behind.message == "the number of messages pending for consumer billing is 3, wanted below 3"
    assert ending(missing) == (Outcome.DOWN, Reason.ASSERTION, "stream")
    assert missing.message == f"{nats.target} has no stream NONE"
    assert alone.message == f"{nats.target} has no consumer none of stream ORDERS"
    assert left == 3


async def _alone(server: Nats) -> driver.NATS:
    """A client, as soon as the server has forgotten whoever looked whether it listens."""

    async def ignore(_error: Exception) -> None:
        """It is tried again."""

    while True:
        with contextlib.suppress(OSError, Error):
            return await driver.connect(server.url, allow_reconnect=False, error_cb=ignore)
        await asyncio.sleep(0.02)


@pytest.mark.shows("nats", "assertion")
async def test_a_server_that_refuses_for_its_own_reason_is_down_in_its_own_words(tmp_path: Path) -> None:
    """Too many connections."""
    with nats_server(tmp_path, more="max_connections: 1") as server:
        client = await _alone(server)
        try:
            result = await run(KIND, server.target, LOGIN)
        finally:
            await client.close()
    assert ending(result)[:2] == (Outcome.DOWN, Reason.ASSERTION), result.message
    assert result.message.endswith("answered with an error: maximum connections exceeded")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": USER, "password": "wrong"}, "Authorization Violation"),
        ({}, "Authorization Violation"),
        ({"username": "limited", "password": CANARY}, "permissions violation for publish"),
    ],
)
@pytest.mark.shows("nats", "broken")
async def test_credentials_that_are_refused_are_our_mistake(nats: Nats, options: dict[str, Any], said: str) -> None:
    """A wrong password, none, a user that may not publish."""
    result = await run(KIND, nats.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS), result.message
    assert said in result.message
    assert "check username and password" in result.message


@pytest.mark.shows("nats", "up", "broken")
async def test_a_token(tmp_path: Path) -> None:
    """Instead of a name."""
    with nats_server(tmp_path, token=CANARY) as server:
        right = await run(KIND, server.target, {"token": CANARY})
        wrong = await run(KIND, server.target, {"token": "wrong"})
    assert (right.outcome, right.message) == (Outcome.UP, "")
    assert wrong.reason is Reason.CREDENTIALS
    assert is_silent_about_secrets(right)


@pytest.mark.shows("nats", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {"username": USER}, phase="greeting")


def greeting_then(*answers: bytes, end: bool = True) -> web.Behaviour:
    """A server that says who it is, and then something else than it should, at each word of the client."""

    async def behave(exchange: web.Exchange) -> None:
        exchange.writer.write(b'INFO {"version": "2.0", "max_payload": 1048576, "headers": true}\r\n')
        for answer in answers:
            await exchange.reader.readuntil(b"PING\r\n")
            exchange.writer.write(answer)
        await exchange.writer.drain()
        if end:
            exchange.writer.close()
        await exchange.reader.read()

    return behave


LATER: list[tuple[web.Behaviour, Reason, str]] = [
    (greeting_then(), Reason.RESET, "login"),
    (greeting_then(b"+WHAT\r\n", end=False), Reason.PROTOCOL, "login"),
    (greeting_then(end=False), Reason.TIMEOUT, "login"),
    (greeting_then(b"PONG\r\n"), Reason.RESET, "publish"),
    (greeting_then(b"PONG\r\n", b"PONG\r\n"), Reason.RESET, "receive"),
    (greeting_then(b"PONG\r\n", b"PONG\r\n", end=False), Reason.TIMEOUT, "receive"),
    (greeting_then(b"PONG\r\n", b"NONSENSE\r\n", end=False), Reason.PROTOCOL, "publish"),
    (greeting_then(b"PONG\r\n", b"MSG x" * 1_000_000, end=False), Reason.PROTOCOL, "publish"),
]


@pytest.mark.parametrize(("behaviour", "reason", "phase"), LATER)
@pytest.mark.shows("nats")
async def test_a_server_that_stops_making_sense_later_is_down_where_it_did(
    behaviour: web.Behaviour, reason: Reason, phase: str
) -> None:
    """After the greeting, the login, the publication; no task of the driver's is left."""
    tasks = len(asyncio.all_tasks())
    async with web.serving(behaviour, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN, timeout=0.4)
    assert ending(result) == (Outcome.DOWN, reason, phase), result.message
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= tasks, asyncio.all_tasks()


@pytest.mark.shows("nats", "timeout")
async def test_a_server_that_is_held_up_is_a_timeout(nats: Nats) -> None:
    """It accepts and says nothing."""
    with paused(nats.pid):
        result = await run(KIND, nats.target, LOGIN, timeout=0.2)
    assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT, "greeting")


@pytest.mark.shows("nats", "up", "certificate", "tls")
async def test_tls(nats: Nats, secure: Nats, ca_file: Path, issued: Issued) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    result = await run(KIND, secure.target, tls)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "tls", "login", "publish", "receive"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    named = await run(KIND, secure.target, {**tls, "server_name": "other.test"})
    stranger = await run(KIND, secure.target, {**LOGIN, "tls": True})
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert is_silent_about_secrets(wrong)
    assert (await run(KIND, secure.target, {**LOGIN, "tls": True, "verify": False})).outcome is Outcome.UP
    plain = await run(KIND, nats.target, tls)
    assert ending(plain) == (Outcome.DOWN, Reason.TLS, "tls")
    assert plain.message.endswith("does not offer TLS, wanted it")
    demanding = await run(KIND, secure.target, LOGIN)
    assert ending(demanding) == (Outcome.DOWN, Reason.TLS, "tls")
    assert demanding.message.endswith("demands TLS: give `tls: true`")


@pytest.mark.shows("nats", "too-slow")
async def test_a_slow_run_is_too_slow(nats: Nats) -> None:
    """And says which phase took longest."""
    result = await run(KIND, nats.target, {**LOGIN, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert "wanted at most 0s; slowest was phase" in result.message


async def _leave_nothing(nats: Nats, secure: Nats, ca_file: Path) -> tuple[int, int, int]:
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    await run(KIND, nats.target, LOGIN)
    stuck = greeting_then(b"PONG\r\n", b"PONG\r\n", end=False)
    async with web.serving(stuck, before_request=True) as silent:
        before = open_files()
        tasks = len(asyncio.all_tasks())
        results = await asyncio.gather(
            *(run(KIND, nats.target, LOGIN) for _ in range(10)),
            *(run(KIND, secure.target, tls) for _ in range(5)),
            *(run(KIND, nats.target, {"username": "x"}) for _ in range(3)),
            *(run(KIND, f"127.0.0.1:{silent.port}", LOGIN, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:15]} == {Outcome.UP}, [result.message for result in results]
        after = await settle(before)
        return before, after, len(asyncio.all_tasks()) - tasks


async def test_nothing_stays_open(nats: Nats, secure: Nats, ca_file: Path) -> None:
    """After good runs, refused ones and cancelled ones."""
    before, after, tasks = await _leave_nothing(nats, secure, ca_file)
    assert after <= before
    assert tasks <= 0


def test_nothing_stays_open_on_uvloop(nats: Nats, secure: Nats, ca_file: Path) -> None:
    """The service's loop."""
    before, after, tasks = uvloop.run(_leave_nothing(nats, secure, ca_file))
    assert after <= before
    assert tasks <= 0


SUBJECT = "subject: it is that of a round trip, in words with dots between them, without * and >"
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"token": "t", "username": "u"}, "token: give it, or username and password"),
    ({"subject": "a.*"}, SUBJECT),
    ({"subject": "a..b"}, SUBJECT),
    ({"subject": "a", "round_trip": False}, SUBJECT),
    ({"consumer": "c"}, "consumer: it is one of a stream: give `stream` too"),
    (
        {"expect": {"messages": {"above": 1}}},
        "expect.messages and expect.consumers are about a stream: give `stream` too",
    ),
    ({"stream": "s", "expect": {"pending": {"above": 1}}}, "expect.pending is about a consumer: give `consumer` too"),
    ({"stream": "s", "expect": {"messages": {}}}, "expect.messages: give equals, matches, above or below"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "nats.test", options)


@settings(max_examples=300)
@given(st.binary() | st.binary().map(b"INFO ".__add__) | st.text().map(lambda text: f'INFO {{"a": "{text}"}}'.encode()))
def test_any_line_is_a_greeting_or_none(line: bytes) -> None:
    """Never an exception."""
    assert isinstance(read_greeting(line), dict | None)


@pytest.mark.shows("nats", "protocol")
async def test_what_the_driver_cannot_read_ends_the_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """It stops reading then, and says so in its log alone: the run would wait until its time is over. Found by fuzzing."""
    behaviour = greeting_then(b"PONG\r\n", b"MSG \xff 1 2\r\nhi\r\n", end=False)
    async with web.serving(behaviour, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"round_trip": True}, timeout=60.0)
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "publish"), result.message
    assert result.seconds < 15
    assert caplog.records == []
