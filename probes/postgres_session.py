"""libpq's connection, driven by our own loop through psycopg. Needs the extra `postgres`; imported where it is used.

psycopg's own connection is not used: it tells no phases, resolves names itself, and when it is cancelled it connects
once more to ask the server to cancel too, and waits up to five seconds for that. Here the socket is closed at once.
"""

import asyncio
import errno
import fcntl
import os
import re
import socket
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo

from stormwatch.probes.backend import MOST
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.rows import MOST_ROWS, Parameter, Rows, too_many_rows
from stormwatch.probes.units import show_size

_NUMBERS: Final = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ETIMEDOUT,
    errno.EINVAL,
    errno.ENOENT,
    errno.EACCES,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EMFILE,
    errno.ENFILE,
)
_WINDOW: Final = 2**16
"""Bytes that the kernel may hold for us."""
_RECEIVED: Final = struct.Struct("128xQ")
"""Where tcp_info has its tcpi_bytes_received: Linux 4.1 and later, include/uapi/linux/tcp.h."""
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
        self._received = 0
        self._socket: socket.socket | None = None

    @classmethod
    async def dial(cls, parameters: Mapping[str, str | int]) -> Self:
        """Connected, and nothing said yet. Raises OSError as connect(2) would; libpq tells its number in words only."""
        session = cls(pq.PGconn.connect_start(make_conninfo("", **parameters).encode()))
        try:
            session._check_dialled()
            await session._wait(reading=False)
            session._connection.connect_poll()
            session._check_dialled()
            session._narrow()
        except BaseException:
            session.close()
            raise
        return session

    def _narrow(self) -> None:
        """A small window: libpq reads on for as long as there is something to read, and only in between can we count."""
        self._socket = socket.socket(fileno=os.dup(self._connection.socket))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)

    def _check_dialled(self) -> None:
        if self._connection.status != pq.ConnStatus.BAD:
            return
        said = self._error()
        number = next((each for each in _NUMBERS if os.strerror(each) in said), 0)
        if number:
            raise OSError(number, os.strerror(number))
        raise LoginFailed(said, by_server=False, needs_password=False)

    async def log_in(self) -> None:
        """TLS, if it is asked for, and the login. Raises LoginFailed."""
        while True:
            polled = self._connection.connect_poll()
            if polled == pq.PollingStatus.OK:
                self._connection.nonblocking = 1
                return
            if polled == pq.PollingStatus.FAILED:
                said = self._error()
                server = _SERVERS.search(said)
                raise LoginFailed(
                    server[1] if server else said.rpartition("failed: ")[2],
                    by_server=server is not None,
                    needs_password=bool(self._connection.needs_password),
                )
            await self._wait(reading=polled == pq.PollingStatus.READING)

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
        """Until the socket is ready; counts what came, because libpq keeps a message until all of it is there."""
        loop, descriptor = asyncio.get_running_loop(), self._connection.socket
        ready = loop.create_future()
        add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
        add(descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            remove(descriptor)
        if reading and self._socket is not None and self._count(self._socket) > MOST:
            raise ProbeFailed(Reason.PROTOCOL, f"the server sent more than {show_size(MOST)} in one run")

    def _count(self, connection: socket.socket) -> int:
        """Bytes that came. The kernel counts them for TCP; else those that wait are added up, which is a few too low."""
        if connection.family != socket.AF_UNIX:
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size)
            if len(told) == _RECEIVED.size:
                (self._received,) = _RECEIVED.unpack(told)
        else:
            (waiting,) = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))
            self._received += waiting
        return self._received

    def _error(self) -> str:
        return self._connection.get_error_message("utf-8")

    def close(self) -> None:
        """Let go of the socket."""
        self._connection.finish()
        if self._socket is not None:
            self._socket.close()


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
    except psycopg.Error:
        row = None
    if row is not None:
        return row
    values = (result.get_value(0, column) for column in range(result.nfields))
    return tuple(None if value is None else value.decode("utf-8", "replace") for value in values)
