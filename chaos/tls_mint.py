"""Certificates made on the spot: right in everything, or in everything but one thing. No I/O, no clock of its own.

What is right is right for strict verifiers (RFC 5280 and the profile of the CA/Browser Forum), so that a client that
refuses a certificate refuses it for what was made wrong.
"""

import datetime
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

SKEW: Final = datetime.timedelta(days=1)
"""Clocks of clients may be wrong by so much."""
LIFETIME: Final = datetime.timedelta(days=30)
"""Of what is right: longer than the three weeks in which many watch for the end."""

LeafKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server shows and proves."""

    chain: tuple[x509.Certificate, ...]
    """Its own certificate first; without the root."""
    key: LeafKey

    @property
    def pem(self) -> bytes:
        """Key and certificates in one text."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ) + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.chain)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: a certificate authority, root or intermediate."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    below: tuple[x509.Certificate, ...] = ()
    """What has to be sent along for clients that know the root only: its own certificate first."""


def new_issuer(name: str, now: datetime.datetime, *, parent: Issuer | None = None) -> Issuer:
    """A new authority with this common name: a root, or an intermediate of `parent`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_common_name(name), key.public_key(), now - SKEW, now + LIFETIME + SKEW)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    signer = parent.key if parent else key
    builder = builder.issuer_name(parent.certificate.subject if parent else _common_name(name))
    if parent:
        builder = builder.add_extension(_identifier_of(parent.certificate), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Issuer(certificate, key, (certificate, *parent.below) if parent else ())


def read_issuer(certificate: bytes, key: bytes) -> Issuer:
    """An authority from PEM texts. Raises ValueError when it is none, or the key is another's or needs a password."""
    try:
        read = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise ValueError("the key needs a password; give one without") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the key is neither RSA nor elliptic")  # noqa: TRY004 - of a file's content, not of an argument
    if private.public_key() != read.public_key():
        raise ValueError("the key does not belong to the certificate")
    try:
        authority = read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise ValueError("the certificate is not one of an authority (basicConstraints CA:TRUE)")
    # A root may be sent along without harm, an intermediate must be: nobody else knows it.
    return Issuer(read, private, () if read.subject == read.issuer else (read,))


@dataclass(frozen=True, slots=True)
class Mint:
    """Makes identities of servers, signed by one authority, at one moment."""

    issuer: Issuer
    now: datetime.datetime
    key: LeafKey
    """One key for all certificates: making an RSA key takes too long for a handshake to wait for it."""
    revoker: str = ""
    """What the addresses begin with that say whether a certificate is revoked; empty: certificates name none."""

    def identity(
        self,
        name: str,
        *,
        begins: datetime.timedelta = -SKEW,
        ends: datetime.timedelta = LIFETIME,
        issuer: Issuer | None = None,
        self_signed: bool = False,
        with_intermediates: bool = True,
        with_sha1: bool = False,
    ) -> Identity:
        """For a host name or address, valid from `begins` to `ends` after now."""
        key, signer = self.key, issuer or self.issuer
        subject = _common_name(name if len(name) <= 64 else "stormwatch")
        by: CertificateIssuerPrivateKeyTypes = key if self_signed else signer.key
        builder = (
            _builder(subject, key.public_key(), self.now + begins, self.now + ends)
            .issuer_name(subject if self_signed else signer.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        )
        if not self_signed:
            builder = builder.add_extension(_identifier_of(signer.certificate), critical=False)
        if self.revoker:
            # A list of its own for each: clients keep lists, and this certificate would be missing in one that is older.
            for extension in (_access(f"{self.revoker}ocsp"), _list_at(f"{self.revoker}{secrets.token_hex(8)}.crl")):
                builder = builder.add_extension(extension, critical=False)
        leaf = (
            _signed_with_sha1(builder.sign(by, hashes.SHA256()), by) if with_sha1 else builder.sign(by, hashes.SHA256())
        )
        return Identity((leaf, *(signer.below if with_intermediates and not self_signed else ())), key)


def new_key(rsa_bits: int = 0) -> LeafKey:
    """Elliptic, or RSA of so many bits (which takes its time)."""
    return rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())


_SHA1_FOR_SHA256: Final = {
    ec.EllipticCurvePrivateKey: (bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")),
    rsa.RSAPrivateKey: (
        bytes.fromhex("300d06092a864886f70d01010b0500"),
        bytes.fromhex("300d06092a864886f70d0101050500"),
    ),
}
"""The AlgorithmIdentifier of a signature by this kind of key (RFC 5758 §3.2, RFC 8017 A.2.4), in DER."""


def _signed_with_sha1(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
    """The same certificate with another signature. By hand, because `cryptography` rightly makes none with SHA-1."""
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    kind = ec.EllipticCurvePrivateKey if isinstance(key, ec.EllipticCurvePrivateKey) else rsa.RSAPrivateKey
    before, after = _SHA1_FOR_SHA256[kind]
    whole = certificate.tbs_certificate_bytes
    content = whole[2 + (whole[1] & 0x7F if whole[1] & 0x80 else 0) :]
    signed = _der(0x30, content.replace(before, after, 1))
    signature = (
        key.sign(signed, ec.ECDSA(hashes.SHA1()))  # noqa: S303 - that is what is wrong with it
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else key.sign(signed, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    )
    return x509.load_der_x509_certificate(_der(0x30, signed + after + _der(0x03, b"\0" + signature)))


def _der(tag: int, content: bytes) -> bytes:
    """Tag, length, content (X.690 §8.1.3)."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _access(responder: str) -> x509.AuthorityInformationAccess:
    place = x509.UniformResourceIdentifier(responder)
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)])


def _list_at(address: str) -> x509.CRLDistributionPoints:
    place = [x509.UniformResourceIdentifier(address)]
    return x509.CRLDistributionPoints([x509.DistributionPoint(place, None, None, None)])


def _identifier_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
