"""The kind `tls`, revocation: stapled and asked OCSP, lists, what each must prove, and where they may be asked for."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes import crl, ocsp
from stormwatch.probes.reach import Reach, networks
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.tls import KIND
from tests.program import program
from tests.servers import web
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port, running
from tests.servers.revoker import Revoker, nginx_config


@pytest.fixture
def revoker(authority: Authority) -> Revoker:
    """Speaks for the authority that the tests trust."""
    return Revoker(authority)


@asynccontextmanager
async def revocable(revoker: Revoker, *, host: str = "127.0.0.1", **given: Any) -> AsyncGenerator[tuple[str, Issued]]:
    """A TLS server whose certificate names the responder, which runs on another port: its target."""
    async with web.serving(revoker.behave, host=host) as responder:
        issued = revoker.issue(f"http://{host}:{responder.port}/", "127.0.0.1", **given)
        with handshaking(issued.server_context()) as port:
            yield f"127.0.0.1:{port}", issued


def _enough(said: str) -> str:
    """How long a responder may take: so little only where just that is to be said."""
    return "100ms" if said.endswith("100ms") else "10s"


async def look(target: str, ca_file: Path, timeout: float = 30.0, **revocation: Any) -> Result:
    """One run with these options of revocation."""
    return await run(KIND, target, {"ca_file": str(ca_file), "revocation": revocation}, timeout=timeout)


@pytest.mark.shows("tls", "up", "certificate")
@pytest.mark.parametrize("options", [{"ocsp": "ask"}, {"ocsp": "any"}, {"crl": True}])
async def test_a_certificate_is_good_until_its_authority_says_otherwise(
    options: dict[str, Any], revoker: Revoker, ca_file: Path
) -> None:
    """By each way of asking; the moment and the reason are told."""
    async with revocable(revoker) as (target, issued):
        good = await look(target, ca_file, on_unknown="down", **options)
        revoker.revoked.add(issued.certificate.serial_number)
        revoked = await look(target, ca_file, **options)
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert measures(good)["stormwatch_tls_revoked"] == 0
    assert "revocation" in phase_names(good)
    assert (revoked.outcome, revoked.reason, revoked.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "revocation")
    assert revoked.message.startswith(
        "the certificate of CN=127.0.0.1 is revoked at 2026-01-02T03:04:05Z (keyCompromise), says http://127.0.0.1:"
    )
    assert measures(revoked)["stormwatch_tls_revoked"] == 1
    if "crl" in options:
        assert measures(revoked)["probe_ssl_crl_revoked"] == measures(good)["probe_ssl_crl_available"] == 1
        assert measures(good)["probe_ssl_crl_revoked"] == measures(good)["probe_ssl_crl_stale"] == 0
        assert measures(good)["probe_ssl_crl_next_update_timestamp_seconds"] > time.time()
        labels = next(each.labels for each in good.measures if each.name == "probe_ssl_crl_revoked")
        assert sorted(labels) == [
            "chain_pos",
            "crl_url",
            "fingerprint_sha256",
            "issuer",
            "serialnumber",
            "subject",
            "subjectalternative",
        ]
    else:
        assert measures(good)["stormwatch_tls_ocsp_next_update_timestamp_seconds"] > time.time()


UNUSABLE = [
    ("stale", "the OCSP response was good until "),
    ("future", "the OCSP response is not valid before "),
    ("forged", "the OCSP response cannot be trusted: its signature is wrong"),
    ("stranger", "the OCSP response cannot be trusted: its signer has no certificate from the issuer"),
    ("delegate-without-usage", "the OCSP response cannot be trusted: its signer's certificate is not for OCSP"),
    ("delegate-expired", "the OCSP response cannot be trusted: its signer's certificate is valid until "),
    ("other", "the OCSP response is about another certificate"),
    ("try-later", "the OCSP responder answered try later"),
    ("garbage", "the OCSP response (5 bytes) cannot be read: "),
    ("unknown", " does not know the certificate"),
    ("redirect", " answered with status 302"),
    ("huge", " sent more than 64KiB"),
    ("silent", " within 100ms"),
    ("drip", " within 100ms"),
]


@pytest.mark.parametrize(("mode", "said"), UNUSABLE)
async def test_an_ocsp_answer_that_proves_nothing_is_no_answer(
    mode: str, said: str, revoker: Revoker, ca_file: Path
) -> None:
    """Up by default, with the problem in the evidence; down where `on_unknown` says so. Never taken for good."""
    async with revocable(revoker) as (target, _):
        revoker.mode = mode
        mild = await look(target, ca_file, ocsp="ask", within=_enough(said))
        strict = await look(target, ca_file, ocsp="ask", within=_enough(said), on_unknown="down")
    assert (mild.outcome, strict.outcome, strict.reason) == (Outcome.UP, Outcome.DOWN, Reason.CERTIFICATE)
    assert "stormwatch_tls_revoked" not in measures(mild)
    assert strict.message.startswith("nobody could say whether the certificate of CN=127.0.0.1 is revoked: ")
    assert said in strict.message


LISTS_UNUSABLE = [
    ("stale", ", and is stale"),
    ("future", "the CRL is not valid yet"),
    ("stranger", "the CRL's signature is not that of the issuer"),
    ("other", "the CRL is that of CN=Other, not of CN=Test Authority,O=Storm"),
    ("only-authorities", "the CRL is only about authorities"),
    ("indirect", "the CRL is indirect, or only about some reasons, which is not understood"),
    ("garbage", "the CRL (5 bytes) cannot be read: "),
    ("huge", " sent more than 64KiB"),
    ("silent", " within 100ms"),
]


@pytest.mark.parametrize(("mode", "said"), LISTS_UNUSABLE)
async def test_a_list_that_proves_nothing_is_no_list(mode: str, said: str, revoker: Revoker, ca_file: Path) -> None:
    """Whose it is, how old, about what, how large, how slow."""
    async with revocable(revoker) as (target, _):
        revoker.mode = mode
        result = await look(target, ca_file, crl=True, within=_enough(said), on_unknown="down", max_crl="64KiB")
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    assert said in result.message
    if mode == "stale":
        assert measures(result)["probe_ssl_crl_stale"] == 1


@pytest.mark.parametrize(("mode", "options"), [("delegate", {"ocsp": "ask"}), ("pem", {"crl": True})])
async def test_a_delegated_responder_and_a_list_in_pem_are_believed(
    mode: str, options: dict[str, Any], revoker: Revoker, ca_file: Path
) -> None:
    """RFC 6960 §4.2.2.2; and what some authorities publish."""
    async with revocable(revoker) as (target, _):
        revoker.mode = mode
        result = await look(target, ca_file, on_unknown="down", **options)
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_what_was_revoked_stays_so_on_a_stale_list(revoker: Revoker, ca_file: Path) -> None:
    """Only the silence of a stale list proves nothing."""
    async with revocable(revoker) as (target, issued):
        revoker.mode = "stale"
        revoker.revoked.add(issued.certificate.serial_number)
        result = await look(target, ca_file, crl=True)
    assert result.reason is Reason.CERTIFICATE
    assert "is revoked at 2026-01-02T03:04:05Z" in result.message


async def test_answers_are_shared_and_kept_until_they_are_not_fresh(revoker: Revoker, ca_file: Path) -> None:
    """Ten probes at once are one question; a later run asks nobody; a responder that has gone is not missed yet."""
    options = {"ca_file": str(ca_file), "revocation": {"ocsp": "ask", "crl": True, "on_unknown": "down"}}
    forgetful = {**options, "revocation": {**options["revocation"], "fresh_for": "1ms"}}  # type: ignore[dict-item]  # a dict
    async with revocable(revoker) as (target, _), Resources() as resources:
        results = await asyncio.gather(*(run(KIND, target, options, resources=resources) for _ in range(10)))
        results.append(await run(KIND, target, options, resources=resources))
        assert {each.message for each in results} == {""}
        assert sorted(revoker.asked) == ["GET /crl", "POST /ocsp"]
        fetched = [each for each in results if "probe_ssl_crl_fetch_time_seconds" in measures(each)]
        assert len(fetched) == 1
        await asyncio.sleep(0.01)
        revoker.mode = "garbage"
        later = await run(KIND, target, forgetful, resources=resources)
    assert (later.outcome, later.message) == (Outcome.UP, "")
    assert len(revoker.asked) == 4


@pytest.mark.shows("tls", "broken")
async def test_the_address_in_a_certificate_obeys_the_policy_of_networks(revoker: Revoker, ca_file: Path) -> None:
    """It is somebody else's choice: nothing is sent there. That we may not ask is our doing: broken, never down."""
    reach = Reach(refuse=networks(["127.0.0.2/32"]))
    options = {"ca_file": str(ca_file), "revocation": {"ocsp": "ask", "crl": True}}
    strict = {**options, "revocation": {"ocsp": "ask", "on_unknown": "down"}}
    async with revocable(revoker, host="127.0.0.2") as (target, _):
        mild = await run(KIND, target, options, reach=reach)
        broken = await run(KIND, target, strict, reach=reach)
    assert revoker.asked == []
    assert Outcome.UP is mild.outcome
    assert "the policy refuses 127.0.0.2/32" in str(mild.evidence["revocation"])
    assert (broken.outcome, broken.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_nginx_staples_a_response_in_both_versions(
    version: str, revoker: Revoker, ca_file: Path, tmp_path: Path
) -> None:
    """Good, revoked, stale: read from the handshake, nobody is asked."""
    port = free_port()
    issued = revoker.issue("http://127.0.0.1:9/", "127.0.0.1")
    target = f"127.0.0.1:{port}"
    options = {"ca_file": str(ca_file), "maximum_version": version}
    seen: dict[str, Result] = {}
    for mode in ("right", "revoked", "stale"):
        revoker.mode = mode
        revoker.revoked = {issued.certificate.serial_number} if mode == "revoked" else set()
        config = nginx_config(tmp_path, port, issued, revoker.answer(issued.certificate))
        with running([program("nginx"), "-c", config, "-p", tmp_path], log=tmp_path / "log", port=port):
            # nginx loads its staple with the first handshake of a worker.
            staple: dict[str, Any] = {**options, "revocation": {"ocsp": "staple", "must_staple": True}}
            await run(KIND, target, staple)
            seen[mode] = await run(KIND, target, staple)
    assert (seen["right"].outcome, seen["right"].message) == (Outcome.UP, "")
    assert seen["right"].evidence["tls"]["version"] == f"TLS {version}"
    assert measures(seen["right"])["stormwatch_tls_ocsp_stapled"] == 1
    assert measures(seen["right"])["stormwatch_tls_revoked"] == 0
    assert [phase.failed for phase in seen["right"].phases] == [False] * len(seen["right"].phases)
    assert seen["right"].seconds > 0
    assert "is revoked at 2026-01-02T03:04:05Z" in seen["revoked"].message
    assert seen["stale"].message.endswith(", and is stale, wanted a good one")


async def test_a_staple_that_must_be_there_and_is_not_is_down(revoker: Revoker, ca_file: Path) -> None:
    """Because the option says so, or because the certificate does."""
    async with revocable(revoker) as (target, _):
        wanted = await look(target, ca_file, must_staple=True)
        plain = await look(target, ca_file, ocsp="staple")
    async with revocable(revoker, must_staple=True) as (target, _):
        demanded = await look(target, ca_file, ocsp="staple")
        not_looked_at = await look(target, ca_file, ocsp="ask")
    assert wanted.message == "the server sent no OCSP response along, wanted a good one"
    assert Outcome.UP is plain.outcome
    assert measures(plain)["stormwatch_tls_ocsp_stapled"] == 0
    assert demanded.message == (
        "the server sent no OCSP response along, and its certificate demands a good one (RFC 7633)"
    )
    assert Outcome.UP is not_looked_at.outcome


async def test_an_intermediate_is_asked_about_with_chain(tmp_path: Path) -> None:
    """Its own authority speaks for it."""
    root = Authority(tmp_path, "Root")
    between = Authority(tmp_path, "Between", parent=root)
    with handshaking(between.issue("127.0.0.1").server_context()) as port:
        leaf = await look(f"127.0.0.1:{port}", root.file, ocsp="ask")
        both = await look(f"127.0.0.1:{port}", root.file, ocsp="ask", chain=True)
    assert [each["chain_pos"] for each in leaf.evidence["revocation"]] == ["0"]
    assert [each["chain_pos"] for each in both.evidence["revocation"]] == ["0", "1"]
    assert both.evidence["revocation"][1]["problem"] == "the certificate names no OCSP responder"


async def test_a_responder_that_hangs_leaves_nothing_open(revoker: Revoker, ca_file: Path) -> None:
    """Neither when its time is over, nor when the run's is."""
    async with revocable(revoker) as (target, _), Resources() as resources:
        revoker.mode = "silent"
        options = {"ca_file": str(ca_file), "revocation": {"ocsp": "ask", "within": "100ms"}}
        await run(KIND, target, options, resources=resources)
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, target, options, resources=resources, timeout=0.3) for _ in range(8))
        )
        assert {each.outcome for each in results} == {Outcome.UP}
        assert await settle(before) <= before


def test_only_a_verified_certificate_says_where_to_ask() -> None:
    """Or anybody could make us connect anywhere."""
    message = "revocation: only a certificate that is verified may say where to ask: give `verify: true`"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_of(KIND, "shop.test:443", {"verify": False, "revocation": {"crl": True}})


@settings(max_examples=300)
@given(data=st.binary(max_size=600), cut=st.integers(0, 2000), flip=st.integers(0, 8000))
def test_any_bytes_are_an_answer_or_not_usable(
    data: bytes, cut: int, flip: int, session_revoker: tuple[Revoker, Issued], known: tuple[bytes, bytes]
) -> None:
    """Noise, and answers that are cut off or have a bit changed: never another exception."""
    revoker, issued = session_revoker
    now = datetime.now(UTC).timestamp()
    certificate, issuer = issued.certificate, revoker.authority.certificate
    answer, listed = known
    for each in (data, answer[:cut], changed(answer, flip)):
        with contextlib.suppress(ocsp.NotUsable):
            assert ocsp.read_answer(each, certificate, issuer, now).revoked in (True, False, None)
    for each in (data, b"-----BEGIN X509 CRL-----" + data, listed[:cut], changed(listed, flip)):
        with contextlib.suppress(ocsp.NotUsable):
            assert crl.read_list(each, issuer, now).status(certificate).revoked in (True, False)


def changed(data: bytes, bit: int) -> bytes:
    """With one bit flipped."""
    number = bit // 8 % len(data)
    return data[:number] + bytes([data[number] ^ 1 << bit % 8]) + data[number + 1 :]


@pytest.fixture(scope="session")
def known(session_revoker: tuple[Revoker, Issued]) -> tuple[bytes, bytes]:
    """An answer and a list that are right."""
    revoker, issued = session_revoker
    return revoker.answer(issued.certificate), revoker.listed()


@pytest.fixture(scope="session")
def session_revoker(authority: Authority) -> tuple[Revoker, Issued]:
    """One that all examples share."""
    revoker = Revoker(authority)
    return revoker, revoker.issue("http://127.0.0.1:9/", "127.0.0.1")
