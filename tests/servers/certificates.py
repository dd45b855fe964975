"""Certificate authorities for tests, and the certificates they issue: valid ones, and each kind of wrong one."""

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files in PEM form."""

    certificate: x509.Certificate
    chain_file: Path
    """The certificate, and the intermediates behind it."""
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        return context

    @property
    def not_after(self) -> float:
        """When it expires, in Unix time."""
        return self.certificate.not_valid_after_utc.timestamp()


class Authority:
    """Signs certificates. Its own is in `file`."""

    def __init__(self, directory: Path, name: str, *, parent: "Authority | None" = None, days: float = 3650) -> None:
        self._directory = directory
        self._count = 0
        self._key = self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Storm"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        self._parent = parent
        now = datetime.now(UTC)
        signer_name, signer_key = (parent._name, parent._key) if parent else (self._name, self._key)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(signer_name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3650))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(signer_key, hashes.SHA256())
        )
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        *names: str,
        before: timedelta = timedelta(days=1),
        after: timedelta = timedelta(days=90),
        subject: x509.Name | None = None,
        rsa_bits: int = 0,
        signed_with: hashes.HashAlgorithm | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Issued:
        """A certificate for DNS names and addresses, valid from `before` ago until `after` from now.

        Its key is elliptic, or RSA of so many bits. `extensions` come last, and are not critical.
        """
        self._count += 1
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - before)
            .not_valid_after(now + after)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, signed_with or hashes.SHA256())
        stem = self._directory / f"{self.file.stem}-{self._count}"
        chain = [certificate]
        authority: Authority = self
        while authority._parent is not None:
            chain.append(authority.certificate)
            authority = authority._parent
        stem.with_suffix(".chain.pem").write_bytes(
            b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
        )
        stem.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Issued(certificate, stem.with_suffix(".chain.pem"), stem.with_suffix(".key"))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
