"""The listening port of a route, which can be closed and opened again without being given away.

`shutdown` takes a listening socket of Linux out of the listening state and leaves it bound: the kernel refuses who comes,
nobody else gets the port, and `listen` opens it again. (HAProxy pauses its listeners in this way.)

What the kernel refuses, nobody sees. So as long as the port is closed the door knocks at itself once a second: that shows
that whoever comes is refused.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from stormwatch.chaos.address import parse_address, show_address

log = logging.getLogger(__name__)

BACKLOG = 1024
KNOCK = 1.0
"""Seconds between two knocks."""
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be led to loopback, not to be bound


class Door:
    """`open`, then clients come to `welcome`, until `close`; `shut` and `reopen` in between."""

    def __init__(self, listen: str, welcome: Callable[[socket.socket], None]) -> None:
        self._listen = listen
        self._welcome = welcome
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._knocking: asyncio.Task[None] | None = None
        self._is_open = asyncio.Event()

    @property
    def shut_now(self) -> bool:
        """Whether whoever comes is refused."""
        return not self._is_open.is_set()

    def open(self) -> str:
        """Listen; `host:port` as it is. Raises OSError, with the address in it, when that cannot be had."""
        self._socket = bound_socket(self._listen)
        self._is_open.set()
        self._accepting = asyncio.create_task(self._accept(self._socket), name=f"accepting at {self._listen}")
        host, port = self._socket.getsockname()[:2]
        return show_address(host, port)

    def shut(self, refused: Callable[[], None]) -> None:
        """Refuse whoever comes from now on; `refused` is called for each knock that was."""
        if self._socket and not self.shut_now:
            self._is_open.clear()
            # Who waits in the backlog is reset: as good as refused.
            self._socket.shutdown(socket.SHUT_RD)
            self._knocking = asyncio.create_task(self._knock(self._socket, refused), name=f"knocking at {self._listen}")

    def reopen(self) -> None:
        """Let clients in again. Raises OSError when the kernel will not: then the door is still shut."""
        if self._socket and self.shut_now:
            self._socket.listen(BACKLOG)
            if self._knocking:
                self._knocking.cancel()
            self._is_open.set()

    async def close(self) -> None:
        """Give the port away."""
        tasks = [task for task in (self._accepting, self._knocking) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        # By hand and not by `create_server`: a client in a black hole must not get as far as a transport, whose reading
        # uvloop starts whatever one says, and must not begin its TLS handshake.
        loop = asyncio.get_running_loop()
        while True:
            await self._is_open.wait()
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                if not self.shut_now:
                    log.warning("%s: cannot accept: %s", self._listen, error.strerror)
                    await asyncio.sleep(0.1)
                continue
            self._welcome(client)

    async def _knock(self, shut: socket.socket, refused: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        host, port = shut.getsockname()[:2]
        while True:
            with socket.socket(shut.family, socket.SOCK_STREAM) as knocking:
                knocking.setblocking(False)
                try:
                    await asyncio.wait_for(loop.sock_connect(knocking, (_WILDCARDS.get(host, host), port)), KNOCK)
                except ConnectionRefusedError:
                    refused()
                except (OSError, TimeoutError) as error:
                    log.warning("%s: a knock at the closed port was not refused: %s", self._listen, error)
                else:
                    log.warning("%s: somebody else listens at the closed port", self._listen)
            await asyncio.sleep(KNOCK)


def bound_socket(listen: str) -> socket.socket:
    """A listening socket. Raises OSError, with the address in it, when that cannot be had."""
    host, port = parse_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as closing:
        try:
            bound = closing.enter_context(_bound(family, host, port))
            if port == 0:
                # A port that the kernel chose is lost with `shutdown`; one that was asked for is not (bind(2) locks it).
                bound = closing.enter_context(_bound(family, host, bound.getsockname()[1]))
            bound.listen(BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from error
        kept = socket.socket(fileno=bound.detach())
    kept.setblocking(False)
    return kept


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
