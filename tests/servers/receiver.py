"""A webhook receiver: keeps each JSON body with the moment it came, answers 200 or what it is told to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Receiver:
    """`with Receiver() as receiver:` listens on a free port of loopback until the block is left."""

    def __init__(self) -> None:
        self.received: list[tuple[float, Any]] = []
        """(unix time, JSON body) of each request that was answered with 200."""
        self.refuse_next = 0
        """How many of the next requests are answered with 503."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if outer.refuse_next:
                    outer.refuse_next -= 1
                    self.send_response(503)
                else:
                    outer.received.append((time.time(), json.loads(body)))
                    self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def alerts(self, status: str, **labels: str) -> list[tuple[float, dict[str, Any]]]:
        """The alerts of all webhook payloads so far that have this status and these labels, with their arrival."""
        return [
            (at, alert)
            for at, body in list(self.received)
            for alert in body.get("alerts", [])
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

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
