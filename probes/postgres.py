"""The kind `postgres`: a login, a query in a read-only transaction, its rows judged, the server's own state."""

import stat
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict

from stormwatch.probes import backend
from stormwatch.probes.backend import Backend, Streams, hang_up, judge_speed, show_words
from stormwatch.probes.certificate import load_trust
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
"""A path that cannot be there: libpq would read the passwords and certificates of the user it runs as."""
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
    if options.key:
        _check_key(options.key)
    return PostgresCheck(
        backend=place,
        judge=QueryJudge.of("postgres", options),
        options=options,
        parameters=_parameters(place, options),
    )


def _check_key(path: str) -> None:
    """Keys that others can read are refused by libpq."""
    mode = Path(path).stat()
    if mode.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP | (stat.S_IRGRP if mode.st_uid else 0)):
        raise ValueError(f"key {path} can be read by others, and PostgreSQL's library then refuses it: chmod 600")


def _parameters(place: Backend, options: PostgresOptions) -> dict[str, str | int]:
    """libpq's, all of those that it would otherwise take from the environment or from files of its user."""
    said: dict[str, str | int] = {
        "user": options.username,
        "password": options.password,
        "dbname": options.database,
        "passfile": _NO_FILE,
        "gssencmode": "disable",
        "target_session_attrs": "any",
        "options": "",
        "client_encoding": "UTF8",
        "application_name": "stormwatch",
        "sslmode": "disable",
    }
    if place.path:
        return {**said, "host": str(Path(place.path).parent), "port": Path(place.path).name.removeprefix(".s.PGSQL.")}
    said |= {"host": place.name, "port": place.place.port}
    if options.tls:
        said |= {
            "sslmode": "verify-full" if options.verify else "require",
            "sslrootcert": load_trust(options.ca_file)[0] if options.verify else _NO_FILE,
            "sslcrl": _NO_FILE,
            "sslcertmode": "allow" if options.certificate else "disable",
            "sslcert": options.certificate or _NO_FILE,
            "sslkey": options.key or _NO_FILE,
        }
    return said


@dataclass(frozen=True, slots=True, eq=False)
class PostgresCheck:
    """Asks one server."""

    backend: Backend
    judge: QueryJudge
    options: PostgresOptions
    parameters: dict[str, str | int]

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
        """Logged in. With TLS, a connection before it shakes hands alone: libpq shows nobody the certificate."""
        from stormwatch.probes.postgres_session import Session

        async def dial(address: str) -> Session:
            where = {"hostaddr": address} if address else {}
            return await Session.dial({**self.parameters, **where})

        session: Session | None = None
        try:
            if self.backend.context is not None:
                async with self.backend.opened(watch) as streams:
                    await self._shake(watch, streams)
                with watch.phase("login"):
                    session = await dial(streams.address)
                    await session.log_in()
            else:
                session, _ = await self.backend.connect(watch, dial)
                with watch.phase("login"):
                    await session.log_in()
            yield session
        finally:
            if session is not None:
                session.close()

    async def _shake(self, watch: Watch, streams: Streams) -> None:
        with watch.phase("tls"):
            await self._ask_for_tls(streams)
        await self.backend.secure(watch, streams, prelude=self._ask_for_tls)
        await hang_up(streams.writer)

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
        if "closed the connection" in said or "reset by peer" in said:
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
