"""libpq's connection, driven by our own loop through psycopg. Needs the extra `postgres`; imported where it is used.

psycopg's own connection is not used: when it is cancelled it connects once more to ask the server to cancel too, and waits up
to five seconds for that. Here the socket is closed at once. Nor does libpq connect to the server: it gets the other end of a
connection that is there already (`relayed`), so that TLS, certificates and errors are the same as for every kind, and no answer
can fill the memory: libpq keeps a message until all of it is there, and reads on for as long as something comes.
"""

import asyncio
import os
import re
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo

from stormwatch.probes.backend import Streams, hang_up, streams_of
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.rows import MOST_ROWS, Parameter, Rows, too_many_rows

_PUMPED: Final = 2**16
_SERVERS: Final = re.compile(r"(?:^|failed: )\w+:  (.*)", re.DOTALL)
"""How libpq writes what a server said: a severity in any language, a colon, two spaces."""


class LoginFailed(Exception):
    """The session did not come about. `said` are the server's words, or libpq's when `by_server` is not set."""

    def __init__(self, said: str, *, by_server: bool, needs_password: bool) -> None:
        super().__init__(said)
        self.said = said
        self.by_server = by_server
        self.needs_password = needs_password


class QueryFailed(Exception):
    """The server answered a query with an error."""

    def __init__(self, said: str, sqlstate: str) -> None:
        super().__init__(said)
        self.said = said
        self.sqlstate = sqlstate


class Session:
    """One connection. `close` ends it at once, at any moment."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection

    @classmethod
    def start(cls, parameters: Mapping[str, str | int]) -> Self:
        """Begin to connect; nothing is said yet. Raises LoginFailed."""
        session = cls(pq.PGconn.connect_start(make_conninfo("", **parameters).encode()))
        if session._connection.status == pq.ConnStatus.BAD:
            said = session._error()
            session.close()
            raise LoginFailed(said, by_server=False, needs_password=False)
        return session

    async def log_in(self) -> None:
        """TLS, if it is asked for, and the login. Raises LoginFailed."""
        polled = pq.PollingStatus.WRITING  # as libpq wants it to begin
        while True:
            await self._wait(reading=polled == pq.PollingStatus.READING)
            polled = self._connection.connect_poll()
            if polled == pq.PollingStatus.OK:
                self._connection.nonblocking = 1
                return
            if polled == pq.PollingStatus.FAILED:
                said = self._error()
                server = _SERVERS.search(said)
                raise LoginFailed(
                    server[1] if server else said.partition("failed: ")[2] or said,
                    by_server=server is not None,
                    needs_password=bool(self._connection.needs_password),
                )

    async def ask(self, statement: str, parameters: Sequence[Parameter] = ()) -> Rows:
        """Send one statement, and read what it brings. Raises QueryFailed, ConnectionResetError, or ProbeFailed(too much)."""
        self._connection.send_query_params(statement.encode(), [_written(each) for each in parameters])
        self._connection.set_single_row_mode()
        return await self._read()

    async def tell(self, statements: str) -> None:
        """Send statements that bring no rows, in one message."""
        self._connection.send_query(statements.encode())
        await self._read()

    async def _read(self) -> Rows:
        while self._connection.flush():
            await self._wait(reading=False)
        columns: tuple[str, ...] = ()
        first: tuple[Any, ...] | None = None
        count, failure = 0, None
        while (result := await self._result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                failure = failure or self._failure(result)
            elif result.status in (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK):
                columns = columns or tuple(
                    (result.fname(i) or b"").decode("utf-8", "replace") for i in range(result.nfields)
                )
                if result.ntuples:
                    first = _loaded(result) if first is None else first
                    count += result.ntuples
            elif result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                raise QueryFailed("COPY brings no rows: a probe cannot judge it", "0A000")
            if count > MOST_ROWS:
                raise too_many_rows()
        if failure is not None:
            raise failure
        return Rows(columns=columns, first=first, count=count)

    async def _result(self) -> pq.abc.PGresult | None:
        while self._connection.is_busy():
            await self._wait(reading=True)
            try:
                self._connection.consume_input()
            except psycopg.Error as error:
                raise ConnectionResetError(str(error)) from error
        return self._connection.get_result()

    def _failure(self, result: pq.abc.PGresult) -> Exception:
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        if sqlstate is None:  # libpq's own word: the connection is gone, or what came is not the protocol
            if self._connection.status == pq.ConnStatus.BAD:
                return ConnectionResetError(said.decode("utf-8", "replace"))
            return ProbeFailed(
                Reason.PROTOCOL, f"the server's answer is not PostgreSQL's: {said.decode('utf-8', 'replace')}"
            )
        return QueryFailed(said.decode("utf-8", "replace"), sqlstate.decode("ascii", "replace"))

    async def _wait(self, *, reading: bool) -> None:
        """Until the socket is ready."""
        loop, descriptor = asyncio.get_running_loop(), self._connection.socket
        ready = loop.create_future()
        add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        add(descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            remove(descriptor)

    def _error(self) -> str:
        return self._connection.get_error_message("utf-8")

    def close(self) -> None:
        """Let go of the socket."""
        self._connection.finish()


@asynccontextmanager
async def relayed(streams: Streams, parameters: Mapping[str, str | int]) -> AsyncGenerator[Session]:
    """A session of libpq's over streams that are already there: bytes are passed on, both ways, unseen.

    What ended the relay (too much came) is raised in the place of what libpq makes of it.
    """
    name = f"stormwatch-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}/.s.PGSQL.1")  # an abstract socket: no file, gone with its last descriptor
        listener.listen()
        session = Session.start({**parameters, "host": f"@{name}", "port": 1})
        try:
            own = await streams_of(_accept(listener))
        except BaseException:
            session.close()
            raise
    pumps = [
        asyncio.ensure_future(_pump(streams.reader, own.writer, first=True)),
        asyncio.ensure_future(_pump(own.reader, streams.writer)),
    ]
    try:
        yield session
    except (LoginFailed, OSError) as error:
        if pumps[0].done() and isinstance(failure := pumps[0].exception(), ProbeFailed):
            raise failure from error
        raise
    finally:
        session.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        await hang_up(own.writer)


def _accept(listener: socket.socket) -> socket.socket:
    """The other end of libpq's connection. On Linux it is there as soon as libpq has begun."""
    listener.setblocking(False)
    while True:
        connection, _ = listener.accept()
        (peer,) = struct.unpack("i8x", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if peer == os.getpid():
            return connection
        connection.close()  # another process of this machine was curious


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, first: bool = False) -> None:
    """Pass on what comes until nothing does, and then that nothing does."""
    try:
        if first:
            sink.write(await _first_messages(source))
        while data := await source.read(_PUMPED):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        if sink.can_write_eof():
            with suppress(OSError, RuntimeError):
                sink.write_eof()


async def _first_messages(source: asyncio.StreamReader) -> bytes:
    """What a server says first, without an offer of channel binding.

    That binds a login to the TLS session, which is ours and not libpq's: libpq would take the offer for an attack. The
    certificate, which we verify, is what keeps others out.
    """
    told = b""
    while True:
        try:
            head = await source.readexactly(5)
            size = int.from_bytes(head[1:]) - 4
            if head[:1] not in (b"R", b"v") or not 0 <= size <= _PUMPED:
                return told + head
            body = await source.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return told + error.partial
        if head[:1] == b"R":
            return told + without_channel_binding(head + body)
        told += head + body


def without_channel_binding(message: bytes) -> bytes:
    """An AuthenticationSASL message without the mechanisms that end in -PLUS; any other message as it is."""
    if message[5:9] != b"\0\0\0\x0a":
        return message
    kept = [each for each in message[9:].split(b"\0") if each and not each.endswith(b"-PLUS")]
    body = message[5:9] + b"".join(each + b"\0" for each in kept) + b"\0"
    return message[:1] + (len(body) + 4).to_bytes(4) + body


def _written(value: Parameter) -> bytes | None:
    """A parameter in PostgreSQL's text form; the server infers its type."""
    if value is None:
        return None
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


def _loaded(result: pq.abc.PGresult) -> tuple[Any, ...]:
    """The first row as Python's values; as texts when one of them has no Python form (a date of 4713 BC)."""
    loader = Transformer()
    try:
        loader.set_pgresult(result)
        row = loader.load_row(0, tuple)
    except (psycopg.Error, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, struct.error):
        row = None  # a value that is not of its type makes the loaders raise anything
    if row is not None:
        return row
    values = (result.get_value(0, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode("utf-8", "replace") for value in values)
