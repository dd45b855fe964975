"""What was said in a TLS handshake, read from its messages as libcurl passes them to its debug callback.

The server's certificates arrive before they are verified, so their facts are known also when verification fails,
without a second connection. Message formats: RFC 5246 §7.4 (TLS 1.2), RFC 8446 §4 (TLS 1.3). OpenSSL decrypts before
it calls back, so the messages of TLS 1.3 are seen as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import pycurl

_RECEIVED: Final = pycurl.INFOTYPE_SSL_DATA_IN
_SENT: Final = pycurl.INFOTYPE_SSL_DATA_OUT

_SERVER_HELLO: Final = 2
_NEW_SESSION_TICKET: Final = 4
_ENCRYPTED_EXTENSIONS: Final = 8
_CERTIFICATE: Final = 11
_SERVER_KEY_EXCHANGE: Final = 12
_CERTIFICATE_REQUEST: Final = 13
_CERTIFICATE_VERIFY: Final = 15
_FINISHED: Final = 20
_CERTIFICATE_STATUS: Final = 22
_OTHERS: Final = frozenset(
    {
        _NEW_SESSION_TICKET,
        _ENCRYPTED_EXTENSIONS,
        _SERVER_KEY_EXCHANGE,
        _CERTIFICATE_REQUEST,
        _CERTIFICATE_VERIFY,
        _FINISHED,
        _CERTIFICATE_STATUS,
    }
)
_RECORD_HEADER: Final = 5
"""Bytes of a record's header, which libcurl passes on too: its first byte may be that of a message."""

_REMEMBERED: Final = 2**14
"""Bytes of the largest Certificate message that is remembered: hostile servers send a new one of 100 KB each time."""

_STATUS_REQUEST: Final = 5
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51
_RENEGOTIATION_INFO: Final = 0xFF01

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

_GROUPS = {
    0x0017: "P-256",
    0x0018: "P-384",
    0x0019: "P-521",
    0x001D: "X25519",
    0x001E: "X448",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
}
"""The names that people know of IANA's registry of supported groups."""

_SCHEMES = {
    0x0201: "rsa_pkcs1_sha1",
    0x0203: "ecdsa_sha1",
    0x0401: "rsa_pkcs1_sha256",
    0x0403: "ecdsa_secp256r1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0601: "rsa_pkcs1_sha512",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
}
"""RFC 8446 §4.2.3."""

ALERTS: Final = {
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
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""IANA's registry of TLS alerts: RFC 8446 §6, RFC 6066, RFC 7301."""


@dataclass(frozen=True, slots=True)
class Session:
    """What else was agreed on. Empty texts where the handshake did not say, or did not get that far."""

    group: str = ""
    """The group of the key exchange, like `X25519`; empty for an exchange by RSA, and for finite fields in TLS 1.2."""
    signature: str = ""
    """The scheme by which the server proved that it has the key, like `ecdsa_secp256r1_sha256`."""
    alpn: str = ""
    """The application protocol that was agreed on."""
    asks_for_certificate: bool = False
    """The server asked for a certificate of the client."""
    secure_renegotiation: bool = True
    """RFC 5746; TLS 1.3 has no renegotiation."""


class Handshake:
    """Collects the server's messages of one handshake: give `take` to libcurl as its debug callback."""

    __slots__ = ("_alert", "_certificate", "_clock", "_hello", "_others", "_told", "began")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.began: float | None = None
        """When our first message was sent, by the clock; None before that."""
        self._hello = b""
        self._told: tuple[str, str] | None = None
        self._certificate = b""
        self._alert = 0
        self._others: dict[int, bytes] = {}

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
        elif first in _OTHERS and size > _RECORD_HEADER:
            self._others[first] = data

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
        return ALERTS.get(self._alert, f"alert {self._alert}") if self._alert else ""

    @property
    def staple(self) -> bytes:
        """The OCSP response that the server sent along for its own certificate, DER; empty without one."""
        status = self._others.get(_CERTIFICATE_STATUS)
        if status is not None:
            return read_status(status[4:])
        return read_staple(self._certificate) if self._certificate and self.version == "TLS 1.3" else b""

    @property
    def session(self) -> Session:
        """What else was agreed on."""
        return read_session(
            self._hello,
            self._others.get(_ENCRYPTED_EXTENSIONS, b""),
            self._others.get(_SERVER_KEY_EXCHANGE, b""),
            self._others.get(_CERTIFICATE_VERIFY, b""),
            asks_for_certificate=_CERTIFICATE_REQUEST in self._others,
        )

    @property
    def finished(self) -> bool:
        """The server has ended its part of the handshake."""
        return _FINISHED in self._others

    @property
    def ticketed(self) -> bool:
        """The server has sent a ticket. In TLS 1.3 that is its first word after it has accepted what the client sent."""
        return _NEW_SESSION_TICKET in self._others


def read_hello(message: bytes) -> tuple[str, str]:
    """Version and cipher suite from a ServerHello message. A cut-off message gives what it still says."""
    version = int.from_bytes(message[4:6])
    after_session = _after_session(message)
    suite = int.from_bytes(message[after_session : after_session + 2])
    for extension, data in _extensions(message, after_session + 5):
        if extension == _SUPPORTED_VERSIONS:
            version = int.from_bytes(data[:2])
    return _VERSIONS.get(version, f"0x{version:04X}"), cipher_name(suite)


def _after_session(hello: bytes) -> int:
    """Where the suite stands: after the session's id, whose length is the 39th byte."""
    return 39 + (hello[38] if len(hello) > 38 else 0)


def _extensions(message: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Number and content of each extension from there to the end of the message; a cut-off one is passed on cut off."""
    while at + 4 <= len(message):
        size = int.from_bytes(message[at + 2 : at + 4])
        yield int.from_bytes(message[at : at + 2]), message[at + 4 : at + 4 + size]
        at += 4 + size


def read_session(
    hello: bytes, encrypted_extensions: bytes, key_exchange: bytes, verify: bytes, *, asks_for_certificate: bool = False
) -> Session:
    """What was agreed on, from ServerHello and the messages after it, as far as there are any."""
    group, alpn, renegotiation = 0, b"", False
    version, suite = read_hello(hello) if hello else ("", "")
    if hello:
        for extension, data in _extensions(hello, _after_session(hello) + 5):
            if extension == _KEY_SHARE:
                group = int.from_bytes(data[:2])
            elif extension == _ALPN:
                alpn = data[3:]
            elif extension == _RENEGOTIATION_INFO:
                renegotiation = True
    for extension, data in _extensions(encrypted_extensions, 6):
        if extension == _ALPN:
            alpn = data[3:]
    scheme = int.from_bytes(verify[4:6])
    if version != "TLS 1.3" and "ECDHE" in suite and key_exchange[4:5] == b"\x03":  # a named curve: RFC 8422 §5.4
        group = int.from_bytes(key_exchange[5:7])
        signed = 8 + int.from_bytes(key_exchange[7:8])
        # Before TLS 1.2 the scheme is not written down: it follows from the suite.
        scheme = int.from_bytes(key_exchange[signed : signed + 2]) if version == "TLS 1.2" else 0
    return Session(
        group=_GROUPS.get(group, f"0x{group:04X}") if group else "",
        signature=_SCHEMES.get(scheme, f"0x{scheme:04X}") if scheme else "",
        alpn=alpn.decode("ascii", "replace"),
        asks_for_certificate=asks_for_certificate,
        secure_renegotiation=renegotiation or version == "TLS 1.3",
    )


def read_status(status: bytes) -> bytes:
    """The OCSP response in a CertificateStatus (RFC 6066 §8): type 1, three bytes of length. Empty for anything else."""
    size = int.from_bytes(status[1:4])
    response = status[4 : 4 + size]
    return response if status[:1] == b"\x01" and size and len(response) == size else b""


def read_staple(message: bytes) -> bytes:
    """The OCSP response for the first certificate of a Certificate message of TLS 1.3 (RFC 8446 §4.4.2.1)."""
    at = 5 + int.from_bytes(message[4:5]) + 3
    at += 3 + int.from_bytes(message[at : at + 3])
    end = at + 2 + int.from_bytes(message[at : at + 2])
    for extension, data in _extensions(message[:end], at + 2):
        if extension == _STATUS_REQUEST:
            return read_status(data)
    return b""


def cipher_name(suite: int) -> str:
    """IANA's name of a cipher suite; its number for those that no client of ours offers."""
    return _CIPHERS.get(suite, f"0x{suite:04X}")


def read_certificates(message: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    """The DER certificates of a Certificate message, in the order sent. A cut-off message gives the whole ones.

    A server sends the same message every time: remembered, so that its certificates are the same objects too.
    """
    if len(message) > _REMEMBERED:
        return _read_certificates(message, tls13=tls13)
    return _read_known_certificates(message, tls13=tls13)


@lru_cache(maxsize=4096)
def _read_known_certificates(message: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    return _read_certificates(message, tls13=tls13)


def _read_certificates(message: bytes, *, tls13: bool) -> tuple[bytes, ...]:
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
