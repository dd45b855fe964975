"""The kind `postgres`: a login, a query in a read-only transaction, its rows judged, the server's own state."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, Streams, detour_of, judge_speed, show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Check, Kind, Metric
from stormwatch.probes.result import Reason
from stormwatch.probes.rows import QueryJudge, QueryOptions, Rows, Server
from stormwatch.probes.wanted import as_number
from stormwatch.probes.watch import Watch

if TYPE_CHECKING:
    from stormwatch.probes.postgres_session import LoginFailed, QueryFailed, Session

PORT: Final = 5432

_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""SSLRequest of the protocol, https://www.postgresql.org/docs/current/protocol-message-formats.html."""
_NO_FILE: Final = "/dev/null/none"
"""A path that cannot be there: libpq would read the passwords of the user it runs as."""
_PASSWORD_WORDS: Final = ("authentication failed", "pg_hba.conf", "is not permitted to log in")
"""What a server says of a login that it does not take. libpq tells no SQLSTATE before the session is there."""

_ABOUT_SERVER: Final = """
SELECT current_setting('server_version') AS version,
       pg_is_in_recovery() AS replica,
       CASE WHEN NOT pg_is_in_recovery() OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END AS lag,
       (SELECT sum(numbackends) FROM pg_stat_database)::float8
         / current_setting('max_connections')::float8 AS connections
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions(QueryOptions):
    """How to log in, what to ask, and what must come of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    database: str = "postgres"
    """Name of the database."""


def build(target: str, options: PostgresOptions) -> Check:
    """A check of one server. Raises ValueError for a target or an option that cannot work."""
    place = Backend.of("postgres", target, options, port=PORT, unix=True)
    if not options.username:
        raise ValueError("username: PostgreSQL wants to know who asks: give the name of a role")
    if place.path and not Path(place.path).name.startswith(".s.PGSQL."):
        raise ValueError(f"target of PostgreSQL's Unix socket ends like /.s.PGSQL.5432, not {place.path!r}")
    return PostgresCheck(
        backend=place,
        judge=QueryJudge.of("postgres", options),
        options=options,
        parameters=_parameters(place, options),
    )


def _parameters(place: Backend, options: PostgresOptions) -> dict[str, str | int]:
    """libpq's, all of those that it would otherwise take from the environment or from files of its user."""
    return {
        "user": options.username,
        "password": options.password,
        "dbname": options.database,
        "passfile": _NO_FILE,
        "sslmode": "disable",
        "gssencmode": "disable",
        # Whoever can answer in the server's place could ask for the password in clear text.
        "require_auth": "password,md5,scram-sha-256,none" if options.tls or place.path else "!password",
        "target_session_attrs": "any",
        "options": "",
        "client_encoding": "UTF8",
        "application_name": "stormwatch",
    }


@dataclass(frozen=True, slots=True, eq=False)
class PostgresCheck:
    """Asks one server."""

    backend: Backend
    judge: QueryJudge
    options: PostgresOptions
    parameters: dict[str, str | int] = field(repr=False)
    """For libpq, the password among them."""

    async def __call__(self, watch: Watch) -> None:
        """Connect, shake hands, log in, ask, judge."""
        with self._told():
            async with self._session(watch) as session:
                with watch.phase("query"):
                    await self._query(watch, session)
                if self.judge.about_server:
                    with watch.phase("server"):
                        self._judge_server(watch, await session.ask(_ABOUT_SERVER))
        judge_speed(watch, self.options.expect.slower_than)

    @asynccontextmanager
    async def _session(self, watch: Watch) -> "AsyncGenerator[Session]":
        """Logged in."""
        from stormwatch.probes.postgres_session import relayed

        async with self.backend.opened(watch) as streams:
            if self.backend.context is not None:
                with watch.phase("tls"):
                    await self._ask_for_tls(streams)
                await self.backend.secure(watch, streams, prelude=self._ask_for_tls)
            async with relayed(streams, self.parameters) as session:
                with watch.phase("login"):
                    await session.log_in()
                yield session

    async def _ask_for_tls(self, streams: Streams) -> None:
        with self.backend.talking():
            streams.writer.write(_SSL_REQUEST)
            answer = await streams.reader.readexactly(1)
        if answer == b"N":
            raise ProbeFailed(Reason.TLS, f"{self.backend} does not offer TLS, wanted it", phase="tls")
        if answer != b"S":
            raise self.backend.garbled(f"{answer!r} as the answer to SSLRequest")

    async def _query(self, watch: Watch, session: "Session") -> None:
        if not self.options.query:
            rows = await session.ask("SELECT 1")
            if rows.count != 1:
                raise ProbeFailed(Reason.ASSERTION, f"SELECT 1 brought {rows.count} rows, wanted 1")
            return
        mode = "READ ONLY" if self.options.read_only else "READ WRITE"
        left = max(1, round(watch.remaining() * 1000))
        await session.tell(f"BEGIN TRANSACTION {mode}; SET LOCAL statement_timeout = {left}")
        self.judge.judge_rows(watch, await session.ask(self.options.query, self.options.parameters))
        await session.tell("ROLLBACK" if self.options.read_only else "COMMIT")

    def _judge_server(self, watch: Watch, rows: Rows) -> None:
        self.judge.judge_server(
            watch,
            Server(
                version=str(rows.value("version")),
                role="replica" if rows.value("replica") else "primary",
                lag=as_number(rows.value("lag")),
                connections=as_number(rows.value("connections")) or 0.0,
            ),
        )

    @contextmanager
    def _told(self) -> Generator[None]:
        """The driver's exceptions and the server's errors as ours."""
        from psycopg import Error

        from stormwatch.probes.postgres_session import LoginFailed, QueryFailed

        try:
            with self.backend.talking():
                yield
        except LoginFailed as error:
            raise self._explain_login(error) from error
        except QueryFailed as error:
            raise self._explain_query(error) from error
        except Error as error:
            raise self.backend.garbled(error) from error

    def _explain_login(self, error: "LoginFailed") -> ProbeFailed | ProbeBroken:
        said = error.said
        role_is_missing = error.by_server and said.startswith('role "') and "does not exist" in said
        if (
            error.needs_password
            or role_is_missing
            or (error.by_server and any(each in said for each in _PASSWORD_WORDS))
        ):
            return self.backend.refused_login(said)
        if error.by_server:
            return self._own_reason(said)
        if "authentication method requirement" in said:
            return self.backend.refused_login(f"{said}, which it gets over TLS only: give `tls: true`")
        if "closed the connection" in said or "reset by peer" in said or "Broken pipe" in said:
            return self.backend.hung_up()
        return self.backend.garbled(said)

    def _explain_query(self, error: "QueryFailed") -> ProbeFailed | ProbeBroken:
        said = f"{error.said} (SQLSTATE {error.sqlstate})"
        if error.sqlstate.startswith("28") or error.sqlstate == "42501":
            return self.backend.refused_login(said)
        if error.sqlstate == "57014":  # query_canceled: our own statement_timeout, or an operator
            return ProbeFailed(Reason.TIMEOUT, f"{self.backend} ended the query: {show_words(said)}")
        return self._own_reason(said)

    def _own_reason(self, said: str) -> ProbeFailed:
        return ProbeFailed(Reason.ASSERTION, f"{self.backend} answered with an error: {show_words(said)}")


KIND: Final = Kind(
    name="postgres",
    options=PostgresOptions,
    build=build,
    detour=detour_of(PORT),
    phases=("resolve", "connect", "tls", "login", "query", "server"),
    phase_metric=Metric("stormwatch_postgres_duration_seconds", "Seconds of a look at PostgreSQL by phase"),
    metrics=(
        *backend.METRICS,
        Metric("stormwatch_postgres_query_value", "Columns of the first row that `measure` names"),
        Metric("stormwatch_postgres_replica", "1 for a replica, 0 for a primary"),
        Metric("stormwatch_postgres_replication_lag_seconds", "Seconds that a replica is behind; 0 for a primary"),
        Metric("stormwatch_postgres_connections_ratio", "Share of the server's connections that are in use"),
    ),
    reasons=backend.REASONS,
    extra="postgres",
    module="psycopg",
)
