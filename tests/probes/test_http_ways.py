"""The kind `http`: by which way, and as whom: proxies, logins, tokens, HTTP/3, addresses, hops, names and versions of TLS."""

import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.endpoint import Endpoint
from stormwatch.probes.failure import ProbeBroken
from stormwatch.probes.http import KIND
from stormwatch.probes.proxy import Proxies, Proxy, proxies_of_environment
from stormwatch.probes.reach import OWN_HOST, Reach, networks
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.token import Token, read_token
from tests.servers import nameserver, web
from tests.servers.certificates import Authority, Issued
from tests.servers.forward import forwarding, socks
from tests.servers.handshaker import handshaking
from tests.servers.probing import check_of, labels, measures, open_files, run, settle
from tests.servers.process import free_port
from tests.servers.quic import free_udp_port, serving_quic

# Where a probe may go


async def test_the_reach_policy_is_asked_at_every_hop() -> None:
    """Of the target, of where a redirect leads, of a proxy; for an address and for a name."""
    here = Reach(refuse=OWN_HOST)
    async with web.serving(web.answer()) as server:
        for target in (server.url, server.at("localhost")):
            result = await run(KIND, target, reach=here)
            assert (result.outcome, result.reason, result.failed_phase) == (Outcome.BROKEN, Reason.POLICY, "connect")
        assert server.connections == 0
    async with web.serving(web.redirect("http://169.254.169.254/latest")) as server:
        result = await run(KIND, server.url, reach=Reach(refuse=networks(["169.254.0.0/16"])))
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
    assert "probes may not connect to 169.254.169.254" in result.message
    async with forwarding() as proxy:
        result = await run(KIND, "http://shop.test/", {"proxy": f"http://127.0.0.1:{proxy.port}"}, reach=here)
        assert (result.outcome, result.reason, proxy.asked) == (Outcome.BROKEN, Reason.POLICY, [])
        linked = Reach(refuse=networks(["169.254.0.0/16"]))
        result = await run(
            KIND, "http://169.254.169.254/", {"proxy": f"http://127.0.0.1:{proxy.port}"}, reach=linked, timeout=1
        )
        assert (result.outcome, result.reason, proxy.asked) == (Outcome.BROKEN, Reason.POLICY, [])


async def test_a_redirect_from_a_name_to_an_address_goes_to_that_address() -> None:
    """What was resolved for the first does not stick to the second."""
    records = {("shop.test.", "A"): ["127.0.0.2"]}
    async with (
        web.serving(web.answer(b"there")) as other,
        web.serving(web.redirect(other.url), host="127.0.0.2") as server,
        nameserver.naming(nameserver.zone(records)) as names,
    ):
        options = {"resolver": names.address, "expect": {"body_matches": ["there"]}}
        result = await run(KIND, server.at("shop.test"), options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert (server.connections, other.connections) == (1, 1)


# Proxies


async def test_an_http_proxy_carries_plain_requests_and_tunnels(issued: Issued, ca_file: Path) -> None:
    """The name is the proxy's to resolve; the measures speak of no address; the evidence names the proxy."""
    async with (
        forwarding() as proxy,
        web.serving(web.answer()) as plain,
        web.serving(web.answer(), tls=issued.server_context()) as secure,
    ):
        options = {"proxy": f"http://127.0.0.1:{proxy.port}", "proxy_headers": {"X-To-Proxy": "yes"}}
        first = await run(KIND, f"http://shop.test:{plain.port}/a", options)
        second = await run(KIND, f"https://shop.test:{secure.port}/", {**options, "ca_file": str(ca_file)})
    assert (first.outcome, first.message, second.outcome, second.message) == (Outcome.UP, "", Outcome.UP, "")
    assert proxy.asked == [f"GET http://shop.test:{plain.port}/a", f"CONNECT shop.test:{secure.port}"]
    assert b"X-To-Proxy: yes" in proxy.heads[1]
    assert secure.exchanges[0].header("X-To-Proxy") is None
    assert first.evidence["proxy"] == f"http://127.0.0.1:{proxy.port}"
    assert not {"probe_ip_protocol", "probe_ip_addr_hash", "probe_dns_lookup_time_seconds"} & measures(first).keys()
    assert "X-Proxy" not in second.evidence["response_head"]
    assert labels(second, "probe_ssl_last_chain_info")["subject"] == "CN=shop.test"


async def test_names_can_be_resolved_here_and_the_proxy_is_given_addresses(issued: Issued, ca_file: Path) -> None:
    """As blackbox_exporter does by default: look-up, address and policy are the target's."""
    records = {("shop.test.", "A"): ["127.0.0.1"]}
    async with (
        forwarding() as proxy,
        nameserver.naming(nameserver.zone(records)) as names,
        web.serving(web.answer()) as plain,
        web.serving(web.answer(), tls=issued.server_context()) as secure,
    ):
        options = {
            "proxy": f"http://127.0.0.1:{proxy.port}",
            "proxy_resolves": False,
            "resolver": names.address,
            "ca_file": str(ca_file),
        }
        first = await run(KIND, f"http://shop.test:{plain.port}/a?b=c", options)
        second = await run(KIND, f"https://shop.test:{secure.port}/", options)
    assert (first.outcome, first.message, second.outcome, second.message) == (Outcome.UP, "", Outcome.UP, "")
    assert proxy.asked == [f"GET http://127.0.0.1:{plain.port}/a?b=c", f"CONNECT 127.0.0.1:{secure.port}"]
    assert plain.exchanges[0].header("Host") == f"shop.test:{plain.port}"
    assert measures(first)["probe_ip_addr_hash"] == 3668918509


async def test_a_proxy_over_tls_is_known_by_its_name_and_its_certificate_is_not_the_targets(
    authority: Authority, issued: Issued, ca_file: Path
) -> None:
    """What is exported is the certificate of the target."""
    own = authority.issue("proxy.test")
    records = {("proxy.test.", "A"): ["127.0.0.1"]}
    async with (
        forwarding(tls=own.server_context()) as proxy,
        nameserver.naming(nameserver.zone(records)) as names,
        web.serving(web.answer(), tls=issued.server_context()) as secure,
    ):
        options = {"proxy": f"https://proxy.test:{proxy.port}", "resolver": names.address, "ca_file": str(ca_file)}
        result = await run(KIND, f"https://shop.test:{secure.port}/", {**options, "proxy_ca_file": str(ca_file)})
        strange = await run(KIND, f"https://shop.test:{secure.port}/", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert labels(result, "probe_ssl_last_chain_info")["subject"] == "CN=shop.test"
    assert strange.outcome is Outcome.DOWN
    assert "probe_ssl_earliest_cert_expiry" not in measures(strange)


async def test_a_socks_proxy_is_given_the_name_and_its_refusals_are_explained() -> None:
    """RFC 1928 §6."""
    async with web.serving(web.answer()) as server, socks(login=("u", "p")) as proxy:
        options = {"proxy": f"socks5h://127.0.0.1:{proxy.port}", "proxy_auth": {"username": "u", "password": "p"}}
        result = await run(KIND, f"http://shop.test:{server.port}/", options)
        options["proxy_auth"] = {"username": "u", "password": "wrong"}
        wrong = await run(KIND, f"http://shop.test:{server.port}/", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert proxy.asked == [f"socks shop.test:{server.port}"]
    assert (wrong.outcome, wrong.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    for reply, reason in (
        (5, Reason.REFUSED),
        (4, Reason.UNREACHABLE),
        (1, Reason.UNREACHABLE),
        (2, Reason.UNREACHABLE),
    ):
        async with socks(reply=reply) as proxy:
            place = f"socks5h://127.0.0.1:{proxy.port}"
            result = await run(KIND, "http://shop.test/", {"proxy": place})
        assert (result.outcome, result.reason) == (Outcome.DOWN, reason), result.message
        assert f"the proxy {place} did not reach http://shop.test:80" in result.message


@pytest.mark.shows("http", "unreachable", "refused", "broken")
async def test_a_failure_of_the_proxy_names_the_proxy() -> None:
    """Down, without access, without a way to the target."""
    place = f"http://127.0.0.1:{free_port()}"
    result = await run(KIND, "http://shop.test/", {"proxy": place})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.REFUSED)
    assert result.message == f"no connection to the proxy {place}: Connection refused"
    async with forwarding(status=503) as proxy:
        result = await run(KIND, "https://shop.test/", {"proxy": f"http://127.0.0.1:{proxy.port}"})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)
    assert result.message.endswith("did not reach https://shop.test:443: it answered CONNECT with status 503")
    async with forwarding(login="Basic dTpw") as proxy, web.serving(web.answer()) as server:
        options: dict[str, Any] = {"proxy": f"http://127.0.0.1:{proxy.port}"}
        result = await run(KIND, "https://shop.test/", options)
        assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
        options["proxy_auth"] = {"username": "u", "password": "p"}
        assert (await run(KIND, f"http://shop.test:{server.port}/", options)).outcome is Outcome.UP


async def test_no_proxy_goes_straight_and_the_environment_is_asked_only_when_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For one host, and for all."""
    async with forwarding() as proxy, web.serving(web.answer()) as server:
        options: dict[str, Any] = {"proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": ["127.0.0.0/8"]}
        assert (await run(KIND, server.url, options)).outcome is Outcome.UP
        assert proxy.asked == []
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert (await run(KIND, server.url)).outcome is Outcome.UP
        assert proxy.asked == []
        assert (await run(KIND, server.url, {"proxy_from_environment": True})).outcome is Outcome.UP
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("around", "place", "straight"),
    [
        ("shop.test", "shop.test:80", True),
        ("shop.test", "a.shop.test:80", True),
        ("shop.test", "myshop.test:80", False),
        (".shop.test", "shop.test:80", False),
        ("*.shop.test", "a.SHOP.test.:80", True),
        ("shop.test:81", "shop.test:80", False),
        ("shop.test:80", "shop.test:80", True),
        ("10.0.0.0/8", "10.1.2.3:80", True),
        ("10.0.0.0/8", "11.1.2.3:80", False),
        ("10.1.2.3:80", "10.1.2.3:81", False),
        ("fd00::/8", "[fd00::1]:80", True),
        ("[fd00::1]", "[fd00::1]:80", True),
        ("*", "anything.test:80", True),
        (" ", "shop.test:80", False),
    ],
)
def test_whom_no_proxy_is_used_for(around: str, place: str, straight: bool) -> None:
    """Names and those below them, addresses, networks, ports."""
    proxy = Proxy.parse("http://proxy.test")
    chosen = Proxies(proxy, proxy, (around,)).choose(Endpoint.parse(place), tls=False)
    assert (chosen is None) == straight


def test_the_environment_is_read_as_curl_reads_it() -> None:
    """HTTP_PROXY in capitals can be a request's header; a password does not get into a message."""
    environ = {"HTTP_PROXY": "http://evil.test", "https_proxy": "socks5h://u:p%40@p.test", "NO_PROXY": "a.test, b.test"}
    proxies = proxies_of_environment(environ)
    assert proxies.choose(Endpoint("shop.test", 80), tls=False) is None
    found = proxies.choose(Endpoint("shop.test", 443), tls=True)
    assert found is not None
    assert found.login is not None
    assert (str(found), found.login.username, found.login.password) == ("socks5h://p.test:1080", "u", "p@")
    assert proxies.choose(Endpoint("x.b.test", 443), tls=True) is None
    with pytest.raises(ValueError, match=r"^the environment's https_proxy is a URL like") as raised:
        proxies_of_environment({"https_proxy": "ftp://u:hush@p.test"})
    assert "hush" not in str(raised.value)


# Logins


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_digest_logs_in_without_sending_the_password(algorithm: str) -> None:
    """Two requests, one visit; also with a body."""
    async with web.serving(web.digest("u", "hush-hush", algorithm=algorithm)) as server:
        login = {"digest_auth": {"username": "u", "password": "hush-hush"}}
        result = await run(KIND, server.url, login)
        posted = await run(KIND, server.url, {**login, "method": "POST", "body": "x"})
        wrong = await run(KIND, server.url, {"digest_auth": {"username": "u", "password": "x"}})
    assert (result.outcome, result.message, posted.outcome) == (Outcome.UP, "", Outcome.UP)
    assert (wrong.outcome, wrong.reason, measures(wrong)["probe_http_status_code"]) == (
        Outcome.DOWN,
        Reason.STATUS,
        401,
    )
    assert not any(b"hush" in exchange.request for exchange in server.exchanges)
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.01)


class Issuer:
    """A server of tokens, numbered, and of what they open."""

    def __init__(self, *, life: float | None = 3600, status: int = 200, delay: float = 0) -> None:
        self.life, self.status, self.delay = life, status, delay
        self.forms: list[str] = []
        self.logins: list[str | None] = []
        self.good = "token-1"

    async def issue(self, exchange: web.Exchange) -> None:
        """`POST /token`."""
        form = await exchange.reader.readexactly(int(exchange.header("content-length") or 0))
        self.forms.append(form.decode())
        self.logins.append(exchange.header("authorization"))
        await asyncio.sleep(self.delay)
        self.good = f"token-{len(self.forms)}"
        body: dict[str, Any] = {"access_token": self.good, "token_type": "bearer"}
        if self.life is not None:
            body["expires_in"] = self.life
        if self.status != 200:
            body = {"error": "invalid_client", "error_description": "who?"}
        await web.send(exchange, json.dumps(body).encode(), status=self.status)

    async def open(self, exchange: web.Exchange) -> None:
        """`GET /`: shows back what it was shown."""
        shown = exchange.header("authorization") or ""
        right = shown == f"Bearer {self.good}"
        await web.send(exchange, shown.encode(), status=200 if right else 401)

    @property
    def behaviour(self) -> web.Behaviour:
        """Both."""
        return web.routes({"/token": self.issue, "/": self.open})


def _oauth2(server: web.Server, **more: Any) -> dict[str, Any]:
    client = {"token_url": f"{server.url}token", "client_id": "storm watch", "client_secret": "hush:hush"}
    return {"oauth2": {**client, **more}}


async def test_a_token_is_fetched_once_and_shared_by_all_that_want_it() -> None:
    """Twenty runs at once, and one later: one fetch; name and secret as RFC 6749 §2.3.1 says."""
    issuer = Issuer(delay=0.05)
    async with web.serving(issuer.behaviour) as server, Resources() as resources:
        options = _oauth2(server, scopes=["a", "b"], audience="shop", params={"resource": "x"})
        found = await asyncio.gather(*(run(KIND, server.url, options, resources=resources) for _ in range(20)))
        found.append(await run(KIND, server.url, options, resources=resources))
        other = await run(KIND, server.url, _oauth2(server, credentials_in="body"), resources=resources)
    assert {(each.outcome, each.message) for each in [*found, other]} == {(Outcome.UP, "")}
    assert issuer.forms[0] == "grant_type=client_credentials&scope=a+b&audience=shop&resource=x"
    assert issuer.logins == ["Basic c3Rvcm0lMjB3YXRjaDpodXNoJTNBaHVzaA==", None]
    assert "client_secret=hush%3Ahush" in issuer.forms[1]


async def test_a_token_that_is_refused_is_replaced_once_and_one_near_its_end_is_renewed() -> None:
    """Revoked in between; then a life of no length to speak of; neither shows a token to people."""
    issuer = Issuer()
    async with web.serving(issuer.behaviour) as server, Resources() as resources:
        options = _oauth2(server)
        await run(KIND, server.url, options, resources=resources)
        issuer.good = "revoked"
        result = await run(KIND, server.url, options, resources=resources)
        assert (result.outcome, result.message, len(issuer.forms)) == (Outcome.UP, "", 2)
        assert "was refused with status 401" in result.evidence["token"]
        refusing = Issuer()
        refusing.open = web.answer(b"token-1", status=401)  # type: ignore[method-assign]
        async with web.serving(refusing.behaviour) as other:
            down = await run(KIND, other.url, _oauth2(other), resources=resources)
        assert (down.outcome, down.reason, len(refusing.forms)) == (Outcome.DOWN, Reason.STATUS, 1)
        assert "token-1" not in json.dumps(down.as_json())
    short = Issuer(life=0.001)
    async with web.serving(short.behaviour) as server, Resources() as resources:
        for _ in range(2):
            assert (await run(KIND, server.url, _oauth2(server), resources=resources)).outcome is Outcome.UP
    assert len(short.forms) == 2


@pytest.mark.shows("http", "broken")
async def test_no_token_is_broken_not_down() -> None:
    """Refused, silent, nobody there, nonsense: the target has not been asked."""
    cases: list[tuple[web.Behaviour, str]] = [
        (Issuer(status=401).behaviour, "it answered with status 401, invalid_client: who?"),
        (web.answer(b"<html>"), "it answered with status 200 and no JSON object"),
        (web.answer(b'{"access_token": ""}'), "there is no access_token in its answer"),
        (web.answer(b'{"access_token": "a", "token_type": "mac"}'), "it gave a token of type 'mac', and only bearer"),
        (web.silent, "there was none within the"),
    ]
    for behaviour, message in cases:
        async with web.serving(behaviour) as server:
            result = await run(KIND, server.url, _oauth2(server), timeout=0.4)
        assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
        assert result.message.startswith(f"no token from {server.url}token: {message}")
        assert [exchange.path for exchange in server.exchanges] == ["/token"]
    gone = {"token_url": f"http://127.0.0.1:{free_port()}/", "client_id": "c", "client_secret": "s"}
    result = await run(KIND, "http://127.0.0.1:1/", {"oauth2": gone})
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.CREDENTIALS)
    assert "Connection refused" in result.message


async def test_a_run_that_is_cancelled_while_it_waits_for_a_token_leaves_nothing_open() -> None:
    """The fetch ends with the last run that wants it."""
    async with web.serving(web.silent) as server, Resources() as resources:
        await run(KIND, server.url, {}, timeout=0.05, resources=resources)
        before = open_files()
        tasks = [asyncio.create_task(run(KIND, server.url, _oauth2(server), resources=resources)) for _ in range(5)]
        while server.connections < 2:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await settle(before) <= before
        assert server.connections == 2


@settings(max_examples=300)
@given(
    st.integers(100, 599),
    st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(["access_token", "token_type", "expires_in", "error"]),
        st.none() | st.text(max_size=8) | st.floats() | st.integers() | st.lists(st.integers(), max_size=2),
    ).map(lambda each: json.dumps(each).encode()),
)
def test_any_answer_of_a_token_server_is_a_token_or_broken(status: int, body: bytes) -> None:
    """And a token can be put into a header."""
    try:
        token: Token | None = read_token(status, body, 0.0)
    except ProbeBroken:
        token = None
    if token is not None:
        assert re.fullmatch(r"[!-~]+", token.value)
        assert 0 <= token.renew <= token.expires


# Versions, names, addresses


async def test_http_3_is_asked_for_and_asserted(issued: Issued, ca_file: Path) -> None:
    """Phases and certificate as ever; nobody there is down in time."""
    options = {"ca_file": str(ca_file), "version": "3", "expect": {"version": "3", "body_matches": ["for /a$"]}}
    async with serving_quic(issued) as port:
        result = await run(KIND, f"https://127.0.0.1:{port}/a", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_http_version"] == 3
    assert [phase.name for phase in result.phases] == ["resolve", "connect", "tls", "processing", "transfer"]
    gone = await run(KIND, f"https://127.0.0.1:{free_udp_port()}/", options, timeout=0.3)
    assert gone.outcome is Outcome.DOWN
    assert gone.seconds < 10


async def test_the_name_for_tls_can_be_another_than_the_hosts(issued: Issued, ca_file: Path) -> None:
    """Host header and redirects stay the target's."""
    behaviour = web.routes({"/": web.redirect("/end"), "/end": web.answer()})
    async with web.serving(behaviour, tls=issued.server_context()) as server:
        options = {"ca_file": str(ca_file), "server_name": "shop.test"}
        result = await run(KIND, server.url, options)
        wrong = await run(KIND, server.url, {**options, "server_name": "other.test"})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert [each.header("Host") for each in server.exchanges[:2]] == [f"127.0.0.1:{server.port}"] * 2
    assert result.evidence["url"] == f"{server.url}end"
    assert (wrong.outcome, wrong.reason) == (Outcome.DOWN, Reason.CERTIFICATE)


async def test_versions_of_tls_are_bounded_and_authorities_can_stand_in_the_configuration(
    issued: Issued, authority: Authority
) -> None:
    """A server that only knows TLS 1.2, a client that wants 1.3."""
    context = issued.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = authority.issue("client.test")
    pair = {"certificate_pem": client.chain_file.read_text(), "key_pem": client.key_file.read_text()}
    options: dict[str, Any] = {"ca": authority.file.read_text(), "client_certificate": pair}
    async with web.serving(web.answer(), tls=context) as server:
        older = await run(KIND, server.url, {**options, "tls_max": "1.2"})
    with handshaking(context) as port:
        newer = await run(KIND, f"https://127.0.0.1:{port}/", {**options, "tls_min": "1.3"})
    assert (older.outcome, older.message) == (Outcome.UP, "")
    assert measures(older)["probe_ssl_last_chain_expiry_timestamp_seconds"] == issued.not_after
    assert (newer.outcome, newer.reason, newer.failed_phase) == (Outcome.DOWN, Reason.TLS, "tls")


async def test_tls_rejected_wants_an_alert(authority: Authority, issued: Issued, ca_file: Path) -> None:
    """A server that asks for a certificate, and one that does not."""
    context = issued.server_context()
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    options = {"ca_file": str(ca_file), "expect": {"tls_rejected": True}}
    with handshaking(context) as port:
        result = await run(KIND, f"https://127.0.0.1:{port}/", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        result = await run(KIND, server.url, options)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "tls")
    assert result.message.endswith("answered with status 200, wanted the handshake ended with a TLS alert")
    closed = await run(KIND, f"https://127.0.0.1:{free_port()}/", options)
    assert closed.reason is Reason.REFUSED


async def test_unresolved_wants_a_name_that_is_not_there() -> None:
    """A name server that fails has not said so."""
    expect = {"expect": {"unresolved": True}}
    records = {("shop.test.", "A"): ["127.0.0.1"]}
    async with nameserver.naming(nameserver.zone(records)) as names:
        gone = await run(KIND, "http://gone.test/", {"resolver": names.address, **expect})
        there = await run(KIND, "http://shop.test:1/", {"resolver": names.address, **expect})
    assert (gone.outcome, gone.message) == (Outcome.UP, "")
    assert (there.outcome, there.reason, there.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "resolve")
    assert there.message == "the name resolved to 127.0.0.1, wanted it not to"


async def test_a_family_is_preferred_and_the_other_used_only_when_there_is_none() -> None:
    """One address, and no other when it does not answer: as blackbox_exporter chooses."""
    both = {("shop.test.", "A"): ["127.0.0.1"], ("shop.test.", "AAAA"): ["::1"], ("four.test.", "A"): ["127.0.0.1"]}
    async with nameserver.naming(nameserver.zone(both)) as names, web.serving(web.answer()) as server:

        async def ask(host: str, ip: str, **more: Any) -> Result:
            return await run(KIND, server.at(host), {"resolver": names.address, "ip": ip, **more})

        assert measures(await ask("shop.test", "prefer-4"))["probe_ip_protocol"] == 4
        six = await ask("shop.test", "prefer-6")
        assert (six.outcome, six.reason, measures(six)["probe_ip_protocol"]) == (Outcome.DOWN, Reason.REFUSED, 6)
        assert (await ask("four.test", "prefer-6")).outcome is Outcome.UP
        none = await ask("four.test", "prefer-6", ip_fallback=False)
        assert (none.outcome, none.reason) == (Outcome.DOWN, Reason.DNS)


async def test_every_address_is_asked_and_has_a_series_of_its_own() -> None:
    """Down when one fails, up when enough do."""
    records = {("shop.test.", "A"): ["127.0.0.1", "127.0.0.2", "127.0.0.3"], ("shop.test.", "AAAA"): ["::1"]}
    async with nameserver.naming(nameserver.zone(records)) as names, web.serving(web.answer()) as server:
        options: dict[str, Any] = {"resolver": names.address, "ip": "every"}
        result = await run(KIND, server.at("shop.test"), options)
        enough = await run(KIND, server.at("shop.test"), {**options, "expect": {"addresses_up": 1}})
        gone = await run(KIND, "http://gone.test/", options)
        refused = await run(KIND, server.at("shop.test"), options, reach=Reach(refuse=OWN_HOST))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "connect")
    assert result.message.startswith("1 of 4 addresses do, wanted 4; 127.0.0.2: no connection to")
    up = {each.labels["address"]: each.value for each in result.measures if each.name == "stormwatch_http_address_up"}
    assert up == {"127.0.0.1": 1, "127.0.0.2": 0, "127.0.0.3": 0, "::1": 0}
    assert set(result.evidence["addresses"]) == set(up)
    assert (enough.outcome, enough.message) == (Outcome.UP, "")
    assert (gone.outcome, gone.reason, measures(gone)["probe_ip_protocol"]) == (Outcome.DOWN, Reason.DNS, 0)
    assert (refused.outcome, refused.reason) == (Outcome.BROKEN, Reason.POLICY)


async def test_every_address_ends_by_the_deadline_and_none_that_was_cut_off_counts_as_up() -> None:
    """One is silent."""
    records = {("shop.test.", "A"): ["127.0.0.1"]}
    async with nameserver.naming(nameserver.zone(records)) as names, web.serving(web.silent) as server:
        result = await run(KIND, server.at("shop.test"), {"resolver": names.address, "ip": "every"}, timeout=1.0)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
    assert measures(result)["stormwatch_http_address_up"] == 0


async def test_a_source_address_is_connected_from() -> None:
    """And one that is not ours is our fault."""
    seen: list[str] = []

    async def behave(exchange: web.Exchange) -> None:
        seen.append(exchange.writer.get_extra_info("peername")[0])
        await web.send(exchange)

    async with web.serving(behave) as server:
        assert (await run(KIND, server.url, {"source": "127.0.0.9"})).outcome is Outcome.UP
        result = await run(KIND, server.url, {"source": "192.0.2.77"})
    assert seen == ["127.0.0.9"]
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.NETWORK)


async def test_each_hop_of_a_redirect_has_its_own_seconds() -> None:
    """The slow one is seen to be the slow one."""
    behaviour = web.routes({"/": web.redirect("/slow"), "/slow": web.delayed(0.5)})
    async with web.serving(behaviour) as server:
        result = await run(KIND, server.url)
    seconds = {
        each.labels["hop"]: each.value
        for each in result.measures
        if each.name == "stormwatch_http_hop_duration_seconds"
    }
    assert seconds["1"] < 0.5 <= seconds["2"]
    assert [hop["status"] for hop in result.evidence["hops"]] == [302, 200]
    assert result.evidence["hops"][1]["phases"]["processing"] >= 0.5
    assert sum(seconds.values()) == pytest.approx(result.seconds, abs=0.01)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    (
        "http://a.test/",
        {"proxy": "proxy.test:3128"},
        "proxy is a URL like http://proxy.example:3128, https://… or socks5h://…",
    ),
    ("http://a.test/", {"proxy": "http://u:p@p.test"}, "proxy has a user in its URL: give proxy_auth instead"),
    (
        "http://a.test/",
        {"proxy": "socks5://p.test"},
        "proxy: write socks5h, and `proxy_resolves: false` where names are to be resolved here",
    ),
    ("http://a.test/", {"no_proxy": ["b.test"]}, "no_proxy: there is no proxy"),
    (
        "http://a.test/",
        {"proxy": "http://p.test", "no_proxy": ["10.0.0.0/99"]},
        "no_proxy: '10.0.0.0/99' is not a name, an address or a network",
    ),
    ("https://a.test/", {"proxy": "http://p.test", "version": "3"}, "version: HTTP/3 does not go through a proxy"),
    ("http://a.test/", {"version": "3"}, "version: HTTP/3 needs an https target and TLS 1.3"),
    ("https://a.test/", {"tls_min": "1.3", "tls_max": "1.2"}, "tls_max: 1.2 is older than tls_min, 1.3"),
    ("http://a.test/", {"source": "eth0"}, "source: 'eth0' is not an address of a family that `ip` allows"),
    ("http://a.test/", {"source": "::1", "ip": "4"}, "source: '::1' is not an address of a family that `ip` allows"),
    ("http://a.test/", {"body": "a", "body_file": "/b"}, "body: give it here or in body_file, not in both"),
    ("http://a.test/", {"body_file": "/no/b"}, "body_file /no/b cannot be read: No such file or directory"),
    ("http://a.test/", {"expect": {"addresses_up": 1}}, "expect.addresses_up: give it with `ip: every`"),
    ("http://a.test/", {"expect": {"tls_rejected": True}}, "expect.tls_rejected: the target is not https"),
    (
        "http://a.test/",
        {"expect": {"refused": True, "unresolved": True}},
        "expect: give one of refused, unresolved and tls_rejected",
    ),
    (
        "http://a.test/",
        {"proxy": "http://p.test", "expect": {"refused": True}},
        "expect.refused: behind a proxy it would be the proxy that refuses",
    ),
    (
        "http://a.test/",
        {"oauth2": {"token_url": "a", "client_id": "c", "client_secret": "s"}},
        "oauth2.token_url: target is a URL like https://shop.example/, not 'a'",
    ),
    (
        "http://a.test/",
        {"oauth2": {"token_url": "http://t.test", "client_id": "c", "client_secret": "s", "params": {"scope": "x"}}},
        "oauth2.params: scope is not given here: it is an option, or always the same",
    ),
    (
        "http://a.test/",
        {"client_certificate": {"certificate": "/a"}},
        "client_certificate: give certificate or certificate_pem, and key or key_pem",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence(target: str, options: dict[str, Any], message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
