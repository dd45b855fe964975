"""DNS over QUIC (RFC 9250), by aioquic's state machine on a connected socket of ours: no name is looked up, no thread runs."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from stormwatch.probes.certificate import NotTrusted, Trust
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.nameserver import Answered, Progress
from stormwatch.probes.question import Question, read_message
from stormwatch.probes.result import Reason

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

ALPN: Final = "doq"
_LARGEST: Final = 65535
_AT_ONCE: Final = 64
"""Datagrams that are read before others have their turn."""
_CRYPTO_ERROR: Final = 0x100
"""RFC 9001 §4.8: the error code of a connection is this, and a TLS alert in its lowest byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Doq:
    """How QUIC is spoken to a server. Made once."""

    trust: Trust | None
    """The authorities to verify against; None: the certificate may be any."""
    certificate: str = ""
    key: str = ""

    def configuration(self, server_name: str) -> "QuicConfiguration":
        """A connection's own, for the driver keeps state in it."""
        from aioquic.quic.configuration import QuicConfiguration

        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[ALPN],
            server_name=server_name,
            # It would read the whole file of authorities anew for each connection: we verify ourselves. That the
            # server has the certificate's key is checked all the same.
            verify_mode=ssl.CERT_NONE,
        )
        if self.certificate:
            configuration.load_cert_chain(self.certificate, self.key)
        return configuration

    async def ask(
        self,
        question: Question,
        address: str,
        port: int,
        *,
        server_name: str,
        source: str,
        now: float,
        progress: Progress,
        clock: Callable[[], float],
    ) -> Answered:
        """Ask once, over a connection of its own; `now` is the Unix time that the certificate is held against.

        Raises OSError for what the network says, ProbeFailed for the rest.
        """
        from aioquic.quic.connection import QuicConnection

        began = clock()
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            if source:
                link.bind((source, 0))
            link.connect((address, port))
            quic = QuicConnection(configuration=self.configuration(server_name))

            def connected() -> None:
                if self.trust is not None:
                    _verify(self.trust, quic, server_name, now)
                progress.connected = clock() - began
                progress.sends += 1

            wire = await _Conversation(quic, link, question, (address, port), connected).perform()
        ended = clock()
        if not question.answered_by(wire, 0):
            read_message(wire)
            raise ProbeFailed(Reason.PROTOCOL, "the answer belongs to another question", phase="request")
        return Answered(
            wire=wire,
            message=read_message(wire),
            connect=progress.connected,
            request=ended - began - progress.connected,
        )


class _Conversation:
    """Feeds a QUIC state machine with datagrams and time until the answer has come."""

    def __init__(
        self,
        quic: "QuicConnection",
        link: socket.socket,
        question: Question,
        place: tuple[str, int],
        connected: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = quic
        self._link = link
        self._place = place
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._sent = len(question.wire).to_bytes(2) + question.wire
        self._received = bytearray()
        self._stream = -1
        self._connected = connected
        """Called after the handshake; may refuse to go on by raising ProbeFailed."""

    async def perform(self) -> bytes:
        """Shake hands, ask on the first stream, and return the answer's bytes."""
        descriptor = self._link.fileno()
        self._loop.add_reader(descriptor, self._read)
        try:
            self._quic.connect(self._place, now=self._loop.time())
            self._go_on()
            return await self._answer
        finally:
            self._loop.remove_reader(descriptor)
            if self._timer is not None:
                self._timer.cancel()
            self._take_leave()

    def _take_leave(self) -> None:
        """Tell the server, which would otherwise keep the connection until it has been idle for long."""
        self._quic.close(error_code=0)
        try:
            for data, _ in self._quic.datagrams_to_send(now=self._loop.time()):
                self._link.send(data)
        except OSError:
            return  # it is gone already

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._link.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(error)
                return
            with self._explaining():
                self._quic.receive_datagram(data, self._place, now=self._loop.time())
        self._go_on()

    @contextmanager
    def _explaining(self) -> Generator[None]:
        """What the state machine or a refusal raises ends the conversation, instead of being lost in a callback."""
        try:
            yield
        except ProbeFailed as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 - the driver's own errors, at datagrams that anybody may send
            self._fail(ProbeFailed(Reason.PROTOCOL, f"what came is not QUIC: {type(error).__name__}: {error}"))

    def _go_on(self) -> None:
        """Handle what has happened, send what is to be sent, and set the timer that the state machine wants."""
        with self._explaining():
            event = self._quic.next_event()
            while event is not None:
                self._handle(event)
                event = self._quic.next_event()
        try:
            for data, _ in self._quic.datagrams_to_send(now=self._loop.time()):
                self._link.send(data)
        except BlockingIOError:
            pass  # lost, as any datagram may be
        except OSError as error:
            self._fail(error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._quic.get_timer()
        if due is not None and not self._answer.done():
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        with self._explaining():
            self._quic.handle_timer(now=self._loop.time())
        self._go_on()

    def _handle(self, event: Any) -> None:
        from aioquic.quic import events

        if isinstance(event, events.HandshakeCompleted):
            self._connected()
            self._stream = self._quic.get_next_available_stream_id()
            self._quic.send_stream_data(self._stream, self._sent, end_stream=True)
        elif isinstance(event, events.StreamDataReceived) and event.stream_id == self._stream:
            self._take(event.data, ended=event.end_stream)
        elif isinstance(event, events.StreamReset):
            self._fail(ProbeFailed(Reason.RESET, f"the server reset the stream with error {event.error_code}"))
        elif isinstance(event, events.ConnectionTerminated):
            self._fail(_terminated(event.error_code, event.reason_phrase))

    def _take(self, data: bytes, *, ended: bool) -> None:
        self._received += data
        received = self._received
        size = int.from_bytes(received[:2]) + 2
        if len(received) >= max(2, size):
            if not self._answer.done():
                self._answer.set_result(bytes(received[2:size]))
        elif ended:
            self._fail(
                ProbeFailed(
                    Reason.RESET, f"the stream was closed {len(received)} bytes into the answer", phase="request"
                )
            )

    def _fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def _verify(trust: Trust, quic: "QuicConnection", name: str, now: float) -> None:
    shown: Any = quic.tls  # aioquic has no public way to the certificates that it was shown
    chain = [shown._peer_certificate, *shown._peer_certificate_chain]  # noqa: SLF001
    try:
        trust.verify([each.public_bytes(Encoding.DER) for each in chain], name, now)
    except NotTrusted as error:
        raise ProbeFailed(Reason.CERTIFICATE, f"the certificate was not accepted: {error}", phase="connect") from error


def _terminated(code: int, phrase: str) -> ProbeFailed:
    if _CRYPTO_ERROR <= code < _CRYPTO_ERROR + 256:
        return ProbeFailed(
            Reason.TLS, f"the TLS handshake failed: {phrase or f'alert {code - _CRYPTO_ERROR}'}", phase="connect"
        )
    return ProbeFailed(
        Reason.RESET, f"the server closed the QUIC connection with error {code}{f': {phrase}' if phrase else ''}"
    )
