"""An HTTP service that gives the answers it is told, one after the other, or hangs, resets, talks nonsense; keeps what it got."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one request."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    how: str = "speak"
    """`speak`, `hang` until the service ends, `reset` the connection, `garbage` instead of HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class AnyService:
    """`with AnyService(first, second) as service:` answers in this order, the last answer again and again."""

    def __init__(self, *answers: Answer, decide: Callable[[Request], Answer] | None = None) -> None:
        """`decide` answers instead of the list: a receiver that looks at the payload."""
        self.requests: list[Request] = []
        self.answers = list(answers)
        self._decide = decide or (lambda _request: self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        self._ended = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.answer(self, Request(self.path, headers, body))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        """Keep a request and answer it."""
        with self._lock:
            self.requests.append(request)
            answer = self._decide(request)
        handler.close_connection = True
        if answer.how == "hang":
            self._ended.wait(60)
        elif answer.how == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.shutdown(socket.SHUT_RD)
        elif answer.how == "garbage":
            handler.wfile.write(b"\x00\xff 220 hello\r\n\r\n")
        else:
            body = answer.body.encode()
            handler.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
