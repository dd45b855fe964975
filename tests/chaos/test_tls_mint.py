"""Certificates that are made on the spot, as `openssl verify` judges them: right in all but the one thing."""

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stormwatch.chaos.tls_mint import Issuer, Mint, new_issuer, new_key, read_issuer
from stormwatch.chaos.tls_options import (
    TlsExpired,
    TlsExpiresSoon,
    TlsFault,
    TlsMissingIntermediate,
    TlsNotYetValid,
    TlsSelfSigned,
    TlsUnknownCa,
    TlsWeakHash,
    TlsWeakKey,
    TlsWrongHost,
)
from tests.program import program

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.fixture(scope="module", params=KEYS)
def issuer(request: pytest.FixtureRequest) -> Issuer:
    """A root as users have them, with each kind of key, read from its files."""
    key = KEYS[request.param]()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "house CA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=400))
        .not_valid_after(NOW + datetime.timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return read_issuer(pem(certificate), private(key))


def pem(certificate: x509.Certificate) -> bytes:
    """As files hold it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """As files hold it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def verified(directory: Path, issuer: Issuer, fault: TlsFault, level: int) -> str:
    """What OpenSSL says of the chain that is shown for `shop.test`."""
    shown = fault.identity(Mint(issuer, NOW, fault.new_key()), "shop.test")
    (directory / "ca.pem").write_bytes(pem(issuer.certificate))
    (directory / "leaf.pem").write_bytes(pem(shown.chain[0]))
    (directory / "more.pem").write_bytes(b"".join(pem(one) for one in shown.chain[1:]))
    command = [program("openssl"), "verify", "-x509_strict", "-auth_level", str(level), "-purpose", "sslserver"]
    command += ["-verify_hostname", "shop.test", "-CAfile", str(directory / "ca.pem")]
    command += ["-untrusted", str(directory / "more.pem")] if shown.chain[1:] else []
    done = subprocess.run(
        [*command, str(directory / "leaf.pem")], capture_output=True, text=True, timeout=30, check=False
    )
    return "OK" if done.returncode == 0 else done.stderr


WRONG = [
    (TlsFault(), 2, "OK"),
    (TlsExpiresSoon(left=3600), 2, "OK"),
    (TlsWeakHash(), 0, "OK"),
    (TlsWeakKey(), 0, "OK"),
    (TlsExpired(), 2, "error 10 at 0 depth lookup: certificate has expired"),
    (TlsNotYetValid(), 2, "error 9 at 0 depth lookup: certificate is not yet valid"),
    (TlsWrongHost(), 2, "error 62 at 0 depth lookup: hostname mismatch"),
    (TlsSelfSigned(), 2, "error 18 at 0 depth lookup: self-signed certificate"),
    (TlsUnknownCa(), 2, "error 20 at 0 depth lookup: unable to get local issuer certificate"),
    (TlsMissingIntermediate(), 2, "error 20 at 0 depth lookup: unable to get local issuer certificate"),
    (TlsWeakHash(), 2, "error 68 at 0 depth lookup: CA signature digest algorithm too weak"),
    (TlsWeakKey(), 2, "error 66 at 0 depth lookup: EE certificate key too weak"),
]


@pytest.mark.parametrize(
    ("fault", "level", "said"), WRONG, ids=lambda value: getattr(value, "__class__", value).__name__
)
def test_openssl_finds_that_one_thing(tmp_path: Path, issuer: Issuer, fault: TlsFault, level: int, said: str) -> None:
    """And at level 0, where a weak key or hash is no matter, nothing."""
    seen = verified(tmp_path, issuer, fault, level)
    assert said in seen
    assert seen.count(" depth lookup: ") == (said != "OK")


def test_an_intermediate_as_issuer_is_sent_along(tmp_path: Path) -> None:
    """Clients know its root only."""
    root = new_issuer("root", NOW)
    below = new_issuer("below", NOW, parent=root)
    shown = Mint(below, NOW, new_key()).identity("shop.test")
    assert [one.subject.rfc4514_string() for one in shown.chain] == ["CN=shop.test", "CN=below"]


def test_a_long_name_and_an_address_are_names_too() -> None:
    """The common name holds 64 characters, the alternative names hold what was asked for."""
    mint = Mint(new_issuer("root", NOW), NOW, new_key())
    for name in ("a" * 60 + ".shop.test", "127.0.0.1", "::1"):
        names = mint.identity(name).chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(one.value) for one in names] == [name]


def test_what_cannot_sign_is_refused() -> None:
    """A server's certificate, another's key, a key with a password, rubbish."""
    root = new_issuer("root", NOW)
    assert isinstance(root.key, ec.EllipticCurvePrivateKey)
    server = Mint(root, NOW, new_key()).identity("shop.test")
    locked = root.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for certificate, key, said in (
        (server.chain[0], private(server.key), "not one of an authority"),
        (root.certificate, private(server.key), "the key does not belong to the certificate"),
        (root.certificate, locked, "the key needs a password"),
        (root.certificate, b"rubbish", "PEM|deserialize"),
    ):
        with pytest.raises(ValueError, match=said):
            read_issuer(pem(certificate), key)
