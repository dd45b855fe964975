"""A UDP server that does exactly what a test says with each datagram."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

Answer = Callable[[bytes, int], Iterable[bytes | tuple[float, bytes]]]
"""From a datagram and its number, from 0, to those that are sent back; those of a pair so many seconds later."""


class _Server(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer, heard: list[bytes], other: asyncio.DatagramTransport | None) -> None:
        self._answer = answer
        self._heard = heard
        self._other = other
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        sender = self._other or self._transport
        number = len(self._heard)
        self._heard.append(data)
        for each in self._answer(data, number):
            if isinstance(each, bytes):
                sender.sendto(each, addr)
            else:
                asyncio.get_running_loop().call_later(each[0], self._late, sender, each[1], addr)

    def _late(self, sender: asyncio.DatagramTransport, data: bytes, addr: tuple[Any, ...]) -> None:
        if not sender.is_closing():
            sender.sendto(data, addr)


@contextlib.asynccontextmanager
async def answering(
    answer: Answer, *, host: str = "127.0.0.1", by_another: bool = False
) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Its port, and what it heard. `by_another`: the answers come from another port than was asked."""
    loop, heard = asyncio.get_running_loop(), list[bytes]()
    async with contextlib.AsyncExitStack() as stack:
        other = None
        if by_another:
            other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(host, 0))
            stack.callback(other.close)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Server(answer, heard, other), local_addr=(host, 0))
        stack.callback(transport.close)
        yield transport.get_extra_info("sockname")[1], heard


def closed_port(host: str = "127.0.0.1") -> int:
    """A UDP port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
