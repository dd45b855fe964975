"""nats-py's client over streams that are already there. Needs the extra `nats`; imported where it is used."""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.transport import Transport
from nats.errors import ProtocolError

from stormwatch.probes.backend import Backend, Streams
from stormwatch.probes.failure import ProbeFailed

T = TypeVar("T")

# What a server says that is wrong is the result of a run: it does not fill the log with tracebacks as well.
logging.getLogger(Client.__module__).setLevel(logging.CRITICAL)


class Session(Client):
    """Never looks up a name, never connects, and goes to none of the servers that a cluster names."""

    def __init__(self, backend: Backend, streams: Streams, info: dict[str, Any]) -> None:
        super().__init__()
        self._backend = backend
        self._opened = _OpenedTransport(streams, info, self._hear)
        self._trouble: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def log_in(self, token: str) -> None:
        """Say who we are. Raises nats' Error with the server's words."""
        await self.connect(
            f"nats://{self._backend.place}",
            name="stormwatch",
            user=self._backend.username or None,
            password=self._backend.password or None,
            token=token or None,
            allow_reconnect=False,
            connect_timeout=2**31,
            ping_interval=2**31,
            error_cb=self._hear,
            closed_cb=self._end,
        )

    async def _select_next_server(self) -> None:
        self._current_server = self._server_pool[0]
        self._transport = self._opened

    async def _read_loop(self) -> None:
        """What the driver does not expect ends its reading, and it tells nobody but its log: without this we would wait on."""
        await super()._read_loop()
        await self._hear(ProtocolError("nats: something that is no message"))

    async def _hear(self, error: Exception) -> None:
        if not self._trouble.done():
            self._trouble.set_result(error)

    async def _end(self) -> None:
        await self._hear(self.last_error or ConnectionResetError("the connection was closed"))

    async def unless_trouble(self, wanted: Awaitable[T]) -> T:
        """Wait for something, or for the server to complain: the driver tells complaints to a callback alone."""
        task = asyncio.ensure_future(wanted)
        try:
            await asyncio.wait({task, self._trouble}, return_when=asyncio.FIRST_COMPLETED)
            if self._trouble.done() and (not task.done() or task.exception()):
                raise self._trouble.result()
            return task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def let_go(self) -> None:
        """End every task of the driver's. The streams are closed by somebody else."""
        self._status = Client.CLOSED
        tasks = [self._reading_task, self._ping_interval_task, self._flusher_task]
        tasks += [sub._wait_for_msgs_task for sub in self._subs.values()]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        alive = [task for task in tasks if task is not None]
        for task in alive:
            task.cancel()
        await asyncio.gather(*alive, return_exceptions=True)
        self._trouble.cancel()


class _OpenedTransport(Transport):
    """Where TLS is settled already; the greeting is told once more."""

    def __init__(self, streams: Streams, info: dict[str, Any], hear: Callable[[Exception], Awaitable[None]]) -> None:
        self._streams = streams
        self._hear = hear
        told = {**info, "tls_required": False, "connect_urls": []}
        self._greeting = b"INFO " + json.dumps(told).encode() + b"\r\n"

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: int) -> None:
        raise ConnectionResetError("the connection is gone")

    async def connect_tls(self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int) -> None:
        raise ConnectionResetError("the connection is gone")

    def write(self, payload: bytes) -> None:
        self._streams.writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self._streams.writer.writelines(payload)

    async def read(self, buffer_size: int) -> bytes:
        try:
            return await self._streams.reader.read(buffer_size)
        except ProbeFailed as failure:  # the driver would log it, stop reading, and tell nobody
            await self._hear(failure)
            raise ConnectionResetError("too much came") from failure

    async def readline(self) -> bytes:
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return greeting
        line = await self._streams.reader.readline()
        if not line:
            raise ConnectionResetError("the connection was closed")
        return line

    async def drain(self) -> None:
        with suppress(ConnectionError):  # whoever reads is told it too, after what the server said before
            await self._streams.writer.drain()

    async def wait_closed(self) -> None:
        """Somebody else waits."""

    def close(self) -> None:
        self._streams.writer.close()

    def at_eof(self) -> bool:
        return self._streams.reader.at_eof()

    def __bool__(self) -> Any:
        return True
