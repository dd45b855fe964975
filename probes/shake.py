"""One TLS handshake with one endpoint, whatever its certificate says: by libcurl, on a socket of its own or on a given one.

A socket is given when another protocol had to be spoken first. libcurl is told that it is connected already, and begins
with the handshake.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import pycurl

from stormwatch.probes.curl import CURVES, CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.handshake import Handshake
from stormwatch.probes.starttls import Protocol, Upgrade
from stormwatch.probes.tls_policy import VERSIONS, Version
from stormwatch.probes.transfer import Clocks

Alpn = Literal["h2", "http/1.1"]

READ: Final = 4096
"""Bytes that are read at once before TLS begins."""
PATIENCE: Final = 1.0
"""Seconds that a server may take to refuse a client after the handshake, which is when TLS 1.3 looks at its certificate."""


class Hands:
    """What one handshake saw, also when it was cancelled."""

    __slots__ = ("address", "clocks", "ended", "os_errno", "seen")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seen = Handshake(clock)
        self.clocks = Clocks(lookup=0.0, connected=0.0, secured=0.0, first_byte=0.0, ended=0.0)
        self.ended: Ended | None = None
        self.address = ""
        self.os_errno = 0

    @property
    def completed(self) -> bool:
        """The handshake came to its end."""
        return self.ended is not None and self.ended.code == 0


@dataclass(frozen=True, slots=True)
class Offer:
    """What a handshake offers: libcurl's options for it, made once."""

    settings: tuple[tuple[int, Any], ...] = ()
    staple: bool = False
    """Ask for an OCSP response."""


def offer(
    *,
    oldest: Version = "1.2",
    newest: Version = "1.3",
    alpn: Sequence[Alpn] = (),
    staple: bool = False,
    client: tuple[str, str] | None = None,
) -> Offer:
    """An offer of these versions and protocols. Versions before 1.2 come with every suite that there is."""
    first, last = VERSIONS.index(oldest), VERSIONS.index(newest)
    settings: list[tuple[int, Any]] = []
    if (oldest, newest) != ("1.2", "1.3"):
        settings.append((pycurl.SSLVERSION, _FROM[first] | _TO[last]))
    if first < VERSIONS.index("1.2"):
        # They sign with SHA-1, which OpenSSL allows on its lowest level only.
        settings.append((pycurl.SSL_CIPHER_LIST, "ALL:@SECLEVEL=0"))
    if alpn:
        settings.append((pycurl.SSL_ENABLE_ALPN, 1))
        settings.append((pycurl.HTTP_VERSION, _ALPN[frozenset(alpn)]))
    if staple:
        settings.append((pycurl.SSL_VERIFYSTATUS, 1))
    if client is not None:
        settings.extend(((pycurl.SSLCERT, client[0]), (pycurl.SSLKEY, client[1])))
    return Offer(tuple(settings), staple)


_FROM: Final = (
    pycurl.SSLVERSION_TLSv1_0,
    pycurl.SSLVERSION_TLSv1_1,
    pycurl.SSLVERSION_TLSv1_2,
    pycurl.SSLVERSION_TLSv1_3,
)
_TO: Final = (
    pycurl.SSLVERSION_MAX_TLSv1_0,
    pycurl.SSLVERSION_MAX_TLSv1_1,
    pycurl.SSLVERSION_MAX_TLSv1_2,
    pycurl.SSLVERSION_MAX_TLSv1_3,
)
_ALPN: Final = {
    frozenset[str](("h2",)): pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    frozenset[str](("http/1.1",)): pycurl.CURL_HTTP_VERSION_1_1,
    frozenset[str](("h2", "http/1.1")): pycurl.CURL_HTTP_VERSION_2TLS,
}
"""What libcurl offers for each; it has no other way to say so."""

PLAIN: Final = Offer()


async def shake_hands(
    engine: CurlEngine,
    hands: Hands,
    addresses: Sequence[str],
    port: int,
    *,
    name: str,
    timeout: float,
    clock: Callable[[], float],
    offered: Offer = PLAIN,
    connection: socket.socket | None = None,
    linger: bool = False,
) -> None:
    """Connect to the first of the addresses that answers, shake hands whatever the certificate says, and hang up.

    `name` is asked for (SNI). What was seen is in `hands`, whatever happens; `hands.ended` says how it ended. With a
    `connection` nothing is connected; it stays the caller's to close. `linger` waits whether the server, after the
    handshake, refuses the client.
    """
    handle = engine.take()
    began = clock()
    try:
        shown = f"[{name}]" if ":" in name else name
        # To linger, speak a protocol in which the server has the first word.
        handle.setopt(pycurl.URL, f"{'pop3s' if linger else 'https'}://{shown}:{port}/")
        for option, value in _OPTIONS:
            handle.setopt(option, value)
        handle.setopt(pycurl.CONNECT_ONLY, not linger)
        for option, value in offered.settings:
            handle.setopt(option, value)
        connect_to(handle, addresses, port)
        if connection is not None:
            given = connection

            def give(_purpose: int, _address: object) -> socket.socket:
                return given

            handle.setopt(pycurl.OPENSOCKETFUNCTION, give)
            handle.setopt(pycurl.SOCKOPTFUNCTION, _is_connected)
        # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
        handle.setopt(pycurl.TIMEOUT_MS, int(timeout * 1000) + 250)
        handle.setopt(pycurl.DEBUGFUNCTION, hands.seen.take)
        try:
            hands.ended = await (_linger(engine, handle, hands) if linger else engine.perform(handle))
        except asyncio.CancelledError:
            hello = hands.seen.began
            hands.clocks = Clocks.read(handle).cut_off(clock() - began, None if hello is None else hello - began)
            raise
        hands.clocks = Clocks.read(handle)
        hands.address = handle.getinfo(pycurl.PRIMARY_IP)
        if offered.staple and hands.ended.code == pycurl.E_SSL_INVALIDCERTSTATUS:
            # libcurl looks at the staple when all has been said, and knows no authority: its opinion is not wanted.
            hands.ended = Ended(0, "")
            hands.clocks = hands.clocks._replace(secured=hands.clocks.ended)
        hands.os_errno = own_error(handle) if hands.ended.code else 0
    finally:
        engine.give_back(handle)


def _is_connected(_fd: int, _purpose: int) -> int:
    return pycurl.SOCKOPT_ALREADY_CONNECTED


async def _linger(engine: CurlEngine, handle: pycurl.Curl, hands: Hands) -> Ended:
    """How a handshake ended, and what the server thought of the client afterwards: well means that it did not refuse."""
    finished, accepted = (asyncio.get_running_loop().create_future() for _ in range(2))

    def take(kind: int, data: bytes) -> None:
        hands.seen.take(kind, data)
        if not hands.seen.finished:
            return
        # A ticket and a greeting are for clients that were accepted. Before TLS 1.3 the server's last message is, too.
        welcome = hands.seen.ticketed or kind == pycurl.INFOTYPE_HEADER_IN or hands.seen.version != "TLS 1.3"
        if welcome and not accepted.done():
            accepted.set_result(None)
        elif not finished.done():
            finished.set_result(None)

    handle.setopt(pycurl.DEBUGFUNCTION, take)
    transfer = asyncio.ensure_future(engine.perform(handle))
    try:
        await asyncio.wait((transfer, finished, accepted), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((transfer, accepted), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        return transfer.result() if transfer.done() and not accepted.done() else Ended(0, "")
    finally:
        transfer.cancel()
        await asyncio.wait((transfer,))


async def open_connection(addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
    """A connection to the first of the addresses that answers, and which it was. Raises ProbeFailed or ProbeBroken."""
    failure: ProbeFailed | ProbeBroken | None = None
    for address in addresses:
        try:
            connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise explain_connection(error, Endpoint(address, port)) from error
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except OSError as error:
            connection.close()
            failure = explain_connection(error, Endpoint(address, port))
        except BaseException:
            connection.close()
            raise
        else:
            return connection, address
    assert failure is not None
    raise failure


async def upgrade(connection: socket.socket, protocol: Protocol, host: str) -> bytes:
    """Ask for TLS as the protocol does, and give back what the server said. Raises ProbeFailed, OSError."""
    loop = asyncio.get_running_loop()
    dialogue = Upgrade(protocol, host)
    hello = dialogue.hello()
    if hello:
        await loop.sock_sendall(connection, hello)
    while not dialogue.done:
        data = b""
        with suppress(ConnectionResetError):
            data = await loop.sock_recv(connection, READ)
        if not data:
            raise dialogue.ended()
        answer = dialogue.feed(data)
        if answer:
            await loop.sock_sendall(connection, answer)
    return dialogue.heard


_OPTIONS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),  # or libcurl would take one from the environment
    (pycurl.SSL_VERIFYPEER, 0),
    (pycurl.SSL_VERIFYHOST, 0),
    (pycurl.SSL_ENABLE_ALPN, 0),  # a server of another protocol would have to refuse http/1.1
    (pycurl.SSL_EC_CURVES, CURVES),
    (pycurl.VERBOSE, 1),
)
