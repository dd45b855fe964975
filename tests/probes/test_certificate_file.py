"""The kind `certificate-file`: every form of file, many files, keys and who may read them, and what is wrong with any."""

import asyncio
import os
import re
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.certificate_file import KIND, LARGEST, READS, CertificateFileCheck, Found
from stormwatch.probes.certificate_store import Locked, Unreadable, belongs, read_file
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers.certificates import Authority, Issued
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


def key_of(issued: Issued) -> Any:
    """Its private key."""
    return serialization.load_pem_private_key(issued.key_file.read_bytes(), None)


def bundle(issued: Issued, password: bytes, *others: x509.Certificate) -> bytes:
    """A PKCS#12 file."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"x", key_of(issued), issued.certificate, others, encryption)


@pytest.mark.shows("certificate-file", "up")
async def test_each_form_of_file_is_read_for_what_it_is(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    """PEM with several, DER, PKCS#12 with a password and without: the content decides, not the name."""
    pem = issued.certificate.public_bytes(PEM) + authority.certificate.public_bytes(PEM)
    forms = {
        "chain": b"a comment\n" + pem,
        "der": issued.certificate.public_bytes(DER),
        "p12": bundle(issued, b"secret", authority.certificate),
        "open": bundle(issued, b"", authority.certificate),
    }
    for name, data in forms.items():
        file = tmp_path / name
        file.write_bytes(data)
        result = await run(KIND, str(file), {"password": "secret" if name == "p12" else "", "expires_within": "7d"})
        assert (result.outcome, result.message) == (Outcome.UP, ""), name
        assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert measures(result)["stormwatch_certificate_file_certificates"] == (1 if name == "der" else 2)
        assert round(measures(result)["stormwatch_certificate_file_days_left"]) == 90
        assert phase_names(result) == ["read"]
        series = [each.labels for each in result.measures if each.name.endswith("expiry_timestamp_seconds")]
        assert series[0] == {"file": str(file), "position": "0"}
        assert "secret" not in str(result.as_json())


async def test_a_pattern_and_a_directory_are_many_files_and_the_first_to_expire_is_named(
    authority: Authority, tmp_path: Path
) -> None:
    """As certbot lays them out. Keys are passed over, other names are not looked at."""
    for name, days in (("a.test", 80), ("b.test", 5), ("c.test", 60)):
        issued = authority.issue(name, after=timedelta(days=days))
        home = tmp_path / "live" / name
        home.mkdir(parents=True)
        (home / "fullchain.pem").write_bytes(issued.chain_file.read_bytes())
        (home / "privkey.pem").write_bytes(issued.key_file.read_bytes())
        (home / "README").write_text("nothing")
    pattern = await run(
        KIND, f"{tmp_path}/live/*/fullchain.pem", {"expires_within": "21d", "key_beside": "privkey.pem"}
    )
    flat = await run(KIND, str(tmp_path), {})
    deep = await run(KIND, str(tmp_path), {"recursive": True})
    assert (pattern.outcome, pattern.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert pattern.message == (
        f"the certificate of CN=b.test in {tmp_path}/live/b.test/fullchain.pem expires in 4d23h, wanted more than 21d"
    )
    assert measures(pattern)["stormwatch_certificate_file_files"] == 3
    assert [each["file"].split("/")[-2] for each in pattern.evidence["certificates"]] == ["b.test", "c.test", "a.test"]
    assert flat.message == f"there is no certificate file {tmp_path}"
    assert (deep.outcome, measures(deep)["stormwatch_certificate_file_files"]) == (Outcome.UP, 6)
    assert measures(deep)["stormwatch_certificate_file_certificates"] == 3


@pytest.mark.shows("certificate-file", "certificate")
async def test_dates_are_judged_for_the_moment_that_is_given(authority: Authority, tmp_path: Path) -> None:
    """Expired, not valid yet, and only at another time."""
    expired = authority.issue("a.test", before=timedelta(days=9), after=timedelta(days=-2))
    early = authority.issue("a.test", before=timedelta(days=-2), after=timedelta(days=9))
    one = await run(KIND, str(expired.chain_file))
    other = await run(KIND, str(early.chain_file))
    then = await run(KIND, str(expired.chain_file), {"at": "2001-01-01T00:00:00Z"})
    assert (one.outcome, one.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert re.fullmatch(f"the certificate of CN=a.test in {expired.chain_file} expired 2d ago", one.message)
    assert measures(one)["stormwatch_certificate_file_days_left"] < -1.9
    assert " is not valid before 20" in other.message
    assert " is not valid before 20" in then.message
    assert then.evidence["judged_at"] == "2001-01-01T00:00:00Z"


@pytest.mark.shows("certificate-file", "up", "certificate", "assertion")
async def test_a_key_must_belong_to_its_certificate_and_to_its_owner_alone(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """A renewed certificate beside the old key keeps a server from starting, the next time it must."""
    other = authority.issue("other.test")
    target, key = str(issued.chain_file), tmp_path / "key.pem"
    key.write_bytes(issued.key_file.read_bytes())
    key.chmod(0o600)
    good = await run(KIND, target, {"key": str(key), "expect": {"private_key": True}})
    key.chmod(0o640)
    shared = await run(KIND, target, {"key": str(key), "expect": {"private_key": True}})
    mild = await run(KIND, target, {"key": str(key)})
    wrong = await run(KIND, target, {"key": str(other.key_file)})
    missing = await run(KIND, target, {"key_beside": "none.pem"})
    assert (good.outcome, good.message, mild.outcome) == (Outcome.UP, "", Outcome.UP)
    assert (shared.outcome, shared.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert shared.message == (f"the private key in {key} may be used by others than its owner (mode 0640): chmod 600")
    assert (wrong.outcome, wrong.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert wrong.message == (
        f"the key {other.key_file} does not belong to the certificate of CN=shop.test in {issued.chain_file}"
    )
    assert (missing.reason, missing.message) == (
        Reason.ASSERTION,
        f"there is no key {issued.chain_file.with_name('none.pem')} for the certificate in {issued.chain_file}",
    )
    together = tmp_path / "both.pem"
    together.write_bytes(issued.chain_file.read_bytes() + issued.key_file.read_bytes())
    together.chmod(0o644)
    both = await run(KIND, str(together), {"expect": {"private_key": True}})
    assert both.reason is Reason.ASSERTION


@pytest.mark.shows("certificate-file", "assertion", "protocol")
async def test_what_is_no_certificate_is_told_apart(issued: Issued, tmp_path: Path) -> None:
    """Missing files are an assertion that does not hold; damaged ones are not what they should be."""
    forms: dict[str, tuple[bytes, str]] = {
        "empty.pem": (b"\n", "is empty"),
        "text.crt": (b"hello", "is no certificate in PEM, DER or PKCS#12 form"),
        "cut.der": (issued.certificate.public_bytes(DER)[:100], "holds a certificate that cannot be read: "),
        "bad.pem": (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot",
        ),
        "store.jks": (b"\xfe\xed\xfe\xed" + bytes(20), "is a Java keystore in the old form"),
        "large.pem": (b"x" * (LARGEST + 1), "is larger than 1MiB"),
        "key.pem": (issued.key_file.read_bytes(), "holds no certificate"),
    }
    for name, (data, said) in forms.items():
        file = tmp_path / name
        file.write_bytes(data)
        result = await run(KIND, str(file))
        assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL), name
        assert result.message.startswith(f"{file} {said}")
    os.mkfifo(tmp_path / "pipe.pem")
    pipe = await run(KIND, str(tmp_path / "pipe.pem"))
    assert pipe.message == f"{tmp_path}/pipe.pem is not a regular file"
    all_of_them = await run(KIND, str(tmp_path))
    assert all_of_them.message.endswith("; and 5 more failures")
    (tmp_path / "dangling.pem").symlink_to(tmp_path / "gone")
    for target, what in (
        (f"{tmp_path}/none.pem", "there is no certificate file"),
        (f"{tmp_path}/dangling.pem", "there is no certificate file"),
        (f"{tmp_path}/*.none", "no file matches"),
    ):
        absent = await run(KIND, target)
        assert (absent.reason, absent.message) == (Reason.ASSERTION, f"{what} {target}")


async def test_what_else_is_expected_of_the_files(issued: Issued) -> None:
    """How many, and for whom."""
    target = str(issued.chain_file)
    few = await run(KIND, target, {"expect": {"certificates_at_least": 2}})
    named = await run(KIND, target, {"expect": {"names": ["shop.test", "127.0.0.1"]}})
    other = await run(KIND, target, {"expect": {"names": ["shop.test", "new.test"]}})
    assert (few.reason, few.message) == (Reason.ASSERTION, f"{target} has 1 certificates, wanted at least 2")
    assert Outcome.UP is named.outcome
    assert (other.reason, other.message) == (
        Reason.CERTIFICATE,
        f"the certificate in {target} is for shop.test, localhost, 127.0.0.1, wanted it to be for new.test too",
    )


@pytest.mark.shows("certificate-file", "broken")
async def test_what_we_cannot_read_is_broken(issued: Issued, tmp_path: Path) -> None:
    """A password that does not open it, a link to itself, a policy: none says anything about the certificate."""
    locked = tmp_path / "locked.p12"
    locked.write_bytes(bundle(issued, b"secret"))
    wrong = await run(KIND, str(locked), {"password": "guess"})
    assert (wrong.outcome, wrong.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert wrong.message.startswith(f"{locked} is not opened by its password: ")
    assert "guess" not in str(wrong.as_json())
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key_of(issued).private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
        )
    )
    closed = await run(KIND, str(issued.chain_file), {"key": str(encrypted)})
    assert (closed.reason, closed.message) == (Reason.CREDENTIALS, f"{encrypted} is encrypted: give `password`")
    opened = await run(KIND, str(issued.chain_file), {"key": str(encrypted), "password": "secret"})
    assert Outcome.UP is opened.outcome
    loop = tmp_path / "loop.pem"
    loop.symlink_to(loop)
    endless = await run(KIND, str(loop))
    assert (endless.outcome, endless.reason) == (Outcome.BROKEN, Reason.INTERNAL)
    assert endless.message.startswith(f"{loop} cannot be read: Too many levels of symbolic links")
    refused = await run(KIND, str(issued.chain_file), reach=Reach(refuse=OWN_HOST))
    assert (refused.outcome, refused.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.shows("certificate-file", "timeout", "too-slow")
async def test_reading_ends_by_the_deadline_and_lets_go(issued: Issued, tmp_path: Path) -> None:
    """A thousand files take longer than a millisecond; the thread stops where it is, and nothing stays open."""
    data = issued.chain_file.read_bytes()
    for number in range(1500):
        (tmp_path / f"{number}.pem").write_bytes(data)
    before, threads = open_files(), threading.active_count()
    results = await asyncio.gather(*(run(KIND, str(tmp_path), timeout=0.002) for _ in range(4)))
    assert {each.reason for each in results} == {Reason.TIMEOUT}
    assert {each.failed_phase for each in results} == {"read"}
    assert await settle(before) <= before
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert threading.active_count() <= threads
    slow = await run(KIND, str(tmp_path), {"expect": {"slower_than": "1ms"}}, timeout=30)
    assert (slow.outcome, slow.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert slow.message.endswith(", wanted at most 1ms; slowest was phase read")
    assert len(slow.evidence["certificates"]) == 16
    assert slow.evidence["certificates_left_out"] == 1484
    assert sum(each.name.endswith("expiry_timestamp_seconds") for each in slow.measures) == 256


def test_a_run_that_was_given_up_reads_no_further_file(issued: Issued) -> None:
    """Its thread cannot be stopped, so it asks before each file."""
    check, given_up, found = check_of(KIND, str(issued.chain_file)), threading.Event(), Found()
    assert isinstance(check, CertificateFileCheck)
    check.look(found, given_up)
    assert (found.files, len(found.seen)) == (1, 1)
    given_up.set()
    check.look(found, given_up)
    assert (found.files, len(found.seen)) == (1, 1)


async def test_more_runs_at_once_than_there_are_threads_are_broken_and_not_down(issued: Issued) -> None:
    """A file system that does not answer must not use up the prober's threads."""
    results: list[Result] = await asyncio.gather(*(run(KIND, str(issued.chain_file)) for _ in range(READS * 3)))
    assert {each.outcome for each in results} <= {Outcome.UP, Outcome.BROKEN}
    assert {each.reason for each in results} <= {Reason.NONE, Reason.RESOURCES}
    assert (await run(KIND, str(issued.chain_file))).outcome is Outcome.UP


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a.pem", {}, "target is the absolute path of a file or directory, or a pattern of them, not 'a.pem'"),
    ("/a.pem", {"key": "/k", "key_beside": "k"}, "key and key_beside: give only one of them"),
    ("/*.pem", {"key": "/k"}, "key is for a single file: give key_beside for several"),
    ("/a.pem", {"key_beside": "../k"}, "key_beside is the name of a file without a directory, not '../k'"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


@settings(max_examples=300)
@given(noise=st.binary(max_size=300), bit=st.integers(0, 20000), form=st.integers(0, 4))
def test_any_bytes_are_certificates_or_unreadable(noise: bytes, bit: int, form: int, issued: Issued) -> None:
    """Noise with and without the beginning of each form, and certificates with a bit changed."""
    whole = (issued.certificate.public_bytes(DER), issued.certificate.public_bytes(PEM))[form % 2]
    number = bit // 8 % len(whole)
    changed = whole[:number] + bytes([whole[number] ^ 1 << bit % 8]) + whole[number + 1 :]
    starts = (b"", b"\x30\x82\x01\x00", b"\x30\x80\x02\x01\x03", b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN ")
    for data in (starts[form] + noise, changed):
        try:
            found = read_file(data, "")
        except (Unreadable, Locked):
            found = ()
        assert isinstance(found, tuple)
        try:
            assert belongs(data, "secret", issued.certificate) in (True, False)
        except (Unreadable, Locked):
            continue
