"""One question to an RDAP service over HTTP (RFC 7480): redirects followed, each of them only where probes may go."""

import email.utils
from dataclasses import dataclass
from typing import Final

import pycurl

from stormwatch.probes.curl import CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.resolve import resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import blame
from stormwatch.probes.units import show_size
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch

MOST: Final = 2**20
"""Bytes of the largest answer; IANA's bootstrap file has a twentieth of that."""
HEAD: Final = 2**16
"""Bytes of the largest head."""
REDIRECTS: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
_LONGEST: Final = 86400.0
_SHORTEST: Final = 300.0
"""Seconds to wait after a refusal, at most and at least: not every service says, and not every one is sensible."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came in the end."""

    url: str
    status: int
    body: bytes


class RateLimited(Exception):
    """The service does not want to be asked for so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


async def ask(watch: Watch, address: str, *, ca_file: str, server: Endpoint | None) -> Answer:
    """The answer to a question. Cancelling closes the connection.

    Raises RateLimited, ProbeFailed for what the service did wrong, ProbeBroken for what we could not or may not do.
    """
    secure = False
    for _ in range(REDIRECTS + 1):
        try:
            url = Url.parse(address)
        except ValueError as error:
            raise ProbeFailed(Reason.PROTOCOL, f"{address[:200]!r} is not an address to ask: {error}") from error
        if secure and not url.tls:
            raise ProbeFailed(Reason.PROTOCOL, f"redirected from HTTPS to {address[:200]}")
        secure = url.tls
        status, location, body = await _one(watch, url, ca_file, server)
        if status not in _REDIRECT or not location:
            return Answer(url.text, status, body)
        address = location
    raise ProbeFailed(Reason.PROTOCOL, f"more than {REDIRECTS} redirects, the last one to {address[:200]}")


async def _one(watch: Watch, url: Url, ca_file: str, server: Endpoint | None) -> tuple[int, str, bytes]:
    addresses = await resolve(url.place.host, server=server, clock=watch.clock.monotonic)
    addresses = watch.reach.permitted(addresses, url.place.host)
    engine = watch.resources.get(CurlEngine)
    handle = engine.take()
    received = _Received()
    try:
        handle.setopt(pycurl.URL, url.text)
        for option, value in _OPTIONS:
            handle.setopt(option, value)
        connect_to(handle, addresses, url.place.port)
        handle.setopt(pycurl.HEADERFUNCTION, received.take_head)
        ended: Ended = await engine.perform(handle, received.take, ca_file=ca_file)
        if received.too_large:
            raise ProbeFailed(Reason.PROTOCOL, f"{url.text} sent more than {show_size(MOST)}")
        if ended.code:
            raise blame(ended, target=url.text, phase="ask", os_errno=own_error(handle))
        status = int(handle.getinfo(pycurl.RESPONSE_CODE))
        if status in (429, 503):
            raise RateLimited(retry_after(bytes(received.head), watch.clock.now()))
        return status, str(handle.getinfo(pycurl.REDIRECT_URL) or ""), bytes(received.body)
    finally:
        engine.give_back(handle)


def retry_after(head: bytes, now: float) -> float:
    """Seconds that a refusal asks us to wait (RFC 9110 §10.2.3), within reason."""
    wanted = _SHORTEST
    for line in head.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() != "retry-after":
            continue
        value = value.strip()
        if value.isascii() and value.isdigit():
            wanted = float(value[:9])
            continue
        try:
            wanted = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError, TypeError):
            continue
    return min(_LONGEST, max(_SHORTEST, wanted))


_OPTIONS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.PROXY, ""),  # or libcurl would take one from the environment
    (pycurl.HTTPHEADER, ["User-Agent: stormwatch", "Accept: application/rdap+json, application/json"]),
)


class _Received:
    def __init__(self) -> None:
        self.body = bytearray()
        self.head = bytearray()
        self.too_large = False

    def take(self, data: bytes) -> int | None:
        """Called by libcurl for each piece; 0 stops the transfer."""
        if len(self.body) + len(data) > MOST:
            self.too_large = True
            return 0
        self.body += data
        return None

    def take_head(self, line: bytes) -> int | None:
        """Called by libcurl for each line of the head."""
        if len(self.head) + len(line) > HEAD:
            self.too_large = True
            return 0
        self.head += line
        return None
