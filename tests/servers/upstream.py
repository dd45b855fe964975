"""Servers to stand behind a fault proxy: one that echoes bytes and half-closes, one that keeps HTTP connections alive."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field


@dataclass
class Upstream:
    """What is known of a running server."""

    port: int
    received: bytearray = field(default_factory=bytearray)
    """Everything that came, on all connections together."""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """(method, target, body) of each HTTP request, in order."""
    connections: int = 0
    resets: int = 0
    """Connections that ended with RST."""
    ended: int = 0
    """Connections on which the client said its last word."""
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, nothing is read."""

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def echoing(*, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Upstream]:
    """Sends back what it gets; at the client's end of stream it says `bye` and ends its own."""
    known: Upstream

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await known.reading.wait()
        while data := await reader.read(65536):
            known.received += data
            writer.write(data)
            await writer.drain()
            await known.reading.wait()
        known.ended += 1
        writer.write(b"bye")
        await writer.drain()

    async with _serving(serve, tls) as known:
        yield known


@contextlib.asynccontextmanager
async def keeping_alive(*, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Upstream]:
    """HTTP/1.1 with keep-alive, answers `served METHOD TARGET LENGTH`; `/slow` waits for `reading` before it answers."""
    known: Upstream

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except asyncio.IncompleteReadError:
                known.ended += 1
                return
            method, target, _ = head.split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
            }
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            known.requests.append((method, target, body))
            if target == "/slow":
                await known.reading.wait()
            if headers.get("upgrade"):
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                while data := await reader.read(65536):
                    writer.write(data)
                return
            said = f"served {method} {target} {len(body)}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said))
            if method != "HEAD":
                writer.write(said)
            await writer.drain()

    async with _serving(serve, tls) as known:
        yield known


@contextlib.asynccontextmanager
async def _serving(serve: object, tls: ssl.SSLContext | None) -> AsyncGenerator[Upstream]:
    tasks: set[asyncio.Task[None]] = set()
    known = Upstream(port=0)
    known.reading.set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        known.connections += 1
        try:
            await serve(reader, writer)  # type: ignore[operator]  # one of the two above
        except (ConnectionResetError, BrokenPipeError):
            known.resets += 1
        except (asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    known.port = server.sockets[0].getsockname()[1]
    try:
        yield known
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
