"""A small HTTP/3 server on loopback."""

import contextlib
import socket
from collections.abc import AsyncGenerator

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

from tests.servers.certificates import Issued


class _Answering(QuicConnectionProtocol):
    """Answers each request with its path."""

    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for each in self._http.handle_event(event):
            if isinstance(each, HeadersReceived):
                body = b"you asked for " + dict(each.headers)[b":path"]
                head = [(b":status", b"200"), (b"content-length", str(len(body)).encode()), (b"server", b"storm")]
                self._http.send_headers(each.stream_id, head)
                self._http.send_data(each.stream_id, body, end_stream=True)
                self.transmit()


def free_udp_port() -> int:
    """One that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.asynccontextmanager
async def serving_quic(issued: Issued) -> AsyncGenerator[int]:
    """Its UDP port."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(issued.chain_file, issued.key_file)
    port = free_udp_port()
    server = await serve("127.0.0.1", port, configuration=configuration, create_protocol=_Answering)
    try:
        yield port
    finally:
        server.close()
