"""AMQP 0-9-1 as a plain dialogue over streams that are already there. Needs the extra `rabbitmq`; imported where it is used.

Frames are read and written by pamqp, the codec below aio-pika. The client above it is not used: it lives in tasks of its own
that outlast a cancelled run, while a probe asks one thing after the other. Protocol: https://www.rabbitmq.com/amqp-0-9-1-reference.
"""

import struct
from typing import Final, TypeVar

from pamqp import body, commands, exceptions, frame, header
from pamqp.base import Frame
from pamqp.common import FieldValue

from stormwatch.probes.backend import Streams

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
LARGEST: Final = 131072
"""Bytes of a frame that we accept: what RabbitMQ offers by default."""
_CHANNEL: Final = 1
_TYPES: Final = frozenset({1, 2, 3, 8})

F = TypeVar("F", bound=Frame)


class Garbled(Exception):
    """What came is no AMQP frame."""


class Refused(Exception):
    """The broker closed the channel or the connection, with its reply code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Blocked(Exception):
    """The broker takes no messages from publishers: it is short of memory or disk."""


class Session:
    """One connection and one channel."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._bodies: list[bytes] = []
        self.version = ""
        """The broker's, as it tells in its greeting."""

    async def greet(self) -> str:
        """Say what we speak. The mechanisms of login that the broker knows."""
        self._streams.writer.write(PROTOCOL_HEADER)
        start = await self._next(commands.Connection.Start)
        properties = start.server_properties or {}
        self.version = f"{properties.get('product', '')} {properties.get('version', '')}".strip()
        return start.mechanisms

    async def log_in(self, mechanism: str, response: str, virtual_host: str) -> None:
        """Log in, and open the virtual host and a channel."""
        properties: dict[str, FieldValue] = {
            "product": "stormwatch",
            "capabilities": {"authentication_failure_close": True, "connection.blocked": True},
        }
        self._send(
            commands.Connection.StartOk(client_properties=properties, mechanism=mechanism, response=response),
            0,
        )
        tune = await self._next(commands.Connection.Tune)
        self._send(
            commands.Connection.TuneOk(channel_max=min(tune.channel_max or 8, 8), frame_max=LARGEST, heartbeat=0), 0
        )
        self._send(commands.Connection.Open(virtual_host=virtual_host), 0)
        await self._next(commands.Connection.OpenOk)
        await self.open_channel()

    async def open_channel(self) -> None:
        """A new channel, after the broker closed the one before."""
        self._send(commands.Channel.Open())
        await self._next(commands.Channel.OpenOk)

    async def look_at_queue(self, name: str) -> tuple[int, int]:
        """How many messages wait in a queue, and how many consumers it has. Raises Refused(404) when there is none."""
        self._send(commands.Queue.Declare(queue=name, passive=True))
        declared = await self._next(commands.Queue.DeclareOk)
        return declared.message_count or 0, declared.consumer_count or 0

    async def listen(self, exchange: str, routing_key: str) -> str:
        """A queue of our own, which goes with the connection, and its consumer. The key that leads there."""
        self._send(commands.Queue.Declare(exclusive=True, auto_delete=True))
        queue = (await self._next(commands.Queue.DeclareOk)).queue or ""
        if exchange:
            self._send(commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=routing_key))
            await self._next(commands.Queue.BindOk)
        self._send(commands.Basic.Consume(queue=queue, no_ack=True, exclusive=True))
        await self._next(commands.Basic.ConsumeOk)
        return routing_key if exchange else queue

    async def publish(self, exchange: str, routing_key: str, message: bytes) -> bool:
        """Send a message, and wait until the broker answers for it. Raises Refused when it can be led to no queue."""
        self._send(commands.Confirm.Select())
        await self._next(commands.Confirm.SelectOk)
        properties = commands.Basic.Properties(content_type="text/plain", delivery_mode=1, app_id="stormwatch")
        self._send(commands.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True))
        self._streams.writer.write(
            frame.marshal(header.ContentHeader(body_size=len(message), properties=properties), _CHANNEL)
        )
        self._streams.writer.write(frame.marshal(body.ContentBody(message), _CHANNEL))
        while True:
            said = await self._receive()
            if isinstance(said, commands.Basic.Ack | commands.Basic.Nack):
                return isinstance(said, commands.Basic.Ack)

    async def wait_for(self, message: bytes) -> None:
        """Until that message is delivered; others are passed over."""
        while message not in self._bodies:
            self._bodies.clear()
            await self._receive()

    async def close(self) -> None:
        """Say goodbye: brokers write connections that just end to their logs."""
        self._send(commands.Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0), 0)
        await self._next(commands.Connection.CloseOk)

    def _send(self, method: Frame, channel: int = _CHANNEL) -> None:
        self._streams.writer.write(frame.marshal(method, channel))

    async def _next(self, wanted: type[F]) -> F:
        while True:
            said = await self._receive()
            if isinstance(said, wanted):
                return said

    async def _receive(self) -> object:
        """The next frame. What ends a conversation is raised, contents are kept."""
        head = await self._streams.reader.readexactly(7)
        said = read_frame(head, await self._streams.reader.readexactly(size_of(head) + 1))
        match said:
            case commands.Connection.Close():
                self._send(commands.Connection.CloseOk(), 0)
                raise Refused(said.reply_code or 0, said.reply_text)
            case commands.Channel.Close():
                self._send(commands.Channel.CloseOk())
                raise Refused(said.reply_code or 0, said.reply_text)
            case commands.Basic.Return():
                raise Refused(said.reply_code or 0, said.reply_text)
            case commands.Connection.Blocked():
                raise Blocked(said.reason)
            case body.ContentBody():
                self._bodies.append(said.value or b"")
            case _:
                pass
        return said


def size_of(head: bytes) -> int:
    """Bytes of a frame's payload, from its first seven. Raises Garbled for a head that is none."""
    kind, _, size = struct.unpack(">BHI", head)
    if head.startswith(b"AMQP"):
        raise Garbled(f"a server that wants another version of AMQP: {'-'.join(str(each) for each in head[4:])}")
    if kind not in _TYPES or size > LARGEST:
        raise Garbled(f"a frame that begins with {head!r}")
    return size


def read_frame(head: bytes, rest: bytes) -> object:
    """A whole frame. Raises Garbled for one that cannot be read."""
    if not rest.endswith(b"\xce"):
        raise Garbled("a frame without its end")
    if head[0] == 8:  # a heartbeat says nothing
        return None
    try:
        return frame.unmarshal(head + rest)[2]
    except (
        exceptions.PAMQPException,
        struct.error,
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Garbled(f"a frame that cannot be read: {type(error).__name__}") from error
