"""A channel: sends one message to one receiver, once, and says what came of it. When and how often is the dispatcher's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx

from stormwatch.exporters.message import Message
from stormwatch.exporters.notification import is_worth_retrying

TIMEOUT = 10.0
"""Seconds that one request may take."""
LONGEST_SAID = 200
"""Characters of an answer that are kept."""


class Refused(Exception):
    """The receiver will never take this: a wrong key, a wrong payload. Says what it answered."""

    def __init__(self, said: str, *, status: int = 0) -> None:
        """`status` of HTTP, if it was that."""
        super().__init__(said)
        self.status = status


class Failed(Exception):
    """The receiver could not be reached, or is not able to take it now. Says what was seen."""

    def __init__(self, said: str, *, retry_after: float = 0.0) -> None:
        """`retry_after` in seconds, when the receiver asked for it."""
        super().__init__(said)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receiver took a message."""

    said: str
    """Its answer, in short."""
    reference: str = ""
    """What the receiver calls it: the id by which it is found there."""
    thread: Mapping[str, Any] | None = None
    """What the next message of the same incident needs to know. None: as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One try."""

    message: Message
    thread: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was kept of the messages before it in the same incident."""
    in_doubt: bool = False
    """Whether an earlier try may have arrived unnoticed."""
    now: float
    """Unix time."""
    title: str = ""
    """What the channel's template says in the place of `message.title`; empty: it has none."""
    body: str = ""
    """The same for what is below it."""

    @property
    def headline(self) -> str:
        """The title."""
        return self.title or self.message.title


class Channel(Protocol):
    """A receiver."""

    name: str
    pause: float
    """Seconds between two messages at the least."""
    acknowledgements: bool
    """Whether it is told who took an alert."""
    each_alert: bool
    """Whether each alert is a message of its own."""

    async def send(self, sending: Sending) -> Receipt:
        """Send a message once. Raises Refused or Failed."""
        ...

    async def aclose(self) -> None:
        """Let go of the connections."""
        ...


async def post(client: httpx.AsyncClient, url: str, *, now: float, **values: Any) -> httpx.Response:
    """POST, and an answer that says that it was taken. Raises Refused or Failed; neither shows the address."""
    try:
        async with client.stream("POST", url, **values) as answer:
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > 1 << 20:
                    raise Failed(
                        f"status {answer.status_code} with more than 1 MiB, which is no answer of this service"
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failed(f"{type(error).__name__}: {error}") from error
    whole = httpx.Response(answer.status_code, headers=_plain(answer.headers), content=body, request=answer.request)
    if whole.is_success:
        return whole
    said = said_of(whole)
    if is_worth_retrying(whole.status_code):
        raise Failed(said, retry_after=retry_after(whole.headers.get("retry-after", ""), now))
    raise Refused(said, status=whole.status_code)


def said_of(answer: httpx.Response) -> str:
    """Status and the beginning of the text, on one line."""
    text = re.sub(r"\s+", " ", answer.text).strip()[:LONGEST_SAID]
    return f"status {answer.status_code}{': ' if text else ''}{text}"


def retry_after(text: str, now: float) -> float:
    """Seconds to wait, from a header that holds seconds or a date (RFC 9110, 10.2.3); 0 for anything else."""
    try:
        return max(0.0, min(3600.0, float(text)))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, min(3600.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now))


def moment(at: float) -> datetime:
    """A Unix time, for headers and texts."""
    return datetime.fromtimestamp(at, UTC)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """Without what described the encoding of the body, which is decoded by now."""
    return {name: value for name, value in headers.items() if name not in {"content-encoding", "content-length"}}
