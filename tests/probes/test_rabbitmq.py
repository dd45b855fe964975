"""The kind `rabbitmq` against a real RabbitMQ."""

import asyncio
import contextlib
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame

from stormwatch.probes.rabbitmq import KIND
from stormwatch.probes.rabbitmq_session import Garbled, read_frame, size_of
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Issued
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.rabbitmq import USER, Rabbitmq, rabbitmq_server

LOGIN = {"username": USER, "password": CANARY}


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, issued: Issued) -> Generator[Rabbitmq]:
    """One for all tests of this file."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq"), issued) as server:
        asyncio.run(_wait_until_users_are_known(server))
        yield server


async def _wait_until_users_are_known(server: Rabbitmq) -> None:
    for _ in range(200):
        if (await run(KIND, server.target, {**LOGIN, "round_trip": False})).outcome is Outcome.UP:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the broker does not take its definitions")


@pytest.mark.shows("rabbitmq", "up")
async def test_a_message_there_and_back_is_up(rabbitmq: Rabbitmq) -> None:
    """Through a queue of its own."""
    result = await run(KIND, rabbitmq.target, LOGIN)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    names = ["resolve", "connect", "greeting", "login", "declare", "publish", "receive", "close"]
    assert phase_names(result) == names
    assert measures(result)["probe_ip_protocol"] == 4
    assert result.evidence["server"].startswith("RabbitMQ ")
    without = await run(KIND, rabbitmq.target, {**LOGIN, "round_trip": False})
    assert phase_names(without) == ["resolve", "connect", "greeting", "login", "close"]


@pytest.mark.shows("rabbitmq", "up", "assertion")
async def test_queues_and_an_exchange(rabbitmq: Rabbitmq) -> None:
    """Depth and consumers of a queue; a message through an exchange lands in nobody else's queue."""
    empty = {"messages": {"equals": 0}, "consumers": {"below": 1}}
    options = {**LOGIN, "exchange": "orders", "expect": {"queues": {"jobs": empty}}}
    result = await run(KIND, rabbitmq.target, options)
    again = await run(KIND, rabbitmq.target, options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert (again.outcome, again.message) == (Outcome.UP, "")
    assert labels(result, "stormwatch_rabbitmq_queue_messages") == {"queue": "jobs"}
    wanted = {**LOGIN, "expect": {"queues": {"jobs": {"consumers": {"above": 0}}}}}
    idle = await run(KIND, rabbitmq.target, wanted)
    assert ending(idle) == (Outcome.DOWN, Reason.ASSERTION, "queues")
    assert idle.message == "the number of consumers of queue jobs is 0, wanted above 0"


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"expect": {"queues": {"none": {}}}}, "queues", "NOT_FOUND - no queue 'none' in vhost '/' (code 404)"),
    ({"exchange": "none"}, "declare", "NOT_FOUND - no exchange 'none' in vhost '/' (code 404)"),
    ({"virtual_host": "none"}, "login", "NOT_ALLOWED - vhost none not found (code 530)"),
]


@pytest.mark.parametrize(("options", "phase", "message"), WRONG)
@pytest.mark.shows("rabbitmq", "assertion")
async def test_what_is_not_there_is_down_in_the_brokers_words(
    rabbitmq: Rabbitmq, options: dict[str, Any], phase: str, message: str
) -> None:
    """Queues, exchanges, virtual hosts."""
    result = await run(KIND, rabbitmq.target, {**LOGIN, **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, phase), result.message
    assert f"answered with an error: {message}" in result.message


@pytest.mark.parametrize(
    "options",
    [
        {"username": USER, "password": "wrong"},
        {"username": "nobody", "password": CANARY},
        {"username": "limited", "password": CANARY},
        {"username": "stranger", "password": CANARY},
    ],
)
@pytest.mark.shows("rabbitmq", "broken")
async def test_credentials_that_are_refused_are_our_mistake(rabbitmq: Rabbitmq, options: dict[str, Any]) -> None:
    """A wrong password, a user that is not there, one that may not, one that may not even come in."""
    result = await run(KIND, rabbitmq.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS), result.message
    assert "refused" in result.message
    assert "check username and password" in result.message


@pytest.mark.shows("rabbitmq", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {"username": USER}, phase="greeting")


def broker(*answers: object) -> web.Behaviour:
    """One that answers the handshake as it should, and the publication with these frames."""

    async def behave(exchange: web.Exchange) -> None:
        writer, reader = exchange.writer, exchange.reader
        await reader.readexactly(8)
        script = [
            (0, commands.Connection.Start()),
            (0, commands.Connection.Tune()),
            (0, commands.Connection.OpenOk()),
            (1, commands.Channel.OpenOk()),
            (1, commands.Queue.DeclareOk(queue="q", message_count=0, consumer_count=0)),
            (1, commands.Basic.ConsumeOk(consumer_tag="c")),
            (1, commands.Confirm.SelectOk()),
            *((0 if isinstance(each, commands.Connection.Blocked) else 1, each) for each in answers),
        ]
        for channel, method in script:
            writer.write(frame.marshal(method, channel))
            await asyncio.sleep(0)
        await reader.read()

    return behave


LATER: list[tuple[web.Behaviour, Reason, str, str]] = [
    (broker(commands.Basic.Nack(delivery_tag=1)), Reason.ASSERTION, "publish", "did not take a message"),
    (
        broker(commands.Connection.Blocked(reason="low on memory")),
        Reason.ASSERTION,
        "publish",
        "blocks publishers: low on memory",
    ),
    (
        broker(commands.Basic.Return(reply_code=312, reply_text="NO_ROUTE", exchange="", routing_key="q")),
        Reason.ASSERTION,
        "publish",
        "answered with an error: NO_ROUTE (code 312)",
    ),
    (
        broker(commands.Channel.Close(reply_code=406, reply_text="PRECONDITION", class_id=0, method_id=0)),
        Reason.ASSERTION,
        "publish",
        "PRECONDITION (code 406)",
    ),
    (broker(), Reason.TIMEOUT, "publish", "no answer"),
    (broker(commands.Basic.Ack(delivery_tag=1)), Reason.TIMEOUT, "receive", "no answer"),
]


@pytest.mark.parametrize(("behaviour", "reason", "phase", "message"), LATER)
@pytest.mark.shows("rabbitmq")
async def test_a_broker_that_does_not_bring_a_message_back_is_down_where_it_stopped(
    behaviour: web.Behaviour, reason: Reason, phase: str, message: str
) -> None:
    """Nack, blocked, no route, silence."""
    async with web.serving(behaviour, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN, timeout=0.4)
    assert ending(result) == (Outcome.DOWN, reason, phase), result.message
    assert message in result.message


async def test_a_broker_of_another_version_says_so() -> None:
    """AMQP 1.0 alone."""

    async def other(exchange: web.Exchange) -> None:
        await exchange.reader.readexactly(8)
        exchange.writer.write(b"AMQP\x00\x01\x00\x00")
        await exchange.reader.read()

    async with web.serving(other, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN, timeout=0.4)
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "greeting")
    assert "a server that wants another version of AMQP: 0-1-0" in result.message


@pytest.mark.shows("rabbitmq", "timeout")
async def test_a_broker_that_is_held_up_is_a_timeout(rabbitmq: Rabbitmq) -> None:
    """It accepts and says nothing."""
    with paused(rabbitmq.pid):
        result = await run(KIND, rabbitmq.target, LOGIN, timeout=0.3)
    assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT, "greeting")


@pytest.mark.shows("rabbitmq", "up", "certificate", "tls", "timeout")
async def test_tls(rabbitmq: Rabbitmq, ca_file: Path, issued: Issued) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    result = await run(KIND, rabbitmq.tls_target, tls)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result)[:4] == ["resolve", "connect", "tls", "greeting"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    named = await run(KIND, rabbitmq.tls_target, {**tls, "server_name": "other.test"})
    stranger = await run(KIND, rabbitmq.tls_target, {**LOGIN, "tls": True})
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert is_silent_about_secrets(wrong)
    assert (await run(KIND, rabbitmq.tls_target, {**LOGIN, "tls": True, "verify": False})).outcome is Outcome.UP
    async with web.serving(web.garble, before_request=True) as server:
        garbage = await run(KIND, f"127.0.0.1:{server.port}", tls)
    assert ending(garbage) == (Outcome.DOWN, Reason.TLS, "tls")
    async with web.serving(web.silent, before_request=True) as server:
        silent = await run(KIND, f"127.0.0.1:{server.port}", tls, timeout=0.2)
    assert ending(silent) == (Outcome.DOWN, Reason.TIMEOUT, "tls")


@pytest.mark.shows("rabbitmq", "too-slow")
async def test_a_slow_run_is_too_slow(rabbitmq: Rabbitmq) -> None:
    """And says which phase took longest."""
    result = await run(KIND, rabbitmq.target, {**LOGIN, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert "wanted at most 0s; slowest was phase" in result.message


async def _leave_nothing(rabbitmq: Rabbitmq, ca_file: Path) -> tuple[int, int]:
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    await run(KIND, rabbitmq.target, LOGIN)
    async with web.serving(broker(), before_request=True) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, rabbitmq.target, LOGIN) for _ in range(8)),
            *(run(KIND, rabbitmq.tls_target, tls) for _ in range(3)),
            *(run(KIND, f"127.0.0.1:{silent.port}", LOGIN, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:11]} == {Outcome.UP}, [result.message for result in results]
        return before, await settle(before)


async def test_nothing_stays_open(rabbitmq: Rabbitmq, ca_file: Path) -> None:
    """After good runs and cancelled ones."""
    before, after = await _leave_nothing(rabbitmq, ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(rabbitmq: Rabbitmq, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(rabbitmq, ca_file))
    assert after <= before


def test_no_queue_is_left_behind(rabbitmq: Rabbitmq) -> None:
    """Whatever became of the runs before."""
    assert rabbitmq.control("list_queues", "--no-table-headers", "name", "messages").split() == ["jobs", "0"]


NO_USER = "username: RabbitMQ wants to know who asks: give the name of a user, or a certificate"
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"username": ""}, NO_USER),
    (
        {"exchange": "e", "round_trip": False},
        "exchange: it is that of a round trip, which `round_trip: false` leaves out",
    ),
    (
        {"expect": {"queues": {"a": {"messages": {}}}}},
        "expect.queues.a.messages: give equals, matches, above or below",
    ),
    (
        {"expect": {"queues": {str(number): {} for number in range(51)}}},
        "expect.queues: at most 50 can be looked at, not 51",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "mq.test", {"username": USER, **options})


METHODS = st.integers(10, 90).flatmap(lambda kind: st.integers(10, 120).map(lambda one: kind * 65536 + one))


@settings(max_examples=500)
@given(st.sampled_from([1, 2, 3, 8]), METHODS, st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_garbled(kind: int, method: int, rest: bytes) -> None:
    """Never another exception."""
    payload = method.to_bytes(4, "big") + rest
    head = bytes([kind]) + b"\0\1" + len(payload).to_bytes(4, "big")
    with contextlib.suppress(Garbled):
        assert size_of(head) == len(payload)
        read_frame(head, payload + b"\xce")


@settings(max_examples=300)
@given(st.binary(min_size=7, max_size=7))
def test_any_head_has_a_size_or_is_garbled(head: bytes) -> None:
    """And the size is one that fits into memory."""
    with contextlib.suppress(Garbled):
        assert 0 <= size_of(head) <= 131072
