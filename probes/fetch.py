"""A file from an address that a certificate names: one HTTP request, as little as will do, and never further than allowed.

The address is the choice of whoever had the certificate issued, so the policy of allowed networks is asked about it, only
plain HTTP is spoken (RFC 5280 §4.2.1.13: with HTTPS the next certificate would have to be asked about), and redirects
are not followed.
"""

from typing import Final

import pycurl

from stormwatch.probes.curl import CurlEngine, Ended, connect_to, own_error
from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.resolve import Family, resolve
from stormwatch.probes.result import Reason
from stormwatch.probes.transfer import blame
from stormwatch.probes.units import show_size
from stormwatch.probes.url import Url
from stormwatch.probes.watch import Watch


async def fetch(
    watch: Watch,
    address: str,
    *,
    most: int,
    body: bytes | None = None,
    content_type: str = "",
    server: Endpoint | None = None,
    ip: Family = "any",
) -> bytes:
    """The body of the answer, of at most that many bytes; with a `body` it is posted. Cancelling closes the connection.

    Raises ProbeFailed for what the server did wrong, ProbeBroken for what we could not or may not do.
    """
    try:
        url = Url.parse(address)
    except ValueError as error:
        raise ProbeFailed(Reason.PROTOCOL, f"{address!r} is not an address to ask: {error}") from error
    if url.tls:
        raise ProbeFailed(Reason.PROTOCOL, f"{address} is not asked, because it wants TLS")
    addresses = await resolve(url.place.host, ip=ip, server=server, clock=watch.clock.monotonic)
    addresses = watch.reach.permitted(addresses, url.place.host)
    engine = watch.resources.get(CurlEngine)
    handle = engine.take()
    received = _Received(most)
    try:
        handle.setopt(pycurl.URL, url.text)
        for option, value in _OPTIONS:
            handle.setopt(option, value)
        connect_to(handle, addresses, url.place.port)
        headers = ["User-Agent: stormwatch", "Expect:"]
        if body is not None:
            handle.setopt(pycurl.POSTFIELDS, body)
            headers.append(f"Content-Type: {content_type}")
        handle.setopt(pycurl.HTTPHEADER, headers)
        ended: Ended = await engine.perform(handle, received.take)
        if received.too_large:
            raise ProbeFailed(Reason.PROTOCOL, f"{address} sent more than {show_size(most)}")
        if ended.code:
            raise blame(ended, target=address, phase="revocation", os_errno=own_error(handle))
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        if status != 200:
            raise ProbeFailed(Reason.STATUS, f"{address} answered with status {status}")
        return bytes(received.data)
    finally:
        engine.give_back(handle)


_OPTIONS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.PROXY, ""),  # or libcurl would take one from the environment
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
)


class _Received:
    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.too_large = False
        self._most = most

    def take(self, data: bytes) -> int | None:
        """Called by libcurl for each piece; 0 stops the transfer."""
        if len(self.data) + len(data) > self._most:
            self.too_large = True
            return 0
        self.data += data
        return None
