"""Proxies as clients meet them: HTTP with CONNECT, SOCKS 5; each says what it was asked, and refuses on request."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Forward:
    """What is known of a running proxy."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    """`CONNECT host:port`, `GET http://…`, `socks host:port`."""
    heads: list[bytes] = field(default_factory=list)


@contextlib.asynccontextmanager
async def forwarding(
    *, tls: ssl.SSLContext | None = None, status: int = 200, login: str = "", to: str = "127.0.0.1"
) -> AsyncGenerator[Forward]:
    """An HTTP proxy. Every name leads to `to`; `status` answers CONNECT; `login` is the Proxy-Authorization it wants."""
    known = Forward()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        known.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        known.asked.append(f"{method.decode()} {target.decode()}")
        if login and f"Proxy-Authorization: {login}".encode() not in head:
            writer.write(b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
        elif method != b"CONNECT":
            port = urlsplit(target.decode()).port or 80
            there = await asyncio.open_connection(to, port)
            path = urlsplit(target.decode()).path or "/"
            there[1].write(head.replace(target, path.encode(), 1))
            await _join(reader, writer, *there)
        elif status != 200:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            there = await asyncio.open_connection(to, int(target.rpartition(b":")[2]))
            writer.write(b"HTTP/1.1 200 Yes\r\nX-Proxy: here\r\n\r\n")
            await _join(reader, writer, *there)
        await writer.drain()

    async with _listening(handle, known, tls):
        yield known


@contextlib.asynccontextmanager
async def socks(*, reply: int = 0, login: tuple[str, str] | None = None) -> AsyncGenerator[Forward]:
    """A SOCKS 5 proxy (RFC 1928); every name leads to 127.0.0.1; a `reply` other than 0 refuses."""
    known = Forward()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 2 if login else 0
        writer.write(bytes([5, wanted if wanted in methods else 0xFF]))
        if wanted not in methods:
            return
        if login:
            _, size = await reader.readexactly(2)
            name = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            right = (name.decode(), password.decode()) == login
            writer.write(bytes([1, 0 if right else 1]))
            if not right:
                return
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2))
        known.asked.append(f"socks {host}:{port}")
        writer.write(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        if not reply:
            await _join(reader, writer, *await asyncio.open_connection("127.0.0.1", port))
        await writer.drain()

    async with _listening(handle, known, None):
        yield known


@contextlib.asynccontextmanager
async def _listening(handle: object, known: Forward, tls: ssl.SSLContext | None) -> AsyncGenerator[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)  # type: ignore[operator]  # a coroutine function of two streams
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    known.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other_reader: asyncio.StreamReader,
    other_writer: asyncio.StreamWriter,
) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
    finally:
        other_writer.close()
