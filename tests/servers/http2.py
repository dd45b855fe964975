"""A server of HTTP/2 frames that does exactly what a test says, right or wrong: frames by RFC 9113, headers by RFC 7541.

It has no dependency and no opinion, so that a test can end a stream wherever it likes. Responses use literal headers only.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20

Fields = Sequence[tuple[str, str]]
Behaviour = Callable[["Call"], Awaitable[None]]


@dataclass
class Call:
    """One request, and the frames to answer it with."""

    headers: list[tuple[str, str]]
    body: bytes
    stream: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def header(self, name: str) -> str | None:
        """The value of a header of the request; several are joined by a comma."""
        return ",".join(value for key, value in self.headers if key == name) or None

    def head(self, fields: Fields, *, status: int = 200, end: bool = False) -> None:
        """The head of the answer."""
        self.send(HEADERS, END_HEADERS | (END_STREAM if end else 0), encode([(":status", str(status)), *fields]))

    def data(self, data: bytes, *, end: bool = False) -> None:
        """A piece of the body."""
        self.send(DATA, END_STREAM if end else 0, data)

    def trailers(self, fields: Fields) -> None:
        """What ends the stream."""
        self.send(HEADERS, END_HEADERS | END_STREAM, encode(fields))

    def reset(self, code: int) -> None:
        """End the stream with an error."""
        self.send(RST_STREAM, 0, code.to_bytes(4))

    def go_away(self, code: int) -> None:
        """End the connection, and say that this stream was not looked at."""
        self.writer.write(frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4)))

    def send(self, kind: int, flags: int, payload: bytes) -> None:
        """Any frame."""
        self.writer.write(frame(kind, flags, self.stream, payload))


@dataclass
class Server:
    """What is known of a running server."""

    port: int
    calls: list[Call] = field(default_factory=list)
    connections: int = 0

    @property
    def place(self) -> str:
        """Its address by number."""
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    """A server on a free port of loopback that agrees on `h2` where there is TLS."""
    known: Server
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            call = await receive(reader, writer)
            known.calls.append(call)
            await behaviour(call)
            await writer.drain()
            await reader.read()  # until the client hangs up
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    if tls is not None:
        tls.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls, backlog=512)
    known = Server(port=server.sockets[0].getsockname()[1])
    try:
        yield known
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    """The first request of a connection, whole."""
    assert await reader.readexactly(len(PREFACE)) == PREFACE
    writer.write(frame(SETTINGS, 0, 0, b""))
    headers: list[tuple[str, str]] = []
    body = b""
    while True:
        start = await reader.readexactly(9)
        kind, flags, stream = start[3], start[4], int.from_bytes(start[5:])
        payload = await reader.readexactly(int.from_bytes(start[:3]))
        if kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == HEADERS:
            payload = payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
            headers = list(decode(payload[5:] if flags & PRIORITY else payload))
        elif kind == DATA:
            body += payload
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            return Call(headers, body, stream, reader, writer)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113 §4.1."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def encode(fields: Fields) -> bytes:
    """Literal header fields without indexing, RFC 7541 §6.2.2, without Huffman codes."""
    return b"".join(b"\0" + _text(name.encode("latin-1")) + _text(value.encode("latin-1")) for name, value in fields)


def _text(text: bytes) -> bytes:
    size, rest = len(text), b""
    if size < 127:
        return bytes((size,)) + text
    rest, size = b"\x7f", size - 127
    while size > 127:
        rest, size = rest + bytes((size & 0x7F | 0x80,)), size >> 7
    return rest + bytes((size,)) + text


def decode(block: bytes) -> Iterator[tuple[str, str]]:
    """The header fields of the first block of a connection: nothing is ever evicted from its table."""
    table: list[tuple[str, str]] = list(STATIC)
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0xE0 == 0x20:  # a change of the table's size
            _, at = _number(block, at, 5)
            continue
        if first & 0x80:
            index, at = _number(block, at, 7)
            yield table[index - 1]
            continue
        keep = first & 0xC0 == 0x40
        index, at = _number(block, at, 6 if keep else 4)
        if index:
            name = table[index - 1][0]
        else:
            name, at = _read_text(block, at)
        value, at = _read_text(block, at)
        if keep:
            table.insert(len(STATIC), (name, value))
        yield name, value


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    shift = 0
    while True:
        value += (block[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if block[at - 1] < 0x80:
            return value, at


def _read_text(block: bytes, at: int) -> tuple[str, int]:
    coded = block[at] & 0x80
    size, at = _number(block, at, 7)
    text = block[at : at + size]
    return (_from_huffman(text) if coded else text).decode("latin-1"), at + size


def _from_huffman(data: bytes) -> bytes:
    found, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            if (length, code) in HUFFMAN:
                found.append(HUFFMAN[length, code])
                code = length = 0
    return bytes(found)


def _huffman() -> dict[tuple[int, int], int]:
    """RFC 7541 appendix B: the code is canonical, so the lengths of its words say it all."""
    found: dict[tuple[int, int], int] = {}
    code = last = 0
    for length, sign in sorted((length, sign) for sign, length in enumerate(bytes.fromhex(_LENGTHS))):
        code, last = code << (length - last), length
        found[length, code] = sign
        code += 1
    return found


_LENGTHS = """
0d171c1c1c1c1c1c1c181e1c1c1e1c1c 1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c 060a0a0c0d06080b0a0a080b08060606
0505050606060606060607080f060c0a 0d060707070707070707070707070707 07070707070707070807080d130d0e06
0f050605060506060605070706060605 06070605050607070707070f0b0e0d1c 14161414161616171617171717171817
18181617181717171715161716171718 16151416161717151716161815161717 15151615171617171416161617161617
1a1a1413161716191a1a1a1b1b1a1819 13151a1b1b1a1b1815151a1a1c1b1b1b 14181415161515171616191918181a17
1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a
"""

_STATIC = """
:authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 :status=206
:status=304 :status=400 :status=404 :status=500 accept-charset accept-encoding=gzip,deflate accept-language accept-ranges
accept access-control-allow-origin age allow authorization cache-control content-disposition content-encoding
content-language content-length content-location content-range content-type cookie date etag expect expires from host
if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards
proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security
transfer-encoding user-agent vary via www-authenticate
"""

STATIC = tuple((name, value) for name, _, value in (entry.partition("=") for entry in _STATIC.split()))
"""RFC 7541 appendix A."""
HUFFMAN = _huffman()
