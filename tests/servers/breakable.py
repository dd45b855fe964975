"""A service that an experiment breaks and heals: it answers 503 while it is broken, and says odd things where it is asked to."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Breakable:
    """`with Breakable() as shop:` POST /break and DELETE /break break and heal it, GET /health says how it is.

    GET /odd calls itself JSON and is none, /hang answers when the service ends, /echo says what Authorization was, /fail is 500.
    """

    def __init__(self) -> None:
        self.broken = False
        self.requests: list[tuple[str, str]] = []
        """(method, path), in order."""
        self.first_broken_look: float | None = None
        """Unix time of the first 503 of /health."""
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.command, self.path))
                status, kind, body = outer.answer(self.command, self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                # Who asked may not have waited.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, path: str, authorization: str) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        match method, path:
            case "POST", "/break":
                self.broken = True
            case "DELETE", "/break":
                self.broken = False
            case "GET", "/odd":
                return 200, "application/json", b"<html>not JSON</html>"
            case "GET", "/json":
                return 200, "application/json", b'{"queue": {"length": 7}, "nodes": [{"up": true}, {"up": true}]}'
            case "GET", "/echo":
                return 200, "text/plain", f"you sent {authorization}".encode()
            case _, "/hang":
                self._ended.wait(60)
            case _, "/fail":
                return 500, "text/plain", b"no"
            case "GET", "/health" if self.broken:
                self.first_broken_look = self.first_broken_look or time.time()
                return 503, "text/plain", b"broken"
            case _:
                pass
        return 200, "text/plain", b"well"

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
