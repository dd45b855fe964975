"""An open websocket: frames put together to messages, pings, and how the server closed. RFC 6455 by `websockets`' state machine.

The state machine does no input and output: addresses, TLS, deadlines and what is read when are ours.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from stormwatch.probes.backend import Streams
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason
from stormwatch.probes.units import show_size

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

SHOWN: Final = 2048
"""Characters of the messages that are kept as evidence."""
FAREWELL: Final = 0.25
"""Seconds that the server has to answer our close. It is politeness, and not a part of the run's duration."""


class Frames:
    """What a server sends on an open websocket, put together to messages. Bytes in, messages or ProbeFailed out."""

    def __init__(self, protocol: "ClientProtocol") -> None:
        self.protocol = protocol
        self.messages: deque[bytes] = deque()
        self.pongs: list[bytes] = []
        self._parts: list[bytes] = []
        self._text = False

    def feed(self, data: bytes) -> None:
        """Read some bytes; none at all are the end of the connection."""
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if hasattr(event, "opcode"):
                self._take(event)
        wrong = self.protocol.handshake_exc
        if wrong is not None:
            raise ProbeFailed(Reason.PROTOCOL, f"the upgrade is not as RFC 6455 wants it: {wrong}", phase="processing")
        if self.protocol.parser_exc is not None and not isinstance(self.protocol.parser_exc, EOFError):
            raise self._explain(self.protocol.parser_exc)

    def _take(self, frame: Any) -> None:
        data = bytes(frame.data)
        if frame.opcode == 0xA:
            self.pongs.append(data)
        if frame.opcode not in (0, 1, 2):
            return
        if frame.opcode != 0:
            self._text = frame.opcode == 1
        self._parts.append(data)
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            if self._text:
                try:
                    message.decode()
                except UnicodeDecodeError:
                    raise ProbeFailed(Reason.PROTOCOL, f"a text message is not UTF-8: {shown(message)}") from None
            self.messages.append(message)

    def _explain(self, error: Exception) -> ProbeFailed:
        from websockets.exceptions import PayloadTooBig

        if isinstance(error, PayloadTooBig):
            most = show_size(self.protocol.max_message_size or 0)
            return ProbeFailed(Reason.ASSERTION, f"a message is larger than max_message, {most}")
        return ProbeFailed(Reason.PROTOCOL, f"the server broke the protocol of websockets: {error}")


class Talk:
    """An open websocket."""

    def __init__(self, protocol: "ClientProtocol", streams: Streams) -> None:
        self._protocol = protocol
        self._streams = streams
        self._frames = Frames(protocol)
        self._ended = False
        self.last = b""
        """The last message since the step began."""
        self.heard = ""
        """The beginning of all messages, for evidence."""

    def feed(self, data: bytes) -> None:
        """Bytes that were read elsewhere."""
        self._frames.feed(data)

    async def flush(self) -> None:
        """Send what the protocol wants to be sent: our messages, pongs, the answer to a close."""
        for piece in self._protocol.data_to_send():
            if piece:
                self._streams.writer.write(piece)
        await self._streams.writer.drain()

    async def send(self, asked: str, message: str | bytes | None) -> None:
        """A text or a binary message. Raises ProbeFailed when the server has closed already."""
        if message is None:
            return
        if self._protocol.state.name != "OPEN":
            raise ProbeFailed(Reason.ASSERTION, f"{asked} could not be sent: {self.farewell}")
        if isinstance(message, str):
            self._protocol.send_text(message.encode("utf-8", "surrogatepass"))
        else:
            self._protocol.send_binary(message)
        await self.flush()

    async def next_message(self) -> bytes | None:
        """The next message; None when the server has closed."""
        while not self._frames.messages:
            if not await self._read():
                return None
        message = self.last = self._frames.messages.popleft()
        if len(self.heard) < SHOWN:
            shown = message[: SHOWN - len(self.heard)].decode("utf-8", "replace")
            self.heard = f"{self.heard}\n{shown}" if self.heard else shown
        return message

    async def ping(self, clock: Callable[[], float]) -> float:
        """Seconds from our ping to its pong."""
        began = clock()
        self._protocol.send_ping(b"stormwatch")
        await self.flush()
        while b"stormwatch" not in self._frames.pongs:
            if not await self._read():
                raise ProbeFailed(Reason.ASSERTION, f"{self.farewell} instead of answering a ping")
        return clock() - began

    async def part(self, seconds: float) -> None:
        """Close with code 1000, and give the server so long to say the same."""
        if self._protocol.state.name != "OPEN":
            return
        try:
            async with asyncio.timeout(seconds):
                self._protocol.send_close(1000)
                await self.flush()
                while await self._read():
                    self._frames.messages.clear()
        except (OSError, ProbeFailed, TimeoutError):
            return  # all that was wanted has been seen

    async def _read(self) -> bool:
        """Read some more; False when nothing more will come."""
        if self._ended:
            return False
        data = await self._streams.reader.read(2**16)
        self._frames.feed(data)
        self._ended = not data or self._protocol.close_rcvd is not None
        try:
            await self.flush()
        except ConnectionError:
            if not self._ended:
                raise
        return not self._ended or bool(self._frames.messages)

    @property
    def close_code(self) -> int:
        """What the server closed with: 1005 without a code, 1006 without a word (RFC 6455 §7.1.5)."""
        received = self._protocol.close_rcvd
        return received.code if received is not None else 1006

    @property
    def farewell(self) -> str:
        """How the server closed, as the beginning of a sentence."""
        received = self._protocol.close_rcvd
        if received is None:
            return "the connection was closed without a close frame"
        reason = f" ({received.reason[:100]})" if received.reason else ""
        return f"the server closed with code {received.code}{reason}"


def read_status(head: bytes) -> int:
    """The status of an HTTP/1.1 head. Raises ProbeFailed(protocol) for anything else."""
    line = head.partition(b"\r\n")[0]
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if (
        version not in (b"HTTP/1.1", b"HTTP/1.0")
        or len(code) != 3
        or not code.isdigit()
        or rest[3:4] not in (b"", b" ")
    ):
        raise ProbeFailed(Reason.PROTOCOL, f"the upgrade was answered with {shown(line)}, and that is not HTTP")
    return int(code)


def shown(data: bytes) -> str:
    """The beginning of what came, for messages."""
    return repr(data[:100].decode("utf-8", "replace"))
