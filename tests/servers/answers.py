"""A server of JSON that answers what a test says, or does not: for clients of Prometheus and Alertmanager."""

import json
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Answers:
    """`with Answers({"/api/v1/alerts": {…}}) as server:` listens on a free port of loopback until the block is left."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        """By path; may be changed at any time."""
        self.status = 200
        """Of every answer."""
        self.clock: float | None = None
        """Unix time that the header `Date` says. None: the true one."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(outer.answers.get(self.path.partition("?")[0])).encode()
                self.send_response_only(outer.status)
                self.send_header("Date", formatdate(outer.clock, usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
