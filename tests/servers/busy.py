"""A service that can do only so much at a time: whoever asks beyond that waits for a turn."""

import contextlib
import ssl
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Busy:
    """What is known of one that runs."""

    secure: bool
    seconds: float
    """What one answer takes."""
    first: float
    """What the first answer takes on top."""
    status: int
    headers: dict[str, str]
    port: int = 0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(
        default_factory=list[tuple[str, str, dict[str, str], bytes]]
    )
    """Method, path, headers and body of each request."""
    waiting: int = 0
    """How many requests are there that are not answered yet."""
    turns: threading.Lock = field(default_factory=threading.Lock)
    counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}/"

    def count(self, by: int) -> None:
        """One more, or one fewer, waits."""
        with self.counting:
            self.waiting += by


@contextlib.contextmanager
def serving(
    *,
    seconds: float = 0.0,
    first: float = 0.0,
    status: int = 200,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Generator[Busy]:
    """One on a free port of loopback, in threads: tests without a loop need it too."""
    known = Busy(secure=tls is not None, seconds=seconds, first=first, status=status, headers=headers or {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known.count(1)
            with known.turns:
                known.asked.append((self.command, self.path, dict(self.headers), body))
                time.sleep(known.seconds + (known.first if len(known.asked) == 1 else 0))
            known.count(-1)
            self.send_response(known.status)
            for name, value in {**known.headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST = do_HEAD = answer  # noqa: N815 - as the library calls them

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library calls it
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that is killed does not say good-bye."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        known.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="busy")
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
