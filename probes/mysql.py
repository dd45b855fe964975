"""The kind `mysql`: a login, a query in a read-only transaction, its rows judged, the server's own state."""

import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, detour_of, judge_speed, show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.rows import QueryJudge, QueryOptions, Server
from stormwatch.probes.wanted import as_number
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.mysql_session import Session

PORT: Final = 3306

# https://mariadb.com/kb/en/mariadb-error-code-reference/ and MySQL's, which agree on these
_CREDENTIALS: Final = frozenset(
    {1044, 1045, 1095, 1130, 1142, 1143, 1227, 1251, 1370, 1524, 1698, 1820, 1862, 2054, 2059}
)
"""Errors that speak of who we are, and of what we may do."""
_INTERRUPTED: Final = frozenset({1317, 1969, 3024})
"""The server ended a statement: by hand, or by its limit, of MariaDB or of MySQL."""
_CLIENT_ERRORS: Final = 2000
"""From here on it is the driver that speaks: CR_UNKNOWN_ERROR."""
_LOST: Final = frozenset({2006, 2013, 2055})


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlOptions(QueryOptions):
    """How to log in, what to ask, and what must come of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    database: str = ""
    """Name of the database; none when empty."""


def build(target: str, options: MysqlOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    place = Backend.of("mysql", target, options, port=PORT, unix=True)
    if not options.username:
        raise ValueError("username: MySQL wants to know who asks: give the name of a user")
    try:
        options.password.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("password: the driver can send signs of Latin-1 only, and it has others") from None
    return MysqlCheck(backend=place, judge=QueryJudge.of("mysql", options), options=options)


_UNREADABLE: Final = (
    struct.error,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    ArithmeticError,
    NameError,
)
"""What the driver raises for packets that it does not expect; NameError, because it then reads what it has not set."""


@dataclass(frozen=True, slots=True, eq=False)
class MysqlCheck:
    """Asks one server."""

    backend: Backend
    judge: QueryJudge
    options: MysqlOptions

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, log in, ask, judge."""
        from stormwatch.probes.mysql_session import Session, begin_tls

        async with self.backend.opened(watch) as streams:
            session = Session(self.backend, streams, self.options.database)
            try:
                with self._told():
                    with watch.phase("greeting"):
                        offers_tls = await session.greet()
                    if self.backend.context is not None:
                        if not offers_tls:
                            raise ProbeFailed(Reason.TLS, f"{self.backend} does not offer TLS, wanted it", phase="tls")
                        session.ask_for_tls()
                        await self.backend.secure(watch, streams, prelude=begin_tls)
                    with watch.phase("login"):
                        await session.log_in()
                    with watch.phase("query"):
                        await self._query(watch, session)
                    if self.judge.about_server:
                        with watch.phase("server"):
                            self.judge.judge_server(watch, await self._server(session))
                    session.quit()
            finally:
                session.let_go()
        judge_speed(watch, self.options.expect.slower_than)

    async def _query(self, watch: Watch, session: "Session") -> None:
        if not self.options.query:
            rows = await session.ask("SELECT 1")
            if rows.count != 1:
                raise ProbeFailed(Reason.ASSERTION, f"SELECT 1 brought {rows.count} rows, wanted 1")
            return
        left = max(0.001, watch.remaining())
        if "MariaDB" in session.server_version:
            await session.ask(f"SET SESSION max_statement_time = {left:.3f}")
        else:
            await session.ask(f"SET SESSION max_execution_time = {round(left * 1000)}")
        await session.ask("START TRANSACTION READ ONLY" if self.options.read_only else "START TRANSACTION READ WRITE")
        self.judge.judge_rows(watch, await session.ask(self.options.query, self.options.parameters))
        await session.ask("ROLLBACK" if self.options.read_only else "COMMIT")

    async def _server(self, session: "Session") -> Server:
        facts = await session.ask("SELECT @@global.read_only AS replica, @@global.max_connections AS most")
        used = await session.ask("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        replica = bool(as_number(facts.value("replica")))
        lag = None if replica else 0.0
        if self.options.expect.lag_below is not None:
            replication = await session.ask("SHOW REPLICA STATUS")
            if replication.count:
                behind = next(each for each in replication.columns if each.startswith("Seconds_Behind_"))
                lag = as_number(replication.value(behind))
        return Server(
            version=session.server_version,
            role="replica" if replica else "primary",
            lag=lag,
            connections=(as_number(used.value("Value")) or 0.0) / (as_number(facts.value("most")) or 1.0),
        )

    @contextmanager
    def _told(self) -> Generator[None]:
        """The driver's exceptions and the server's errors as ours."""
        from pymysql.err import Error

        try:
            with self.backend.talking():
                yield
        except Error as error:
            raise self._explain(error) from error
        except _UNREADABLE as error:
            raise self.backend.garbled(f"{type(error).__name__}: {error}") from error

    def _explain(self, error: Exception) -> ProbeFailed | ProbeBroken:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        words = show_words(str(error.args[-1]) if error.args else type(error).__name__)
        said = f"{words} (error {number})"
        if number in _CREDENTIALS:
            return self.backend.refused_login(said)
        if number in _INTERRUPTED:
            return ProbeFailed(Reason.TIMEOUT, f"{self.backend} ended the query: {said}")
        if number in _LOST:
            return self.backend.hung_up(error)
        if number == 0 or number >= _CLIENT_ERRORS:
            return self.backend.garbled(words)
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {said}")


KIND: Final = Kind(
    name="mysql",
    options=MysqlOptions,
    build=build,
    detour=detour_of(PORT),
    phases=("resolve", "connect", "greeting", "tls", "login", "query", "server"),
    phase_metric=Metric("stormwatch_mysql_duration_seconds", "Seconds of a look at MySQL or MariaDB by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_mysql_query_value", "Columns of the first row that `measure` names"),
        Metric("stormwatch_mysql_replica", "1 for a replica, 0 for a primary"),
        Metric("stormwatch_mysql_replication_lag_seconds", "Seconds that a replica is behind; 0 for a primary"),
        Metric("stormwatch_mysql_connections_ratio", "Share of the server's connections that are in use"),
    ),
    reasons=backend.REASONS,
    extra="mysql",
    module="aiomysql",
)
