"""What libcurl's clocks and codes say about one transfer: its phases, and whose fault it was. Pure but for reading."""

import errno
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import pycurl

from stormwatch.probes.curl import Ended, own_error
from stormwatch.probes.failure import ProbeBroken, ProbeFailed, explain_connection
from stormwatch.probes.result import Reason


class Clocks(NamedTuple):
    """Seconds from the start of one transfer to each of its events; 0 for an event that did not happen.

    https://curl.se/libcurl/c/curl_easy_getinfo.html, "TIMES".
    """

    lookup: float
    connected: float
    secured: float
    first_byte: float
    ended: float

    @classmethod
    def read(cls, handle: pycurl.Curl) -> "Clocks":
        """From the handle of a transfer that has ended."""
        return cls(
            lookup=handle.getinfo(pycurl.NAMELOOKUP_TIME),
            connected=handle.getinfo(pycurl.CONNECT_TIME),
            secured=handle.getinfo(pycurl.APPCONNECT_TIME),
            first_byte=handle.getinfo(pycurl.STARTTRANSFER_TIME),
            ended=handle.getinfo(pycurl.TOTAL_TIME),
        )

    def cut_off(self, elapsed: float, hello: float | None) -> "Clocks":
        """The same of a transfer that was cancelled after `elapsed` seconds: libcurl does not know of its end.

        Nor does it know of a connection before its handshake is over, so `hello`, the start of the handshake if there
        was one, stands in for it.
        """
        return self._replace(connected=self.connected or hello or 0.0, ended=max(elapsed, self.ended))

    def reached(self, *, tls: bool) -> str:
        """The phase in which the transfer was when it ended."""
        if not self.connected:
            return "connect"
        if tls and not self.secured:
            return "tls"
        return "transfer" if self.first_byte else "processing"

    def phases(self, *, tls: bool) -> list[tuple[str, float, float]]:
        """Name, start and seconds of each phase that began, in their order."""
        found = [("connect", self.lookup, (self.connected or self.ended) - self.lookup)]
        ready = self.connected
        if ready and tls:
            found.append(("tls", ready, (self.secured or self.ended) - ready))
            ready = self.secured
        if ready:
            found.append(("processing", ready, (self.first_byte or self.ended) - ready))
            if self.first_byte:
                found.append(("transfer", self.first_byte, self.ended - self.first_byte))
        return [(name, start, max(0.0, seconds)) for name, start, seconds in found]


# Codes that pycurl has no names for: https://curl.se/libcurl/c/libcurl-errors.html
_WEIRD_SERVER_REPLY = 8
_HTTP2_STREAM = 92
_HTTP3 = 95
_CLIENT_CERTIFICATE = 98
_TOO_LARGE = 100

_OURS: Mapping[int, tuple[Reason, str]] = {
    pycurl.E_FAILED_INIT: (Reason.RESOURCES, "libcurl could not start the transfer"),
    pycurl.E_OUT_OF_MEMORY: (Reason.RESOURCES, "libcurl ran out of memory"),
    pycurl.E_INTERFACE_FAILED: (Reason.NETWORK, "the network interface could not be used"),
    pycurl.E_SSL_CERTPROBLEM: (Reason.CREDENTIALS, "the client certificate could not be used"),
    pycurl.E_SSL_CACERT_BADFILE: (Reason.CREDENTIALS, "the CA file could not be read"),
    pycurl.E_SSL_ENGINE_NOTFOUND: (Reason.INTERNAL, "the TLS library is not complete"),
}

_THEIRS: Mapping[int, tuple[Reason, str]] = {
    pycurl.E_COULDNT_RESOLVE_HOST: (Reason.DNS, "the name did not resolve"),
    pycurl.E_COULDNT_RESOLVE_PROXY: (Reason.DNS, "the name did not resolve"),
    pycurl.E_UNSUPPORTED_PROTOCOL: (Reason.PROTOCOL, "the answer is not HTTP"),
    _WEIRD_SERVER_REPLY: (Reason.PROTOCOL, "the answer is not HTTP"),
    pycurl.E_HTTP2: (Reason.PROTOCOL, "the answer is not HTTP/2 as it is specified"),
    _HTTP2_STREAM: (Reason.PROTOCOL, "the server ended the HTTP/2 stream with an error"),
    _HTTP3: (Reason.PROTOCOL, "the answer is not HTTP/3 as it is specified"),
    pycurl.E_BAD_CONTENT_ENCODING: (Reason.PROTOCOL, "the body is not encoded as its Content-Encoding says"),
    _TOO_LARGE: (Reason.PROTOCOL, "a part of the answer is larger than any client accepts"),
    pycurl.E_PARTIAL_FILE: (Reason.RESET, "the connection was closed before the body was complete"),
    pycurl.E_GOT_NOTHING: (Reason.RESET, "the connection was closed without an answer"),
    pycurl.E_SEND_ERROR: (Reason.RESET, "the connection broke while the request was sent"),
    pycurl.E_RECV_ERROR: (Reason.RESET, "the connection broke while the answer was read"),
    pycurl.E_PEER_FAILED_VERIFICATION: (Reason.CERTIFICATE, "the certificate was not accepted"),
    pycurl.E_SSL_ISSUER_ERROR: (Reason.CERTIFICATE, "the certificate was not accepted"),
    pycurl.E_SSL_INVALIDCERTSTATUS: (Reason.CERTIFICATE, "the certificate's status was not accepted"),
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH: (Reason.CERTIFICATE, "the certificate has another public key"),
    pycurl.E_SSL_CONNECT_ERROR: (Reason.TLS, "the TLS handshake failed"),
    pycurl.E_SSL_CIPHER: (Reason.TLS, "no cipher suite in common"),
    pycurl.E_USE_SSL_FAILED: (Reason.TLS, "the server does not offer TLS"),
    pycurl.E_REMOTE_ACCESS_DENIED: (Reason.PROTOCOL, "the server did not let us in"),
    pycurl.E_LOGIN_DENIED: (Reason.PROTOCOL, "the server did not let us in"),
}

_NOT_TLS = re.compile(r"wrong version number|packet length too long|record layer failure|http request|unknown protocol")
_CLOSED = re.compile(r"unexpected eof|SSL_ERROR_SYSCALL|[Cc]onnection reset|[Cc]onnection was closed")


def blame(ended: Ended, *, target: str, phase: str, os_errno: int, alert: str = "") -> ProbeFailed | ProbeBroken:
    """Say whose fault a failed transfer was, from libcurl's code, the system's error behind it, and the TLS alert.

    Codes: https://curl.se/libcurl/c/libcurl-errors.html. `alert` is the fatal alert that the server sent.
    """
    code, said = ended.code, _shown(ended.message)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return ProbeFailed(Reason.TIMEOUT, f"no answer from {target} in time in phase {phase}", phase=phase)
    if code == pycurl.E_COULDNT_CONNECT:
        return _not_connected(target, os_errno, said)
    if code in _OURS:
        reason, what = _OURS[code]
        return ProbeBroken(reason, f"{what}: {said}", phase=phase)
    if alert and code in _MAY_BE_ALERT:
        return ProbeFailed(Reason.TLS, f"{target} ended the TLS handshake with the alert {alert}", phase="tls")
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return _no_handshake(target, os_errno, said)
    if code in _THEIRS:
        reason, what = _THEIRS[code]
        return ProbeFailed(reason, f"{what}: {said} ({target})" if said else f"{what} ({target})", phase=phase)
    return ProbeBroken(Reason.INTERNAL, f"libcurl's error {code} while asking {target}: {said}", phase=phase)


_PROXY = 97
"""CURLE_PROXY, which pycurl has no name for: a proxy ended the handshake of its protocol with an error."""
_SOCKS_ERRORS: Mapping[int, tuple[Reason, str]] = {
    # https://curl.se/libcurl/c/CURLINFO_PROXY_ERROR.html, and RFC 1928 §6
    19: (Reason.REFUSED, "the connection was refused"),
    20: (Reason.UNREACHABLE, "it says no more than that it failed"),
    21: (Reason.UNREACHABLE, "the host is unreachable"),
    22: (Reason.UNREACHABLE, "the network is unreachable"),
    23: (Reason.UNREACHABLE, "its rules do not allow it"),
    24: (Reason.UNREACHABLE, "it took too many hops"),
    27: (Reason.DNS, "it could not resolve the name"),
}
_SOCKS_LOGIN = frozenset({12, 33})
"""No way to log in is shared; name or password is wrong."""


def blame_proxy(handle: pycurl.Curl, ended: Ended, *, proxy: str, target: str) -> ProbeFailed | ProbeBroken | None:
    """Say what failed at a proxy; None when the failure was behind it."""
    if ended.code == pycurl.E_OPERATION_TIMEDOUT:
        return None
    answered = int(handle.getinfo(pycurl.HTTP_CONNECTCODE))
    if answered == 407 or (ended.code == _PROXY and int(handle.getinfo(pycurl.PROXY_ERROR)) in _SOCKS_LOGIN):
        return ProbeBroken(
            Reason.CREDENTIALS, f"the proxy {proxy} did not let us in: see to `proxy_auth`", phase="connect"
        )
    if answered and answered // 100 != 2:
        message = f"the proxy {proxy} did not reach {target}: it answered CONNECT with status {answered}"
        return ProbeFailed(Reason.UNREACHABLE, message, phase="connect")
    if ended.code == pycurl.E_COULDNT_CONNECT:
        return _not_connected(f"the proxy {proxy}", own_error(handle), _shown(ended.message))
    if ended.code == _PROXY:
        reason, said = _SOCKS_ERRORS.get(
            int(handle.getinfo(pycurl.PROXY_ERROR)), (Reason.PROTOCOL, _shown(ended.message))
        )
        return ProbeFailed(reason, f"the proxy {proxy} did not reach {target}: {said}", phase="connect")
    return None


_MAY_BE_ALERT = frozenset(
    {pycurl.E_SSL_CONNECT_ERROR, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING, _CLIENT_CERTIFICATE}
)
"""In TLS 1.3 a client certificate is refused after the handshake, while the answer is read."""


def _not_connected(target: str, os_errno: int, said: str) -> ProbeFailed | ProbeBroken:
    if not os_errno:
        return ProbeFailed(Reason.UNREACHABLE, f"no connection to {target}: {said}", phase="connect")
    return explain_connection(OSError(os_errno, os.strerror(os_errno)), target)


def _no_handshake(target: str, os_errno: int, said: str) -> ProbeFailed:
    if os_errno in (errno.ECONNRESET, errno.EPIPE) or _CLOSED.search(said):
        return ProbeFailed(Reason.RESET, f"{target} closed the connection in the TLS handshake: {said}", phase="tls")
    if _NOT_TLS.search(said):
        return ProbeFailed(Reason.PROTOCOL, f"{target} does not speak TLS: {said}", phase="tls")
    return ProbeFailed(Reason.TLS, f"the TLS handshake with {target} failed: {said}", phase="tls")


def _shown(message: str) -> str:
    return message.strip().removeprefix("SSL certificate OpenSSL verify result: ").removesuffix(".")
