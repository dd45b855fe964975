"""The kind `tls`: TLSA records by a name server, and the timestamps of Certificate Transparency in certificates."""

import base64
import hashlib
import ipaddress
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import transparency
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.tls import KIND
from stormwatch.probes.tlsa import Pin, match
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.nameserver import answer_from, naming, only
from tests.servers.probing import check_of, measures, phase_names, run

DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


def record(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> str:
    """A TLSA record of a certificate."""
    data = certificate.public_bytes(DER) if selector == 0 else certificate.public_key().public_bytes(DER, SPKI)
    if matching:
        data = hashlib.new("sha256" if matching == 1 else "sha512", data).digest()
    return f"{usage} {selector} {matching} {data.hex()}"


@asynccontextmanager
async def pinned(
    issued: Issued, records: Sequence[str], *, authenticated: bool = True
) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """A server by the name shop.test, its records, and the options to find them: its target and these."""
    with handshaking(issued.server_context()) as port:
        zone = {("shop.test.", "A"): ["127.0.0.1"]}
        if records:
            zone[f"_{port}._tcp.shop.test.", "TLSA"] = list(records)

        def behave(query: dns.message.Message, _transport: str) -> bytes:
            answer = answer_from(query, zone)
            if authenticated and query.flags & dns.flags.AD:
                answer.flags |= dns.flags.AD
            return answer.to_wire()

        async with naming(behave) as names:
            yield f"shop.test:{port}", {"resolver": names.address}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority, Issued]:
    """Root, intermediate, and a certificate for shop.test."""
    directory = tmp_path_factory.mktemp("pins")
    root = Authority(directory, "Root")
    between = Authority(directory, "Between", parent=root)
    return root, between, between.issue("shop.test")


@pytest.mark.shows("tls", "up")
@pytest.mark.parametrize("usage", [0, 1, 2, 3])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
async def test_each_usage_selector_and_matching_type_fits_its_certificate(
    usage: int, selector: int, matching: int, chain: tuple[Authority, Authority, Issued]
) -> None:
    """RFC 6698 §2.1. Usages 2 and 3 need no authority of ours; the others do."""
    root, between, issued = chain
    about = {0: root.certificate, 1: issued.certificate, 2: between.certificate, 3: issued.certificate}[usage]
    trust = {"ca_file": str(root.file)} if usage < 2 else {"verify": False}
    async with pinned(issued, [record(usage, selector, matching, about)]) as (target, options):
        result = await run(KIND, target, {**options, **trust, "expect": {"tlsa": "required"}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["stormwatch_tls_tlsa_match"] == measures(result)["stormwatch_tls_tlsa_authenticated"] == 1
    assert phase_names(result)[-1] == "tlsa"


@pytest.mark.shows("tls", "certificate", "dns")
async def test_records_that_fit_nothing_are_down_and_their_absence_is_where_they_must_be(
    chain: tuple[Authority, Authority, Issued], tmp_path: Path
) -> None:
    """A record of another certificate; none; unusable ones; a name server that fails, which may be an attack."""
    _, between, issued = chain
    other = Authority(tmp_path, "Other").issue("shop.test").certificate
    outcomes: dict[str, Result] = {}
    for name, records in {
        "other": [record(3, 1, 1, other), record(2, 0, 1, issued.certificate)],
        "none": [],
        "unusable": ["9 1 1 " + "00" * 32],
        "untrusted": [record(1, 1, 1, issued.certificate), record(0, 1, 1, between.certificate)],
    }.items():
        async with pinned(issued, records) as (target, options):
            for tlsa in ("required", "if-present"):
                given = {**options, "verify": False, "expect": {"tlsa": tlsa}}
                outcomes[f"{name} {tlsa}"] = await run(KIND, target, given)
    assert {name: each.reason for name, each in outcomes.items()} == {
        "other required": Reason.CERTIFICATE,
        "other if-present": Reason.CERTIFICATE,
        "none required": Reason.CERTIFICATE,
        "none if-present": Reason.NONE,
        "unusable required": Reason.CERTIFICATE,
        "unusable if-present": Reason.NONE,
        "untrusted required": Reason.CERTIFICATE,
        "untrusted if-present": Reason.CERTIFICATE,
    }
    assert ".shop.test: 2 0 1 " in outcomes["other required"].message
    assert outcomes["none required"].message.endswith("._tcp.shop.test has no usable TLSA record, wanted one")
    assert outcomes["other required"].failed_phase == "tlsa"
    with handshaking(issued.server_context()) as port:
        async with naming(only("SERVFAIL")) as names:
            options = {"resolver": names.address, "server_name": "shop.test", "verify": False}
            failed = await run(KIND, f"127.0.0.1:{port}", {**options, "expect": {"tlsa": "if-present"}})
    assert (failed.outcome, failed.reason, failed.failed_phase) == (Outcome.DOWN, Reason.DNS, "tlsa")
    assert failed.message.endswith(": SERVFAIL")


async def test_records_that_dnssec_does_not_vouch_for_are_up_with_a_warning(
    chain: tuple[Authority, Authority, Issued],
) -> None:
    """Only the name server can say."""
    _, _, issued = chain
    records = [record(3, 1, 1, issued.certificate)]
    async with pinned(issued, records, authenticated=False) as (target, options):
        result = await run(KIND, target, {**options, "verify": False, "expect": {"tlsa": "required"}})
    assert Outcome.UP is result.outcome
    assert measures(result)["stormwatch_tls_tlsa_authenticated"] == 0
    assert "does not say that DNSSEC vouches for these records" in result.evidence["tlsa"]["warning"]


@settings(max_examples=300)
@given(
    pin=st.builds(Pin, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.binary(max_size=80)),
    noise=st.lists(st.binary(max_size=80), max_size=3),
)
def test_any_record_and_any_chain_can_be_compared(pin: Pin, noise: list[bytes], issued: Issued) -> None:
    """What a zone says is somebody else's text."""
    chain = (issued.certificate.public_bytes(DER), *noise)
    assert match([pin], chain, None, "shop.test", time.time()) is None
    assert match([pin], tuple(noise), None, "shop.test", time.time()) is None
    assert str(pin)


# Certificate Transparency


class Log:
    """A log of certificates that signs timestamps."""

    def __init__(self, name: str, *, of_rsa: bool = False) -> None:
        self.name = name
        self.key = rsa.generate_private_key(65537, 2048) if of_rsa else ec.generate_private_key(ec.SECP256R1())
        self.der = self.key.public_key().public_bytes(DER, SPKI)
        self.id = hashlib.sha256(self.der).digest()

    def promise(self, tbs: bytes, issuer: x509.Certificate, moment: datetime) -> bytes:
        """A signed certificate timestamp, RFC 6962 §3.2."""
        stamp = round(moment.timestamp() * 1000).to_bytes(8)
        key_hash = hashlib.sha256(issuer.public_key().public_bytes(DER, SPKI)).digest()
        signed = b"\x00\x00" + stamp + b"\x00\x01" + key_hash + len(tbs).to_bytes(3) + tbs + b"\x00\x00"
        if isinstance(self.key, rsa.RSAPrivateKey):
            kind, signature = b"\x04\x01", self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            kind, signature = b"\x04\x03", self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return b"\x00" + self.id + stamp + b"\x00\x00" + kind + len(signature).to_bytes(2) + signature


def log_list(path: Path, *logs: Log) -> Path:
    """A list of logs as Google publishes it."""
    listed = [
        {
            "description": log.name,
            "log_id": base64.b64encode(log.id).decode(),
            "key": base64.b64encode(log.der).decode(),
        }
        for log in logs
    ]
    path.write_text(
        json.dumps({"version": "1", "operators": [{"name": "O", "logs": listed[:1], "tiled_logs": listed[1:]}]})
    )
    return path


def stamped(authority: Authority, directory: Path, *logs: Log, moment: datetime | None = None) -> Issued:
    """A certificate with a timestamp of each log."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    tbs = builder.sign(authority.key, hashes.SHA256()).tbs_certificate_bytes
    promises = [log.promise(tbs, authority.certificate, moment or now - timedelta(hours=1)) for log in logs]
    listed = b"".join(len(each).to_bytes(2) + each for each in promises)
    whole = len(listed).to_bytes(2) + listed
    octets = b"\x04" + (b"\x82" + len(whole).to_bytes(2) if len(whole) > 127 else bytes([len(whole)])) + whole
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), octets)
    certificate = builder.add_extension(extension, critical=False).sign(authority.key, hashes.SHA256())
    chain_file, key_file = directory / "stamped.pem", directory / "stamped.key"
    chain_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Issued(certificate, chain_file, key_file)


async def test_timestamps_of_different_logs_are_counted_and_their_signatures_checked(
    authority: Authority, tmp_path: Path
) -> None:
    """With a list, only those of its logs count; without one, those that do not lie in the future."""
    one, two, stranger = Log("One"), Log("Two", of_rsa=True), Log("Stranger")
    issued = stamped(authority, tmp_path, one, one, two, stranger)
    listed = str(log_list(tmp_path / "logs.json", one, two))
    options = {"ca_file": str(authority.file)}
    with handshaking(issued.server_context()) as port:
        target = f"127.0.0.1:{port}"
        loose = await run(KIND, target, {**options, "expect": {"scts_at_least": 3}})
        strict = await run(KIND, target, {**options, "log_list": listed, "expect": {"scts_at_least": 2}})
        short = await run(KIND, target, {**options, "log_list": listed, "expect": {"scts_at_least": 3}})
    assert (loose.outcome, loose.message, measures(loose)["stormwatch_tls_scts"]) == (Outcome.UP, "", 3)
    assert (strict.outcome, strict.message, measures(strict)["stormwatch_tls_scts"]) == (Outcome.UP, "", 2)
    assert [each.get("name", "") for each in strict.evidence["scts"]] == ["One", "One", "Two", ""]
    assert (short.outcome, short.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert short.message == (
        "the certificate has timestamps of 2 logs that count, wanted 3: its log is not in the list"
    )


@pytest.mark.parametrize(
    ("wrong", "said"), [("signature", "its signature is not that of the log"), ("future", "it lies in the future")]
)
async def test_timestamps_that_do_not_hold_do_not_count(
    wrong: str, said: str, authority: Authority, tmp_path: Path
) -> None:
    """A promise about another certificate; one of tomorrow."""
    log = Log("One")
    moment = datetime.now(UTC) + timedelta(days=1) if wrong == "future" else None
    if wrong == "signature":
        right_key, log.key = log.key, ec.generate_private_key(ec.SECP256R1())
        issued = stamped(authority, tmp_path, log)
        log.key = right_key
    else:
        issued = stamped(authority, tmp_path, log, moment=moment)
    listed = str(log_list(tmp_path / "logs.json", log))
    with handshaking(issued.server_context()) as port:
        options = {"ca_file": str(authority.file), "log_list": listed, "expect": {"scts_at_least": 1}}
        result = await run(KIND, f"127.0.0.1:{port}", options)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert result.message == f"the certificate has timestamps of 0 logs that count, wanted 1: {said}"


async def test_a_certificate_without_timestamps_has_none(issued: Issued, ca_file: Path) -> None:
    """Those of private authorities never do."""
    with handshaking(issued.server_context()) as port:
        options = {"ca_file": str(ca_file), "expect": {"scts_at_least": 1}}
        result = await run(KIND, f"127.0.0.1:{port}", options)
    assert result.message == "the certificate has timestamps of 0 logs that count, wanted 1"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operators": []}', '{"operators": [{"logs": [{"key": "AA=="}]}]}'])
def test_a_log_list_that_is_none_is_a_mistake(text: str, tmp_path: Path) -> None:
    """Told before anything runs."""
    file = tmp_path / "logs.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"^log_list .* is no list of logs \(version 3, JSON\): "):
        check_of(KIND, "shop.test:443", {"log_list": str(file)})


@settings(max_examples=200)
@given(noise=st.binary(max_size=200))
def test_any_bytes_in_the_extension_are_timestamps_or_none(noise: bytes, authority: Authority) -> None:
    """Never an exception."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), noise)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(authority.key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(extension, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    found = transparency.read_timestamps(certificate, authority.certificate, {}, time.time())
    assert isinstance(found, tuple)
