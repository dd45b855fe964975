"""A program that answers as badly as it can: `python -m tests.servers.hostile DIRECTORY` prints its ports as JSON.

It runs in a process of its own, so that what it spends is not charged to the prober. Whatever it sends is bounded only by
the one who reads it.
"""

import asyncio
import json
import socket
import ssl
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset

from tests.servers.certificates import Authority

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Behaviour = Callable[[Writer], Awaitable[None]]

BLOCK = 1 << 16
LINKS = 100
"""Certificates in the longest chain."""


async def pour(writer: Writer, data: bytes) -> None:
    """For ever, as fast as it is taken."""
    while True:
        writer.write(data)
        await writer.drain()


async def drip(writer: Writer, data: bytes) -> None:
    """One byte a second."""
    for number in range(len(data)):
        writer.write(data[number : number + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def drip_head(writer: Writer) -> None:
    await drip(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def drip_body(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    await drip(writer, b"x" * 1000)


async def endless_head(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    await pour(writer, b"x" * BLOCK)


async def many_headers(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await pour(writer, b"X-Many: yes\r\n" * 1000)


async def endless_redirect(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /endless-redirect\r\nContent-Length: 0\r\n\r\n")


async def zip_bomb(writer: Writer) -> None:
    """Each block is a thousand times as large when it is unpacked."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
    packer = zlib.compressobj(9, wbits=31)
    writer.write(packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH))
    await pour(writer, packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH))


async def huge_body(writer: Writer) -> None:
    """Ten gigabytes, announced."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    await pour(writer, bytes(BLOCK))


async def endless_chunks(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await pour(writer, b"1\r\nx\r\n" * 1000)


async def catastrophic(writer: Writer) -> None:
    """For `(a+)+$` a backtracking engine needs longer than the universe has."""
    body = b"a" * 1_000_000 + b"!"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def deep_json(writer: Writer) -> None:
    body = b"[" * 200_000 + b"]" * 200_000
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def informational(writer: Writer) -> None:
    await pour(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


async def garbage(writer: Writer) -> None:
    await pour(writer, bytes(range(256)) * 100)


async def silent(_writer: Writer) -> None:
    await asyncio.sleep(3600)


PATHS: dict[str, Behaviour] = {
    "/drip-head": drip_head,
    "/drip-body": drip_body,
    "/endless-head": endless_head,
    "/many-headers": many_headers,
    "/endless-redirect": endless_redirect,
    "/zip-bomb": zip_bomb,
    "/huge-body": huge_body,
    "/endless-chunks": endless_chunks,
    "/catastrophic": catastrophic,
    "/deep-json": deep_json,
    "/informational": informational,
    "/garbage": garbage,
    "/silent": silent,
}


async def web(reader: Reader, writer: Writer) -> None:
    """The path says how to misbehave."""
    with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, KeyError):
        request = await reader.readuntil(b"\r\n\r\n")
        await PATHS[request.split()[1].decode()](writer)
        await writer.drain()
    writer.close()


def only(behaviour: Behaviour) -> Callable[[Reader, Writer], Awaitable[None]]:
    """Whoever connects gets this."""

    async def serve(_reader: Reader, writer: Writer) -> None:
        with suppress(ConnectionError):
            await behaviour(writer)
        writer.close()

    return serve


async def pour_line(writer: Writer) -> None:
    await pour(writer, b"x" * BLOCK)


async def drip_line(writer: Writer) -> None:
    await drip(writer, b"220 hello\r\n" * 10)


def shaken(context: ssl.SSLContext) -> Callable[[Reader, Writer], Awaitable[None]]:
    """A TLS handshake, and nothing more."""

    async def serve(_reader: Reader, writer: Writer) -> None:
        with suppress(OSError):
            await writer.start_tls(context)
            await asyncio.sleep(1)
        writer.close()

    return serve


class Names(asyncio.DatagramProtocol):
    """A name server: the first label of the question says how to misbehave."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with suppress(Exception):
            query = dns.message.from_wire(data)
            for answer in self.answers(query, data):
                self.transport.sendto(answer, addr)  # type: ignore[attr-defined]

    @staticmethod
    def answers(query: dns.message.Message, data: bytes) -> list[bytes]:
        """What is sent back."""
        how = query.question[0].name.labels[0].decode()
        head = data[:2] + b"\x84\x00" + b"\x00\x01" + b"\x00\x01" + b"\x00\x00\x00\x00"
        question = data[12 : 12 + len(query.question[0].name.to_wire()) + 4]
        here = len(head) + len(question)
        record = b"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"
        if how == "loop":  # a name that points to itself (RFC 1035 §4.1.4)
            return [head + question + bytes([0xC0 | here >> 8, here & 0xFF]) + record]
        if how == "ladder":  # each name points to the next, and the last to the first
            pointers = b"".join(bytes([0xC0 | (here + 2 + 2 * n) >> 8, (here + 2 + 2 * n) & 0xFF]) for n in range(100))
            return [head + question + pointers + bytes([0xC0 | here >> 8, here & 0xFF]) + record]
        if how == "flood":  # a thousand answers to other questions
            wrong = bytes([data[0] ^ 0xFF, data[1]])
            return [wrong + (head + question)[2:]] * 1000
        if how == "garbage":
            return [data[:2] + bytes(range(200))]
        if how == "many":  # says that 65535 records follow
            return [data[:2] + b"\x84\x00\x00\x01\xff\xff\xff\xff\xff\xff" + question]
        if how == "chain":
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA
            for number in range(20):
                name = query.question[0].name if number == 0 else f"c{number}.test."
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", f"c{(number + 1) % 20}.test."))
            return [response.to_wire()]
        return []


def long_chain(directory: Path) -> ssl.SSLContext:
    """A server whose certificate is followed by a hundred others."""
    authority = Authority(directory, "Hostile")
    leaf = authority.issue("localhost", "127.0.0.1")
    others = [Authority(directory / f"ca{number}", f"Link {number}") for number in range(3)]
    chain = directory / "chain.pem"
    chain.write_bytes(leaf.chain_file.read_bytes() + b"".join(others[n % 3].file.read_bytes() for n in range(LINKS)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, leaf.key_file)
    return context


async def main(directory: Path) -> None:
    """Serve until somebody ends us."""
    loop = asyncio.get_running_loop()
    for number in range(3):
        (directory / f"ca{number}").mkdir(parents=True, exist_ok=True)
    ports: dict[str, int] = {}
    servers: list[asyncio.Server] = []
    for name, handler in {
        "web": web,
        "silent": only(silent),
        "drip": only(drip_line),
        "pour": only(pour_line),
        "garbage": only(garbage),
        "chain": shaken(long_chain(directory)),
    }.items():
        server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=1024)
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    await loop.create_datagram_endpoint(Names, sock=datagrams)
    ports["names"] = datagrams.getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
