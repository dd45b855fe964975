"""A route for questions to a name server at work: over UDP and TCP, one port, and the faults that are put on it.

    client ──datagram──▶ a socket of its own for each ──▶ server      the server's answers go back as they came
    client ──stream────▶ message by message ──────────▶ server       connected when a first question goes on

Without a fault nothing is read into what passes. With one, a question that it is about is answered here, gets no answer,
or its answer is held or changed on the way back. A fault that is removed acts on nothing any more: what it held goes on,
and the answer to a question that is under way comes as the server gives it.
"""

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stormwatch.chaos.address import parse_address, show_address
from stormwatch.chaos.behaviour import Drawn
from stormwatch.chaos.dns_question import ActsOnQuestions, DnsQuestion, Treatment, question_key, read_question
from stormwatch.chaos.injection import Injection
from stormwatch.chaos.route import Route
from stormwatch.probes.clock import Clock

log = logging.getLogger(__name__)

QUESTIONS: Final = 512
"""Datagrams under way at once, each with a socket: with one more, the oldest is given up."""
STREAMS: Final = 256
"""TCP connections at once: with one more, the oldest is closed."""
PATIENCE: Final = 10.0
"""Seconds that the server has for an answer over UDP; clients wait for five (resolv.conf(5)) or less."""
CONNECT: Final = 10.0
"""Seconds for a TCP connection to the server."""
LONGEST: Final = 65535
"""Bytes of a message."""
OUTSTANDING: Final = 1024
"""Questions of one TCP connection whose answers a fault is still about; beyond it the oldest answer passes unchanged."""
BURST: Final = 64
"""Datagrams that are read before others have their turn."""
TICK: Final = 0.001
_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends RST instead of FIN (socket(7))."""

Key = tuple[int, bytes]
Send = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Met:
    """A question that a fault was drawn for, whose answer has not come."""

    injection: Injection
    treatment: Treatment


class DnsGate:
    """One route for DNS at work. The proxy puts faults on it and takes them away, as on any other."""

    def __init__(self, route: Route, clock: Clock) -> None:
        self.route = route
        self.clock = clock
        self.faults: dict[str, Injection] = {}
        self.links: OrderedDict[object, None] = OrderedDict()
        """Questions under way and TCP connections, the one to be given up first in front."""
        self.accepted = 0
        """Datagrams and connections."""
        self.address = ""
        self.server = parse_address(route.upstream)
        self._draws: dict[str, random.Random] = {}
        self._held: dict[Held, None] = {}
        self._datagrams: socket.socket | None = None
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._conversing: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        self._asking: OrderedDict[Asking, None] = OrderedDict()

    def put(self, injection: Injection) -> None:
        """A fault begins, for the questions that come."""
        seed = injection.options.seed if isinstance(injection.options, Drawn) else 0
        self._draws[injection.id] = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.faults[injection.id] = injection

    def take(self, fault: str) -> Injection | None:
        """A fault ends: what it held goes on."""
        injection = self.faults.pop(fault, None)
        self._draws.pop(fault, None)
        for held in [one for one in self._held if one.injection is injection]:
            held.release()
        return injection

    def open(self) -> None:
        """Listen. Raises OSError, with the address in it, when that cannot be had."""
        self._listening, self._datagrams = both_bound(self.route.listen)
        host, port = self._listening.getsockname()[:2]
        self.address = show_address(host, port)
        asyncio.get_running_loop().add_reader(self._datagrams, self._read_datagrams, self._datagrams)
        self._accepting = asyncio.create_task(self._accept(self._listening), name=f"route {self.route.name}")

    async def close(self) -> None:
        """Take the faults away and end everything that is under way."""
        for fault in list(self.faults):
            self.take(fault)
        if self._datagrams:
            asyncio.get_running_loop().remove_reader(self._datagrams)
            self._datagrams.close()
        tasks = [*([self._accepting] if self._accepting else []), *self._conversing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening:
            self._listening.close()
        for asking in list(self._asking):
            asking.close()

    def meet(self, wire: bytes, *, over_tcp: bool) -> tuple[Met | None, DnsQuestion | None]:
        """The fault that a question meets, if it is about it and drawn for it, and the question as it was read."""
        question = read_question(wire, over_tcp=over_tcp) if self.faults else None
        if question is None:
            return None, None
        for injection in self.faults.values():
            options = injection.options
            if isinstance(options, ActsOnQuestions) and options.matches(question) and injection.draw():
                treatment = options.treat(question, self._draws[injection.id])
                if treatment.alter is None:
                    injection.touch(self.clock.now(), requests=1, size=len(wire))
                return Met(injection, treatment), question
        return None, question

    def answer(self, met: Met | None, wire: bytes, send: Send) -> None:
        """Send an answer of the server, as the fault has it that its question met, if that is still in place."""
        if met is None or self.faults.get(met.injection.id) is not met.injection:
            send(wire)
            return
        if met.treatment.alter is not None:
            changed = met.treatment.alter(wire)
            if changed != wire:
                met.injection.touch(self.clock.now(), requests=1, size=len(wire))
            wire = changed
        if met.treatment.later > 0 and len(self._held) < QUESTIONS:
            held = Held(self, met.injection, self.clock.monotonic() + met.treatment.later, lambda: send(wire))
            self._held[held] = None
            held.wait()
        else:
            send(wire)

    def let_go(self, held: "Held") -> None:
        """It is no longer held."""
        self._held.pop(held, None)

    # Datagrams.

    def _read_datagrams(self, datagrams: socket.socket) -> None:
        for _ in range(BURST):
            try:
                data, client = datagrams.recvfrom(LONGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # a client that an earlier answer did not reach (ICMP)
                log.debug("route %s: %s", self.route.name, error)
                continue
            self.accepted += 1
            try:
                self._take_datagram(datagrams, data, client)
            except Exception:
                # Nothing that anybody sends may end the route.
                log.exception("route %s: a datagram of %d bytes was lost", self.route.name, len(data))

    def _take_datagram(self, datagrams: socket.socket, data: bytes, client: object) -> None:
        def send(answer: bytes) -> None:
            try:
                datagrams.sendto(answer, client)  # pyright: ignore[reportArgumentType, reportCallIssue] - as recvfrom gave it
            except OSError as error:  # full, too large for the way, closed: lost, as datagrams are
                log.debug("route %s: an answer was not sent: %s", self.route.name, error)

        met, _ = self.meet(data, over_tcp=False)
        if met and met.treatment.answer is not None:
            send(met.treatment.answer)
            return
        if met and (met.treatment.silent or met.treatment.reset):
            return
        while len(self._asking) >= QUESTIONS:
            next(iter(self._asking)).close()
        asking = Asking(self, met, send)
        try:
            asking.begin(data)
        except OSError as error:
            log.warning("route %s: a question was not passed on: %s", self.route.name, error.strerror)
            asking.close()

    def asked(self, asking: "Asking") -> None:
        """A datagram is under way."""
        self._asking[asking] = None
        self.links[asking] = None

    def answered(self, asking: "Asking") -> None:
        """Its answer came: it is the first to be given up."""
        if asking in self._asking:
            self._asking.move_to_end(asking, last=False)

    def gone(self, asking: "Asking") -> None:
        """It is over."""
        self._asking.pop(asking, None)
        self.links.pop(asking, None)

    # Streams.

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("route %s: cannot accept: %s", self.route.name, error.strerror)
                await asyncio.sleep(0.1)
                continue
            self.accepted += 1
            while len(self._conversing) >= STREAMS:
                oldest, _ = self._conversing.popitem(last=False)
                oldest.cancel()
            task = asyncio.create_task(self._converse(client), name=f"DNS over TCP on route {self.route.name}")
            self._conversing[task] = None
            self.links[task] = None
            task.add_done_callback(self._conversed)

    def _conversed(self, task: "asyncio.Task[None]") -> None:
        self._conversing.pop(task, None)
        self.links.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("route %s: a connection broke", self.route.name, exc_info=error)

    async def _converse(self, client: socket.socket) -> None:
        conversation = Conversing(self, client)
        try:
            await conversation.run()
        except (OSError, TimeoutError) as error:
            log.debug("route %s: %s", self.route.name, error)
            conversation.reset()
        finally:
            conversation.close()


class Held:
    """An answer that waits."""

    def __init__(self, gate: DnsGate, injection: Injection, at: float, send: Callable[[], None]) -> None:
        self.injection = injection
        self._gate = gate
        self._at = at
        self._send = send
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """Until its moment; a timer that rings early (uvloop's has whole milliseconds) is set again."""
        left = self._at - self._gate.clock.monotonic()
        if left <= 0:
            self.release()
        else:
            self._timer = asyncio.get_running_loop().call_later(max(TICK, left), self.wait)

    def release(self) -> None:
        """Send it now."""
        if self._timer:
            self._timer.cancel()
        self._gate.let_go(self)
        self._send()


class Asking:
    """One datagram under way: a socket of its own, so that nobody else's answer can be taken for its."""

    def __init__(self, gate: DnsGate, met: Met | None, send: Send) -> None:
        self._gate = gate
        self._met = met
        self._send = send
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, data: bytes) -> None:
        """Pass the question on. Raises OSError."""
        host, port = self._gate.server
        asking = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket = asking
        asking.setblocking(False)
        asking.connect((host, port))
        asking.send(data)
        loop = asyncio.get_running_loop()
        loop.add_reader(asking, self._read, asking)
        self._timer = loop.call_later(PATIENCE, self.close)
        self._gate.asked(self)

    def _read(self, asking: socket.socket) -> None:
        try:
            data = asking.recv(LONGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # nobody listens there (ICMP): a listener cannot hand that on, its client waits
            log.debug("route %s: %s", self._gate.route.name, error)
            self.close()
            return
        # It stays open for what may follow, until others need the room.
        self._gate.answered(self)
        self._gate.answer(self._met, data, self._send)

    def close(self) -> None:
        """Give it up."""
        if self._timer:
            self._timer.cancel()
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._gate.gone(self)


class Conversing:
    """One client's TCP connection, and one to the server as soon as a question goes there (RFC 7766)."""

    def __init__(self, gate: DnsGate, client: socket.socket) -> None:
        self._gate = gate
        self._socket = client
        self._client: asyncio.StreamWriter | None = None
        self._server: asyncio.StreamWriter | None = None
        self._answers: asyncio.Task[None] | None = None
        self._met: OrderedDict[Key, Met] = OrderedDict()
        self._unsent = 0
        """Answers of the server that a fault holds."""
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    async def run(self) -> None:
        """Until both sides have said their last word. Raises OSError, TimeoutError."""
        reader, self._client = await asyncio.open_connection(sock=self._socket)
        try:
            await self._questions(reader)
            if self._server and self._server.can_write_eof():
                self._server.write_eof()
            if self._answers:
                await self._answers
            await self._all_sent.wait()
        finally:
            if self._answers:
                self._answers.cancel()
                await asyncio.gather(self._answers, return_exceptions=True)

    async def _questions(self, reader: asyncio.StreamReader) -> None:
        while True:
            head = await _exactly(reader, 2)
            data = await _exactly(reader, int.from_bytes(head)) if len(head) == 2 else b""
            if len(head) < 2 or len(data) < int.from_bytes(head):
                if head:  # cut off in the middle: the server shall see it as it was said
                    (await self._to_server()).write(head + data)
                return
            met, question = self._gate.meet(data, over_tcp=True)
            if met and met.treatment.reset:
                self.reset()
                return
            if met and met.treatment.silent:
                continue
            if met and met.treatment.answer is not None:
                self._send(met.treatment.answer)
                continue
            if met and question:
                self._met[question_key(data) or question.key] = met
                while len(self._met) > OUTSTANDING:
                    self._met.popitem(last=False)
            server = await self._to_server()
            server.write(head + data)
            await server.drain()

    async def _to_server(self) -> asyncio.StreamWriter:
        if self._server is None:
            async with asyncio.timeout(CONNECT):
                reader, self._server = await asyncio.open_connection(*self._gate.server)
            self._answers = asyncio.create_task(self._hand_back(reader), name="answers over TCP")
        return self._server

    async def _hand_back(self, reader: asyncio.StreamReader) -> None:
        client = self._client
        assert client is not None
        try:
            while True:
                head = await _exactly(reader, 2)
                data = await _exactly(reader, int.from_bytes(head)) if len(head) == 2 else b""
                if len(head) < 2 or len(data) < int.from_bytes(head):
                    client.write(head + data)
                    break
                key = question_key(data) if self._met else None
                self._unsent += 1
                self._all_sent.clear()
                self._gate.answer(self._met.get(key) if key else None, data, self._send_held)
                await client.drain()
        except OSError:
            self.reset()
            return
        # The server has said its last word: so have we, after what still waits here.
        await self._all_sent.wait()
        with contextlib.suppress(OSError):
            client.close()

    def _send_held(self, answer: bytes) -> None:
        self._unsent -= 1
        if self._unsent == 0:
            self._all_sent.set()
        self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._client and not self._client.is_closing():
            self._client.write(len(answer).to_bytes(2) + answer)

    def reset(self) -> None:
        """End both connections with RST."""
        for writer in (self._client, self._server):
            raw = writer.get_extra_info("socket") if writer else None
            if writer and raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                writer.transport.abort()

    def close(self) -> None:
        """End both connections after what they have buffered."""
        if self._client is None:
            self._socket.close()
        for writer in (self._client, self._server):
            if writer:
                writer.close()


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    """So many bytes, or fewer before the end of the stream."""
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        return error.partial


def both_bound(listen: str) -> tuple[socket.socket, socket.socket]:
    """A listening socket and one for datagrams on the same address. Raises OSError, with the address in it."""
    host, port = parse_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(20):
        stream, datagrams = socket.socket(family, socket.SOCK_STREAM), socket.socket(family, socket.SOCK_DGRAM)
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind((host, port))
            datagrams.bind((host, stream.getsockname()[1]))
            stream.listen(128)
        except OSError as error:
            stream.close()
            datagrams.close()
            # A free port of TCP may be taken for UDP: then another one is.
            if port or attempt == 19:
                raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from error
            continue
        stream.setblocking(False)
        datagrams.setblocking(False)
        return stream, datagrams
    raise AssertionError("the last attempt raises")
