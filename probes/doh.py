"""DNS over HTTPS (RFC 8484), by libcurl: the message is the body of a POST, or stands in the URL of a GET."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pycurl

from stormwatch.probes.curl import CURVES, CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.nameserver import Answered, Progress
from stormwatch.probes.question import Question, read_message
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import Clocks, blame
from stormwatch.probes.url import Url

PATH: Final = "/dns-query"
"""Where servers listen by convention (RFC 8484 §4.1.1 shows it)."""
MEDIA_TYPE: Final = "application/dns-message"

_LARGEST: Final = 65535
"""Bytes of the largest DNS message (RFC 8484 §6)."""
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Doh:
    """How HTTPS is spoken to a server. Made once."""

    ca_file: str
    """The authorities to verify against; empty for none."""
    server_name: str
    """What certificates must be for; the URL's host when empty."""
    method: Literal["POST", "GET"]
    settings: Sequence[tuple[int, Any]] = field(repr=False)
    """Options of libcurl that every run sets: versions, client certificate, own address."""

    async def ask(
        self,
        question: Question,
        url: Url,
        address: str,
        *,
        engine: CurlEngine,
        timeout: float,
        progress: Progress,
        clock: Callable[[], float],
    ) -> Answered:
        """Ask once, over a connection of its own to an address.

        Raises ProbeFailed for what is not an answer with status 200, ProbeBroken for what is our fault.
        """
        body: list[bytes] = []
        size = 0

        def keep(data: bytes) -> int | None:
            nonlocal size
            size += len(data)
            if size > _LARGEST:
                return -1  # libcurl ends the transfer
            body.append(data)
            return None

        handle = engine.take()
        began = clock()
        try:
            self._prepare(handle, question, url, address)
            # A backstop behind the deadline of the run, which cancels us first and is the one that is reported.
            handle.setopt(pycurl.TIMEOUT_MS, int(timeout * 1000) + 250)
            progress.sends += 1
            try:
                ended = await engine.perform(handle, keep, ca_file=self.ca_file)
            except asyncio.CancelledError:
                clocks = Clocks.read(handle)
                progress.connected = clocks.secured or 0.0
                raise
            clocks = Clocks.read(handle)
            progress.connected = clocks.secured
            self._check(handle, ended, url, clocks, size)
            wire = b"".join(body)
            _check_answer(handle, question, wire)
            return Answered(
                wire=wire,
                message=read_message(wire),
                connect=clocks.secured,
                request=max(0.0, clock() - began - clocks.secured),
            )
        finally:
            engine.give_back(handle)

    def _prepare(self, handle: pycurl.Curl, question: Question, url: Url, address: str) -> None:
        asked, headers = url.text, [f"Accept: {MEDIA_TYPE}"]
        if self.server_name:  # libcurl asks for the URL's host in the handshake
            parts = urlsplit(asked)
            asked = parts._replace(netloc=str(Endpoint(self.server_name, url.place.port))).geturl()
            headers.append(f"Host: {parts.netloc}")
        # The number is zero, so that equal questions are equal for caches (RFC 8484 §4.1).
        if self.method == "GET":
            encoded = base64.urlsafe_b64encode(question.wire).rstrip(b"=").decode()
            asked += f"{'&' if '?' in asked else '?'}dns={encoded}"
        handle.setopt(pycurl.URL, asked)
        for option, value in _SETTINGS:
            handle.setopt(option, value)
        for option, value in self.settings:
            handle.setopt(option, value)
        if self.method == "POST":
            handle.setopt(pycurl.POSTFIELDS, question.wire)
            headers += [f"Content-Type: {MEDIA_TYPE}", "Expect:"]
        handle.setopt(pycurl.HTTPHEADER, headers)
        connect_to(handle, (address,), url.place.port)

    def _check(self, handle: pycurl.Curl, ended: Ended, url: Url, clocks: Clocks, size: int) -> None:
        if size > _LARGEST:
            raise ProbeFailed(
                Reason.PROTOCOL, f"more than {_LARGEST} bytes came back, which no DNS message has", phase="request"
            )
        if ended.code:
            phase = "request" if clocks.secured else "connect"
            failure = blame(ended, target=str(url.place), phase=phase, os_errno=own_error(handle))
            failure.phase = phase
            raise failure


def _check_answer(handle: pycurl.Curl, question: Question, wire: bytes) -> None:
    status = int(handle.getinfo(pycurl.RESPONSE_CODE))
    if status != 200:
        said = wire[:_SHOWN].decode("ascii", "replace").strip()
        shown = "".join(sign if sign.isprintable() else " " for sign in said)
        detail = f": {shown}" if shown else ""
        raise ProbeFailed(
            Reason.STATUS, f"the server answered with HTTP status {status}, wanted 200{detail}", phase="request"
        )
    kind = str(handle.getinfo(pycurl.CONTENT_TYPE) or "").partition(";")[0].strip().lower()
    if kind != MEDIA_TYPE:
        raise ProbeFailed(
            Reason.PROTOCOL, f"the answer is of type {kind or 'unknown'}, wanted {MEDIA_TYPE}", phase="request"
        )
    number = int.from_bytes(wire[:2])  # some servers give it one of their own
    if not question.answered_by(wire, number):
        read_message(wire)
        raise ProbeFailed(Reason.PROTOCOL, "the answer belongs to another question", phase="request")


_SETTINGS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),  # or libcurl would take one from the environment
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
    (pycurl.SSL_EC_CURVES, CURVES),
)
