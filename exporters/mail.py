"""E-mail by SMTP: one incident is one thread, every message is text and HTML, and a repeated one has the same Message-ID."""

import asyncio
import html
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from stormwatch.exporters.channel import TIMEOUT, Failed, Receipt, Refused, Sending, moment
from stormwatch.exporters.message import Message, facts_of, shortened, subject_of, text_of

Tls = Literal["starttls", "tls", "none"]
LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    tls: Tls = "starttls"
    """`starttls` and `tls` verify the server's certificate; neither falls back to plain text."""
    username: str = ""
    password: str = ""


class MailChannel:
    """Some addresses, by one server."""

    pause = 0.0
    acknowledgements = True
    each_alert = False

    def __init__(
        self,
        name: str,
        server: MailServer,
        *,
        sender: str,
        to: Sequence[str],
        ca_file: Path | None = None,
    ) -> None:
        """`ca_file` holds the authorities that sign the server's certificate, as PEM; the system's by default."""
        self.name = name
        self._server = server
        self._sender = sender
        self._to = tuple(to)
        self._ca_file = ca_file

    async def send(self, sending: Sending) -> Receipt:
        """Hand the message over. The library blocks, so it has a thread for as long as its time-outs allow."""
        mail = compose(sending, sender=self._sender, to=self._to)
        return Receipt(said=await asyncio.to_thread(self._hand_over, mail), reference=mail["Message-ID"])

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _hand_over(self, mail: EmailMessage) -> str:
        server = self._server
        try:
            with self._connect() as smtp:
                if server.tls == "starttls":
                    smtp.starttls(context=self._trust())
                if server.username:
                    smtp.login(server.username, server.password)
                refused = smtp.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            codes = {address: _shown(code, said) for address, (code, said) in error.recipients.items()}
            if all(code >= 500 for code, _ in error.recipients.values()):
                raise Refused(f"every recipient is refused: {codes}") from error
            raise Failed(f"no recipient is taken: {codes}") from error
        except smtplib.SMTPResponseException as error:
            said = _shown(error.smtp_code, error.smtp_error)
            if error.smtp_code >= 500:
                raise Refused(said) from error
            raise Failed(said) from error
        except smtplib.SMTPNotSupportedError as error:
            raise Refused(f"{server.host}:{server.port} does not offer what is asked for: {error}") from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise Failed(f"{server.host}:{server.port}: {type(error).__name__}: {error}") from error
        if refused:
            some = {address: _shown(code, said) for address, (code, said) in refused.items()}
            return f"taken, Message-ID {mail['Message-ID']}; but not for {some}"
        return f"taken, Message-ID {mail['Message-ID']}"

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        if server.tls == "tls":
            return smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT, context=self._trust())
        return smtplib.SMTP(server.host, server.port, timeout=TIMEOUT)


def compose(sending: Sending, *, sender: str, to: Sequence[str]) -> EmailMessage:
    """The mail for a message."""
    message = sending.message
    domain = sender.rpartition("@")[2].strip("<> ") or "stormwatch"
    root = f"<{message.incident}.0@{domain}>"
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = shortened(" ".join(sending.headline.split()), LONGEST_SUBJECT)
    mail["Date"] = format_datetime(moment(sending.now))
    mail["Message-ID"] = f"<{message.incident}.{message.sequence}@{domain}>"
    if message.sequence:
        mail["In-Reply-To"] = root
        mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Stormwatch-Incident"] = message.incident
    if message.severity == "page" and message.status == "firing":
        mail["Importance"] = "high"
    mail.set_content(f"{sending.headline}\n\n{sending.body or text_of(message)}\n")
    mail.add_alternative(_page(sending), subtype="html")
    return mail


def _page(sending: Sending) -> str:
    inside = f"<pre>{html.escape(sending.body)}</pre>" if sending.body else _tables(sending.message)
    return f"<!doctype html><html><body><h2>{html.escape(sending.headline)}</h2>{inside}</body></html>\n"


def _tables(message: Message) -> str:
    return "".join(
        f"<h3>{html.escape(each.labels.get('alertname', 'alert'))}: {html.escape(subject_of(each))}</h3><table>"
        + "".join(
            f"<tr><th align='left' valign='top'>{html.escape(name)}</th><td>{_linked(value)}</td></tr>"
            for name, value in facts_of(each, message)
        )
        + "</table>"
        for each in message.alerts
    )


def _linked(text: str) -> str:
    shown = html.escape(text)
    is_address = text.startswith(("https://", "http://")) and not any(sign.isspace() for sign in text)
    return f'<a href="{shown}">{shown}</a>' if is_address else shown


def _shown(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return shortened(f"{code} {' '.join(text.split())}", 200)
