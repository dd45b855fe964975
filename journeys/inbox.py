"""A mail inbox to wait for what a site sends: over IMAP (RFC 3501), only what came after it was opened."""

import contextlib
import email
import email.policy
import html
import imaplib
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any, Final, Self, cast
from urllib.parse import unquote, urlsplit

import pytest

LARGEST: Final = 5 * 2**20
"""Bytes of a mail up to which it is read."""
_LINK = re.compile(r"https?://[^\s<>\"')\]]+")
_HREF = re.compile(r"""href\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class NoMail(TimeoutError):
    """The mail that was waited for did not come in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message."""

    sender: str
    recipients: str
    """All that the headers name: To, Cc, and where it was delivered."""
    subject: str
    text: str
    """What a person reads: the plain part, or the HTML without its tags."""
    links: tuple[str, ...]
    """Every address in it, once each."""

    def code(self, pattern: str = r"\b\d{4,8}\b") -> str:
        """The first text that fits (its first group, if it has one). Raises AssertionError if there is none."""
        found = re.search(pattern, self.text)
        assert found, f"the mail {self.subject!r} has nothing that fits {pattern}"
        return found[1] if found.re.groups else found[0]

    def link(self, containing: str = "") -> str:
        """The first address with this in it. Raises AssertionError if there is none."""
        found = next((link for link in self.links if containing in link), "")
        assert found, f"the mail {self.subject!r} has no link with {containing!r} in it; it has {len(self.links)} links"
        return found


class Inbox:
    """A mailbox, as it goes on from the moment in which it was opened.

    box = inbox("imaps://synthetic@mail.example/INBOX", secrets["mail-password"])
    page.get_by_role("button", name="Send me a link").click()
    page.goto(box.wait(to=email, subject="Reset your password", within=30).link("/reset"))
    """

    def __init__(self, connection: imaplib.IMAP4, folder: str) -> None:
        """`connection` is logged in. Raises pytest.UsageError where there is no such folder."""
        self._connection = connection
        code, _ = connection.select(f'"{folder}"', readonly=True)
        if code != "OK":
            raise pytest.UsageError(f"the mailbox has no folder {folder!r}: name one that it has, like INBOX")
        self._next = self._uid_next(folder)
        self._seen: dict[int, Mail] = {}

    @classmethod
    def open(cls, address: str, password: str, *, timeout: float = 10.0, context: ssl.SSLContext | None = None) -> Self:
        """Log in at `imaps://user@host[:port]/folder`, or `imap://…` with STARTTLS (without it on this machine alone).

        `timeout` in seconds stands over each step. Raises pytest.UsageError for an address that is none, a server that cannot
        be had and a login that is refused: none of it is the fault of what the journey visits.
        """
        parts = urlsplit(address)
        if parts.scheme not in {"imap", "imaps"} or not parts.hostname or not parts.username:
            raise pytest.UsageError(
                f"an inbox is written imaps://user@host/INBOX, not {parts.scheme}://{parts.hostname or '…'}"
            )
        folder = unquote(parts.path.strip("/")) or "INBOX"
        connection: imaplib.IMAP4 | None = None
        try:
            connection = _connect(
                parts.scheme, parts.hostname, parts.port, context or ssl.create_default_context(), timeout
            )
            connection.login(unquote(parts.username), password)
            return cls(connection, folder)
        except (OSError, imaplib.IMAP4.error) as error:
            if connection is not None:
                _leave(connection)
            said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
            raise pytest.UsageError(
                f"the inbox of {unquote(parts.username)} at {parts.hostname} could not be opened: {said.decode(errors='replace')}"
            ) from None
        except pytest.UsageError:
            if connection is not None:
                _leave(connection)
            raise

    def wait(
        self,
        *,
        to: str = "",
        subject: str = "",
        sender: str = "",
        matching: Callable[[Mail], bool] = lambda _mail: True,
        within: float = 30.0,
        every: float = 0.5,
    ) -> Mail:
        """The first mail since the inbox was opened that has all of it, in whatever case; looks every `every` seconds.

        Raises NoMail, a TimeoutError, that says what came instead, after `within` seconds.
        """
        until = time.monotonic() + within
        while True:
            self._connection.sock.settimeout(max(1.0, until - time.monotonic()))
            try:
                for mail in self._arrived():
                    if (
                        to.lower() in mail.recipients.lower()
                        and subject.lower() in mail.subject.lower()
                        and sender.lower() in mail.sender.lower()
                        and matching(mail)
                    ):
                        return mail
            except TimeoutError:
                raise NoMail(f"the mail server did not answer within {within:.3g} s") from None
            left = until - time.monotonic()
            if left <= 0:
                raise NoMail(self._missing(to, subject, sender, within))
            time.sleep(min(every, left))

    def close(self) -> None:
        """Log out. Never raises."""
        _leave(self._connection)

    def _missing(self, to: str, subject: str, sender: str, within: float) -> str:
        wanted = [f"{what} {value!r}" for what, value in (("to", to), ("subject", subject), ("from", sender)) if value]
        came = ", ".join(repr(mail.subject) for mail in list(self._seen.values())[-5:])
        return f"no mail{' ' if wanted else ''}{', '.join(wanted)} came within {within:.3g} s; " + (
            f"what came: {came}" if came else "none came at all"
        )

    def _arrived(self) -> Iterator[Mail]:
        # A server tells of new mail when it is asked for anything. `n:*` always has the last one in it, however old.
        _, found = self._connection.uid("SEARCH", f"UID {self._next}:*")
        for word in (found[0] or b"").split():
            number = int(word)
            if number >= self._next and number not in self._seen and (mail := self._read(number)) is not None:
                self._seen[number] = mail
        yield from list(self._seen.values())

    def _read(self, number: int) -> Mail | None:
        _, sizes = self._connection.uid("FETCH", str(number), "(RFC822.SIZE)")
        size = re.search(rb"RFC822\.SIZE (\d+)", sizes[0] or b"") if isinstance(sizes[0], bytes) else None
        if size is None or int(size[1]) > LARGEST:
            return None
        # PEEK: that we read it is nobody's business.
        _, parts = self._connection.uid("FETCH", str(number), "(BODY.PEEK[])")
        data = next((part[1] for part in parts if isinstance(part, tuple)), None)
        return None if data is None else read_mail(data)

    def _uid_next(self, folder: str) -> int:
        _, found = self._connection.status(f'"{folder}"', "(UIDNEXT)")
        number = re.search(rb"UIDNEXT (\d+)", found[0] or b"")
        if number is None:
            raise pytest.UsageError(
                "the mail server does not tell UIDNEXT (RFC 3501): what is new there cannot be known"
            )
        return int(number[1])


def read_mail(data: bytes) -> Mail:
    """A message from its bytes. Never raises for what a mail may hold."""
    message = cast("EmailMessage", email.message_from_bytes(data, policy=email.policy.default))  # type: ignore[arg-type]
    plain, rich = _part(message, "plain"), _part(message, "html")
    hrefs = [html.unescape(one or other) for one, other in _HREF.findall(rich)]
    links = [link for link in (*hrefs, *_LINK.findall(plain)) if link.startswith(("http://", "https://"))]
    return Mail(
        sender=_header(message, "From"),
        recipients=", ".join(_header(message, name) for name in ("To", "Cc", "Delivered-To", "X-Original-To")),
        subject=_header(message, "Subject"),
        text=plain or " ".join(html.unescape(_TAG.sub(" ", rich)).split()),
        links=tuple(dict.fromkeys(links)),
    )


def _part(message: EmailMessage, kind: str) -> str:
    try:
        part: Any = message.get_body((kind,))
        return str(part.get_content(errors="replace")) if part is not None else ""
    except (LookupError, ValueError, AttributeError):
        return ""  # a character set that nobody knows, a part that is none


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except (ValueError, AttributeError, IndexError):
        return ""  # a header that the standard library's parser trips over


def _connect(scheme: str, host: str, port: int | None, context: ssl.SSLContext, timeout: float) -> imaplib.IMAP4:
    if scheme == "imaps":
        return imaplib.IMAP4_SSL(host, port or 993, ssl_context=context, timeout=timeout)
    connection = imaplib.IMAP4(host, port or 143, timeout=timeout)
    if "STARTTLS" in connection.capabilities:
        try:
            connection.starttls(context)
        except BaseException:
            connection.shutdown()
            raise
    elif not _is_here(host):
        _leave(connection)
        raise OSError("it offers no STARTTLS, and a password is not sent in the clear")
    return connection


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _leave(connection: imaplib.IMAP4) -> None:
    with contextlib.suppress(OSError, imaplib.IMAP4.error):
        connection.logout()
