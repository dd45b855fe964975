"""What one request and its redirects showed: gathered while they go on, also when they fail."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urljoin

import pycurl

from stormwatch.probes.answer import Complaint, header_values
from stormwatch.probes.handshake import Handshake
from stormwatch.probes.transfer import Clocks
from stormwatch.probes.url import Url

_VERSIONS = {
    pycurl.CURL_HTTP_VERSION_1_0: 1.0,
    pycurl.CURL_HTTP_VERSION_1_1: 1.1,
    pycurl.CURL_HTTP_VERSION_2_0: 2.0,
    pycurl.CURL_HTTP_VERSION_3: 3.0,
}


REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Statuses whose Location header is to be followed (RFC 9110 §15.4)."""
EXCERPT: Final = 2048
"""Bytes of a body that are kept for people when nothing judges it."""


class Content:
    """Counts a body, and keeps its beginning."""

    __slots__ = ("_keep", "_limit", "kept", "size", "too_large")

    def __init__(self, *, limit: int, keep: int) -> None:
        self._limit = limit
        self._keep = keep
        self.kept = bytearray()
        self.size = 0
        self.too_large = False

    def take(self, data: bytes) -> int | None:
        """Called by libcurl for each piece; 0 stops the transfer."""
        self.size += len(data)
        if len(self.kept) < self._keep:
            self.kept += data[: self._keep - len(self.kept)]
        if self.size > self._limit:
            self.size, self.too_large = self._limit, True  # what came beyond it depends on the size of the pieces
            return 0
        return None


HEAD_LIMIT: Final = 256 * 2**10
"""Bytes of all the heads of one answer, informational ones included: no more is kept of a server that never ends it."""


class Head:
    """The lines of the heads of one answer, as libcurl passes them on."""

    __slots__ = ("lines", "size", "too_large")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.too_large = False

    def take(self, line: bytes) -> int | None:
        """Called by libcurl for each line; -1 stops the transfer."""
        self.size += len(line)
        if self.size > HEAD_LIMIT:
            self.too_large = True
            return -1
        self.lines.append(line)
        return None


class Visit:
    """What one request showed, over all its redirects."""

    __slots__ = (
        "_hop",
        "_keep",
        "address",
        "complaints",
        "content",
        "content_length",
        "failed_phase",
        "handshake",
        "head",
        "heads",
        "hops",
        "last_modified",
        "location",
        "lookup",
        "phase",
        "phases",
        "port",
        "proxy",
        "redirects",
        "seconds",
        "secret",
        "server_name",
        "status",
        "url",
        "version",
    )

    def __init__(self, *, keep: int = EXCERPT) -> None:
        """`keep` is how many bytes of the body are wanted; its size is counted in any case."""
        self._keep = keep
        self.phases: dict[str, tuple[float, float]] = {}
        """When each phase first began, in seconds after the start of the run, and its seconds, over all requests."""
        self.seconds = 0.0
        self.lookup: float | None = None
        """Seconds of the first look-up of the target's name; None when a proxy does that."""
        self.redirects: list[dict[str, Any]] = []
        self.hops: list[dict[str, Any]] = []
        """Every request of a visit with redirects: where it went, the status, and its own phases in seconds."""
        self._hop: dict[str, float] = {}
        self.proxy = ""
        """The proxy that the last request went through; empty: it went straight there."""
        self.secret = ""
        """A token that was sent, and must not be shown when the target sends it back."""
        self.complaints: list[Complaint] = []
        self.failed_phase = ""
        self.url: Url | None = None
        self.server_name = ""
        """Whom the certificate must be for."""
        self.address = ""
        self.port = 0
        self.phase = "resolve"
        self.status = 0
        self.version = 0.0
        self.location = ""
        self.content_length = -1.0
        self.last_modified = -1.0
        self.handshake = Handshake(lambda: 0.0)
        self.heads = Head()
        self.head: list[bytes] = []
        """Status line and headers of the final response."""
        self.content = Content(limit=0, keep=0)

    def begin(self, url: Url, clock: Callable[[], float], *, server_name: str = "") -> None:
        """Another request begins: what belonged to the last answer is forgotten, the phases go on."""
        self.url, self.phase, self.address, self.port = url, "resolve", "", 0
        self.server_name = server_name or url.place.host
        self.status, self.version, self.location = 0, 0.0, ""
        self.content_length = self.last_modified = -1.0
        self.handshake = Handshake(clock)
        self.heads = Head()
        self.head = []
        self.proxy = ""
        self._hop = {}

    def receive(self, limit: int) -> Content:
        """Where the body of the request that is under way goes; more than `limit` bytes of it are not read."""
        self.content = Content(limit=limit, keep=min(limit, self._keep))
        return self.content

    def redirected(self, *, followed: bool = True) -> None:
        """The answer was a redirect, and it counts: also the one that is one too many, or is not followed."""
        self.redirects.append({"status": self.status, "location": self.location})
        if followed:
            self.hop_ended()

    def hop_ended(self) -> None:
        """Keep what the request that has just ended took, for itself; once."""
        if self.hops and self.hops[-1]["phases"] is self._hop:
            return
        self.hops.append(
            {
                "url": self.url.text if self.url else "",
                "remote": self.remote,
                "status": self.status,
                "seconds": sum(self._hop.values()),
                "phases": self._hop,
            }
        )

    def resolved(self, seconds: float, offset: float, address: str) -> None:
        """The name has addresses: the first of them counts until a connection says which it is."""
        self._add("resolve", offset, seconds)
        if self.lookup is None:
            self.lookup = seconds
        self.address = address
        self.seconds += seconds

    def waited(self, name: str, seconds: float, offset: float) -> None:
        """Something else than libcurl took time for a phase."""
        self._add(name, offset, seconds)
        self.seconds += seconds

    def forget(self) -> None:
        """What was asked does not count: the run begins anew, but for its first look-up of the name."""
        lookup = self.lookup
        self.__init__(keep=self._keep)
        self.lookup = lookup

    @property
    def renamed(self) -> bool:
        """Whether another name than the URL's is asked for in the TLS handshake."""
        return self.url is not None and self.server_name != self.url.place.host

    def ended(self, handle: pycurl.Curl, began: float, offset: float, cancelled: float | None = None) -> None:
        """A transfer ended, well or not: read everything that libcurl knows about it.

        It began at the moment `began` of the monotonic clock, and may have been `cancelled` at another. `offset` is
        its start after the start of the run.
        """
        assert self.url is not None
        tls = self.url.tls
        clocks = Clocks.read(handle)
        if cancelled is not None:
            hello = self.handshake.began
            clocks = clocks.cut_off(cancelled - began, None if hello is None else hello - began)
        for name, start, seconds in clocks.phases(tls=tls):
            self._add(name, offset + start, seconds)
        self.phase = clocks.reached(tls=tls)
        self.seconds += clocks.ended
        if not self.proxy:
            self.address = handle.getinfo(pycurl.PRIMARY_IP) or self.address
            self.port = handle.getinfo(pycurl.PRIMARY_PORT)
        self.status = handle.getinfo(pycurl.RESPONSE_CODE)
        self.head = _last_head(self.heads.lines)
        if self.status:
            self.version = _VERSIONS.get(handle.getinfo(pycurl.INFO_HTTP_VERSION), 0.0)
            # libcurl resolves every Location header, and that of a 201 names what was made (RFC 9110 §10.2.2).
            self.location = (handle.getinfo(pycurl.REDIRECT_URL) or "") if self.status in REDIRECTS else ""
            if self.location and self.renamed:
                # Libcurl starts from the URL that it was given, and that held another name for the sake of TLS.
                self.location = urljoin(self.url.text, _location(self.head))
            self.content_length = handle.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)
            # libcurl says 0 for a Last-Modified that is no date, -1 for none at all
            self.last_modified = float(handle.getinfo(pycurl.FILETIME_T)) or -1.0

    def _add(self, name: str, offset: float, seconds: float) -> None:
        self._hop[name] = self._hop.get(name, 0.0) + seconds
        known = self.phases.get(name)
        self.phases[name] = (offset, seconds) if known is None else (known[0], known[1] + seconds)

    @property
    def secure(self) -> bool:
        """Whether the last request went to an https URL."""
        return self.url is not None and self.url.tls

    @property
    def handshaken(self) -> bool:
        """Whether the last request has gone out: over TLS, the handshake was completed then."""
        return "processing" in self._hop

    @property
    def remote(self) -> str:
        """Address and port of the last connection; the address alone when none was made."""
        if self.port <= 0:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def _location(head: list[bytes]) -> str:
    values = header_values(head, "location")
    return values[0].decode("utf-8", "replace") if values else ""


def _last_head(lines: list[bytes]) -> list[bytes]:
    """Informational responses stand before the final one."""
    if lines.count(b"\r\n") > 1:
        for number in range(len(lines) - 1, 0, -1):
            if lines[number].startswith(b"HTTP/"):
                return lines[number:]
    return lines
