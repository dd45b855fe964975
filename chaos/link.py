"""One client connection and its connection to the service: bytes both ways, and what the faults do to them.

    client side ──▶ Stream(upstream)   ──▶ service side
    client side ◀── Stream(downstream) ◀── service side

A Stream writes at once, or keeps chunks in order until the faults let them go. When a fault is removed, all that it kept
goes on. A full side stops the reading on the other (back-pressure); the end of one direction leaves the other open
(half-close), except under TLS, where asyncio knows no half-close: there an end of stream ends the connection.
"""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, cast

from stormwatch.chaos.address import parse_address
from stormwatch.chaos.behaviour import Effect, Ending, Way
from stormwatch.chaos.conversation import LONGEST_HEAD, Conversation, Handed, Part
from stormwatch.chaos.http_treatment import Treated
from stormwatch.chaos.injection import Injection
from stormwatch.chaos.route import Route
from stormwatch.chaos.tls_forgery import Forgery, SpoilsHandshakes, alert
from stormwatch.probes.clock import Clock

log = logging.getLogger(__name__)

TICK = 0.001
"""Seconds: the finest that every event loop can wait."""
KEPT = 1024 * 1024
"""Bytes that a stream keeps back before the reading stops: what a fault may hold in memory a direction."""
BUFFER = 256 * 1024
"""Bytes that wait in a socket's buffer before the reading on the other side stops."""
CONNECT = 10.0
"""Seconds for the connection to the service, with its TLS handshake."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends RST instead of FIN (socket(7))."""
_CLOSED = frozenset({7, 8})
"""TCP_CLOSE, TCP_CLOSE_WAIT (linux/tcp_states.h): the peer has hung up."""


@dataclass(slots=True)
class Traffic:
    """Bytes of one direction of a route."""

    received: int = 0
    sent: int = 0


class House(Protocol):
    """What a link must know of the route that it belongs to."""

    traffic: Mapping[Way, Traffic]
    route: Route
    server_context: ssl.SSLContext | None
    client_context: ssl.SSLContext | None
    clock: Clock

    def gone(self, link: "Link") -> None:
        """A link has ended."""
        ...

    def forgery(self, injection: Injection) -> Forgery:
        """What a fault of TLS shows."""
        ...


class Side(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, link: "Link", name: str) -> None:
        self.link = link
        self.name = name
        self.transport: asyncio.Transport | None = None
        self.over = asyncio.Event()
        self._stopped: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the limits of the buffers."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFER)
        self.link.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.link.came(self, data)

    def eof_received(self) -> bool:
        """The peer has said its last word: keep the connection open for ours."""
        self.link.ended(self)
        return self.link.half_closes

    def pause_writing(self) -> None:
        """Our buffer is full: whoever fills it shall stop reading."""
        self.link.other(self).stop_reading("full")

    def resume_writing(self) -> None:
        """Our buffer has emptied."""
        self.link.other(self).go_on_reading("full")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self.over.set()
        self.link.lost(self, exc)

    def stop_reading(self, why: str) -> None:
        """Stop until every reason has gone."""
        if not self._stopped and self.transport and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stopped.add(why)

    def go_on_reading(self, why: str) -> None:
        """One reason has gone."""
        if why in self._stopped:
            self._stopped.discard(why)
            if not self._stopped and self.transport and not self.transport.is_closing():
                self.transport.resume_reading()

    def end(self, *, half: bool) -> None:
        """Say our last word, after all that is buffered."""
        if self.transport and not self.transport.is_closing():
            if half and self.transport.can_write_eof():
                try:
                    self.transport.write_eof()
                except OSError:  # the peer has reset the connection, and the loop has not told us yet
                    self.transport.abort()
            else:
                self.transport.close()

    def reset(self) -> None:
        """End with RST: nothing that is buffered is sent."""
        if self.transport and not self.transport.is_closing():
            raw = self.transport.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()


Waits = tuple[tuple[Injection, float], ...]
"""Which faults hold something back, and for how many seconds each."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A piece that waits for its moment."""

    data: bytes
    """Empty: the end of the direction."""
    came: float
    """Moment of the monotonic clock.

    Not of the loop's clock: uvloop's counts whole milliseconds and stands still while callbacks run, so that chunks
    would leave before their time.
    """
    by: Waits = ()
    """How many seconds each fault adds."""
    last: bool = False
    """The link is closed after it."""

    @property
    def due(self) -> float:
        """When it may leave, as long as these faults last."""
        return self.came + sum(later for _, later in self.by)

    def without(self, injection: Injection) -> "Kept":
        """As it waits when a fault has ended."""
        return Kept(self.data, self.came, tuple(one for one in self.by if one[0] is not injection), self.last)


def _joined(pieces: Iterable[Kept]) -> Iterator[Kept]:
    """With neighbours that wait alike in one: a slow line leaves ten thousands, and all traffic waits while they are written."""
    for (came, by, whole), alike in groupby(pieces, lambda one: (one.came, one.by, bool(one.data) and not one.last)):
        if whole:
            yield Kept(b"".join(one.data for one in alike), came, by)
        else:
            yield from alike


class Stream:
    """One direction of a link."""

    def __init__(self, way: Way, source: Side, sink: Side, house: House) -> None:
        self.way = way
        self._traffic = house.traffic[way]
        self.finished = False
        """Whether the end was handed on."""
        self.ending = False
        """Whether the end is known, and perhaps kept back."""
        self._source = source
        self._sink = sink
        self._clock = house.clock
        self._open = False
        self._effects: dict[Injection, Effect] = {}
        self._kept: deque[Kept] = deque()
        """In the order in which they leave: a piece never overtakes another, whatever the jitter."""
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def swallowing(self) -> bool:
        """Whether a black hole keeps something."""
        return bool(self._kept) and self._kept[-1].due == float("inf")

    def open(self) -> None:
        """The sink is connected."""
        self._open = True
        self._let_go()

    def feed(self, data: bytes, *, link: "Link", waits: Waits = ()) -> None:
        """Hand on a chunk, now or when the faults allow it; `waits` says who holds this chunk back in particular."""
        if self._open and not self._effects and not self._kept and not waits:
            self._write(data)
            return
        self._keep(data, link, waits)

    def finish(self, *, link: "Link") -> None:
        """The source has said its last word."""
        if not self.ending:
            self.ending = True
            self._keep(b"", link)
            self._let_go()

    def add(self, injection: Injection) -> None:
        """A fault begins: it meets what comes from now on."""
        if effect := injection.effect(self.way):
            self._effects[injection] = effect

    def remove(self, injection: Injection) -> None:
        """A fault ended: what waits, waits no longer for it."""
        self._effects.pop(injection, None)
        if self._kept:
            self._kept = deque(_joined(one.without(injection) for one in self._kept))
            self._let_go()

    def drop(self) -> None:
        """Nobody is there to take it."""
        self._kept.clear()
        self._size = 0
        self.finished = self.ending = True
        if self._timer:
            self._timer.cancel()

    def _keep(self, data: bytes, link: "Link", waits: Waits = ()) -> None:
        pieces = [Kept(data, self._clock.monotonic(), waits)]
        for injection, effect in self._effects.items():
            met: list[Kept] = []
            for one in pieces:
                passage = effect.meet(one.due, one.data)
                if passage.touched or passage.met:
                    link.touch(injection, size=passage.touched)
                met += [
                    replace(one, data=piece.data, by=(*one.by, (injection, piece.later)), last=one.last or piece.last)
                    for piece in passage.pieces
                ]
            pieces = met
        self._kept += pieces
        self._size += sum(len(one.data) for one in pieces)
        if self._size > KEPT:
            self._source.stop_reading("kept")
        self._set_timer()

    def _write(self, data: bytes) -> None:
        transport = self._sink.transport
        if transport and not transport.is_closing():
            self._traffic.sent += len(data)
            transport.write(data)

    def _let_go(self) -> None:
        if not self._open:
            return
        now = self._clock.monotonic()
        while self._kept and self._kept[0].due <= now:
            one = self._kept.popleft()
            self._size -= len(one.data)
            if one.data:
                self._write(one.data)
            if one.last:
                self._source.link.close()
                return
            if not one.data:
                self.finished = True
                self._sink.end(half=not self._source.link.is_over(self))
                self._source.link.one_way_done()
        if self._size <= KEPT // 2:
            self._source.go_on_reading("kept")
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._open and self._kept and self._kept[0].due != float("inf"):
            # A timer that rings early finds nothing due, and is set again.
            wait = max(TICK, self._kept[0].due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._let_go)


class Link:
    """Both connections, both streams, and the faults that were drawn for them."""

    def __init__(self, house: House, injections: list[Injection]) -> None:
        self._house = house
        self.half_closes = house.server_context is None
        self.client = Side(self, "client")
        self.service = Side(self, "service")
        self._up = Stream(Way.UPSTREAM, self.client, self.service, house)
        self._down = Stream(Way.DOWNSTREAM, self.service, self.client, house)
        self._conversation = Conversation(self._decide) if house.route.looked_into else None
        self._acting: list[Injection] = []
        self._touched: set[Injection] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._over = False
        self._endings: dict[Injection, asyncio.TimerHandle] = {}
        """When faults end the connections."""
        self._socket: socket.socket | None = None
        """The client's, as long as no transport owns it: before the handshake of TLS."""
        self._spoiled: Injection | None = None
        """The fault of TLS that the handshake meets, if it is still in place then."""
        self._standing = list(injections)
        """The faults that were in place when the client came."""

    def other(self, side: Side) -> Side:
        """The side across."""
        return self.service if side is self.client else self.client

    def is_over(self, stream: Stream) -> bool:
        """Whether the source of a stream is gone for good: nobody would take what the sink still says."""
        side = self.client if stream is self._up else self.service
        return side.transport is None or side.transport.is_closing()

    def touch(self, injection: Injection, *, requests: int = 0, size: int = 0) -> None:
        """Count what of this link met a fault."""
        fresh = injection not in self._touched
        self._touched.add(injection)
        injection.touch(self._house.clock.now(), connections=int(fresh), requests=requests, size=size)

    # What the faults do.

    def inject(self, injection: Injection, *, standing: bool = True) -> None:
        """A fault begins on a standing connection, or meets a new one."""
        if standing and injection.acts_on_handshakes:
            return
        if not injection.acts_on_requests and not injection.draw():
            return
        self._acting.append(injection)
        if isinstance(injection.options, SpoilsHandshakes):
            self._spoiled = self._spoiled or injection
        if injection.acts_on_requests and self._conversation:
            self._conversation.armed = True
        for stream in (self._up, self._down):
            stream.add(injection)
        if injection.stalls and not standing:
            self.touch(injection)
        if ending := injection.ending:
            self._end(injection, ending)

    def _end(self, injection: Injection, ending: Ending) -> None:
        end = self.reset if ending.reset else self.close

        def now() -> None:
            self.touch(injection)
            end()

        if ending.after <= 0:
            now()
        elif ending.after < math.inf:
            self._endings[injection] = asyncio.get_running_loop().call_later(ending.after, now)

    def remove(self, injection: Injection) -> None:
        """A fault ends: what it kept goes on, nothing that is open is closed, unless bytes are missing."""
        if injection not in self._acting:
            return
        self._acting.remove(injection)
        if timer := self._endings.pop(injection, None):
            timer.cancel()
        if (ending := injection.ending) and ending.when_removed and not self._over:
            self.close()
            return
        for stream in (self._up, self._down):
            stream.remove(injection)
        if self._conversation:
            self._conversation.forget(injection)
        if self._conversation and not any(one.acts_on_requests for one in self._acting):
            self._conversation.armed = False
            self._hand_on(Handed(to_service=[Part(self._conversation.release())]))
        self._changed.set()

    def reset(self) -> None:
        """End both connections with RST."""
        if self._task:
            self._task.cancel()
        if self._socket:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._socket.close()
        self._up.drop()
        self._down.drop()
        self.client.reset()
        self.service.reset()
        self._leave()

    def close(self) -> None:
        """End both connections after what they have buffered."""
        if self._task:
            self._task.cancel()
        if self._socket:
            self._socket.close()
        self._up.drop()
        self._down.drop()
        self.client.end(half=False)
        self.service.end(half=False)
        self._leave()

    async def drained(self) -> None:
        """Return when both connections have sent what they had buffered and are closed."""
        for side in (self.client, self.service):
            if side.transport:
                await side.over.wait()

    def abort(self) -> None:
        """Wait no longer for what is buffered."""
        for side in (self.client, self.service):
            if side.transport:
                side.transport.abort()

    # What the connections do.

    def begin(self, client: socket.socket) -> None:
        """A client has come."""
        self._socket = client
        for injection in self._standing:
            if not self._over:
                self.inject(injection, standing=False)
        if not self._over:
            self._task = asyncio.create_task(self._connect(client), name=f"link of route {self._house.route.name}")

    def arrived(self, side: Side) -> None:
        """A connection stands."""
        if self._over:
            side.reset()

    def came(self, side: Side, data: bytes) -> None:
        """Bytes came from one side."""
        way = Way.UPSTREAM if side is self.client else Way.DOWNSTREAM
        self._house.traffic[way].received += len(data)
        conversation = self._conversation
        if conversation is None or conversation.transparent:
            (self._up if side is self.client else self._down).feed(data, link=self)
            return
        self._hand_on(conversation.from_client(data) if side is self.client else conversation.from_upstream(data))
        if conversation.backlog > 2 * LONGEST_HEAD:
            self.client.stop_reading("backlog")
        else:
            self.client.go_on_reading("backlog")

    def ended(self, side: Side) -> None:
        """One side has said its last word."""
        if side is self.client:
            if self._conversation:
                self._hand_on(Handed(to_service=[Part(self._conversation.release())]))
            self._up.finish(link=self)
        else:
            if self._conversation:
                self._hand_on(self._conversation.upstream_ended())
            self._down.finish(link=self)

    def one_way_done(self) -> None:
        """The end of one direction was handed on; after both, the connections are of no more use."""
        if self._up.finished and self._down.finished:
            self.close()

    def lost(self, side: Side, error: Exception | None) -> None:
        """One connection is over."""
        if self._over:
            return
        away, towards = (self._up, self._down) if side is self.client else (self._down, self._up)
        if error is not None:
            # As it would be without us: a reset on one side is a reset on the other.
            self.reset()
            return
        towards.drop()
        if side is self.client and away.swallowing:
            # A client that hung up while a black hole kept its request has given up: delivering it later, when the
            # fault is removed, would be a fault of its own.
            self.reset()
            return
        away.finish(link=self)
        self.one_way_done()

    async def _connect(self, client: socket.socket) -> None:
        context = self._house.server_context
        try:
            if context is None and not any(one.acts_on_handshakes for one in self._acting):
                await self._take_client(client, None)
            await self._out_of_black_holes(client)
            if self._spoiled in self._acting:
                await self._shake_spoiled(client, self._spoiled)
            else:
                await self._connect_service()
            if self._socket:
                # Not before: a service that is down, or a black hole, shows as a handshake that does not come about.
                await self._take_client(client, context)
        except (OSError, ssl.SSLError, TimeoutError, ValueError) as error:
            log.warning(
                "route %s: no connection to %s: %s",
                self._house.route.name,
                self._house.route.upstream,
                error or "time-out",
            )
            self._task = None
            self.reset()
            return
        self._task = None
        self._up.open()
        self._down.open()

    async def _take_client(self, client: socket.socket, context: ssl.SSLContext | None) -> None:
        self._socket = None
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.client, client, ssl=context)

    async def _shake_spoiled(self, client: socket.socket, injection: Injection) -> None:
        """The handshake with the client as a fault has it, and the connection to the service.

        On a route that does not end TLS, this connection's TLS is ended all the same.
        """
        house, asked = self._house, ""
        forgery = house.forgery(injection)
        await forgery.ready()
        if house.server_context:
            await self._connect_service()
        self.half_closes = False

        def hello(name: str) -> None:
            nonlocal asked
            asked = name
            self.touch(injection)

        with client.dup() as spare:
            try:
                await self._take_client(client, forgery.context(hello))
            except ssl.SSLError as error:
                # The client refuses what it is shown: that is what the fault is for. Or we refuse its hello.
                log.debug("route %s: a handshake failed: %s", house.route.name, error)
                if words := alert(error.reason or ""):
                    self.touch(injection)
                    with contextlib.suppress(OSError):
                        spare.send(words)
                        spare.shutdown(socket.SHUT_WR)
                raise
        if not house.server_context:
            await self._connect_service(forgery.towards_service(), asked)

    async def _out_of_black_holes(self, client: socket.socket) -> None:
        """A new connection in a black hole reaches neither the handshake nor the service until the hole is gone."""
        while any(one.stalls for one in self._acting):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except TimeoutError:
                if self._socket and client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _CLOSED:
                    raise ConnectionResetError("the client hung up in a black hole") from None

    async def _connect_service(self, context: ssl.SSLContext | None = None, name: str = "") -> None:
        loop, route = asyncio.get_running_loop(), self._house.route
        host, port = parse_address(route.upstream)
        context = context or self._house.client_context
        name = name or (route.tls.server_name if route.tls else "") or host
        async with asyncio.timeout(CONNECT):
            await loop.create_connection(
                lambda: self.service, host, port, ssl=context, server_hostname=name if context else None
            )

    def _hand_on(self, handed: Handed) -> None:
        for touch in handed.touches:
            self.touch(touch.by, requests=touch.requests, size=touch.bytes)
        for stream, parts in ((self._up, handed.to_service), (self._down, handed.to_client)):
            for part in parts:
                if part.data:
                    stream.feed(part.data, link=self, waits=part.waits)
        if handed.hang_up:
            self._down.finish(link=self)
            self._up.finish(link=self)

    def _decide(self, method: str, target: str) -> list[Treated]:
        decided = [(one, one.treatment(method, target)) for one in self._acting]
        return [Treated(injection, treatment) for injection, treatment in decided if treatment]

    def _leave(self) -> None:
        self._over = True
        for timer in self._endings.values():
            timer.cancel()
        self._house.gone(self)
