"""Each fault of TLS, on a route that ends TLS and on one that passes it on: for our probes, for curl, for OpenSSL."""

import asyncio
import contextlib
import datetime
import re
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp

from stormwatch.chaos.route import Route, RouteIssuer, RouteTls
from stormwatch.chaos.tls_mint import Mint, new_issuer, new_key
from stormwatch.chaos.tls_revoker import Revoker
from stormwatch.probes.http import KIND as HTTP
from stormwatch.probes.ocsp import question
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.tls import KIND as TLS
from tests.program import program
from tests.servers.certificates import Authority, Issued
from tests.servers.probing import run
from tests.servers.proxied import Proxied, proxied
from tests.servers.upstream import Upstream, keeping_alive


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On both loops: tests run on asyncio's, `stormwatch proxy` on uvloop, whose TLS is another."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@dataclass
class House:
    """A CA that clients trust, with its key, and what it issued for `shop.test`."""

    ca: Path
    issuer: RouteIssuer
    served: Issued

    def route(self, upstream: Upstream, *, ends_tls: bool, **more: Any) -> Route:
        """The route `shop`."""
        tls = RouteTls(
            certificate=self.served.chain_file, key=self.served.key_file, ca=self.ca, server_name="shop.test"
        )
        options: dict[str, Any] = {"issuer": self.issuer, "tls": tls if ends_tls else None, **more}
        return Route(name="shop", listen="127.0.0.1:0", upstream=f"127.0.0.1:{upstream.port}", **options)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "house")
    key = directory / "house.key"
    key.write_bytes(
        authority.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return House(authority.file, RouteIssuer(certificate=authority.file, key=key), authority.issue("shop.test"))


@contextlib.asynccontextmanager
async def shop(house: House, *, ends_tls: bool, **more: Any) -> AsyncGenerator[tuple[Proxied, Upstream]]:
    """An HTTPS service for `shop.test` behind a route."""
    async with (
        keeping_alive(tls=house.served.server_context()) as upstream,
        proxied(house.route(upstream, ends_tls=ends_tls, **more)) as proxy,
    ):
        yield proxy, upstream


async def by_tls(house: House, proxy: Proxied, *, timeout: float = 30, **options: Any) -> Result:
    """A run of a probe of kind `tls`."""
    asked = {"ca_file": str(house.ca), "server_name": "shop.test", **options}
    return await run(TLS, f"127.0.0.1:{proxy.port()}", asked, timeout=timeout)


async def by_http(house: House, proxy: Proxied, *, timeout: float = 30, **options: Any) -> Result:
    """A run of a probe of kind `http`."""
    asked = {"ca_file": str(house.ca), "connect_to": "127.0.0.1", **options}
    return await run(HTTP, f"https://shop.test:{proxy.port()}/", asked, timeout=timeout)


FAULTS: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("tls-expired", {"ago": "2d"}, Reason.CERTIFICATE, "expired"),
    ("tls-not-yet-valid", {"ahead": "2h"}, Reason.CERTIFICATE, "not valid before"),
    ("tls-wrong-host", {"name": "bank.test"}, Reason.CERTIFICATE, "bank.test"),
    ("tls-self-signed", {}, Reason.CERTIFICATE, "self"),
    ("tls-unknown-ca", {}, Reason.CERTIFICATE, "Stormwatch CA that nobody knows"),
    ("tls-missing-intermediate", {}, Reason.CERTIFICATE, "Stormwatch intermediate CA"),
    ("tls-weak-hash", {}, Reason.CERTIFICATE, ""),
    ("tls-old-protocol", {}, Reason.TLS, "protocol"),
    ("tls-old-protocol", {"version": "1.0"}, Reason.TLS, "protocol"),
]


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
@pytest.mark.parametrize("asked", [{"ocsp": "ask"}, {"ocsp": "any"}, {"crl": True}], ids=["ocsp", "any", "crl"])
async def test_a_revoked_certificate_is_wrong_for_those_who_ask(
    house: House, asked: dict[str, Any], *, ends_tls: bool
) -> None:
    """By a responder or a list, in the words of the one who was asked; whoever does not ask finds it right in everything."""
    async with shop(house, ends_tls=ends_tls) as (proxy, _):
        await proxy.put("tls-revoked")
        seen = await by_tls(house, proxy, revocation=asked)
        assert (seen.outcome, seen.reason) == (Outcome.DOWN, Reason.CERTIFICATE), seen.message
        assert re.search(
            r"is revoked at .* \(key_?compromise\), says http://127\.0\.0\.1:", seen.message, re.IGNORECASE
        )
        unasked = await by_tls(house, proxy)
        assert unasked.outcome is Outcome.UP, unasked.message
        assert (await by_http(house, proxy)).outcome is Outcome.UP
        assert (await proxy.evidence())["connections"] == 3
        await proxy.delete()
        # The answer is kept, and is about that certificate: the route's own is not it.
        after = await by_tls(house, proxy, revocation=asked)
        assert after.outcome is Outcome.UP, after.message
        host, port = re.findall(r"http://([\d.]+):(\d+)/", seen.message)[0]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


async def test_two_names_of_one_fault_are_both_revoked(house: House) -> None:
    """A list that a client keeps is about the first only: each certificate names a list of its own."""
    async with shop(house, ends_tls=True) as (proxy, _):
        await proxy.put("tls-revoked")
        async with Resources() as resources:
            for name in ("shop.test", "other.test"):
                options = {"ca_file": str(house.ca), "server_name": name, "revocation": {"crl": True}}
                seen = await run(TLS, f"127.0.0.1:{proxy.port()}", options, resources=resources)
                assert seen.reason is Reason.CERTIFICATE, seen.message
                assert "revoked" in seen.message


def test_an_answer_is_given_about_what_the_fault_has_shown_only() -> None:
    """Of other certificates it knows nothing; what is no question is called so."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = new_issuer("Stormwatch test CA", now)
    mint, revoker = Mint(issuer, now, new_key()), Revoker(issuer, now)
    shown, other = (mint.identity(name).chain[0] for name in ("shop.test", "other.test"))
    revoker.revoke(shown)
    answers = {
        name: ocsp.load_der_ocsp_response(revoker.answer(question(one, issuer.certificate)))
        for name, one in (("shown", shown), ("other", other))
    }
    assert answers["shown"].certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answers["other"].response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    said = ocsp.load_der_ocsp_response(revoker.answer(b"what?"))
    assert said.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
@pytest.mark.parametrize(("kind", "options", "reason", "said"), FAULTS)
async def test_our_probes_see_what_is_wrong_and_nothing_else(  # noqa: PLR0917 - pytest's parameters
    house: House, kind: str, options: dict[str, Any], reason: Reason, said: str, ends_tls: bool
) -> None:
    """Up before, down for its reason meanwhile, up after; each handshake is counted."""
    async with shop(house, ends_tls=ends_tls) as (proxy, _):
        assert (await by_tls(house, proxy)).outcome is Outcome.UP
        await proxy.put(kind, **options)
        seen = await by_tls(house, proxy)
        assert (seen.outcome, seen.reason) == (Outcome.DOWN, reason), seen.message
        assert said in seen.message
        page = await by_http(house, proxy)
        assert (page.outcome, page.reason) == (Outcome.DOWN, reason), page.message
        evidence = await proxy.delete()
        assert evidence["connections"] >= 2
        assert evidence["first"] is not None
        for result in (await by_tls(house, proxy), await by_http(house, proxy)):
            assert (result.outcome, result.message) == (Outcome.UP, "")


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
async def test_a_key_that_is_too_short_is_for_those_who_look_at_it(house: House, ends_tls: bool) -> None:
    """Down by the probe's policy; the page comes where nothing is wanted of keys."""
    async with shop(house, ends_tls=ends_tls) as (proxy, _):
        policy = {"minimum_key_bits": {"RSA": 2048}}
        assert (await by_tls(house, proxy, policy=policy)).outcome is Outcome.UP
        await proxy.put("tls-weak-key")
        seen = await by_tls(house, proxy, policy=policy)
        assert (seen.reason, "1024" in seen.message) == (Reason.CERTIFICATE, True)
        assert (await proxy.delete())["connections"] >= 1


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
async def test_a_certificate_that_expires_soon_is_no_outage(house: House, ends_tls: bool) -> None:
    """Up, with pages delivered; down only for those who watch for the end."""
    async with shop(house, ends_tls=ends_tls) as (proxy, upstream):
        await proxy.put("tls-expires-soon", left="3d")
        page = await by_http(house, proxy)
        assert (page.outcome, page.message) == (Outcome.UP, "")
        assert (await by_tls(house, proxy, expires_within="2d")).outcome is Outcome.UP
        seen = await by_tls(house, proxy, expires_within="7d")
        assert (seen.outcome, seen.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
        assert "expires" in seen.message
        assert upstream.requests
        assert (await proxy.delete())["connections"] == 3


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
async def test_a_handshake_that_is_not_answered_is_a_timeout_and_goes_on_after_the_undo(
    house: House, ends_tls: bool
) -> None:
    """Nothing reaches the service meanwhile."""
    async with shop(house, ends_tls=ends_tls) as (proxy, upstream):
        await proxy.put("tls-stalled-handshake")
        seen = await by_tls(house, proxy, timeout=0.5)
        assert seen.reason is Reason.TIMEOUT
        waiting = asyncio.ensure_future(by_http(house, proxy, timeout=30))
        async with asyncio.timeout(30):
            while (await proxy.evidence())["connections"] < 2:
                await asyncio.sleep(0.02)
        assert not waiting.done()
        assert upstream.connections == 0
        await proxy.delete()
        assert (await waiting).outcome is Outcome.UP


@pytest.mark.parametrize("ends_tls", [True, False], ids=["ends-tls", "passes-tls"])
async def test_standing_connections_do_not_notice(house: House, ends_tls: bool) -> None:
    """Their handshakes are over."""
    async with shop(house, ends_tls=ends_tls) as (proxy, _):
        context = ssl.create_default_context(cafile=str(house.ca))
        reader, writer = await proxy.open(ssl=context, server_hostname="shop.test")
        for kind in ("tls-expired", "tls-stalled-handshake"):
            await proxy.put(kind, fault=kind)
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 200")
        for kind in ("tls-expired", "tls-stalled-handshake"):
            assert (await proxy.evidence(fault=kind))["first"] is None


async def test_without_an_issuer_the_authority_is_unknown_too(house: House) -> None:
    """Which is told by the name of the throw-away CA; the name and the key are right."""
    async with shop(house, ends_tls=True, issuer=None) as (proxy, _):
        await proxy.put("tls-expires-soon", left="3d")
        seen = await by_tls(house, proxy)
        assert seen.reason is Reason.CERTIFICATE
        assert "Stormwatch throw-away CA" in seen.message


async def test_a_client_that_asks_for_no_name_is_shown_one_for_the_upstream(house: House) -> None:
    """Its address, where that is what the route knows."""
    async with shop(house, ends_tls=False) as (proxy, _):
        await proxy.put("tls-expires-soon", left="3d")
        context = ssl.create_default_context(cafile=str(house.ca))
        context.check_hostname = False
        _, writer = await proxy.open(ssl=context)
        names = writer.get_extra_info("peercert")["subjectAltName"]
        assert names == (("IP Address", "127.0.0.1"),)


async def test_a_share_of_handshakes_is_drawn_by_its_seed(house: House) -> None:
    """The same again with the same seed."""

    async def drawn() -> list[str]:
        async with shop(house, ends_tls=True) as (proxy, _):
            await proxy.put("tls-expired", share="50%", seed=5)
            return [(await by_tls(house, proxy)).outcome.value for _ in range(12)]

    first = await drawn()
    assert set(first) == {"up", "down"}
    assert first == await drawn()


async def test_the_lease_heals_tls(house: House) -> None:
    """Without anybody who renews it."""
    async with shop(house, ends_tls=False) as (proxy, _):
        await proxy.put("tls-self-signed", lease=0.3)
        async with asyncio.timeout(30):
            while (await by_tls(house, proxy)).outcome is not Outcome.UP:
                await asyncio.sleep(0.02)


async def test_a_hundred_names_and_rubbish_do_not_hurt_the_route(house: House) -> None:
    """What is no hello is reset and not counted; certificates for many names are made and not all kept."""
    async with shop(house, ends_tls=True) as (proxy, _):
        await proxy.put("tls-expired")
        for rubbish in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 200, b""):
            reader, writer = await proxy.open()
            writer.write(rubbish)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 30)
        assert (await proxy.evidence())["first"] is None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for number in range(100):
            _, writer = await proxy.open(ssl=context, server_hostname=f"n{number}.test")
            writer.close()
        assert (await proxy.evidence())["connections"] == 100
        assert "expired" in (await by_tls(house, proxy)).message


CURL: list[tuple[str, dict[str, Any], int, str]] = [
    ("tls-expired", {}, 60, "certificate has expired"),
    ("tls-not-yet-valid", {}, 60, "certificate is not yet valid"),
    ("tls-wrong-host", {}, 60, "no alternative certificate subject name matches target host name 'shop.test'"),
    ("tls-self-signed", {}, 60, "self-signed certificate"),
    ("tls-missing-intermediate", {}, 60, "unable to get local issuer certificate"),
    ("tls-unknown-ca", {}, 60, "unable to get local issuer certificate"),
    ("tls-weak-key", {}, 60, "EE certificate key too weak"),
    ("tls-weak-hash", {}, 60, "CA signature digest algorithm too weak"),
    ("tls-old-protocol", {}, 35, "curl: (35)"),
]


@pytest.mark.parametrize(("kind", "options", "code", "said"), CURL)
async def test_curl_sees_it_too(house: House, kind: str, options: dict[str, Any], code: int, said: str) -> None:
    """With its words, and its exit code."""
    async with shop(house, ends_tls=False) as (proxy, _):
        await proxy.put(kind, **options)
        seen, words = await curl(house, proxy)
        assert (seen, said in words) == (code, True), words
        await proxy.delete()
        assert (await curl(house, proxy))[0] == 0


async def curl(house: House, proxy: Proxied) -> tuple[int, str]:
    """Exit code and complaint of curl at `https://shop.test`."""
    port = proxy.port()
    command = [program("curl"), "-sS", "--max-time", "20", "--cacert", str(house.ca), "--noproxy", "*"]
    command += ["--connect-to", f"::127.0.0.1:{port}", "-o", "/dev/null", f"https://shop.test:{port}/"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_openssl_agrees_on_an_old_version_when_it_is_told_to(house: House) -> None:
    """So the fault is the version, and not a server that cannot be talked to."""
    async with shop(house, ends_tls=True) as (proxy, _):
        await proxy.put("tls-old-protocol", version="1.0")
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{proxy.port()}", "-servername", "shop.test"]
        command += ["-CAfile", str(house.ca), "-cipher", "DEFAULT:@SECLEVEL=0", "-min_protocol", "TLSv1"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(process.communicate(), 30)
        assert b"New, TLSv1.0" in said or b"Protocol  : TLSv1\n" in said
        assert b"Verify return code: 0 (ok)" in said
