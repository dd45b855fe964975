"""The kind `mysql` against a real MariaDB."""

import asyncio
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.mysql import KIND
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets, paused
from tests.servers.certificates import Issued
from tests.servers.mysql import USER, Mysql, mysql_server
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle

LOGIN = {"username": USER, "password": CANARY}


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory, issued: Issued, ca_file: Path) -> Generator[Mysql]:
    """One for all tests of this file."""
    with mysql_server(tmp_path_factory.mktemp("mysql"), issued, ca_file) as server:
        server.sql(
            "CREATE DATABASE shop; CREATE TABLE shop.things (id int, name text, price decimal(8,2), seen datetime);"
            "INSERT INTO shop.things VALUES (1, 'pump', 9.50, '2026-01-02 03:04:05'), (2, 'hose', NULL, NULL)"
        )
        yield server


@pytest.mark.shows("mysql", "up")
async def test_a_server_that_answers_select_1_is_up(mysql: Mysql) -> None:
    """The smallest probe."""
    result = await run(KIND, mysql.target, LOGIN)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "login", "query"]
    assert measures(result)["probe_ip_protocol"] == 4
    assert result.evidence == {"remote": mysql.target}
    by_socket = await run(KIND, mysql.socket, LOGIN)
    assert (by_socket.outcome, by_socket.message) == (Outcome.UP, "")


@pytest.mark.shows("mysql", "up")
async def test_rows_are_judged_and_exported(mysql: Mysql) -> None:
    """Counts, values of every type, parameters, measures, the server's own state."""
    result = await run(
        KIND,
        mysql.target,
        {
            **LOGIN,
            "database": "shop",
            "query": "SELECT name, price, seen, id FROM things WHERE id >= %s AND name <> %s ORDER BY id",
            "parameters": [1, "it's \\ none"],
            "measure": ["price", "id"],
            "expect": {
                "rows": {"exactly": 2},
                "columns": {
                    "name": {"matches": "^p"},
                    "price": {"equals": 9.5, "above": 9, "below": 10},
                    "seen": {"equals": "2026-01-02T03:04:05"},
                },
                "role": "primary",
                "lag_below": "1s",
                "connections_below": "90%",
            },
        },
    )
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result)[-2:] == ["query", "server"]
    shown = {m.labels["column"]: m.value for m in result.measures if m.name == "stormwatch_mysql_query_value"}
    assert shown == {"price": 9.5, "id": 1}
    assert measures(result)["stormwatch_mysql_replica"] == 0
    assert measures(result)["stormwatch_mysql_replication_lag_seconds"] == 0
    assert 0 < measures(result)["stormwatch_mysql_connections_ratio"] < 1
    assert "MariaDB" in result.evidence["server"]["version"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    (
        {"query": "SELECT id FROM shop.things", "expect": {"rows": {"at_most": 1}}},
        "query",
        "the query brought 2 rows, wanted at most 1",
    ),
    (
        {"query": "SELECT 7 AS lag", "expect": {"columns": {"lag": {"below": 5}}}},
        "query",
        "column lag is 7, wanted below 5",
    ),
    (
        {"query": "SELECT 1 AS a", "expect": {"columns": {"b": {"equals": 1}}}},
        "query",
        "the query brought a, wanted a column b",
    ),
    (
        {"query": "SELECT * FROM shop.nothing"},
        "query",
        "answered with an error: Table 'shop.nothing' doesn't exist (error 1146)",
    ),
    (
        {"query": "INSERT INTO shop.things (id) VALUES (3)"},
        "query",
        "Cannot execute statement in a READ ONLY transaction (error 1792)",
    ),
    ({"query": "ROLLBACK; DELETE FROM shop.things"}, "query", "You have an error in your SQL syntax"),
    (
        {"query": "SELECT seq FROM seq_1_to_20000", "database": "shop"},
        "query",
        "the query brought more than 10000 rows: add a LIMIT, or count them",
    ),
    ({"expect": {"role": "replica"}}, "server", "the server is a primary, wanted a replica"),
    ({"expect": {"connections_below": "0.1%"}}, "server", "of the server's connections are in use, wanted less than"),
    ({"database": "nowhere"}, "login", "answered with an error: Unknown database 'nowhere' (error 1049)"),
]


@pytest.mark.parametrize(("options", "phase", "message"), WRONG)
@pytest.mark.shows("mysql", "assertion")
async def test_another_answer_than_expected_is_down_with_what_was_seen(
    mysql: Mysql, options: dict[str, Any], phase: str, message: str
) -> None:
    """Rows, errors with their number, roles."""
    result = await run(KIND, mysql.target, {**LOGIN, **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, phase), result.message
    assert message in result.message
    assert mysql.sql("SELECT count(*) FROM shop.things") == "2"


@pytest.mark.shows("mysql", "up", "assertion")
async def test_only_a_run_that_may_write_commits(mysql: Mysql) -> None:
    """And only when all is as expected."""
    insert = "INSERT INTO shop.things (id) VALUES (77) RETURNING id"
    wrong = {**LOGIN, "query": insert, "read_only": False, "expect": {"columns": {"id": {"equals": 1}}}}
    assert (await run(KIND, mysql.target, wrong)).reason is Reason.ASSERTION
    assert mysql.sql("SELECT count(*) FROM shop.things WHERE id = 77") == "0"
    right = {**LOGIN, "query": insert, "read_only": False, "expect": {"columns": {"id": {"equals": 77}}}}
    assert (await run(KIND, mysql.target, right)).outcome is Outcome.UP
    assert mysql.sql("DELETE FROM shop.things WHERE id = 77 RETURNING id") == "77"


@pytest.mark.shows("mysql", "up", "assertion")
async def test_a_replica_says_that_it_is_one(mysql: Mysql) -> None:
    """It can be read only, and its replication can have stopped."""
    mysql.sql("SET GLOBAL read_only = 1; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_USER='nobody'")
    try:
        replica = await run(KIND, mysql.target, {**LOGIN, "expect": {"role": "replica"}})
        lagging = await run(KIND, mysql.target, {**LOGIN, "expect": {"lag_below": "10s"}})
    finally:
        mysql.sql("SET GLOBAL read_only = 0; RESET SLAVE ALL")
    assert (replica.outcome, replica.message) == (Outcome.UP, "")
    assert measures(replica)["stormwatch_mysql_replica"] == 1
    assert ending(lagging) == (Outcome.DOWN, Reason.ASSERTION, "server")
    assert lagging.message == "the replica does not know how far it is behind: replication has stopped"


@pytest.mark.shows("mysql", "assertion")
async def test_a_server_that_refuses_for_its_own_reason_is_down_in_its_own_words(mysql: Mysql) -> None:
    """Too many connections of a user."""
    mysql.sql("ALTER USER limited@'%' WITH MAX_USER_CONNECTIONS 1")
    options = {"username": "limited", "password": CANARY, "query": "SELECT sleep(0.6)"}
    first = asyncio.create_task(run(KIND, mysql.target, options))
    while mysql.sql("SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%sleep(0.6)'") == "0":
        await asyncio.sleep(0.02)
    second = await run(KIND, mysql.target, {"username": "limited", "password": CANARY})
    assert (await first).outcome is Outcome.UP
    mysql.sql("ALTER USER limited@'%' WITH MAX_USER_CONNECTIONS 0")
    assert ending(second) == (Outcome.DOWN, Reason.ASSERTION, "login")
    assert "answered with an error: User 'limited' has exceeded the 'max_user_connections'" in second.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": USER, "password": "wrong"}, f"Access denied for user '{USER}'"),
        ({"username": USER}, f"Access denied for user '{USER}'"),
        ({"username": "nobody", "password": CANARY}, "Access denied for user 'nobody'"),
        ({"username": "limited", "password": CANARY, "database": "shop"}, "Access denied for user 'limited'"),
        ({"username": "limited", "password": CANARY, "query": "SELECT * FROM shop.things"}, "SELECT command denied"),
    ],
)
@pytest.mark.shows("mysql", "broken")
async def test_credentials_that_are_refused_are_our_mistake(mysql: Mysql, options: dict[str, Any], said: str) -> None:
    """A wrong password, none, a user that is not there, one that may not."""
    result = await run(KIND, mysql.target, options)
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS), result.message
    assert said in result.message
    assert "check username and password" in result.message


@pytest.mark.shows("mysql", "broken")
async def test_a_server_that_asks_for_the_password_in_clear_text_does_not_get_it(mysql: Mysql) -> None:
    """Whoever can answer in the server's place could ask for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mysql.port)
    greeting = await reader.readexactly(int.from_bytes((await reader.readexactly(4))[:3], "little"))
    writer.transport.abort()
    heard = b""

    async def ask_in_clear(exchange: web.Exchange) -> None:
        nonlocal heard
        packet = len(greeting).to_bytes(3, "little") + b"\0" + greeting
        exchange.writer.write(packet)
        heard = await exchange.reader.readexactly(4)
        heard += await exchange.reader.readexactly(int.from_bytes(heard[:3], "little"))
        switch = b"\xfemysql_clear_password\0"
        exchange.writer.write(len(switch).to_bytes(3, "little") + b"\x02" + switch)
        heard += await exchange.reader.read()

    async with web.serving(ask_in_clear, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN)
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert result.message.endswith("asks for the password in clear text on a connection without TLS: give `tls: true`")
    assert USER.encode() in heard
    assert CANARY.encode() not in heard


@pytest.mark.shows("mysql", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {"username": USER}, phase="greeting")


@pytest.mark.shows("mysql", "timeout")
async def test_a_server_that_is_held_up_and_a_query_that_takes_for_ever_are_timeouts(mysql: Mysql) -> None:
    """The server is told how long it may take, so that it does not go on alone."""
    with paused(mysql.pid):
        stopped = await run(KIND, mysql.target, LOGIN, timeout=0.3)
    assert ending(stopped) == (Outcome.DOWN, Reason.TIMEOUT, "greeting")
    slow = await run(KIND, mysql.target, {**LOGIN, "query": "SELECT sleep(30) AS mine"}, timeout=0.4)
    assert ending(slow) == (Outcome.DOWN, Reason.TIMEOUT, "query")
    asked = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%AS mine'"
    for _ in range(100):
        if mysql.sql(asked) == "0":
            break
        await asyncio.sleep(0.05)
    assert mysql.sql(asked) == "0"


@pytest.mark.shows("mysql", "protocol")
async def test_an_answer_of_many_megabytes_is_not_kept(mysql: Mysql) -> None:
    """One value is enough for it."""
    result = await run(KIND, mysql.target, {**LOGIN, "query": "SELECT repeat('x', 10000000)"})
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "query")
    assert result.message == "the server sent more than 4MiB in one run"


@pytest.mark.shows("mysql", "up", "certificate")
async def test_tls(mysql: Mysql, ca_file: Path, issued: Issued) -> None:
    """Trusted, for another name, not trusted, none at all."""
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    query = {"query": "SHOW STATUS LIKE 'Ssl_version'", "expect": {"columns": {"Value": {"equals": "TLSv1.3"}}}}
    result = await run(KIND, mysql.target, {**tls, **query})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "tls", "login", "query"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    named = await run(KIND, mysql.target, {**tls, "server_name": "other.test"})
    stranger = await run(KIND, mysql.target, {**LOGIN, "tls": True})
    for wrong in (named, stranger):
        assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
        assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert is_silent_about_secrets(wrong)
    assert (await run(KIND, mysql.target, {**LOGIN, "tls": True, "verify": False})).outcome is Outcome.UP


@pytest.mark.shows("mysql", "tls")
async def test_a_server_without_tls_never_sees_the_password(tmp_path: Path, issued: Issued, ca_file: Path) -> None:
    """Not even scrambled."""
    with mysql_server(tmp_path, issued, ca_file, "--skip-ssl") as server:
        result = await run(KIND, server.target, {**LOGIN, "tls": True, "ca_file": str(ca_file)})
    assert ending(result) == (Outcome.DOWN, Reason.TLS, "tls")
    assert result.message.endswith("does not offer TLS, wanted it")


@pytest.mark.shows("mysql", "too-slow")
async def test_a_slow_run_is_too_slow(mysql: Mysql) -> None:
    """And says which phase took longest."""
    options = {**LOGIN, "query": "SELECT sleep(0.1)", "expect": {"slower_than": "50ms"}}
    result = await run(KIND, mysql.target, options)
    assert ending(result) == (Outcome.DOWN, Reason.TOO_SLOW, "query")
    assert "wanted at most 50ms; slowest was phase query" in result.message


async def _leave_nothing(mysql: Mysql, ca_file: Path) -> tuple[int, int]:
    tls = {**LOGIN, "tls": True, "ca_file": str(ca_file)}
    await run(KIND, mysql.target, LOGIN)
    async with web.serving(web.silent, before_request=True) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, mysql.target, LOGIN) for _ in range(10)),
            *(run(KIND, mysql.target, tls) for _ in range(5)),
            *(run(KIND, mysql.target, {**LOGIN, "query": "SELECT sleep(9)"}, timeout=0.3) for _ in range(3)),
            *(run(KIND, f"127.0.0.1:{silent.port}", LOGIN, timeout=0.2) for _ in range(5)),
        )
        assert {result.outcome for result in results[:15]} == {Outcome.UP}, [result.message for result in results]
        return before, await settle(before)


async def test_nothing_stays_open(mysql: Mysql, ca_file: Path) -> None:
    """After good runs, refused ones and cancelled ones."""
    before, after = await _leave_nothing(mysql, ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(mysql: Mysql, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(mysql, ca_file))
    assert after <= before


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"username": ""}, "username: MySQL wants to know who asks: give the name of a user"),
    ({"password": "☂"}, "password: the driver can send signs of Latin-1 only, and it has others"),
    ({"parameters": [1]}, "parameters: they are for a query: give `query` too"),
    (
        {"query": "SELECT 1", "expect": {"columns": {"a": {}}}},
        "expect.columns.a: give equals, matches, above or below",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "db.test", {"username": USER, **options})


@pytest.mark.shows("mysql", "protocol")
async def test_a_greeting_that_is_cut_off_is_not_mysql() -> None:
    """The driver reads a variable then that it has not set. Found by fuzzing."""
    greeting = b"\x0a8.0.36\0" + bytes(4) + b"abcdefgh" + b"\0" + b"\xff\xf7"
    packet = len(greeting).to_bytes(3, "little") + b"\0" + greeting
    async with web.serving(web.raw(packet), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", LOGIN)
    assert ending(result) == (Outcome.DOWN, Reason.PROTOCOL, "greeting"), result.message
