"""What a client says to an SMTP server, command by command, and what each reply means for the outcome."""

import asyncio
import re
from base64 import b64encode
from contextlib import suppress
from typing import Final

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.mail_server import MailServer, Wire, plain, xoauth2
from stormwatch.probes.result import Reason
from stormwatch.probes.smtp_reply import LINE, LINES, Reply, extensions, offers, read_line, read_reply

GOODBYE: Final = 0.5
"""Seconds that the answer to QUIT is waited for: whoever does not say it is logged as a lost connection."""

_LOGIN_REFUSED: Final = frozenset({530, 534, 535, 538})
"""RFC 4954 §6: codes that speak of who we are. 454 is a temporary failure of the server."""


class SmtpSession:
    """One conversation."""

    def __init__(self, server: MailServer, wire: Wire, name: str) -> None:
        self.offered: tuple[str, ...] = ()
        """Extensions of the last EHLO."""
        self._server = server
        self._wire = wire
        self._name = name

    async def ask(self, command: str) -> Reply:
        """Send a line, and read the reply to it."""
        await self._wire.send(command.encode() + b"\r\n")
        return await self.read()

    async def read(self) -> Reply:
        """The next reply."""
        lines: list[bytes] = []
        more = True
        while more:
            lines.append(await self._wire.line(LINE))
            _, _, more = read_line(lines[-1])
            if len(lines) > LINES:
                raise ProbeFailed(Reason.PROTOCOL, f"a reply has more than {LINES} lines")
        return read_reply(lines)

    async def greeting(self) -> str:
        """The server's first words, without the code."""
        reply = await self.read()
        if reply.code != 220:
            raise self.refused("the greeting", reply)
        return " ".join(reply.lines)

    async def hello(self) -> None:
        """EHLO."""
        reply = await self.ask(f"EHLO {self._name}")
        if reply.code != 250:
            raise self.refused("EHLO", reply)
        self.offered = extensions(reply)

    async def ask_for_tls(self) -> None:
        """STARTTLS: the handshake comes next."""
        if not offers(self.offered, "STARTTLS"):
            raise ProbeFailed(
                Reason.TLS,
                f"{self._server.backend} does not offer STARTTLS: it offers {', '.join(self.offered) or 'nothing'}",
            )
        reply = await self.ask("STARTTLS")
        if reply.code != 220:
            raise ProbeFailed(Reason.TLS, f"{self._server.backend} refused STARTTLS: it said {reply}")

    async def takes_plain_login(self) -> str:
        """How the server would take a password on this connection; empty when it would not. None is sent.

        A login is begun without its first message, and taken back where the server asks for it: no failed attempt is
        counted against us.
        """
        for each in self.offered:
            if each.split()[0] == "AUTH" and {"PLAIN", "LOGIN"} & set(each.split()[1:]):
                return f"offers {each}"
        reply = await self.ask("AUTH PLAIN")
        if reply.code != 334:
            return ""
        await self.ask("*")
        return f"answered AUTH PLAIN with {reply}"

    async def log_in(self) -> None:
        """AUTH, by the mechanism that is asked for or that is offered. Raises ProbeBroken when we are not let in."""
        backend = self._server.backend
        username, password = backend.username, backend.password
        mechanism = self._mechanism()
        if mechanism == "PLAIN":
            reply = await self.ask(f"AUTH PLAIN {_encoded(plain(username, password))}")
        elif mechanism == "XOAUTH2":
            reply = await self.ask(f"AUTH XOAUTH2 {_encoded(xoauth2(username, password))}")
            if reply.code == 334:  # why not, in base64; the refusal comes after an empty answer
                reply = await self.ask("")
        else:
            reply = await self.ask("AUTH LOGIN")
            for each in (username, password):
                if reply.code == 334:
                    reply = await self.ask(_encoded(each.encode()))
        if reply.code != 235:
            raise self.refused("the login", reply)

    def _mechanism(self) -> str:
        wanted = self._server.mechanism.upper()
        if wanted == "AUTO":
            wanted = (
                "LOGIN" if offers(self.offered, "AUTH LOGIN") and not offers(self.offered, "AUTH PLAIN") else "PLAIN"
            )
        if not offers(self.offered, f"AUTH {wanted}"):
            seen = next((each for each in self.offered if each.startswith("AUTH")), "no AUTH")
            raise ProbeFailed(
                Reason.ASSERTION, f"{self._server.backend} offers {seen}, wanted a login by AUTH {wanted}"
            )
        return wanted

    async def body(self, message: bytes) -> Reply:
        """What follows DATA."""
        await self._wire.send(stuffed(message) + b".\r\n")
        return await self.read()

    async def leave(self, seconds: float) -> None:
        """QUIT, if that is quick."""
        with suppress(TimeoutError, EOFError, OSError, ProbeFailed):
            async with asyncio.timeout(min(GOODBYE, seconds)):
                await self.ask("QUIT")

    def refused(self, what: str, reply: Reply) -> Exception:
        """Another reply than wanted, in the server's words: who we are is our matter, all else is the server's."""
        if reply.code in _LOGIN_REFUSED:
            return self._server.backend.refused_login(str(reply))
        if not self._is_possible(reply):
            return ProbeFailed(Reason.PROTOCOL, f"{self._server.backend} answered {what} with {reply}")
        return ProbeFailed(Reason.ASSERTION, f"{self._server.backend} refused {what}: it said {reply}")

    @staticmethod
    def _is_possible(reply: Reply) -> bool:
        return reply.code >= 400


def stuffed(message: bytes) -> bytes:
    """Lines as they travel after DATA (RFC 5321 §4.5.2): CRLF at their ends, one more dot before a dot."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines)


def _encoded(data: bytes) -> str:
    return b64encode(data).decode()
