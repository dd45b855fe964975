"""A connection that bytes go over, with TLS from any moment on: a socket, and OpenSSL working on memory between.

asyncio's own streams begin TLS only once, hide what was read before it, and can wait for ever for the end of a connection
whose handshake failed. Here everything is gone when the socket is closed.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

from stormwatch.probes.handshake import cipher_name

READ: Final = 2**16
"""Bytes that are taken at once."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake has shown."""

    version: str
    cipher: str
    chain: tuple[bytes, ...]
    alert: str = ""


class Channel:
    """Owns a connected socket. Cancelling any of its methods leaves nothing under way; `close` ends it at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    async def send(self, data: bytes) -> None:
        """Hand all of it to the system. Raises OSError."""
        if self._tls is None:
            await self._loop.sock_sendall(self._connection, data)
            return
        view = memoryview(data)
        while view:  # memory takes everything: OpenSSL never wants to write first
            view = view[self._tls.write(view) :]
            await self._flush()

    async def receive(self) -> bytes:
        """What has come, or the empty bytes at the end of the stream. Raises OSError, ssl.SSLError among them."""
        if self._tls is None:
            return await self._loop.sock_recv(self._connection, READ)
        while True:
            try:
                return self._tls.read(READ)
            except ssl.SSLWantReadError:
                await self._flush()  # an answer to a new key, perhaps
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # many servers hang up without saying it in TLS
                return b""

    async def secure(self, context: ssl.SSLContext, name: str) -> Session:
        """Shake hands as a client that asks for `name` where that is not empty. Raises OSError, EOFError at the end."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name or None)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise EOFError from None
            except ssl.SSLError:
                await self._flush()  # our alert, so that the server can log why
                raise
            else:
                break
        await self._flush()
        self._tls = tls
        return _session(tls, context)

    def close(self) -> None:
        """Close at once, whatever is still under way."""
        self._connection.close()

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self._connection, READ)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._connection, self._outgoing.read())


def _session(tls: ssl.SSLObject, context: ssl.SSLContext) -> Session:
    agreed = tls.cipher()
    name = agreed[0] if agreed else ""
    suite = next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), 0)
    return Session(
        version=(tls.version() or "").replace("TLSv1.", "TLS 1.").replace("TLSv1", "TLS 1.0"),
        cipher=cipher_name(suite),
        chain=_chain(tls),
    )


def _chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """All that was served, DER, the server's own first. Python 3.13 says it openly, the ones before only inside."""
    told: Any = tls
    if not hasattr(told, "get_unverified_chain"):
        told = told._sslobj  # noqa: SLF001 - _ssl has had the method since Python 3.10 (bpo-18233)
    served = told.get_unverified_chain() or ()
    return tuple(each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in served)
