"""The kind `tls`: served chains in every disorder, handshakes that stall anywhere, and blackbox_exporter's values."""

import asyncio
import re
import ssl
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.certificate import NotTrusted, load_trust, read_chain
from stormwatch.probes.chain import order
from stormwatch.probes.distinguished import distinguished_name
from stormwatch.probes.handshake import Handshake, read_session, read_staple, read_status
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.tls import KIND
from tests.program import program
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import dripping, handshaking, stalling
from tests.servers.probing import labels, measures, open_files, run, settle
from tests.servers.process import free_port, running

PEM = serialization.Encoding.PEM


def served(issued: Issued, *chain: x509.Certificate) -> ssl.SSLContext:
    """A server's context that sends these certificates after its own."""
    file = issued.chain_file.with_suffix(".served")
    file.write_bytes(b"".join(each.public_bytes(PEM) for each in (issued.certificate, *chain)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, issued.key_file)
    return context


def authority_like(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    subject: x509.Name | None = None,
    issued_by: x509.Name | None = None,
) -> x509.Certificate:
    """A certificate of an authority, signed by whom a test likes. Names are common names, or whole ones."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issued_by or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


class Served:
    """Three authorities in a row, and a certificate of the last."""

    def __init__(self, directory: Path) -> None:
        self.root = Authority(directory, "Root")
        self.upper = Authority(directory, "Upper", parent=self.root)
        self.lower = Authority(directory, "Lower", parent=self.upper)
        self.issued = self.lower.issue("127.0.0.1")

    async def look(self, *chain: x509.Certificate, tidy: bool = False) -> Result:
        """One run against a server with this chain."""
        with handshaking(served(self.issued, *chain)) as port:
            options = {"ca_file": str(self.root.file), "policy": {"tidy_chain": tidy}}
            return await run(KIND, f"127.0.0.1:{port}", options)


async def test_a_missing_intermediate_is_named(tmp_path: Path) -> None:
    """The most frequent mistake of all, which browsers often hide."""
    chain = Served(tmp_path)
    result = await chain.look()
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert result.message == (
        "no valid chain from CN=127.0.0.1, issued by CN=Lower,O=Storm, to a trusted authority: "
        "the issuer CN=Lower,O=Storm is not in the served chain, and not trusted itself"
    )
    above = await chain.look(chain.lower.certificate)
    assert above.message.endswith("the issuer CN=Upper,O=Storm is not in the served chain, and not trusted itself")


async def test_disorder_is_seen_and_only_wrong_where_the_policy_says_so(tmp_path: Path) -> None:
    """Wrong order, and certificates that nobody needs."""
    chain = Served(tmp_path)
    upper, lower = chain.upper.certificate, chain.lower.certificate
    stranger = Authority(tmp_path, "Stranger").certificate
    mixed = await chain.look(upper, lower)
    assert (mixed.outcome, mixed.evidence["chain"]["in_order"]) == (Outcome.UP, False)
    strict = await chain.look(upper, lower, tidy=True)
    assert strict.message == "the chain is served in the wrong order: the certificates follow each other as 0, 2, 1"
    more = await chain.look(lower, upper, stranger)
    assert (more.outcome, more.evidence["chain"]["superfluous"]) == (Outcome.UP, 1)
    strict = await chain.look(lower, upper, stranger, tidy=True)
    assert strict.message == "1 certificates of the served chain are superfluous: CN=Stranger,O=Storm"
    assert (await chain.look(lower, upper, chain.root.certificate, tidy=True)).outcome is Outcome.UP


async def test_issuers_that_name_each_other_in_a_circle_are_said_to(tmp_path: Path) -> None:
    """No path ends, and the search does."""
    chain = Served(tmp_path)
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = "Lower"
    chain.lower.certificate = authority_like(name, "Other", one, other)
    loop = [authority_like("Other", name, other, one)]
    result = await chain.look(chain.lower.certificate, *loop)
    assert result.reason is Reason.CERTIFICATE
    assert "CN=Lower" in result.message


async def test_a_hundred_certificates_are_bounded(tmp_path: Path) -> None:
    """Sixteen are shown and have series, the others are counted; the dates of all of them matter."""
    chain = Served(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    many = [authority_like(f"Authority {number}", "Nobody", key, key) for number in range(97)]
    began = time.monotonic()
    result = await chain.look(chain.lower.certificate, chain.upper.certificate, *many)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert (len(result.evidence["certificates"]), result.evidence["certificates_left_out"]) == (16, 84)
    series = [each for each in result.measures if each.name.endswith("expiry_timestamp_seconds") and each.labels]
    assert len(series) == 16
    assert measures(result)["probe_ssl_earliest_cert_expiry"] < time.time() + 10 * 86400
    assert time.monotonic() - began < 5


async def test_more_certificates_than_any_client_takes_are_down(tmp_path: Path) -> None:
    """At 100 KB libcurl gives up."""
    chain = Served(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    many = [authority_like(f"Authority {number}", "Nobody", key, key) for number in range(400)]
    result = await chain.look(*many)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TLS, "tls")


def test_no_chain_makes_the_search_for_a_path_branch(tmp_path: Path) -> None:
    """Sixty certificates of one name and key issue each other: without `cryptography`'s limit the search would take years."""
    root, twin = Authority(tmp_path, "Root"), Authority(tmp_path, "Twin")
    leaf = twin.issue("127.0.0.1").certificate
    subject = twin.certificate.subject
    twins = [authority_like("", "", twin.key, twin.key, subject=subject, issued_by=subject) for _ in range(60)]
    chain = tuple(each.public_bytes(serialization.Encoding.DER) for each in (leaf, *twins))
    began = time.monotonic()
    with pytest.raises(NotTrusted):
        load_trust(str(root.file))[1].verify(chain, "127.0.0.1", time.time())
    assert time.monotonic() - began < 5


def test_a_path_that_was_found_is_not_believed_after_its_end(authority: Authority, issued: Issued) -> None:
    """It is remembered, but only for as long as its certificates are valid."""
    trust, chain = load_trust(str(authority.file))[1], (issued.certificate.public_bytes(serialization.Encoding.DER),)
    assert trust.verify(chain, "127.0.0.1", time.time()) == issued.not_after
    with pytest.raises(NotTrusted, match="expired at"):
        trust.verify(chain, "127.0.0.1", issued.not_after + 1)
    with pytest.raises(NotTrusted, match="not for other"):
        trust.verify(chain, "other.test", time.time())


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), max_size=30))
def test_the_order_of_any_names_ends_and_is_a_path(names: list[tuple[str, str]]) -> None:
    """Circles, twins, the empty chain."""
    found = order(names)
    assert len(set(found.path)) == len(found.path)
    assert sorted((*found.path, *found.superfluous)) == list(range(len(names)))
    for one, after in zip(found.path, found.path[1:], strict=False):
        assert names[one][1] == names[after][0]


@pytest.mark.shows("tls", "timeout")
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_handshake_that_stalls_after_any_message_ends_by_the_deadline(
    newest: ssl.TLSVersion, issued: Issued, ca_file: Path
) -> None:
    """In phase tls, with what was seen until then, and nothing left open."""
    context = issued.server_context()
    context.maximum_version = newest
    with handshaking(context) as port:
        for records in range(4):
            async with stalling(port, records=records) as front:
                before = open_files()
                results = await asyncio.gather(
                    *(run(KIND, f"127.0.0.1:{front}", {"ca_file": str(ca_file)}, timeout=1.0) for _ in range(4))
                )
                assert {(each.reason, each.failed_phase) for each in results} == {(Reason.TIMEOUT, "tls")}
                assert max(each.seconds for each in results) < 10
                seen = "certificates" in results[0].evidence
                # In TLS 1.2 the certificate is the server's second message; in 1.3 its records are not told apart.
                if newest is ssl.TLSVersion.TLSv1_2:
                    assert seen == (records >= 2)
                assert await settle(before) <= before


async def test_a_handshake_of_one_byte_at_a_time_ends_by_the_deadline(issued: Issued, ca_file: Path) -> None:
    """Slowly enough, it is silence; quickly enough, it is a handshake."""
    options = {"ca_file": str(ca_file)}
    with handshaking(issued.server_context()) as port:
        async with dripping(port, every=0.02) as front:
            slow = await run(KIND, f"127.0.0.1:{front}", options, timeout=1.0)
        async with dripping(port, every=0) as front:
            whole = await run(KIND, f"127.0.0.1:{front}", options)
    assert (slow.reason, slow.failed_phase) == (Reason.TIMEOUT, "tls")
    assert (whole.outcome, whole.message) == (Outcome.UP, "")


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=120), min_size=5, max_size=5))
def test_any_messages_are_a_session(messages: list[bytes]) -> None:
    """Noise in every message of a handshake: a value, never an exception."""
    handshake = Handshake(lambda: 0.0)
    for kind, message in zip((2, 8, 11, 12, 15, 22, 13, 4, 20), (*messages, *messages), strict=False):
        handshake.take(5, bytes([kind]) + message)
    assert isinstance(handshake.session.group + handshake.session.signature + handshake.session.alpn, str)
    assert isinstance(handshake.staple, bytes)
    assert isinstance(read_session(*messages[:4]).group, str)
    assert read_status(messages[0]) in messages[0]
    assert isinstance(read_staple(messages[1]), bytes)
    assert isinstance(read_chain(tuple(messages)).certificates, tuple)


NASTY = x509.Name(
    [
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "test"),
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Shop, "Storm" + Sons; <x>\\ #1 '),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "#first"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "second"),
        x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Büren an der Aare"),
        x509.NameAttribute(NameOID.LOCALITY_NAME, " Ort"),
        x509.NameAttribute(NameOID.STREET_ADDRESS, "Weg 1"),
        x509.NameAttribute(NameOID.POSTAL_CODE, "1"),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, "42"),
        x509.NameAttribute(NameOID.EMAIL_ADDRESS, "ops@shop.test"),
        x509.NameAttribute(NameOID.COMMON_NAME, "shop.test"),
        x509.NameAttribute(NameOID.COMMON_NAME, "zuletzt"),
        x509.NameAttribute(ObjectIdentifier("1.3.6.1.4.1.99999.1"), "own"),
    ]
)


async def test_the_facts_are_those_that_blackbox_exporter_exports(tmp_path: Path) -> None:
    """The same server asked by both: labels, dates, version. A trusted chain, and one that is not verified."""
    root = Authority(tmp_path, "Root", days=20)
    issued = Authority(tmp_path, "Between", parent=root).issue("127.0.0.1", "shop.test", "a.test", subject=NASTY)
    exporter, config = free_port(), tmp_path / "blackbox.yml"
    config.write_text(
        f"modules: {{trusted: {{prober: tcp, tcp: {{tls: true, tls_config: {{ca_file: {root.file}}}}}}}, "
        "anyone: {prober: tcp, tcp: {tls: true, tls_config: {insecure_skip_verify: true}}}}"
    )
    command = [program("prometheus-blackbox-exporter"), f"--config.file={config}"]
    command += [f"--web.listen-address=127.0.0.1:{exporter}", "--log.level=error"]
    with (
        running(command, log=tmp_path / "log", port=exporter),
        handshaking(issued.server_context()) as port,
    ):
        target = f"127.0.0.1:{port}"
        trusted = await run(KIND, target, {"ca_file": str(root.file)})
        anyone = await run(KIND, target, {"verify": False})
        pages = {module: await asyncio.to_thread(_page, exporter, module, target) for module in ("trusted", "anyone")}
    for result, page in ((trusted, pages["trusted"]), (anyone, pages["anyone"])):
        assert result.outcome is Outcome.UP
        assert "probe_success 1" in page
        for name in (
            "probe_ssl_earliest_cert_expiry",
            "probe_ssl_last_chain_expiry_timestamp_seconds",
            "probe_ip_protocol",
            "probe_ip_addr_hash",
        ):
            (theirs,) = re.findall(rf"^{name} (\S+)$", page, re.MULTILINE)
            assert measures(result)[name] == float(theirs), name
        for name in ("probe_ssl_last_chain_info", "probe_tls_version_info", "probe_tls_cipher_info"):
            found = re.findall(rf"^{name}{{(.*)}} 1$", page, re.MULTILINE)
            if not found and name == "probe_tls_cipher_info":  # not in every version, nor for TCP
                continue
            theirs = {
                key: value.replace('\\"', '"').replace("\\\\", "\\")
                for key, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[0])
            }
            ours = labels(result, name)
            assert {key: ours[key] for key in theirs} == theirs
            assert set(ours) - set(theirs) <= {"serialnumber"}  # since version 0.26
    assert measures(trusted)["probe_ssl_last_chain_expiry_timestamp_seconds"] < issued.not_after


def _page(exporter: int, module: str, target: str) -> str:
    url = f"http://127.0.0.1:{exporter}/probe?module={module}&target={target}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_a_distinguished_name_is_written_as_go_writes_it() -> None:
    """As seen of blackbox_exporter: order, joined values, escapes, foreign attributes in hexadecimal at the end."""
    assert distinguished_name(NASTY) == (
        'SERIALNUMBER=42,CN=zuletzt,OU=\\#first+OU=second,O=Shop\\, \\"Storm\\" \\+ Sons\\; \\<x\\>\\\\ #1\\ ,'
        "POSTALCODE=1,STREET=Weg 1,L=\\ Ort,ST=Büren an der Aare,C=DE,1.3.6.1.4.1.99999.1=#13036f776e,"
        "1.2.840.113549.1.9.1=#0c0d6f70734073686f702e74657374,0.9.2342.19200300.100.1.25=#130474657374"
    )
