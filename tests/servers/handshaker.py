"""A TLS server by OpenSSL alone, in a thread: unlike asyncio's it sends its alert before it hangs up.

And what stands before one and spoils its handshakes.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator


@contextlib.contextmanager
def handshaking(context: ssl.SSLContext) -> Generator[int]:
    """Shakes hands with everybody on a free port of loopback, and hangs up. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, context), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)


@contextlib.asynccontextmanager
async def stalling(port: int, *, records: int) -> AsyncGenerator[int]:
    """Passes on so many records of the server behind it, and then nothing more, without hanging up. Gives its port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(records):
            head = await reader.readexactly(5)
            writer.write(head + await reader.readexactly(int.from_bytes(head[3:5])))
        await asyncio.Event().wait()

    async with _between(port, pass_on) as own:
        yield own


@contextlib.asynccontextmanager
async def dripping(port: int, *, every: float) -> AsyncGenerator[int]:
    """Passes on what the server behind it says one byte at a time. Gives its port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while byte := await reader.read(1):
            writer.write(byte)
            await asyncio.sleep(every)

    async with _between(port, pass_on) as own:
        yield own


@contextlib.asynccontextmanager
async def _between(port: int, pass_on: "PassOn") -> AsyncGenerator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            behind, ahead = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, asyncio.CancelledError):
            # The test is over before the server behind us took the connection: nothing may stay open for that.
            tasks.discard(task)
            writer.transport.abort()
            return

        async def back() -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await pass_on(behind, writer)

        answers = asyncio.ensure_future(back())
        try:
            while data := await reader.read(65536):
                ahead.write(data)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            answers.cancel()
            await asyncio.wait((answers,))
            tasks.discard(task)
            for each in (ahead, writer):
                each.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


PassOn = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
