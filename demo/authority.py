"""A certificate authority that lives as long as one run of the sample platform, and the certificates it issues.

Strict verifiers accept them (RFC 5280, CA/Browser Forum profile): critical basic constraints, key usages, extended
key usage, subject and authority key identifiers, names only in the SAN.
"""

import base64
import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CLOCK_SKEW = datetime.timedelta(days=1)
_AUTHORITY_LIFETIME = datetime.timedelta(days=365)
_SERVICE_LIFETIME = datetime.timedelta(days=90)
"""Far enough away that a check for expiry within 21 days is content, short enough for any client's upper limit."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server needs to prove its name: PEM texts. `chain` begins with its own certificate and ends with the CA's."""

    chain: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA with its key in memory only: nobody can issue certificates after the process that made it has ended."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def issue(self, name: str, *, now: datetime.datetime, lifetime: datetime.timedelta = _SERVICE_LIFETIME) -> Identity:
        """A new key and a server certificate for one DNS name, valid from a day before `now` (aware) for `lifetime`."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, key.public_key(), self.certificate.subject, now - _CLOCK_SKEW, now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(_authority_key_identifier(self.certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(chain=_pem(certificate) + self.pem, key=_private_pem(key))

    @property
    def pem(self) -> bytes:
        """The CA's certificate, for the trust stores of clients."""
        return _pem(self.certificate)

    def delegate(self, name: str, *, now: datetime.datetime) -> Identity:
        """An authority below this one, whose key may be given away: what it signs is trusted wherever this one is.

        For the faults of TLS: nothing but what they are about is to be wrong with what clients are shown.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, key.public_key(), self.certificate.subject, now - _CLOCK_SKEW, now + _SERVICE_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(_authority_key_identifier(self.certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(chain=_pem(certificate), key=_private_pem(key))

    @property
    def spki(self) -> str:
        """Base64 of the SHA-256 of the CA's public key: what Chromium's `--ignore-certificate-errors-spki-list` takes."""
        public = self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(hashlib.sha256(public).digest()).decode()


def new_authority(name: str, *, now: datetime.datetime) -> Authority:
    """A new CA of that common name, valid for a year from a day before `now` (aware)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(name, key.public_key(), subject, now - _CLOCK_SKEW, now + _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, _key=key)


def _builder(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
