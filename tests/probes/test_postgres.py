"""The kind `postgres` against a real PostgreSQL."""

import asyncio
import re
import resource
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.postgres import KIND
from stormwatch.probes.postgres_session import without_channel_binding
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Issued
from tests.servers.postgres import USER, Postgres, postgres_server
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle

LOGIN = {"username": USER, "password": CANARY}


@pytest.fixture(scope="module")
def postgres(issued: Issued, ca_file: Path) -> Generator[Postgres]:
    """One for all tests of this file."""
    with postgres_server(issued, ca_file) as server:
        server.sql(
            "CREATE TABLE things (id int, name text, price numeric, seen timestamptz);"
            "INSERT INTO things VALUES (1, 'pump', 9.50, '2026-01-02 03:04:05+00'), (2, 'hose', NULL, NULL)"
        )
        server.sql(f"CREATE ROLE limited LOGIN PASSWORD '{CANARY}' CONNECTION LIMIT 1")
        yield server


@pytest.mark.shows("postgres", "up")
async def test_a_server_that_answers_select_1_is_up(postgres: Postgres) -> None:
    """The smallest probe."""
    result = await run(KIND, postgres.target, LOGIN)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "login", "query"]
    assert measures(result)["probe_ip_protocol"] == 4
    assert result.evidence == {"remote": postgres.target}
    by_socket = await run(KIND, postgres.socket, LOGIN)
    assert (by_socket.outcome, by_socket.message) == (Outcome.UP, "")


@pytest.mark.shows("postgres", "up")
async def test_rows_are_judged_and_exported(postgres: Postgres) -> None:
    """Counts, values of every type, parameters, measures, the server's own state."""
    result = await run(
        KIND,
        postgres.target,
        {
            **LOGIN,
            "query": "SELECT name, price, seen, id = 1 AS first, id FROM things WHERE id >= $1 AND name <> $2 ORDER BY id",
            "parameters": [1, "none"],
            "measure": ["price", "id"],
            "expect": {
                "rows": {"at_least": 1, "at_most": 2},
                "columns": {
                    "name": {"matches": "^p"},
                    "price": {"equals": 9.5, "above": 9, "below": 10},
                    "seen": {"matches": "^2026-01-02T"},
                    "first": {"equals": True},
                },
                "role": "primary",
                "lag_below": "1s",
                "connections_below": "90%",
            },
        },
    )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "login", "query", "server"]
    shown = {m.labels["column"]: m.value for m in result.measures if m.name == "stormwatch_postgres_query_value"}
    assert shown == {"price": 9.5, "id": 1}
    assert measures(result)["stormwatch_postgres_replica"] == 0
    assert measures(result)["stormwatch_postgres_replication_lag_seconds"] == 0
    assert 0 < measures(result)["stormwatch_postgres_connections_ratio"] < 1
    assert result.evidence["rows"] == 2


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"query": "SELECT id FROM things", "expect": {"rows": {"exactly": 3}}},
        "query",
        "the query brought 2 rows, wanted exactly 3",
    ),
    (
        {"query": "SELECT 1 WHERE false", "expect": {"rows": {"at_least": 1}}},
        "query",
        "the query brought 0 rows, wanted at least 1",
    ),
    (
        {"query": "SELECT 7 AS lag", "expect": {"columns": {"lag": {"below": 5}}}},
        "query",
        "column lag is 7, wanted below 5",
    ),
    (
        {"query": "SELECT NULL AS lag", "expect": {"columns": {"lag": {"below": 5}}}},
        "query",
        "column lag is null, wanted below 5",
    ),
    (
        {"query": "SELECT 1 AS a", "expect": {"columns": {"b": {"equals": 1}}}},
        "query",
        "the query brought a, wanted a column b",
    ),
    (
        {"query": "SELECT 1 AS a WHERE false", "expect": {"columns": {"a": {"equals": 1}}}},
        "query",
        "the query brought no row, wanted one with column a",
    ),
    (
        {"query": "SELECT * FROM nothing"},
        "query",
        'answered with an error: relation "nothing" does not exist (SQLSTATE 42P01)',
    ),
    (
        {"query": "INSERT INTO things VALUES (3)"},
        "query",
        "cannot execute INSERT in a read-only transaction (SQLSTATE 25006)",
    ),
    ({"query": "SELECT 1; SELECT 2"}, "query", "cannot insert multiple commands into a prepared statement"),
    (
        {"query": "SELECT generate_series(1, 20000)"},
        "query",
        "the query brought more than 10000 rows: add a LIMIT, or count them",
    ),
    ({"query": "COPY things TO STDOUT"}, "query", "COPY brings no rows: a probe cannot judge it"),
    ({"expect": {"role": "replica"}}, "server", "the server is a primary, wanted a replica"),
    ({"expect": {"connections_below": "1%"}}, "server", "of the server's connections are in use, wanted less than 1%"),
    ({"database": "nowhere"}, "login", 'answered with an error: database "nowhere" does not exist'),
]


@pytest.mark.parametrize(("options", "phase", "message"), WRONG)
@pytest.mark.shows("postgres", "assertion")
async def test_another_answer_than_expected_is_down_with_what_was_seen(
    postgres: Postgres, options: dict[str, Any], phase: str, message: str
) -> None:
    """Rows, errors with their SQLSTATE, roles."""
    result = await run(KIND, postgres.target, {**LOGIN, **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, phase), result.message
    assert message in result.message


@pytest.mark.shows("postgres", "up")
async def test_only_a_run_that_may_write_commits(postgres: Postgres) -> None:
    """And only when all is as expected."""
    insert = "INSERT INTO things VALUES (77) RETURNING id"
    wrong = {**LOGIN, "query": insert, "read_only": False, "expect": {"columns": {"id": {"equals": 1}}}}
    assert (await run(KIND, postgres.target, wrong)).reason is Reason.ASSERTION
    assert postgres.sql("SELECT count(*) FROM things WHERE id = 77") == "0"
    right = {**LOGIN, "query": insert, "read_only": False, "expect": {"columns": {"id": {"equals": 77}}}}
    assert (await run(KIND, postgres.target, right)).outcome is Outcome.UP
    assert postgres.sql("DELETE FROM things WHERE id = 77 RETURNING id") == "77"


@pytest.mark.shows("postgres", "assertion", "up")
async def test_a_replica_says_that_it_is_one(issued: Issued, ca_file: Path) -> None:
    """And that it does not know how far it is behind when nobody sends it anything."""
    with postgres_server(issued, ca_file, standby=True) as standby:
        replica = await run(KIND, standby.target, {**LOGIN, "expect": {"role": "replica"}})
        lagging = await run(KIND, standby.target, {**LOGIN, "expect": {"lag_below": "10s"}})
    assert (replica.outcome, replica.message) == (Outcome.UP, "")
    assert measures(replica)["stormwatch_postgres_replica"] == 1
    assert ending(lagging) == (Outcome.DOWN, Reason.ASSERTION, "server")
    assert lagging.message == "the replica does not know how far it is behind: replication has stopped"


@pytest.mark.shows("postgres", "assertion")
async def test_a_server_that_refuses_for_its_own_reason_is_down_in_its_own_words(postgres: Postgres) -> None:
    """Too many connections of a role."""
    options = {"username": "limited", "password": CANARY, "query": "SELECT pg_sleep(0.6)"}
    first = asyncio.create_task(run(KIND, postgres.target, options))
    while postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'limited'") == "0":
        await asyncio.sleep(0.02)
    second = await run(KIND, postgres.target, {"username": "limited", "password": CANARY})
    assert (await first).outcome is Outcome.UP
    assert ending(second) == (Outcome.DOWN, Reason.ASSERTION, "login")
    assert second.message.endswith('answered with an error: too many connections for role "limited"')


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": USER, "password": "wrong"}, f'password authentication failed for user "{USER}"'),
        ({"username": USER}, "no password supplied"),
        ({"username": "nobody", "password": CANARY}, 'password authentication failed for user "nobody"'),
    ],
)
@pytest.mark.shows("postgres", "broken")
async def test_credentials_that_are_refused_are_our_mistake(
    postgres: Postgres, options: dict[str, Any], said: str
) -> None:
    """A wrong password, none, a role that is not there."""
    result = await run(KIND, postgres.target, options)
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login"), result.message
    assert said in result.message
    assert "check username and password" in result.message


@pytest.mark.shows("postgres", "broken")
async def test_what_the_role_may_not_see_is_our_mistake(postgres: Postgres) -> None:
    """insufficient_privilege."""
    options = {"username": "limited", "password": CANARY, "query": "SELECT * FROM things"}
    result = await run(KIND, postgres.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert "permission denied for table things (SQLSTATE 42501)" in result.message


@pytest.mark.shows("postgres", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {"username": USER}, phase="login")


@pytest.mark.shows("postgres", "timeout")
async def test_a_server_that_is_held_up_and_a_query_that_takes_for_ever_are_timeouts(postgres: Postgres) -> None:
    """The server is told how long it may take, so that it does not go on alone."""
    with paused(postgres.pid):
        stopped = await run(KIND, postgres.target, LOGIN, timeout=0.3)
    assert ending(stopped) == (Outcome.DOWN, Reason.TIMEOUT, "login")
    slow = await run(KIND, postgres.target, {**LOGIN, "query": "SELECT pg_sleep(30) AS mine"}, timeout=0.4)
    assert ending(slow) == (Outcome.DOWN, Reason.TIMEOUT, "query")
    asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS mine' AND pid <> pg_backend_pid()"
    for _ in range(100):
        if postgres.sql(asked) == "0":
            break
        await asyncio.sleep(0.05)
    assert postgres.sql(asked) == "0"


@pytest.mark.shows("postgres", "protocol")
async def test_an_answer_of_many_megabytes_is_not_kept(postgres: Postgres) -> None:
    """One value is enough for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await run(KIND, postgres.target, {**LOGIN, "query": "SELECT repeat('x', 100000000)"})
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "query"), result.message
    assert result.message == "the server sent more than 4MiB in one run"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "KiB of a hundred thousand"
    by_socket = await run(KIND, postgres.socket, {**LOGIN, "query": "SELECT repeat('x', 100000000)"})
    assert ending(by_socket) == (Outcome.DOWN, Reason.PROTOCOL, "query")


@pytest.mark.shows("postgres", "up", "certificate", "tls", "timeout", "protocol")
async def test_tls(postgres: Postgres, ca_file: Path, issued: Issued) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    result = await run(
        KIND,
        postgres.target,
        {
            **tls,
            "query": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            "expect": {"columns": {"ssl": {"equals": True}}},
        },
    )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "tls", "login", "query"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    named = await run(KIND, postgres.target, {**tls, "server_name": "other.test"})
    stranger = await run(KIND, postgres.target, {**LOGIN, "tls": True})
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert is_silent_about_secrets(wrong)
    assert (await run(KIND, postgres.target, {**LOGIN, "tls": True, "verify": False})).outcome is Outcome.UP
    by_name = await run(KIND, postgres.target, {**tls, "server_name": "shop.test"})
    assert (by_name.outcome, by_name.message) == (Outcome.UP, "")

    async def refuse(exchange: web.Exchange) -> None:
        await exchange.reader.readexactly(8)
        exchange.writer.write(b"N")
        await exchange.reader.read()

    async with web.serving(refuse, before_request=True) as server:
        plain = await run(KIND, f"127.0.0.1:{server.port}", tls)
    assert ending(plain) == (Outcome.DOWN, Reason.TLS, "tls")
    assert plain.message.endswith("does not offer TLS, wanted it")
    async with web.serving(web.garble, before_request=True) as server:
        garbage = await run(KIND, f"127.0.0.1:{server.port}", tls)
    assert ending(garbage) == (Outcome.DOWN, Reason.PROTOCOL, "tls")
    async with web.serving(web.silent, before_request=True) as server:
        silent = await run(KIND, f"127.0.0.1:{server.port}", tls, timeout=0.2)
    assert ending(silent) == (Outcome.DOWN, Reason.TIMEOUT, "tls")


@pytest.mark.shows("postgres", "broken")
async def test_a_server_that_asks_for_the_password_in_clear_text_does_not_get_it() -> None:
    """Whoever can answer in the server's place could ask for it."""
    heard = b""

    async def ask_in_clear(exchange: web.Exchange) -> None:
        nonlocal heard
        heard = await exchange.reader.readexactly(8)
        exchange.writer.write(b"R\0\0\0\x08\0\0\0\x03")
        heard += await exchange.reader.read()

    async with web.serving(ask_in_clear, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN)
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login"), result.message
    assert "which it gets over TLS only: give `tls: true`" in result.message
    assert USER.encode() in heard
    assert CANARY.encode() not in heard


@pytest.mark.shows("postgres", "too-slow")
async def test_a_slow_run_is_too_slow(postgres: Postgres) -> None:
    """And says which phase took longest."""
    options = {**LOGIN, "query": "SELECT pg_sleep(0.1)", "expect": {"slower_than": "50ms"}}
    result = await run(KIND, postgres.target, options)
    assert ending(result) == (Outcome.DOWN, Reason.TOO_SLOW, "query")
    assert "wanted at most 50ms; slowest was phase query" in result.message


async def test_nothing_of_the_environment_is_used(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords, files and whole services would be taken."""
    monkeypatch.setenv("PGPASSWORD", CANARY)
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    assert (await run(KIND, postgres.target, LOGIN)).outcome is Outcome.UP
    assert (await run(KIND, postgres.target, {"username": USER})).reason is Reason.CREDENTIALS


async def _leave_nothing(postgres: Postgres, ca_file: Path) -> tuple[int, int]:
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    await run(KIND, postgres.target, LOGIN)
    async with web.serving(web.silent, before_request=True) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, postgres.target, LOGIN) for _ in range(8)),
            *(run(KIND, postgres.target, tls) for _ in range(2)),
            *(run(KIND, postgres.target, {**LOGIN, "query": "SELECT pg_sleep(9)"}, timeout=0.3) for _ in range(2)),
            *(run(KIND, f"127.0.0.1:{silent.port}", LOGIN, timeout=0.2) for _ in range(5)),
            *(run(KIND, f"127.0.0.1:{silent.port}", tls, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:10]} == {Outcome.UP}, [result.message for result in results]
        return before, await settle(before)


async def test_nothing_stays_open(postgres: Postgres, ca_file: Path) -> None:
    """After good runs, refused ones and cancelled ones."""
    before, after = await _leave_nothing(postgres, ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(postgres: Postgres, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(postgres, ca_file))
    assert after <= before


NEEDS_QUERY = "measure, expect.rows and expect.columns are about a query: give `query` too"
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("db.test", {"username": ""}, "username: PostgreSQL wants to know who asks: give the name of a role"),
    ("unix:/run/pg", {}, "target of PostgreSQL's Unix socket ends like /.s.PGSQL.5432, not '/run/pg'"),
    ("db.test", {"query": " "}, "query: there is nothing in it"),
    ("db.test", {"parameters": [1]}, "parameters: they are for a query: give `query` too"),
    ("db.test", {"measure": ["a"]}, NEEDS_QUERY),
    ("db.test", {"expect": {"rows": {"exactly": 1}}}, NEEDS_QUERY),
    ("db.test", {"expect": {"columns": {"a": {"equals": 1}}}}, NEEDS_QUERY),
    (
        "db.test",
        {"query": "SELECT 1", "expect": {"rows": {"exactly": 1, "at_most": 2}}},
        "expect.rows: give exactly, or at_least and at_most",
    ),
    (
        "db.test",
        {"query": "SELECT 1", "measure": ["a"] * 21},
        "measure: at most 20 columns can be exported, not 21",
    ),
    (
        "db.test",
        {"query": "SELECT 1", "expect": {"columns": {"a": {}}}},
        "expect.columns.a: give equals, matches, above or below",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, {"username": USER, **options})


def sasl(*mechanisms: bytes) -> bytes:
    """An AuthenticationSASL message."""
    body = b"\0\0\0\x0a" + b"".join(each + b"\0" for each in mechanisms) + b"\0"
    return b"R" + (len(body) + 4).to_bytes(4, "big") + body


def test_an_offer_of_channel_binding_is_taken_out_of_what_a_server_offers() -> None:
    """And nothing else is."""
    offered = sasl(b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256")
    assert without_channel_binding(offered) == sasl(b"SCRAM-SHA-256")
    assert without_channel_binding(sasl(b"SCRAM-SHA-256")) == sasl(b"SCRAM-SHA-256")
    cleartext = b"R\0\0\0\x08\0\0\0\x03"
    assert without_channel_binding(cleartext) == cleartext


@settings(max_examples=300)
@given(st.binary() | st.binary().map(b"R\0\0\0\x08\0\0\0\x0a".__add__))
def test_any_message_is_passed_on(message: bytes) -> None:
    """Never an exception."""
    assert without_channel_binding(message)[:1] == message[:1]


@pytest.mark.shows("postgres", "up")
async def test_a_value_that_is_not_of_its_type_is_text() -> None:
    """The driver's loaders raise whatever Python raises for it. Found by fuzzing."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4) + body

    column = b"number\0" + bytes(4) + bytes(2) + (23).to_bytes(4) + b"\0\4" + b"\xff" * 4 + b"\0\0"
    row = message(b"T", b"\0\1" + column) + message(b"D", b"\0\1" + (1).to_bytes(4) + b"\x04")
    ready = message(b"Z", b"I")

    async def behave(exchange: web.Exchange) -> None:
        size = int.from_bytes(await exchange.reader.readexactly(4))
        await exchange.reader.readexactly(size - 4)
        exchange.writer.write(message(b"R", bytes(4)) + ready)
        while said := await exchange.reader.read(2**16):
            if said[:1] != b"X":
                exchange.writer.write(b"1\0\0\0\x042\0\0\0\x04" + row + message(b"C", b"SELECT 1\0") + ready)

    async with web.serving(behave, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"username": USER}, timeout=3.0)
    assert result.outcome is Outcome.UP, result.message
