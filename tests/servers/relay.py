"""Gives servers that only listen on 127.0.0.1 loopback addresses of their own, as a process.

    python -m tests.servers.relay 5300 127.53.0.1=40001 127.53.0.2=40002

Each address listens on the first port, over UDP and TCP, and passes everything on to its port of 127.0.0.1. named only
listens on addresses that an interface has, and only root can give it more.
"""

import asyncio
import contextlib
import sys
from typing import cast


class _Client(asyncio.DatagramProtocol):
    """Waits for the one answer to a datagram and sends it back."""

    def __init__(self, data: bytes, listener: asyncio.DatagramTransport, sender: object) -> None:
        self._data = data
        self._listener = listener
        self._sender = sender

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._transport.sendto(self._data)
        asyncio.get_running_loop().call_later(5, self._transport.close)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._listener.sendto(data, self._sender)
        self._transport.close()

    def error_received(self, exc: Exception) -> None:
        self._transport.close()


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[object]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            loop.create_datagram_endpoint(
                lambda: _Client(data, self._transport, addr), remote_addr=("127.0.0.1", self._port)
            )
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(arguments: list[str]) -> None:
    """Relay until the process is ended."""
    port = int(arguments[0])
    for pair in arguments[1:]:
        address, _, backend = pair.partition("=")

        async def pass_on(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: int = int(backend)
        ) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", backend)
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))

        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda backend=int(backend): _Listener(backend), local_addr=(address, port)
        )
        await asyncio.start_server(pass_on, address, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
