"""A relay before a real server that spoils what the server says, from some moment on: lies in the middle of real conversations."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable

from tests.probes.mutation import Mutator

_PIECE = 2**14
_LEFT_ALONE = (0, 0, 0, 0, 0, 1, 1, 2, 3)
"""How many pieces are passed on as they are, so that what comes after them is reached as well."""


@contextlib.asynccontextmanager
async def spoiling(upstream: int, number: int) -> AsyncGenerator[int]:
    """Between a free port of loopback and another one. The same number spoils in the same way, as far as pieces are alike."""
    chance = random.Random(number)
    mutator = Mutator((b"\r\n", b"\0\0\0\0", b"{}", b"-ERR\r\n", b"\x15\x03\x03\0\x02\x02\x28"), number)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoil: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                writer.write(spoil(piece))
                await writer.drain()
        writer.close()  # a close by either side is passed on whole

    def spoiler() -> Callable[[bytes], bytes]:
        left = chance.choice(_LEFT_ALONE)

        def spoil(piece: bytes) -> bytes:
            nonlocal left
            left -= 1
            return piece if left >= 0 or chance.random() < 0.2 else mutator.spoil(piece)

        return spoil

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", upstream)
            try:
                await asyncio.gather(pump(reader, back, lambda piece: piece), pump(there, writer, spoiler()))
            finally:
                back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def answering_datagrams(answer: Callable[[bytes], bytes], number: int) -> AsyncGenerator[int]:
    """A port of loopback that answers each datagram, and spoils four of five answers."""
    chance, mutator = random.Random(number), Mutator((b"\0" * 12,), number)

    class Answering(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            said = answer(data)
            spoilt = mutator.spoil(said) if chance.random() < 0.8 else said
            # What has another number is passed over unread: mostly it keeps its own.
            keep = 2 if chance.random() < 0.8 else 0
            self.transport.sendto((said[:keep] + spoilt[keep:])[:1400], addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
