"""The message that a probe sends, and what the header of the one that arrived says about its way. Pure."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import SMTP, compat32
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final, Self

from stormwatch.probes.backend import show_words

ID: Final = "X-Stormwatch-Id"
"""The header field by which a message is known again."""
HOPS: Final = 50
"""Stations of a message's way that are shown; RFC 5321 §6.3 lets a message have 100 at least."""

_ADDRESS: Final = re.compile(r"[!-;=?A-~]+@[A-Za-z0-9.\[\]:_-]+")
_DATE: Final = re.compile(r";\s*([^;]+?)\s*\Z", re.DOTALL)
_BY: Final = re.compile(r"\bby\s+([^\s;()]+)", re.IGNORECASE)


def check_address(address: str, *, where: str) -> str:
    """An address for the envelope. Raises ValueError naming `where` it stands."""
    if not _ADDRESS.fullmatch(address) or len(address) > 254:
        raise ValueError(f"{where}: {address!r} is not an address like watch@shop.example")
    return address


@dataclass(frozen=True, slots=True)
class Template:
    """A message but for what differs from run to run."""

    content: bytes
    domain: str

    @classmethod
    def of(cls, sender: str, to: str, subject: str, body: str) -> Self:
        """Raises ValueError for a subject that cannot stand in a header."""
        message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
        try:
            message["From"] = sender or "stormwatch@stormwatch.invalid"
            message["To"] = to
            message["Subject"] = subject
        except (ValueError, MessageError) as error:
            raise ValueError(f"mail.subject: {error}") from None
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody is to answer by a machine
        message.set_content(body)
        return cls(content=message.as_bytes(), domain=sender.rpartition("@")[2] or "stormwatch.invalid")

    def message(self, identity: str, now: float) -> bytes:
        """The message of one run."""
        date = format_datetime(datetime.fromtimestamp(now, UTC))
        head = f"Date: {date}\r\nMessage-ID: <{identity}@{self.domain}>\r\n{ID}: {identity}\r\n"
        return head.encode() + self.content


def owner_tag(probe: str) -> str:
    """What the ids of all messages of a probe begin with."""
    return hashlib.sha256(probe.encode()).hexdigest()[:12]


def new_identity(tag: str, now: float, random: str) -> str:
    """An id from which the probe and the time can be read."""
    return f"{tag}-{int(now)}-{random}"


def sent_at(identity: str, tag: str) -> float | None:
    """When the message with that id was sent, in Unix time; None for an id that is not of this probe."""
    match = re.fullmatch(r"([0-9a-f]{12})-([0-9]{1,12})-[0-9a-f]+", identity.strip())
    return float(match[2]) if match and match[1] == tag else None


@dataclass(frozen=True, slots=True)
class Hop:
    """A station of a message's way."""

    by: str
    at: float | None
    """Unix time by that host's own clock; None when its field does not tell."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an arrived message says."""

    identity: str
    hops: tuple[Hop, ...]
    """From the first host that took it to the last."""
    authentication: str
    """Of Authentication-Results: what the receiver thinks of SPF, DKIM and DMARC."""

    @property
    def seconds(self) -> float | None:
        """From the first station to the last, by their clocks; None when fewer than two tell the time."""
        told = [hop.at for hop in self.hops if hop.at is not None]
        return told[-1] - told[0] if len(told) > 1 else None

    def as_evidence(self) -> list[dict[str, Any]]:
        """Each station, with the seconds since the one before it."""
        before = (None, *(hop.at for hop in self.hops[:-1]))
        return [
            {"by": hop.by, "seconds": hop.at - last if hop.at is not None and last is not None else None}
            for hop, last in zip(self.hops, before, strict=False)
        ][-HOPS:]


def read_header(data: bytes) -> Header:
    """Never raises: what cannot be read is left out."""
    fields = BytesHeaderParser(policy=compat32).parsebytes(data)
    received = [str(each) for each in fields.get_all("Received", [])]
    return Header(
        identity=str(fields.get(ID, "")).strip(),
        hops=tuple(_hop(each) for each in reversed(received)),
        authentication=show_words(str(fields.get("Authentication-Results", ""))),
    )


def _hop(field: str) -> Hop:
    by, date = _BY.search(field), _DATE.search(field)
    at: float | None = None
    if date is not None:
        at = read_date(date[1])
    return Hop(by=show_words(by[1])[:255] if by else "", at=at)


def read_date(text: str) -> float | None:
    """A date of a header in Unix time; None for what is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
