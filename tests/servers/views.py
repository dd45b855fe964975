"""An HTTP server that is up for some who look, and down for others: they say who they are in the header X-From."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Views:
    """`with Views() as views:` listens on a free port of loopback until the block is left."""

    def __init__(self) -> None:
        self.down_for: set[str] = set()
        """Who is answered with 503."""
        self.looks: Counter[str] = Counter()
        """How often each looked."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                who = self.headers.get("X-From", "")
                outer.looks[who] += 1
                self.send_response(503 if who in outer.down_for else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden method
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

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
