"""libcurl's multi interface on the asyncio loop: libcurl says which sockets and which timer it wants, the loop waits.

All sockets of libcurl stand in one epoll set, and only that set is known to the loop: registering a socket with an
asyncio loop costs more than the whole `connect` does. Without epoll (macOS) the loop watches each socket itself.
"""

import asyncio
import math
import select
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, cast

import pycurl

from stormwatch.probes.endpoint import Endpoint

KEPT = 256
"""Idle easy handles that are kept for the next transfer."""

PIECES = 500
"""Pieces of one answer that are taken before the loop has its turn. libcurl passes every chunk on by itself: of a body in
chunks of one byte it would bring 60,000 at once, and hold up the loop for 20 ms, again and again."""
REST = 0.001
"""Seconds until the next of them are taken. A body in pieces of the usual 16 KiB rests once in 8 MB."""

_CA_CACHE_TIMEOUT: Final = 321
"""CURLOPT_CA_CACHE_TIMEOUT, which pycurl has no name for: https://curl.se/libcurl/c/CURLOPT_CA_CACHE_TIMEOUT.html"""
_CA_CACHED = 3600
"""Seconds that a parsed CA store is used before its file is read again. Parsing costs more than a handshake."""


CURVES: Final = "X25519:P-256:P-384:P-521"
"""Key exchanges to offer. OpenSSL's default adds ML-KEM, which costs as much again as X25519 and makes the first message
larger than a packet; no server can require it yet."""


def connect_to(handle: pycurl.Curl, addresses: Sequence[str], port: int) -> None:
    """Connect to these addresses, whatever the URL's host is; TLS and the Host header keep the URL's.

    Of several addresses libcurl tries both families nearly at once (RFC 8305).
    """
    if len(addresses) == 1:
        handle.setopt(pycurl.CONNECT_TO, [f"::{Endpoint(addresses[0], port)}"])
        return
    name = alias(addresses)
    handle.setopt(pycurl.RESOLVE, [resolve_entry(name, port, addresses)])
    handle.setopt(pycurl.CONNECT_TO, [f"::{name}:{port}"])


def alias(addresses: Sequence[str]) -> str:
    """A name of our own, made of the addresses: no other check can have put others under it into libcurl's cache."""
    return f"{'-'.join(addresses).replace(':', '.')}.stormwatch.invalid"


def resolve_entry(host: str, port: int, addresses: Sequence[str]) -> str:
    """What CURLOPT_RESOLVE wants, for the next transfer and those soon after it."""
    shown = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
    return f"+{host}:{port}:{shown}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transfer ended: libcurl's code (0: well), and what it said, which may name files and addresses."""

    code: int
    message: str


def own_error(handle: pycurl.Curl) -> int:
    """The system's error behind a failed transfer, 0 for none.

    libcurl remembers those of `connect`, and forgets those of `socket`: whether we have run out of descriptors is found
    out by asking for one more.
    """
    number = int(handle.getinfo(pycurl.OS_ERRNO))
    if number == 0:
        try:
            socket.socket().close()
        except OSError as error:
            number = error.errno or 0
    return number


_WELL = Ended(0, "")


class Sockets(Protocol):
    """Watches libcurl's sockets, and calls back with those that are ready."""

    def watch(self, what: int, fd: int, multi: object = None, data: object = None) -> None:
        """Called by libcurl. Watch a socket for POLL_IN, POLL_OUT, both or nothing; POLL_REMOVE forgets it."""
        ...

    def close(self) -> None:
        """Forget all."""
        ...


Ready = Callable[[list[tuple[int, int]]], None]
"""Takes the sockets that are ready: descriptor and CSELECT_ bits."""


Take = Callable[[bytes], int | None]
"""Takes a piece of a body; 0 stops the transfer."""


class EpollSockets:
    """One epoll set for all sockets. Cost per socket: two or three system calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        loop.add_reader(self._epoll.fileno(), self._look)

    def watch(self, what: int, fd: int, multi: object = None, data: object = None) -> None:
        """Put a socket into the set, change it, take it out."""
        if what == pycurl.POLL_REMOVE:
            self._watched.discard(fd)
            with suppress(OSError):
                self._epoll.unregister(fd)
            return
        events = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
            self._watched.add(fd)

    def _look(self) -> None:
        self._ready(
            [
                (
                    fd,
                    (pycurl.CSELECT_IN if events & select.EPOLLIN else 0)
                    | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
                    | (pycurl.CSELECT_ERR if events & (select.EPOLLERR | select.EPOLLHUP) else 0),
                )
                for fd, events in self._epoll.poll(0)
            ]
        )

    def close(self) -> None:
        """Take the set from the loop."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


class LoopSockets:
    """Each socket watched by the loop: works on every loop that has `add_reader`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._watched: dict[int, int] = {}

    def watch(self, what: int, fd: int, multi: object = None, data: object = None) -> None:
        """Add before removing: uvloop would otherwise let go of the socket in between."""
        had = self._watched.get(fd, 0)
        want = 0 if what == pycurl.POLL_REMOVE else what
        if want & pycurl.POLL_IN and not had & pycurl.POLL_IN:
            self._loop.add_reader(fd, self._ready, [(fd, pycurl.CSELECT_IN)])
        if want & pycurl.POLL_OUT and not had & pycurl.POLL_OUT:
            self._loop.add_writer(fd, self._ready, [(fd, pycurl.CSELECT_OUT)])
        if had & pycurl.POLL_IN and not want & pycurl.POLL_IN:
            self._loop.remove_reader(fd)
        if had & pycurl.POLL_OUT and not want & pycurl.POLL_OUT:
            self._loop.remove_writer(fd)
        if want:
            self._watched[fd] = want
        else:
            self._watched.pop(fd, None)

    def close(self) -> None:
        """Take all sockets from the loop."""
        for fd in tuple(self._watched):
            self.watch(pycurl.POLL_REMOVE, fd)


def system_sockets(loop: asyncio.AbstractEventLoop, ready: Ready) -> Sockets:
    """The cheapest way to watch sockets that this system has."""
    return EpollSockets(loop, ready) if hasattr(select, "epoll") else LoopSockets(loop, ready)


class CurlEngine:
    """Runs transfers of libcurl on the running loop. Open one with `watch.resources.get(CurlEngine)`."""

    def __init__(
        self, sockets: Callable[[asyncio.AbstractEventLoop, Ready], Sockets] = system_sockets, *, kept: int = KEPT
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._kept = kept
        self._idle: list[pycurl.Curl] = []
        self._closed = False
        self._multis: dict[str, _Multi] = {}

    @property
    def under_way(self) -> int:
        """How many transfers have begun and not ended."""
        return sum(len(multi.waiting) for multi in self._multis.values())

    def take(self) -> pycurl.Curl:
        """An easy handle with every option at its default. Give it back after use."""
        if self._idle:
            return self._idle.pop()
        handle = pycurl.Curl()
        # Cookies of one answer are sent with the next request of the same run. Turning them on is dear, and outlasts
        # `reset`: so every handle has them, and forgets them when it is given back.
        handle.setopt(pycurl.COOKIEFILE, "")
        return handle

    def give_back(self, handle: pycurl.Curl) -> None:
        """Forget all that a transfer was told and learnt, its cookies included, and keep the handle for another."""
        if self._closed or len(self._idle) >= self._kept:
            handle.close()
            return
        handle.setopt(pycurl.COOKIELIST, "ALL")  # `reset` keeps the cookies
        handle.reset()
        self._idle.append(handle)

    def perform(self, handle: pycurl.Curl, take: Take | None = None, *, ca_file: str = "") -> Awaitable[Ended]:
        """Run one transfer to its end. Cancelling closes its connection at once and leaves the handle usable.

        `take` is given the body, a piece at a time; between many pieces the loop has its turn.
        `ca_file` is set here because libcurl caches one parsed CA store per multi handle: each file has its own.
        """
        multi = self._multis.get(ca_file)
        if multi is None:
            multi = self._multis[ca_file] = _Multi(self._loop, self._sockets)
        if ca_file:
            handle.setopt(pycurl.CAINFO, ca_file)
            handle.setopt(_CA_CACHE_TIMEOUT, _CA_CACHED)
        return multi.perform(handle, take)

    async def aclose(self) -> None:
        """Cancel what is under way and close every connection."""
        self._closed = True
        for multi in self._multis.values():
            multi.close()
        self._multis.clear()
        for handle in self._idle:
            handle.close()
        self._idle.clear()


class _Multi:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Callable[[asyncio.AbstractEventLoop, Ready], Sockets],
    ) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        """When the timer fires, by the loop's clock."""
        self._due = math.inf
        """When libcurl wants to be called."""
        self._acting = False
        self._sockets = sockets(loop, self._act)
        self.waiting: dict[pycurl.Curl, asyncio.Future[Ended]] = {}
        self._resting: dict[pycurl.Curl, asyncio.TimerHandle] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    async def perform(self, handle: pycurl.Curl, take: Take | None) -> Ended:
        ended = self.waiting[handle] = self._loop.create_future()
        if take is not None:
            handle.setopt(pycurl.WRITEFUNCTION, self._in_turns(handle, take))
        try:
            self._acting = True
            try:
                self._multi.add_handle(handle)
            finally:
                self._acting = False
            # libcurl would ask for a timer at once. Not waiting for it keeps a busy loop out of the target's time.
            self._act([(pycurl.SOCKET_TIMEOUT, 0)])
            return await ended
        finally:
            if self.waiting.pop(handle, None) is not None and not self._multi.closed:
                self._multi.remove_handle(handle)
            if (rest := self._resting.pop(handle, None)) is not None:
                rest.cancel()

    def _in_turns(self, handle: pycurl.Curl, take: Take) -> Take:
        pieces = 0

        def taken(data: bytes) -> int | None:
            nonlocal pieces
            pieces += 1
            if pieces <= PIECES:
                return take(data)
            pieces = 0
            self._resting[handle] = self._loop.call_later(REST, self._go_on, handle)
            return pycurl.WRITEFUNC_PAUSE  # libcurl keeps this piece

        return taken

    def _go_on(self, handle: pycurl.Curl) -> None:
        del self._resting[handle]
        try:
            handle.pause(pycurl.PAUSE_CONT)
        except pycurl.error as error:  # `take` would not have the pieces that libcurl had kept
            self._end(handle, Ended(*cast("tuple[int, str]", error.args)))

    def _set_timer(self, milliseconds: int) -> None:
        self._due = self._loop.time() + milliseconds / 1000 if milliseconds >= 0 else math.inf
        if not self._acting:
            self._arm()

    def _arm(self) -> None:
        """Have the timer fire in time.

        libcurl changes its mind several times a transfer, nearly always to a later time: a timer that fires too early
        costs less than a new one each time.
        """
        if self._due >= self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._due
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._armed, self._due = None, math.inf, math.inf
        self._act([(pycurl.SOCKET_TIMEOUT, 0)])
        if self._due == math.inf:  # libcurl only speaks of times that have changed
            self._set_timer(self._multi.timeout())

    def _act(self, ready: list[tuple[int, int]]) -> None:
        self._acting = True
        try:
            running = len(self.waiting)
            for fd, events in ready:
                running = self._multi.socket_action(fd, events)[1]
            if running < len(self.waiting):
                self._collect()
        finally:
            self._acting = False
        self._arm()

    def _collect(self) -> None:
        queued = 1
        while queued:
            queued, done, failed = self._multi.info_read()
            for handle in done:
                self._end(handle, _WELL)
            for handle, code, message in failed:
                self._end(handle, Ended(code, message))

    def _end(self, handle: pycurl.Curl, how: Ended) -> None:
        self._multi.remove_handle(handle)
        ended = self.waiting.pop(handle)
        if not ended.done():
            ended.set_result(how)

    def close(self) -> None:
        for handle, ended in tuple(self.waiting.items()):
            self._multi.remove_handle(handle)
            ended.cancel()
        self.waiting.clear()
        self._multi.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sockets.close()
