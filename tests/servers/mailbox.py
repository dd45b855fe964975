"""An SMTP server (RFC 5321) that keeps mail; it can offer STARTTLS and AUTH PLAIN, and refuse recipients."""

import base64
import contextlib
import email
import email.policy
import socketserver
import ssl
import threading
from email.message import EmailMessage
from types import TracebackType
from typing import Self


class Mailbox:
    """`with Mailbox() as mailbox:` listens on a free port of loopback."""

    def __init__(self, *, context: ssl.SSLContext | None = None, login: str = "") -> None:
        """`context` makes it offer STARTTLS; `login`, `name:password`, makes it want that."""
        self.mails: list[EmailMessage] = []
        self.refuse: list[str] = []
        """Replies to the next RCPT commands, instead of taking them."""
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # the client may go at any time
                    outer.talk(self, stack)

        self._context = context
        self._login = login
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def talk(self, handler: socketserver.StreamRequestHandler, stack: contextlib.ExitStack) -> None:
        """One connection."""
        stream, wire, is_safe, is_known = handler.rfile, handler.request, False, not self._login

        def say(text: str) -> None:
            wire.sendall(f"{text}\r\n".encode())

        say("220 mailbox ESMTP")
        while line := stream.readline().decode().strip():
            verb = line.split(maxsplit=1)[0].upper()
            if verb == "EHLO":
                offers = ["STARTTLS"] if self._context and not is_safe else []
                offers += ["AUTH PLAIN"] if self._login and (is_safe or not self._context) else []
                lines = ["mailbox", *offers]
                for each in lines[:-1]:
                    say(f"250-{each}")
                say(f"250 {lines[-1]}")
            elif verb == "STARTTLS" and self._context:
                say("220 go ahead")
                wire = stack.enter_context(self._context.wrap_socket(wire, server_side=True))
                stream, is_safe = stack.enter_context(wire.makefile("rb")), True
            elif verb == "AUTH":
                _, name, password = base64.b64decode(line.split()[2]).decode().split("\0")
                is_known = f"{name}:{password}" == self._login
                say("235 welcome" if is_known else "535 5.7.8 wrong credentials")
            elif not is_known:
                say("530 5.7.0 authentication required")
            elif verb == "RCPT" and self.refuse:
                say(self.refuse.pop(0))
            elif verb == "DATA":
                say("354 go ahead")
                body = b""
                while (row := stream.readline()) != b".\r\n":
                    body += row.removeprefix(b".") if row.startswith(b"..") else row
                self.mails.append(email.message_from_bytes(body, policy=email.policy.default))  # type: ignore[arg-type]
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

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
