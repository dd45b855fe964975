"""A server that says back whatever it is told, in the words of the protocol that it was told it in: what leaks, leaks here."""

import base64
import json
import re
import socketserver
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import unquote

Talk = Callable[["Line"], None]

_LONGEST = 2**16


class Line:
    """One connection."""

    def __init__(self, handler: socketserver.StreamRequestHandler) -> None:
        self._handler = handler

    def say(self, data: bytes) -> None:
        """Send."""
        self._handler.wfile.write(data)

    def line(self) -> bytes:
        """The next line without its end; empty when there is none."""
        return self._handler.rfile.readline(_LONGEST).rstrip(b"\r\n")

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        return self._handler.rfile.read(size)

    def some(self) -> bytes:
        """What has come."""
        return self._handler.connection.recv(_LONGEST)


def http(line: Line) -> None:
    """The request in the head and in the body; the first part of the path is the status. Repeated for each request."""
    while request := line.line():
        head = [request]
        while each := line.line():
            head.append(each)
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in head[1:])}
        size = int(fields.get(b"content-length", b"0"))
        if b"100-continue" in fields.get(b"expect", b""):
            line.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = line.exactly(size) if size else b""
        told = b"\n".join((*head, b"", body))
        answer = json.dumps(
            {
                "you_sent": told.decode("utf-8", "replace"),
                "which_is": unquote(told.decode("utf-8", "replace")),
                "in_base64": base64.b64encode(told).decode(),
                "decoded": [_decoded(each) for each in re.findall(rb"Basic (\S+)", told)],
            }
        ).encode()
        if size and b'"' in body:
            answer = body + answer
        match = re.search(rb" /(\d{3})(?:[/? ])", request)
        status = match[1] if match else b"200"
        echoed = b"".join(b"X-Echo-%d: %s\r\n" % (number, each) for number, each in enumerate(head) if len(each) < 4000)
        line.say(
            b"HTTP/1.1 %s Parrot says %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (status, head[0], echoed, len(answer))
            + answer
        )


def _decoded(text: bytes) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def raw(line: Line) -> None:
    """The same bytes."""
    while data := line.some():
        line.say(data)


def redis(line: Line) -> None:
    """An error that quotes the command."""
    while data := line.some():
        line.say(b"-ERR you sent %s\r\n" % data.replace(b"\r\n", b" "))


def nats(line: Line) -> None:
    """Greets, and quotes."""
    line.say(b'INFO {"server_id":"P","version":"2.10.0","max_payload":1048576,"auth_required":true}\r\n')
    while said := line.line():
        line.say(b"-ERR 'Authorization Violation: you sent %s'\r\n" % said)


def smtp(line: Line) -> None:
    """Greets, offers logins, and refuses them in the words that were sent."""
    line.say(b"220 parrot ESMTP\r\n")
    while said := line.line():
        if said[:4].upper() in (b"EHLO", b"LHLO"):
            line.say(b"250-parrot\r\n250 AUTH PLAIN LOGIN\r\n")
        else:
            line.say(b"535 5.7.8 you sent %s, which is %s\r\n" % (said, _decoded(said.split()[-1]).encode()))


def imap(line: Line) -> None:
    """As `smtp`."""
    line.say(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN] parrot\r\n")
    while said := line.line():
        tag, _, command = said.partition(b" ")
        if command.upper().startswith(b"CAPABILITY"):
            line.say(b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n%s OK done\r\n" % tag)
            continue
        heard = _decoded(said.split()[-1]).replace("\0", " ").encode()
        line.say(b"%s NO [AUTHENTICATIONFAILED] you sent %s, which is %s\r\n" % (tag, command, heard))


class Parrot:
    """`with Parrot(http) as parrot:` listens on a free port of loopback until the block is left."""

    def __init__(self, talk: Talk) -> None:
        self.connections = 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                outer.connections += 1
                try:
                    talk(Line(self))
                except OSError:
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"

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
