"""aiomysql's connection over streams that are already there. Needs the extra `mysql`; imported where it is used."""

import struct
from typing import Any, Final

from aiomysql.connection import Connection
from pymysql.constants import CLIENT

from stormwatch.probes.backend import Backend, Streams
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.result import Reason
from stormwatch.probes.rows import MOST_ROWS, Parameter, Rows, too_many_rows

_LARGEST: Final = 2**24 - 1
_UTF8MB4: Final = 45
_COM_QUIT: Final = b"\x01\x00\x00\x00\x01"
_CLEAR: Final = b"mysql_clear_password"


class Session(Connection):
    """Greeted, secured and logged in step by step, so that each is a phase of its own."""

    def __init__(self, backend: Backend, streams: Streams, database: str) -> None:
        super().__init__(
            host=backend.name,
            user=backend.username,
            password=backend.password,
            db=database or None,
            charset="utf8mb4",
            program_name="stormwatch",
        )
        # The driver always offers several statements in one text: a query could end its read-only transaction.
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._backend = backend
        self._reader: Any = streams.reader
        self._writer: Any = streams.writer
        self._next_seq_id = 0
        self._secure = bool(backend.path)

    async def greet(self) -> bool:
        """Read what the server says first. Whether it offers TLS."""
        await self._get_server_information()
        return bool(self.server_capabilities & CLIENT.SSL)

    def ask_for_tls(self) -> None:
        """Say that the next bytes are a handshake; the caller shakes hands then."""
        self.client_flag |= CLIENT.SSL
        self.write_packet(ssl_request(self.client_flag))
        self._secure = True

    async def log_in(self) -> None:
        """Prove who we are. Raises ProbeBroken when that would show the password to the network."""
        self._refuse_clear_text(self._server_auth_plugin.encode())
        await self._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        self._refuse_clear_text(plugin_name)
        return await super()._process_auth(plugin_name, auth_packet)

    def _refuse_clear_text(self, plugin: bytes) -> None:
        if plugin == _CLEAR and not self._secure:
            raise ProbeBroken(
                Reason.CREDENTIALS,
                f"mysql at {self._backend} asks for the password in clear text on a connection without TLS: "
                "give `tls: true`",
                phase="login",
            )

    async def ask(self, statement: str, parameters: tuple[Parameter, ...] = ()) -> Rows:
        """Send one statement, and read what it brings."""
        async with self.cursor() as cursor:
            await cursor.execute(statement, parameters or None)
            if cursor.rowcount > MOST_ROWS and cursor.description:
                raise too_many_rows()
            columns = tuple(each[0] for each in cursor.description or ())
            first = await cursor.fetchone() if columns else None
            return Rows(columns=columns, first=first, count=cursor.rowcount if columns else 0)

    def quit(self) -> None:
        """Say that this is the end: servers write connections that just end to their logs."""
        self._writer.write(_COM_QUIT)

    def let_go(self) -> None:
        """Forget the streams, which somebody else closes."""
        self._reader = self._writer = None


def ssl_request(flags: int) -> bytes:
    """The body of Protocol::SSLRequest, https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html."""
    return struct.pack("<iIB23s", flags, _LARGEST, _UTF8MB4, b"")


async def begin_tls(streams: Streams) -> None:
    """Read a greeting, ask for TLS."""
    size = int.from_bytes((await streams.reader.readexactly(4))[:3], "little")
    await streams.reader.readexactly(size)
    body = ssl_request(CLIENT.CAPABILITIES | CLIENT.SSL)
    streams.writer.write(len(body).to_bytes(3, "little") + b"\x01" + body)
