"""Apprise: more than a hundred services, each by an address. An extra, `stormwatch[apprise]`.

https://github.com/caronc/apprise
It says of each address only whether it went well, and the rest in its log, which is read here for the receipt. It blocks,
so each try has a thread.
"""

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import logging
import re
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any
from urllib.parse import unquote

from stormwatch.exporters.channel import LONGEST_SAID, Failed, Receipt, Refused, Sending
from stormwatch.exporters.message import shortened, text_of
from stormwatch.exporters.notification import is_worth_retrying

EXTRA = "stormwatch[apprise]"
KIND = {"firing": "failure", "acknowledged": "warning", "resolved": "success"}
"""What Apprise calls the state."""
SHORTEST_KEY = 6
"""Characters of a part of an address from which on it is taken for a key."""
_PARTS = re.compile(r"[/:@?&=,]")
_STATUS = re.compile(r"\berror=(\d{3})\b")


def is_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("apprise") is not None


def is_known(url: str) -> bool:
    """Whether Apprise has a service for such an address."""
    service = _services()
    with _heard():
        return service(url) is not None


class AppriseChannel:
    """Some addresses. An address that took a message is not told it again while another has not."""

    pause = 0.5
    acknowledgements = True
    each_alert = False

    def __init__(self, name: str, *, urls: Sequence[str]) -> None:
        """`urls` are secrets."""
        _services()
        self.name = name
        self._urls = tuple(urls)
        self._told: set[tuple[str, str]] = set()

    async def send(self, sending: Sending) -> Receipt:
        """Tell every address that was not told yet."""
        message = sending.message
        key = f"{message.incident} {message.sequence}"
        title, body = sending.headline, sending.body or text_of(message)
        kind, failures, refusals = KIND[message.status], list[str](), list[str]()
        for url in self._urls:
            place = key, hashlib.sha256(url.encode()).hexdigest()
            if place in self._told:
                continue
            said = await asyncio.to_thread(_tell, url, title, body, kind)
            if not said:
                self._told.add(place)
            elif (found := _STATUS.search(said)) and not is_worth_retrying(int(found[1])):
                refusals.append(said)
            else:
                failures.append(said)
        if failures:
            raise Failed(shortened("; ".join(failures), LONGEST_SAID))
        taken = len([place for place in self._told if place[0] == key])
        self._told = {place for place in self._told if place[0] != key}
        if refusals and not taken:
            raise Refused(shortened("; ".join(refusals), LONGEST_SAID))
        also = f"; but refused: {shortened('; '.join(refusals), LONGEST_SAID)}" if refusals else ""
        return Receipt(said=f"taken by {taken} of {len(self._urls)}{also}")

    async def aclose(self) -> None:
        """Nothing is held open."""


def _tell(url: str, title: str, body: str, kind: Any) -> str:
    """Tell one address; what went wrong, or nothing."""
    service = _services()(url)
    if service is None:
        return "Apprise knows no such service"
    with _heard() as lines:
        if service.notify(body=body, title=title, notify_type=kind):
            return ""
    return f"{service.service_name}: {_without(url, ' '.join(lines)) or 'no reason given'}"


def _without(url: str, said: str) -> str:
    """What was said without the parts of an address: they are keys, in other addresses than the one that is configured."""
    for part in sorted(_PARTS.split(url.partition("://")[2]), key=len, reverse=True):
        for form in (part, unquote(part)):
            if len(form) >= SHORTEST_KEY:
                said = said.replace(form, "***")
    return said


@functools.cache
def _services() -> Callable[[str], Any]:
    """Finds the service of an address. All of them are loaded here, before there are threads, and warn of what they import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        apprise.Apprise.instantiate("json://127.0.0.1/")
    # It writes the address of each request into a debugging log, and the secrets of a service stand in its addresses.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    return apprise.Apprise.instantiate


@contextlib.contextmanager
def _heard() -> Generator[list[str]]:
    """What Apprise says in this thread while the block lasts. It goes nowhere else: it may show an address."""
    lines: list[str] = []
    thread, log = threading.get_ident(), logging.getLogger("apprise")

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                lines.append(record.getMessage())

    handler = Kept(logging.WARNING)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)
