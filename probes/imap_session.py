"""What a client says to an IMAP server, command by command, and what each answer means for the outcome."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from typing import Final

from stormwatch.probes.backend import show_words
from stormwatch.probes.failure import ProbeBroken, ProbeFailed
from stormwatch.probes.imap_response import (
    LINE,
    LITERALS,
    Response,
    literal_size,
    numbers,
    quoted,
    read_response,
)
from stormwatch.probes.mail_server import MailServer, Wire, plain, xoauth2
from stormwatch.probes.result import Reason
from stormwatch.probes.watch import Watch

GOODBYE: Final = 0.5
"""Seconds that the answer to LOGOUT is waited for."""
RESPONSES: Final = 10_000
"""Responses to one command that are read."""

_NOT_OUR_LOGIN: Final = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN"})
"""RFC 5530: codes with which a refused login says nothing about who we are."""


class ImapSession:
    """One conversation."""

    def __init__(self, server: MailServer, wire: Wire) -> None:
        self.capabilities: frozenset[str] = frozenset()
        self.greeting = ""
        self._server = server
        self._wire = wire
        self._count = 0
        self._preauth = False

    async def begin(self, watch: Watch) -> None:
        """Everything before the login: the greeting, TLS where it begins now, the capabilities."""
        with watch.phase("greeting"):
            await self.greet()
            if self._server.tls == "starttls":
                await self.ask_for_tls()
        if self._server.tls == "starttls":
            await self._server.secure(watch, self._wire)
        with watch.phase("capability"):
            await self.ask_capabilities()

    async def greet(self) -> None:
        """The server's first words."""
        response = await self.read()
        if response.tag != "*" or response.name not in ("OK", "PREAUTH", "BYE"):
            raise ProbeFailed(Reason.PROTOCOL, f"the server greeted with {show_words(str(response))!r}, wanted * OK")
        self.greeting = response.text
        self._preauth = response.name == "PREAUTH"
        if response.name == "BYE":
            raise ProbeFailed(
                Reason.ASSERTION, f"{self._server.backend} refused to talk: it said {show_words(str(response))}"
            )

    async def ask_for_tls(self) -> None:
        """STARTTLS: the handshake comes next."""
        if self._preauth:  # RFC 9051 §11.1: TLS cannot begin any more, and somebody may have wanted just that
            raise ProbeFailed(
                Reason.TLS, f"{self._server.backend} greeted with PREAUTH, after which there is no STARTTLS"
            )
        done, _ = await self.ask("STARTTLS")
        if done.name != "OK":
            raise ProbeFailed(Reason.TLS, f"{self._server.backend} refused STARTTLS: it said {show_words(str(done))}")

    async def ask_capabilities(self) -> None:
        """What the server offers now. After TLS began, and after a login, it may be other things."""
        done, responses = await self.ask("CAPABILITY")
        self.must(done, "CAPABILITY")
        self.capabilities = frozenset(
            value.decode("ascii", "replace").upper()
            for each in responses
            if each.name == "CAPABILITY"
            for value in each.values
            if isinstance(value, bytes)
        )

    async def takes_plain_login(self) -> str:
        """How the server would take a password on this connection; empty when it would not. None is sent."""
        if "LOGINDISABLED" not in self.capabilities:
            return "does not say LOGINDISABLED"
        done, _ = await self.ask("AUTHENTICATE PLAIN", "*")
        return "" if done.name == "NO" else f"answered AUTHENTICATE PLAIN with {show_words(str(done))}"

    async def log_in(self) -> None:
        """By the mechanism that is asked for or that is offered. Raises ProbeBroken when we are not let in."""
        if self._preauth:
            return
        backend = self._server.backend
        username, password = backend.username, backend.password
        mechanism = self._server.mechanism
        if mechanism == "auto":
            mechanism = "plain" if "AUTH=PLAIN" in self.capabilities else "login"
        if mechanism == "xoauth2":
            done, _ = await self._authenticate("XOAUTH2", xoauth2(username, password))
        elif mechanism == "plain":
            done, _ = await self._authenticate("PLAIN", plain(username, password))
        elif "LOGINDISABLED" in self.capabilities:
            raise ProbeFailed(Reason.ASSERTION, f"{backend} offers no login on this connection (LOGINDISABLED)")
        else:
            done, _ = await self.ask(f"LOGIN {quoted(username)} {quoted(password)}")
        if done.name == "OK":
            return
        if done.name == "NO" and done.code.partition(" ")[0] not in _NOT_OUR_LOGIN:
            raise backend.refused_login(str(done))
        raise ProbeFailed(Reason.ASSERTION, f"{backend} refused the login: it said {show_words(str(done))}")

    async def _authenticate(self, mechanism: str, first: bytes) -> tuple[Response, list[Response]]:
        said = b64encode(first).decode()
        if "SASL-IR" in self.capabilities:
            return await self.ask(f"AUTHENTICATE {mechanism} {said}", "")
        return await self.ask(f"AUTHENTICATE {mechanism}", said, "")

    async def open(self, mailbox: str, *, writing: bool = False) -> int:
        """Open a mailbox, whose name is quoted already; how many messages it has."""
        done, responses = await self.ask(f"{'SELECT' if writing else 'EXAMINE'} {mailbox}")
        if done.name != "OK":
            raise ProbeFailed(
                Reason.ASSERTION,
                f"{self._server.backend} refused to open mailbox {mailbox}: it said {show_words(str(done))}",
            )
        return next((each.number or 0 for each in responses if each.name == "EXISTS"), 0)

    async def search(self, program: str) -> tuple[int, ...]:
        """The UIDs of the messages that a search finds."""
        done, responses = await self.ask(f"UID SEARCH {program}")
        self.must(done, "the search")
        return tuple(sorted(uid for each in responses if each.name == "SEARCH" for uid in numbers(each.values)))

    async def count(self, program: str) -> int:
        """How many messages a search finds; a large mailbox is counted by the server where it can (RFC 4731)."""
        if "ESEARCH" not in self.capabilities:
            return len(await self.search(program))
        done, responses = await self.ask(f"UID SEARCH RETURN (COUNT) {program}")
        self.must(done, "the search")
        for each in responses:
            for name, value in zip(each.values, each.values[1:], strict=False):
                if each.name == "ESEARCH" and name == b"COUNT" and isinstance(value, bytes) and value.isdigit():
                    return int(value[:10])
        raise self._server.backend.garbled("a search whose answer has no count")

    async def delete(self, uids: tuple[int, ...]) -> None:
        """Delete some messages, and no others that somebody marked (RFC 4315); without that extension they are only marked."""
        among = ",".join(map(str, uids))
        done, _ = await self.ask(f"UID STORE {among} +FLAGS.SILENT (\\Deleted)")
        self.must(done, "to delete a message")
        if "UIDPLUS" in self.capabilities:
            done, _ = await self.ask(f"UID EXPUNGE {among}")
            self.must(done, "to expunge a message")

    async def idle(self, seconds: float) -> None:
        """Wait until the mailbox changes, or so long (RFC 2177)."""
        tag = self._tag()
        await self._wire.send(f"{tag} IDLE\r\n".encode())
        while (response := await self.read()).tag != "+":
            if response.tag == tag:
                raise ProbeFailed(
                    Reason.ASSERTION, f"{self._server.backend} refused IDLE: it said {show_words(str(response))}"
                )
        reading = asyncio.ensure_future(self._until_news())
        try:
            await asyncio.wait({reading}, timeout=seconds)
            await self._wire.send(b"DONE\r\n")
            # Whatever is half read stays with the task that reads it: it goes on until the command's end.
            while True:
                response = await reading
                if response.tag == tag:
                    return
                reading = asyncio.ensure_future(self.read())
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reading

    async def _until_news(self) -> Response:
        while True:
            response = await self.read()
            if response.tag != "*" or response.name in ("EXISTS", "RECENT", "BYE"):
                return response

    async def ask(self, command: str, *more: str) -> tuple[Response, list[Response]]:
        """Send a command, and `more`, line by line, when the server wants it; the end of it, and what came before."""
        tag = self._tag()
        await self._wire.send(f"{tag} {command}\r\n".encode())
        lines, responses = iter(more), list[Response]()
        while True:
            response = await self.read()
            if response.tag == tag:
                return response, responses
            if response.tag == "+":
                await self._wire.send(next(lines, "*").encode() + b"\r\n")
            elif response.tag == "*":
                responses.append(response)
            else:
                raise self._server.backend.garbled(f"an answer to {response.tag!r}, which nobody asked")
            if len(responses) > RESPONSES:
                raise ProbeFailed(Reason.PROTOCOL, f"more than {RESPONSES} responses to one command")
            if response.name == "BYE":
                raise ProbeFailed(Reason.RESET, f"{self._server.backend} hung up: it said {show_words(str(response))}")

    async def read(self) -> Response:
        """The next response, with its literals."""
        data = await self._wire.line(LINE)
        line, literals = data, 0
        while (size := literal_size(line)) is not None:
            literals += 1
            if literals > LITERALS:
                raise ProbeFailed(Reason.PROTOCOL, f"more than {LITERALS} literals in one response")
            data += await self._wire.exactly(size)
            line = await self._wire.line(LINE)
            data += line
        return read_response(data)

    async def leave(self, seconds: float) -> None:
        """LOGOUT, if that is quick."""
        with suppress(TimeoutError, EOFError, OSError, ProbeFailed, ProbeBroken):
            async with asyncio.timeout(min(GOODBYE, seconds)):
                await self.ask("LOGOUT")

    def must(self, done: Response, what: str) -> None:
        """Raise ProbeFailed when a command was not done."""
        if done.name != "OK":
            raise ProbeFailed(
                Reason.ASSERTION, f"{self._server.backend} refused {what}: it said {show_words(str(done))}"
            )

    def _tag(self) -> str:
        self._count += 1
        return f"s{self._count}"
