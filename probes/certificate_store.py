"""The certificates in a file, whatever form it has: PEM, DER or PKCS#12; and whether a private key belongs to one.

Pure: bytes in, certificates or `Unreadable` out.
"""

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from stormwatch.probes.malformed import MALFORMED

_PEM = b"-----BEGIN "
_JKS = b"\xfe\xed\xfe\xed"


class Unreadable(Exception):
    """A file that holds no certificates. One phrase that goes on after the file's name."""


class Locked(Exception):
    """A file that the password does not open. One phrase that goes on after the file's name."""


def read_file(data: bytes, password: str) -> tuple[x509.Certificate, ...]:
    """The certificates in their order, the one that belongs to the key first where the form knows it.

    A PEM file with other things in it but no certificate has none: a file of keys is no mistake. Raises Unreadable, Locked.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd certificates are looked at all the same
            return _read(data, password)
    except MALFORMED as error:
        raise Unreadable(f"holds a certificate that cannot be read: {error}") from error


def _read(data: bytes, password: str) -> tuple[x509.Certificate, ...]:
    if _PEM in data:
        return tuple(x509.load_pem_x509_certificates(data)) if b"-----BEGIN CERTIFICATE-----" in data else ()
    if not data.strip():
        raise Unreadable("is empty")
    if data.startswith(_JKS):
        raise Unreadable("is a Java keystore in the old form: convert it to PKCS#12 with keytool")
    if _is_pkcs12(data):
        return _read_pkcs12(data, password)
    if data[:1] != b"\x30":
        raise Unreadable("is no certificate in PEM, DER or PKCS#12 form")
    return (x509.load_der_x509_certificate(data),)


def _is_pkcs12(data: bytes) -> bool:
    """A sequence that begins with the version 3 (RFC 7292 §4); a certificate begins with another sequence."""
    if len(data) < 6 or data[0] != 0x30:
        return False
    header = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
    return data[header : header + 3] == b"\x02\x01\x03"


def _read_pkcs12(data: bytes, password: str) -> tuple[x509.Certificate, ...]:
    try:
        _, own, others = pkcs12.load_key_and_certificates(data, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        raise Locked(f"is not opened by its password: {error}") from error
    return (*((own,) if own is not None else ()), *others)


def belongs(key: bytes, password: str, certificate: x509.Certificate) -> bool:
    """Whether a private key, in PEM or DER, is that of the certificate. Raises Unreadable, Locked."""
    load = serialization.load_pem_private_key if _PEM in key else serialization.load_der_private_key
    try:
        private = load(key, password=password.encode() if password else None)
    except TypeError as error:
        if not password:
            raise Locked("is encrypted: give `password`") from error
        private = load(key, password=None)  # a password for the certificates' file, and a key without one
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"ENCRYPTED" in key:
            raise Locked(f"is not opened by its password: {error}") from error
        raise Unreadable(f"is no private key in PEM or DER form: {error}") from error
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(encoding, form) == certificate.public_key().public_bytes(encoding, form)
