"""Servers that speak a protocol's plain part, byte by byte as it is specified, until TLS begins or somebody misbehaves."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence

Step = bytes | int | str
"""Bytes to say; a number of bytes to hear, or a text that a line (or XML element) that is heard must begin with."""

_LDAP_OK = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
_MYSQL = (
    b"\x0a8.0.36\x00"
    + (7).to_bytes(4, "little")
    + b"abcdefgh\x00"
    + b"\xff\xff"
    + b"\x21\x02\x00\xff\xdf\x15"
    + bytes(10)
)
_FEATURES = (
    b"<?xml version='1.0'?><stream:stream from='shop.test' version='1.0'><stream:features>"
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
)
_PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"

SCRIPTS: dict[str, Sequence[Step]] = {
    "smtp": (
        b"220-mail.test\r\n220 ready\r\n",
        "EHLO ",
        b"250-mail.test\r\n250-SIZE 1\r\n250 STARTTLS\r\n",
        "STARTTLS",
        b"220 go ahead\r\n",
    ),
    "lmtp": (b"220 ready\r\n", "LHLO ", b"250-mail.test\r\n250-STARTTLS\r\n250 OK\r\n", "STARTTLS", b"220 go\r\n"),
    "imap": (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", "a STARTTLS", b"* STATUS x\r\na OK begin\r\n"),
    "pop3": (b"+OK ready\r\n", "STLS", b"+OK begin\r\n"),
    "sieve": (b'"IMPLEMENTATION" "x"\r\n"STARTTLS"\r\nOK "ready"\r\n', "STARTTLS", b'OK "begin"\r\n'),
    "nntp": (b"200 news.test\r\n", "STARTTLS", b"382 begin\r\n"),
    "ftp": (b"220-files\r\n220 ready\r\n", "AUTH TLS", b"234 begin\r\n"),
    "ldap": (31, _LDAP_OK),
    "postgres": (8, b"S"),
    "mysql": (len(_MYSQL).to_bytes(3, "little") + b"\x00" + _MYSQL, 36),
    "xmpp": ("<?xml version='1.0'?>", "<stream:stream to='", _FEATURES, "<starttls ", _PROCEED),
    "xmpp-server": ("<?xml version='1.0'?>", "<stream:stream to='", _FEATURES, "<starttls ", _PROCEED),
}
"""What each server says and hears."""


@contextlib.asynccontextmanager
async def upgrading(script: Sequence[Step], context: ssl.SSLContext | None) -> AsyncGenerator[int]:
    """A server on a free port of loopback that follows a script, and shakes hands after it; without a context it waits.

    It reads not a byte too many: the handshake may begin in the same segment as the last word of the client.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
            for step in script:
                if isinstance(step, bytes):
                    await loop.sock_sendall(connection, step)
                elif isinstance(step, int):
                    await _hear(connection, lambda heard, size=step: len(heard) == size)
                else:
                    end = b">" if step.startswith("<") else b"\n"
                    heard = await _hear(connection, lambda heard, end=end: heard.endswith(end))
                    assert heard.decode().startswith(step), (heard, step)
            if context is not None:
                transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, connection, ssl=context)
                transport.abort()
            else:
                await _hear(connection, lambda _heard: False)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listening)
            task = asyncio.ensure_future(serve(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        accepting = asyncio.ensure_future(accept())
        try:
            yield listening.getsockname()[1]
        finally:
            accepting.cancel()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.wait((accepting, *tasks))


async def _hear(connection: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    heard = b""
    while not enough(heard):
        byte = await asyncio.get_running_loop().sock_recv(connection, 1)
        if not byte:
            raise EOFError
        heard += byte
    return heard
