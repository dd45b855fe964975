"""What was said in a TLS handshake, read from its messages as libcurl passes them to its debug callback.

The server's certificates arrive before they are verified, so their facts are known also when verification fails,
without a second connection. Message formats: RFC 5246 §7.4 (TLS 1.2), RFC 8446 §4 (TLS 1.3).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import pycurl

_RECEIVED: Final = pycurl.INFOTYPE_SSL_DATA_IN
_SENT: Final = pycurl.INFOTYPE_SSL_DATA_OUT

_SERVER_HELLO: Final = 2
_CERTIFICATE: Final = 11
_SUPPORTED_VERSIONS: Final = 43

_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

_CIPHERS = {
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
    0x006B: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
    0x009C: "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC023: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""IANA's names of the suites that libcurl's OpenSSL can negotiate: the names that blackbox_exporter exports."""

_ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446 §6 and RFC 7301: the fatal alerts."""


class Handshake:
    """Collects the server's messages of one handshake: give `take` to libcurl as its debug callback."""

    __slots__ = ("_alert", "_certificate", "_clock", "_hello", "_told", "began")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.began: float | None = None
        """When our first message was sent, by the clock; None before that."""
        self._hello = b""
        self._told: tuple[str, str] | None = None
        self._certificate = b""
        self._alert = 0

    def take(self, kind: int, data: bytes) -> None:
        """Keep what matters of one debug message. Called some sixty times a handshake: keep it short."""
        if kind != _RECEIVED:
            if kind == _SENT and self.began is None:
                self.began = self._clock()
            return
        first, size = data[0], len(data)
        if first == _CERTIFICATE and size > 7:
            self._certificate = data
        elif first == _SERVER_HELLO and size > 40:
            self._hello, self._told = data, None
        elif first == 2 and size == 2:  # a fatal alert: level 2 and its description
            self._alert = data[1]

    def _agreed(self) -> tuple[str, str]:
        if self._told is None:
            self._told = read_hello(self._hello) if self._hello else ("", "")
        return self._told

    @property
    def version(self) -> str:
        """The protocol that was agreed on, like `TLS 1.3`; empty when the server had not answered."""
        return self._agreed()[0]

    @property
    def cipher(self) -> str:
        """IANA's name of the cipher suite that was agreed on; empty when the server had not answered."""
        return self._agreed()[1]

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates that the server sent, DER, leaf first."""
        if not self._certificate:
            return ()
        return read_certificates(self._certificate, tls13=self.version == "TLS 1.3")

    @property
    def alert(self) -> str:
        """The fatal alert that the server ended the handshake with, by its name in RFC 8446; empty without one."""
        return _ALERTS.get(self._alert, f"alert {self._alert}") if self._alert else ""


def read_hello(message: bytes) -> tuple[str, str]:
    """Version and cipher suite from a ServerHello message. A cut-off message gives what it still says."""
    version = int.from_bytes(message[4:6])
    after_session = 39 + message[38]
    suite = int.from_bytes(message[after_session : after_session + 2])
    at = after_session + 5  # suite, compression method, length of the extensions
    while at + 4 <= len(message):
        extension, size = int.from_bytes(message[at : at + 2]), int.from_bytes(message[at + 2 : at + 4])
        if extension == _SUPPORTED_VERSIONS:
            version = int.from_bytes(message[at + 4 : at + 6])
        at += 4 + size
    return _VERSIONS.get(version, f"0x{version:04X}"), cipher_name(suite)


def cipher_name(suite: int) -> str:
    """IANA's name of a cipher suite; its number for those that no client of ours offers."""
    return _CIPHERS.get(suite, f"0x{suite:04X}")


@lru_cache(maxsize=4096)
def read_certificates(message: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    """The DER certificates of a Certificate message, in the order sent. A cut-off message gives the whole ones.

    A server sends the same message every time: remembered, so that its certificates are the same objects too.
    """
    at = 4
    if tls13 and len(message) > at:  # a context for requests that are made later, and extensions after each certificate
        at += 1 + message[at]
    at += 3
    found: list[bytes] = []
    while at + 3 <= len(message):
        size = int.from_bytes(message[at : at + 3])
        der = message[at + 3 : at + 3 + size]
        if len(der) < size or not size:
            break
        found.append(der)
        at += 3 + size
        if tls13:
            at += 2 + int.from_bytes(message[at : at + 2])
    return tuple(found)
