"""The demo CA: what it issues is accepted by verifiers that are strict."""

import base64
import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stormwatch.chaos.tls_mint import Mint, new_key, read_issuer
from stormwatch.demo.authority import new_authority

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_a_strict_verifier_accepts_the_certificate_for_its_name() -> None:
    """The chain is good for 21 days and more, and for the name it was issued for."""
    authority = new_authority("test CA", now=NOW)
    chain = x509.load_pem_x509_certificates(authority.issue("shop.storm.test", now=NOW).chain)
    policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW + datetime.timedelta(days=60))

    verified = policy.build_server_verifier(x509.DNSName("shop.storm.test")).verify(chain[0], [])

    assert [chain[0], authority.certificate] == verified


@pytest.mark.parametrize(
    ("name", "days", "what"),
    [
        ("payments.storm.test", 1, "another name"),
        ("shop.storm.test", 91, "after its end"),
        ("shop.storm.test", -2, "before its beginning"),
    ],
)
def test_a_strict_verifier_refuses_it_otherwise(name: str, days: int, what: str) -> None:
    """Another name, or another time."""
    authority = new_authority("test CA", now=NOW)
    chain = x509.load_pem_x509_certificates(authority.issue("shop.storm.test", now=NOW).chain)
    policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW + datetime.timedelta(days=days))

    with pytest.raises(VerificationError):
        pytest.fail(f"accepted for {what}: {policy.build_server_verifier(x509.DNSName(name)).verify(chain[0], [])}")


def test_the_chain_ends_with_the_authority_and_the_spki_is_that_of_its_key() -> None:
    """Chromium looks for the hash among the keys of the served chain."""
    authority = new_authority("test CA", now=NOW)
    chain = x509.load_pem_x509_certificates(authority.issue("shop.storm.test", now=NOW).chain)
    public = chain[-1].public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    assert authority.certificate == chain[-1]
    assert base64.b64encode(hashlib.sha256(der).digest()).decode() == authority.spki


def test_what_a_delegate_signs_is_trusted_wherever_the_authority_is() -> None:
    """So that faults of TLS show nothing but what they are about; it may not make further authorities."""
    authority = new_authority("test CA", now=NOW)
    delegate = authority.delegate("test faults", now=NOW)
    mint = Mint(read_issuer(delegate.chain, delegate.key), NOW, new_key())
    shown = mint.identity("shop.storm.test").chain
    policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW + datetime.timedelta(days=1))

    verified = policy.build_server_verifier(x509.DNSName("shop.storm.test")).verify(shown[0], list(shown[1:]))

    assert verified[-1] == authority.certificate
    constraints = verified[1].extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
