"""A name server that speaks DNS over QUIC (RFC 9250) and does exactly what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import dns.message
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from tests.servers.certificates import Issued
from tests.servers.nameserver import Behaviour
from tests.servers.process import free_port

RESET = b"reset"
"""An answer that is none: the stream is reset."""
CLOSE = b"close"
"""An answer that is none: the connection is closed."""


@contextlib.asynccontextmanager
async def quic_naming(behaviour: Behaviour, issued: Issued, *, alpn: str = "doq") -> AsyncGenerator[str]:
    """A server on a free port of loopback; gives its address as options take it."""

    class Server(QuicConnectionProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._received: dict[int, bytes] = {}

        def quic_event_received(self, event: QuicEvent) -> None:
            if not isinstance(event, StreamDataReceived):
                return
            self._received[event.stream_id] = self._received.get(event.stream_id, b"") + event.data
            if not event.end_stream:
                return
            wire = self._received[event.stream_id]
            assert int.from_bytes(wire[:2]) == len(wire) - 2
            assert wire[2:4] == b"\0\0"
            said = behaviour(dns.message.from_wire(wire[2:]), "quic")
            if said == RESET:
                self._quic.reset_stream(event.stream_id, 3)
            elif said == CLOSE:
                self._quic.close(error_code=2, reason_phrase="go away")
            elif isinstance(said, bytes):
                self._quic.send_stream_data(event.stream_id, len(said).to_bytes(2) + said, end_stream=True)
            self.transmit()

    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn])
    configuration.load_cert_chain(issued.chain_file, issued.key_file)
    port = free_port()
    server = await serve("127.0.0.1", port, configuration=configuration, create_protocol=Server)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        await asyncio.sleep(0)
