"""The kind `redis` against a real redis-server."""

import asyncio
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.redis import KIND, read_info
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Authority, Issued
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.redis import Redis, redis_server

LOGIN = {"password": CANARY}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, issued: Issued, ca_file: Path) -> Generator[Redis]:
    """One for all tests of this file."""
    with redis_server(tmp_path_factory.mktemp("redis"), issued, ca_file) as server:
        yield server


@pytest.mark.shows("redis", "up")
async def test_a_server_that_answers_ping_is_up(redis: Redis) -> None:
    """The smallest probe."""
    result = await run(KIND, redis.target, LOGIN)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "login", "ping"]
    assert measures(result)["probe_ip_protocol"] == 4
    assert result.evidence == {"remote": redis.target}
    by_socket = await run(KIND, redis.socket, LOGIN)
    assert (by_socket.outcome, by_socket.message) == (Outcome.UP, "")


@pytest.mark.shows("redis", "up")
async def test_commands_a_round_trip_and_info(redis: Redis) -> None:
    """Replies of every type, a key that is gone afterwards, fields as measures."""
    redis.command("RPUSH", "jobs", "a", "b", "c")
    result = await run(
        KIND,
        redis.target,
        {
            **LOGIN,
            "database": 0,
            "round_trip": True,
            "key_prefix": "watched:",
            "measure": ["connected_clients", "uptime_in_seconds", "redis_version", "nonsense"],
            "commands": [
                {"send": "LLEN jobs", "expect": {"equals": 3, "below": 10, "above": 2}},
                {"send": "LRANGE jobs 0 -1", "expect": {"matches": '"b"'}},
                {"send": 'GET "no such key"', "expect": {"matches": "^null$"}},
                {"send": "PING"},
            ],
            "expect": {"role": "master", "info": {"redis_mode": {"equals": "standalone"}}},
        },
    )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "login", "ping", "commands", "round_trip", "info"]
    shown = {m.labels["field"]: m.value for m in result.measures if m.name == "stormwatch_redis_info"}
    assert set(shown) == {"connected_clients", "uptime_in_seconds"}
    assert shown["connected_clients"] >= 1
    assert result.evidence["server"]["role"] == "master"
    assert redis.command("KEYS", "watched:*") == ""


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"commands": [{"send": "LLEN none", "expect": {"above": 0}}]},
        "commands",
        "the reply to LLEN is 0, wanted above 0",
    ),
    (
        {"commands": [{"send": "ECHO hallo", "expect": {"equals": "hello"}}]},
        "commands",
        'the reply to ECHO is "hallo", wanted equal to "hello"',
    ),
    ({"commands": [{"send": "NONSENSE"}]}, "commands", "answered with an error: ERR unknown command 'NONSENSE'"),
    ({"expect": {"role": "replica"}}, "info", "the server is a master, wanted a replica"),
    (
        {"expect": {"info": {"master_link_status": {"equals": "up"}}}},
        "info",
        'field master_link_status of INFO is null, wanted equal to "up"',
    ),
    ({"database": 99}, "login", "DB index is out of range"),
]


@pytest.mark.parametrize(("options", "phase", "message"), WRONG)
@pytest.mark.shows("redis", "assertion")
async def test_another_answer_than_expected_is_down_with_what_was_seen(
    redis: Redis, options: dict[str, Any], phase: str, message: str
) -> None:
    """Values, error replies, roles."""
    result = await run(KIND, redis.target, {**LOGIN, **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, phase)
    assert message in result.message


@pytest.mark.shows("redis", "assertion")
async def test_a_server_that_refuses_for_its_own_reason_is_down_in_its_own_words(redis: Redis) -> None:
    """A replica that may not be written to, a server that is full."""
    redis.command("REPLICAOF", "127.0.0.1", "1")
    try:
        result = await run(KIND, redis.target, {**LOGIN, "round_trip": True})
        replica = await run(KIND, redis.target, {**LOGIN, "expect": {"role": "replica"}})
    finally:
        redis.command("REPLICAOF", "NO", "ONE")
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "round_trip")
    assert "READONLY You can't write against a read only replica" in result.message
    assert Outcome.UP is replica.outcome
    most = redis.command("CONFIG", "GET", "maxclients").splitlines()[1]
    redis.command("CONFIG", "SET", "maxclients", "1")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
        writer.write(b"AUTH " + CANARY.encode() + b"\r\n")
        assert await reader.readline() == b"+OK\r\n"
        full = await run(KIND, redis.target, LOGIN)
        writer.write(b"CONFIG SET maxclients " + most.encode() + b"\r\n")
        assert await reader.readline() == b"+OK\r\n"
    finally:
        writer.close()
        await writer.wait_closed()
    assert ending(full) == (Outcome.DOWN, Reason.ASSERTION, "login")
    assert full.message.endswith("answered with an error: ERR max number of clients reached")


@pytest.mark.parametrize("options", [{"password": "wrong"}, {}, {"username": "nobody", "password": "wrong"}])
@pytest.mark.shows("redis", "broken")
async def test_credentials_that_are_refused_are_our_mistake(redis: Redis, options: dict[str, Any]) -> None:
    """A wrong password, none, a user that is not there."""
    result = await run(KIND, redis.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert "check username and password" in result.message
    assert result.failed_phase == "login"


@pytest.mark.shows("redis", "broken")
async def test_a_command_that_the_user_may_not_send_is_our_mistake(redis: Redis) -> None:
    """ACL."""
    redis.command("ACL", "SETUSER", "limited", "on", f">{CANARY}", "+ping")
    options = {"username": "limited", "password": CANARY, "commands": [{"send": "LLEN jobs"}]}
    result = await run(KIND, redis.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert "refused the login of 'limited': NOPERM" in result.message


@pytest.mark.shows("redis", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {}, phase="login")


@pytest.mark.shows("redis", "timeout")
async def test_a_server_that_is_held_up_is_a_timeout(redis: Redis) -> None:
    """It accepts and says nothing."""
    with paused(redis.pid):
        result = await run(KIND, redis.target, LOGIN, timeout=0.2)
    assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT, "login")


@pytest.mark.shows("redis", "up", "certificate", "tls", "timeout")
async def test_tls(redis: Redis, ca_file: Path, issued: Issued, tmp_path: Path) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    result = await run(KIND, redis.tls_target, tls)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result)[:3] == ["resolve", "connect", "tls"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    named = await run(KIND, redis.tls_target, {**tls, "server_name": "other.test"})
    stranger = await run(KIND, redis.tls_target, {**LOGIN, "tls": True})
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert is_silent_about_secrets(wrong)
    plain = await run(KIND, redis.target, tls, timeout=1)
    assert (plain.outcome, plain.failed_phase) == (Outcome.DOWN, "tls")
    assert plain.reason in {Reason.TLS, Reason.TIMEOUT}
    async with web.serving(web.garble, before_request=True) as server:
        garbage = await run(KIND, f"127.0.0.1:{server.port}", tls)
    assert ending(garbage) == (Outcome.DOWN, Reason.TLS, "tls")
    async with web.serving(web.silent, before_request=True) as server:
        silent = await run(KIND, f"127.0.0.1:{server.port}", tls, timeout=0.2)
    assert ending(silent) == (Outcome.DOWN, Reason.TIMEOUT, "tls")
    assert (await run(KIND, redis.tls_target, {**LOGIN, "tls": True, "verify": False})).outcome is Outcome.UP
    client = Authority(tmp_path, "Clients").issue("watcher")
    unknown = {**tls, "certificate": str(client.chain_file), "key": str(client.key_file)}
    refused = await run(KIND, redis.tls_target, unknown)
    assert refused.outcome is Outcome.DOWN
    assert refused.reason in {Reason.TLS, Reason.RESET}  # a reset may overtake the alert


@pytest.mark.shows("redis", "too-slow")
async def test_a_slow_run_is_too_slow(redis: Redis) -> None:
    """And says which phase took longest."""
    result = await run(KIND, redis.target, {**LOGIN, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert "wanted at most 0s; slowest was phase" in result.message


async def _leave_nothing(redis: Redis, ca_file: Path) -> tuple[int, int]:
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    await run(KIND, redis.target, LOGIN)
    before = open_files()
    async with web.serving(web.silent, before_request=True) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, redis.target, LOGIN) for _ in range(20)),
            *(run(KIND, redis.tls_target, tls) for _ in range(5)),
            *(run(KIND, redis.target, {"password": "wrong"}) for _ in range(5)),
            *(run(KIND, f"127.0.0.1:{silent.port}", LOGIN, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:25]} == {Outcome.UP}
        return before, await settle(before)


async def test_nothing_stays_open(redis: Redis, ca_file: Path) -> None:
    """After good runs, refused ones and cancelled ones."""
    before, after = await _leave_nothing(redis, ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(redis: Redis, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(redis, ca_file))
    assert after <= before


async def test_a_cluster_is_not_followed_elsewhere() -> None:
    """MOVED is told, not obeyed."""

    async def moved(exchange: web.Exchange) -> None:
        while await exchange.reader.readuntil(b"PING\r\n"):
            exchange.writer.write(b"-MOVED 866 192.0.2.7:6379\r\n")

    async with web.serving(moved, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "ping")
    assert "192.0.2.7:6379" in result.message
    assert server.connections == 1


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a b", {}, "target 'a b': 'a b' is not a host name"),
    ("unix:redis.sock", {}, "target of a Unix socket is written like unix:/run/server.sock, not 'unix:redis.sock'"),
    ("unix:/redis.sock", {"tls": True}, "tls: a Unix socket has none"),
    (
        "unix:/redis.sock",
        {"connect_to": "127.0.0.1"},
        "connect_to: a target that is a Unix socket is connected to itself",
    ),
    ("redis.test", {"connect_to": "127.0.0.1:0"}, "connect_to '127.0.0.1:0': '0' is not a port between 1 and 65535"),
    ("redis.test", {"commands": [{"send": ""}]}, "commands[0].send: there is no command"),
    (
        "redis.test",
        {"commands": [{"send": 'GET "a'}]},
        "commands[0].send: the quotes do not close: No closing quotation",
    ),
    (
        "redis.test",
        {"commands": [{"send": "monitor"}]},
        "commands[0].send: MONITOR has no one reply to judge, a probe cannot send it",
    ),
    (
        "redis.test",
        {"commands": [{"send": "PING", "expect": {}}]},
        "commands[0].expect: give equals, matches, above or below",
    ),
    (
        "redis.test",
        {"commands": [{"send": "PING", "expect": {"matches": "("}}]},
        "commands[0].expect.matches: '(' is not an RE2 expression: missing ): (",
    ),
    ("redis.test", {"username": "a"}, "username: a user of Redis logs in with a password: give `password` too"),
    (
        "redis.test",
        {"verify": False},
        "ca_file, server_name, verify, certificate and key are for TLS: give `tls: true` too",
    ),
    ("redis.test", {"tls": True, "key": "k"}, "certificate and key belong together: give both or none"),
    ("redis.test", {"measure": ["a"] * 51}, "measure: at most 50 fields of INFO can be exported, not 51"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


@settings(max_examples=300)
@given(st.binary())
def test_any_bytes_are_an_answer_to_info(reply: bytes) -> None:
    """Whatever they say."""
    assert all(isinstance(value, str) for value in read_info(reply).values())
