"""An HTTP server that does exactly what a test says, right or wrong: each behaviour is a coroutine over the raw stream."""

import asyncio
import contextlib
import gzip
import hashlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One connection: what was asked, and the means to answer."""

    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        """The request's target."""
        return self.request.split(b" ", 2)[1].decode()

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.split(b" ", 1)[0].decode()

    def header(self, name: str) -> str | None:
        """The value of a request header."""
        for line in self.request.split(b"\r\n")[1:]:
            key, _, value = line.decode("latin-1").partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@dataclass
class Server:
    """What is known of a running server."""

    port: int
    secure: bool
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Its address by number."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}/"

    def at(self, host: str, path: str = "/") -> str:
        """Its address by a name."""
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def serving(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, before_request: bool = False, host: str = "127.0.0.1"
) -> AsyncGenerator[Server]:
    """A server on a free port of loopback. With `before_request` the behaviour begins before anything is read."""
    known: Server
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            request = b"" if before_request else await reader.readuntil(b"\r\n\r\n")
            exchange = Exchange(request, reader, writer)
            known.exchanges.append(exchange)
            await behaviour(exchange)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0, ssl=tls, backlog=512)
    known = Server(port=server.sockets[0].getsockname()[1], secure=tls is not None)
    try:
        yield known
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def answer(
    body: bytes = b"ok", *, status: int = 200, headers: Mapping[str, str | list[str]] | None = None
) -> Behaviour:
    """A whole answer."""

    async def behave(exchange: Exchange) -> None:
        await send(exchange, body, status=status, headers=headers)

    return behave


async def send(
    exchange: Exchange, body: bytes = b"ok", *, status: int = 200, headers: Mapping[str, str | list[str]] | None = None
) -> None:
    """Write a whole answer and close, as `Connection: close` asks for."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    for name, value in (headers or {}).items():
        lines += [f"{name}: {each}" for each in ((value,) if isinstance(value, str) else value)]
    exchange.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if exchange.method == "HEAD" else body))
    await exchange.writer.drain()
    exchange.writer.close()
    await exchange.writer.wait_closed()


def redirect(location: str, *, status: int = 302) -> Behaviour:
    """An answer that leads elsewhere."""
    return answer(b"", status=status, headers={"Location": location})


def raw(*pieces: bytes) -> Behaviour:
    """These bytes as they are, then hang up."""

    async def behave(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.writer.write(piece)
            await exchange.writer.drain()
        exchange.writer.close()
        await exchange.writer.wait_closed()

    return behave


def without_end(beginning: bytes, piece: bytes) -> Behaviour:
    """A beginning, and then the same piece again and again, as fast as it is taken."""

    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(beginning)
        many = piece * max(1, 65536 // len(piece))
        while True:
            exchange.writer.write(many)
            await exchange.writer.drain()

    return behave


def routes(of: Mapping[str, Behaviour]) -> Behaviour:
    """A behaviour by path, its query left out; 404 for any other."""

    async def behave(exchange: Exchange) -> None:
        await of.get(exchange.path.partition("?")[0], answer(b"", status=404))(exchange)

    return behave


def digest(username: str, password: str, *, algorithm: str = "SHA-256") -> Behaviour:
    """An answer for who knows the password, by RFC 7616; a challenge for others."""
    digests = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}

    def hashed(text: str) -> str:
        return digests[algorithm](text.encode()).hexdigest()

    async def behave(exchange: Exchange) -> None:
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', exchange.header("Authorization") or ""))
        secret = hashed(f"{username}:storm:{password}")
        asked = hashed(f"{exchange.method}:{exchange.path}")
        parts = [secret, *(given.get(each, "") for each in ("nonce", "nc", "cnonce", "qop")), asked]
        if given.get("response") == hashed(":".join(parts)) and given.get("nonce") == "n0nce":
            await send(exchange)
            return
        challenge = f'Digest realm="storm", qop="auth", algorithm={algorithm}, nonce="n0nce"'
        await send(exchange, b"who are you?", status=401, headers={"WWW-Authenticate": challenge})

    return behave


def zipped(body: bytes) -> Behaviour:
    """A body that is compressed."""
    return answer(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def delayed(seconds: float) -> Behaviour:
    """A whole answer, later."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await send(exchange)

    return behave


async def silent(exchange: Exchange) -> None:
    """Never say anything, until the client hangs up."""
    await exchange.reader.read()


async def drip_head(exchange: Exchange) -> None:
    """One byte of the head at a time, slowly enough to outlast every patience."""
    await _drip(exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"x" * 3600)


async def drip_body(exchange: Exchange) -> None:
    """A head at once, and its body one byte at a time."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3600\r\n\r\n")
    await _drip(exchange, b"x" * 3600)


async def _drip(exchange: Exchange, data: bytes) -> None:
    for position in range(len(data)):
        exchange.writer.write(data[position : position + 1])
        await exchange.writer.drain()
        await asyncio.sleep(0.05)


async def close(exchange: Exchange) -> None:
    """Hang up without a word."""
    exchange.writer.close()


async def reset(exchange: Exchange) -> None:
    """Hang up with RST instead of FIN."""
    connection = exchange.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.writer.transport.abort()


async def cut_short(exchange: Exchange) -> None:
    """Promise a hundred bytes, send ten, hang up."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
    await exchange.writer.drain()
    exchange.writer.close()


async def garble(exchange: Exchange) -> None:
    """Answer with something that is not HTTP."""
    exchange.writer.write(b"\x00\x01\x02 this is not the web\r\n" * 20)
    await exchange.writer.drain()
    exchange.writer.close()


async def endless(exchange: Exchange) -> None:
    """A body without end."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        exchange.writer.write(b"x" * 65536)
        await exchange.writer.drain()
