"""The kind `http`: up, down for each reason, broken, phases, evidence, and nothing left open."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pycurl
import pytest
import uvloop

from stormwatch.probes.clock import SystemClock
from stormwatch.probes.curl import PIECES, CurlEngine, EpollSockets, LoopSockets
from stormwatch.probes.http import KIND
from stormwatch.probes.probe import Probe
from stormwatch.probes.resources import Resources
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.run import run_once
from tests.program import program
from tests.servers import nameserver, web
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port, running


@pytest.mark.shows("http", "up")
async def test_an_answer_with_status_2xx_is_up_and_has_phases_measures_and_evidence() -> None:
    """The thinnest probe: everything about a plain answer is there."""
    head = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Set-Cookie": "session=secret"}
    async with web.serving(web.answer(b"hello", headers=head)) as server:
        result = await run(KIND, server.url)
    assert (result.outcome, result.reason, result.message) == (Outcome.UP, Reason.NONE, "")
    assert phase_names(result) == ["resolve", "connect", "processing", "transfer"]
    assert {
        "probe_http_status_code": 200,
        "probe_http_version": 1.1,
        "probe_http_ssl": 0,
        "probe_http_redirects": 0,
        "probe_http_content_length": 5,
        "probe_http_uncompressed_body_length": 5,
        "probe_failed_due_to_regex": 0,
        "probe_http_last_modified_timestamp_seconds": 1445412480,
        "probe_dns_lookup_time_seconds": pytest.approx(0, abs=0.01),
        "probe_ip_protocol": 4,
        "probe_ip_addr_hash": 3668918509,
    } == measures(result)
    assert result.evidence["status_line"] == "HTTP/1.1 200 Said"
    assert "Set-Cookie: ***" in result.evidence["response_head"]
    assert f"127.0.0.1:{server.port}" == result.evidence["remote"]
    assert "body" not in result.evidence
    json.dumps(result.as_json())


async def test_the_seconds_are_the_sum_of_the_phases_and_each_begins_where_the_last_ended() -> None:
    """A server that thinks for half a second shows it in `processing`, and nowhere else."""
    async with web.serving(web.delayed(0.5)) as server:
        result = await run(KIND, server.url)
    phases = {phase.name: phase for phase in result.phases}
    assert phases["processing"].seconds >= 0.5
    assert result.seconds - phases["processing"].seconds < 0.5
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.002)
    for before, after in zip(result.phases, result.phases[1:], strict=False):
        assert after.offset == pytest.approx(before.offset + before.seconds, abs=0.002)


ASSERTIONS: list[tuple[dict[str, Any], Reason, str, str]] = [
    ({"status": [201]}, Reason.STATUS, "status 200, wanted 201", "processing"),
    ({"status": ["3xx", 404]}, Reason.STATUS, "status 200, wanted 3xx or 404", "processing"),
    ({"body_matches": ["pric.+42"]}, Reason.ASSERTION, "the body (SIZE bytes) does not match 'pric.+42'", "transfer"),
    (
        {"body_not_matches": ["(?i)PRICE"]},
        Reason.ASSERTION,
        "the body (SIZE bytes) matches '(?i)PRICE', which it must not",
        "transfer",
    ),
    (
        {"headers": {"content-type": "^text/html"}},
        Reason.ASSERTION,
        "header content-type: 'application/json', wanted '^text/html'",
        "processing",
    ),
    ({"headers": {"X-No": "."}}, Reason.ASSERTION, "header X-No: no such header, wanted '.'", "processing"),
    ({"version": "2"}, Reason.ASSERTION, "HTTP version 1.1, wanted 2", "processing"),
    ({"json": [{"path": "price", "equals": 13}]}, Reason.ASSERTION, "json price is 12, wanted 13", "transfer"),
    ({"json": [{"path": "open", "equals": 1}]}, Reason.ASSERTION, "json open is true, wanted 1", "transfer"),
    (
        {"json": [{"path": "no", "exists": True}]},
        Reason.ASSERTION,
        "json no is null, wanted a value",
        "transfer",
    ),
    (
        {"json": [{"path": "name", "matches": "^b"}]},
        Reason.ASSERTION,
        "json name is \"tea\", wanted a match of '^b'",
        "transfer",
    ),
]


@pytest.mark.parametrize(("expect", "reason", "message", "phase"), ASSERTIONS)
async def test_what_is_not_as_expected_is_down_and_says_what_was_seen(
    expect: dict[str, Any], reason: Reason, message: str, phase: str
) -> None:
    """Each expectation has its reason, its sentence, its phase; the beginning of the body is kept."""
    body = json.dumps({"price": 12, "name": "tea", "open": True}, separators=(",", ":")).encode()
    message = message.replace("SIZE bytes", f"{len(body)} bytes")
    async with web.serving(web.answer(body, headers={"Content-Type": "application/json"})) as server:
        result = await run(KIND, server.url, {"expect": expect})
    assert (Outcome.DOWN, reason, message, phase) == (
        result.outcome,
        result.reason,
        result.message,
        result.failed_phase,
    )
    assert body.decode() == result.evidence["body"]
    assert [message] == result.evidence["complaints"]
    regex = any(key in expect for key in ("body_matches", "body_not_matches", "headers"))
    assert regex == measures(result)["probe_failed_due_to_regex"]


async def test_everything_that_is_as_expected_is_up() -> None:
    """All expectations at once, each of them met."""
    body = json.dumps({"items": [{"name": "tea"}], "gone": None}).encode()
    expect = {
        "status": [200, "3xx"],
        "version": "1.1",
        "headers": {"Server": "^storm"},
        "body_matches": ["tea", "items"],
        "body_not_matches": ["coffee"],
        "json": [
            {"path": "items[0].name", "equals": "tea"},
            {"path": "length(items)", "matches": "^1$"},
            {"path": "gone", "exists": False},
        ],
        "slower_than": "5s",
    }
    async with web.serving(web.answer(body, headers={"Server": "storm"})) as server:
        result = await run(KIND, server.url, {"expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_a_body_that_is_not_json_is_said_to_be_none() -> None:
    """The parser's complaint is in the message."""
    async with web.serving(web.answer(b"<html>")) as server:
        result = await run(KIND, server.url, {"expect": {"json": [{"path": "a", "exists": True}]}})
    assert result.reason is Reason.ASSERTION
    assert "is not JSON" in result.message


@pytest.mark.shows("http", "too-slow")
async def test_slower_than_is_down_as_too_slow_and_names_the_slowest_phase() -> None:
    """The answer was right, and late."""
    async with web.serving(web.delayed(0.15)) as server:
        result = await run(KIND, server.url, {"expect": {"slower_than": "50ms"}})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TOO_SLOW, "processing")
    assert "wanted at most 50ms; slowest was phase processing" in result.message


FAILURES = [
    (web.close, Reason.RESET, "processing"),
    (web.reset, Reason.RESET, "processing"),
    (web.cut_short, Reason.RESET, "transfer"),
    (web.garble, Reason.PROTOCOL, "processing"),
]


@pytest.mark.parametrize(("behaviour", "reason", "phase"), FAILURES)
async def test_a_server_that_breaks_off_is_down_with_its_reason_and_phase(
    behaviour: web.Behaviour, reason: Reason, phase: str
) -> None:
    """Closing, resetting, promising too much, talking nonsense."""
    async with web.serving(behaviour) as server:
        result = await run(KIND, server.url)
    assert (Outcome.DOWN, reason) == (result.outcome, result.reason)
    assert result.failed_phase in {phase, "transfer"}
    assert [each.failed for each in result.phases if each.name == result.failed_phase] == [True]


WAITING = [
    (web.silent, False, "processing", 0),
    (web.silent, True, "tls", 0),
    (web.drip_head, False, "processing", 0),
    (web.drip_body, False, "transfer", 200),
]


@pytest.mark.parametrize(("behaviour", "secure", "phase", "status"), WAITING)
async def test_a_server_that_keeps_us_waiting_is_down_in_time_with_the_phase_it_hung_in(
    behaviour: web.Behaviour, secure: bool, phase: str, status: int
) -> None:
    """The deadline is the probe's, whatever trickles in meanwhile; what came is kept."""
    async with web.serving(behaviour, before_request=secure) as server:
        url = server.url.replace("http:", "https:") if secure else server.url
        result = await run(KIND, url, timeout=0.3)
    assert (Outcome.DOWN, Reason.TIMEOUT, phase) == (result.outcome, result.reason, result.failed_phase)
    assert 0.28 < result.seconds < 5
    assert status == measures(result)["probe_http_status_code"]
    assert phase == result.phases[-1].name
    assert 0.2 < result.phases[-1].seconds < 5


@pytest.mark.shows("http", "refused")
async def test_a_closed_port_is_refused_in_phase_connect() -> None:
    """And nothing about HTTP was seen."""
    port = free_port()
    result = await run(KIND, f"http://127.0.0.1:{port}/")
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "connect")
    assert f"no connection to http://127.0.0.1:{port}: Connection refused" == result.message
    assert measures(result)["probe_http_status_code"] == 0


async def test_expect_refused_is_up_for_a_closed_port_and_down_for_an_open_one() -> None:
    """A firewall's job can be watched too."""
    expect = {"expect": {"refused": True}}
    assert Outcome.UP is (await run(KIND, f"http://127.0.0.1:{free_port()}/", expect)).outcome
    async with web.serving(web.answer()) as server:
        result = await run(KIND, server.url, expect)
    assert (result.reason, result.failed_phase) == (Reason.ASSERTION, "connect")
    assert f"127.0.0.1:{server.port} accepted the connection, wanted it refused" == result.message


@pytest.mark.shows("http", "dns")
async def test_a_name_that_does_not_exist_is_down_as_dns() -> None:
    """The name server, the name and its answer are in the message; there is no address to speak of."""
    async with nameserver.naming(nameserver.zone({})) as names:
        result = await run(KIND, "http://shop.test/", {"resolver": names.address})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.DNS, "resolve")
    assert f"shop.test did not resolve at name server {names.address}: NXDOMAIN" == result.message
    assert measures(result)["probe_ip_protocol"] == 0
    assert phase_names(result) == ["resolve"]


@pytest.mark.shows("http", "timeout")
async def test_a_name_server_that_is_silent_is_a_timeout_in_phase_resolve() -> None:
    """The deadline covers the look-up too."""
    async with nameserver.naming(nameserver.mute) as names:
        result = await run(KIND, "http://shop.test/", {"resolver": names.address}, timeout=0.3)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "resolve")
    assert [phase.failed for phase in result.phases] == [True]


async def test_a_given_resolver_is_asked_for_every_host_that_redirects_lead_to() -> None:
    """Libcurl never resolves: its own look-ups would go to the system."""
    records = {("shop.test.", "A"): ["127.0.0.1"], ("www.shop.test.", "A"): ["127.0.0.1"]}

    async def behave(exchange: web.Exchange) -> None:
        host = exchange.header("host") or ""
        if host.startswith("shop.test"):
            await web.redirect(f"http://www.{host}/there")(exchange)
        else:
            await web.answer(b"there")(exchange)

    async with nameserver.naming(nameserver.zone(records)) as names, web.serving(behave) as server:
        result = await run(KIND, server.at("shop.test"), {"resolver": names.address, "expect": {"body_matches": ["t"]}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert {"udp shop.test. A", "udp www.shop.test. A"} <= set(names.asked)
    assert measures(result)["probe_http_redirects"] == 1
    location = f"http://www.shop.test:{server.port}/there"
    assert [{"status": 302, "location": location}] == result.evidence["redirects"]


async def test_redirects_sum_their_phases_on_connections_of_their_own() -> None:
    """Two hops that think 60 ms each: `processing` holds both."""

    async def behave(exchange: web.Exchange) -> None:
        await asyncio.sleep(0.06)
        await (web.answer() if exchange.path == "/end" else web.redirect("/end"))(exchange)

    async with web.serving(behave) as server:
        result = await run(KIND, server.url)
    processing = next(phase for phase in result.phases if phase.name == "processing")
    assert 0.12 <= processing.seconds < 5
    assert server.connections == 2
    assert phase_names(result) == ["resolve", "connect", "processing", "transfer"]


@pytest.mark.shows("http", "status")
async def test_one_redirect_too_many_is_down_and_the_last_status_stays() -> None:
    """As blackbox_exporter counts: the redirect that is not followed is counted too."""
    async with web.serving(web.redirect("/again")) as server:
        result = await run(KIND, server.url, {"max_redirects": 3})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.STATUS)
    assert f"still redirected, to {server.url}again, after 3 redirects" == result.message
    assert measures(result)["probe_http_redirects"] == 4
    assert measures(result)["probe_http_status_code"] == 302


async def test_a_redirect_is_judged_itself_when_it_is_not_followed() -> None:
    """`follow_redirects: false`, and the status that is expected is the redirect's."""
    async with web.serving(web.redirect("/there", status=301)) as server:
        result = await run(KIND, server.url, {"follow_redirects": False, "expect": {"status": [301]}})
    assert Outcome.UP is result.outcome
    assert server.connections == 1


async def test_a_redirect_to_another_scheme_is_not_followed() -> None:
    """A server must not make the prober read files."""
    async with web.serving(web.redirect("file:///etc/passwd")) as server:
        result = await run(KIND, server.url)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL)


async def test_credentials_stay_with_the_origin_they_were_given_for() -> None:
    """Another port is another origin; other headers travel on."""
    async with web.serving(web.answer()) as other, web.serving(web.redirect(other.url)) as server:
        options = {
            "basic_auth": {"username": "u", "password": "p"},
            "headers": {"Cookie": "a=b", "X-Kept": "yes", "Host": "shop.test"},
        }
        result = await run(KIND, server.url, options)
    assert Outcome.UP is result.outcome
    first, second = server.exchanges[0], other.exchanges[0]
    assert tuple(first.header(name) for name in ("Authorization", "Cookie", "X-Kept", "Host")) == (
        "Basic dTpw",
        "a=b",
        "yes",
        "shop.test",
    )
    assert (None, None, "yes", f"127.0.0.1:{other.port}") == tuple(
        second.header(name) for name in ("Authorization", "Cookie", "X-Kept", "Host")
    )
    assert "dTpw" not in json.dumps(result.as_json())


async def test_cookies_live_as_long_as_one_run() -> None:
    """Set by the first answer, sent after the redirect, unknown to the next run on the same pooled handle."""

    async def behave(exchange: web.Exchange) -> None:
        if exchange.path == "/":
            await web.answer(b"", status=302, headers={"Location": "/end", "Set-Cookie": "seen=1"})(exchange)
        else:
            await web.answer()(exchange)

    async with web.serving(behave) as server, Resources() as resources:
        for _ in range(2):
            await run(KIND, server.url, resources=resources)
    assert [exchange.header("Cookie") for exchange in server.exchanges] == [None, "seen=1", None, "seen=1"]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "HEAD", "HEAD"),
    ],
)
async def test_the_method_after_a_redirect_is_what_browsers_use(status: int, method: str, then: str) -> None:
    """RFC 9110 §15.4."""

    async def behave(exchange: web.Exchange) -> None:
        await (web.answer() if exchange.path == "/end" else web.redirect("/end", status=status))(exchange)

    async with web.serving(behave) as server:
        result = await run(KIND, server.url, {"method": method, **({"body": "x=1"} if method[0] == "P" else {})})
    assert Outcome.UP is result.outcome, result.message
    assert [method, then] == [exchange.method for exchange in server.exchanges]


async def test_method_headers_and_body_arrive_as_they_were_given() -> None:
    """No header is made up but the few that HTTP wants."""
    body_seen = b""

    async def behave(exchange: web.Exchange) -> None:
        nonlocal body_seen
        body_seen = await exchange.reader.readexactly(int(exchange.header("content-length") or 0))
        await web.answer()(exchange)

    options = {"method": "put", "body": '{"a":"ü"}', "headers": {"X-Empty": "", "X-A": "b"}, "bearer": "t0ken"}
    async with web.serving(behave) as server:
        result = await run(KIND, server.url, options)
    exchange = server.exchanges[0]
    assert Outcome.UP is result.outcome
    assert '{"a":"ü"}'.encode() == body_seen
    assert (
        exchange.method,
        exchange.header("X-A"),
        exchange.header("X-Empty"),
        exchange.header("Authorization"),
        exchange.header("Content-Type"),
        exchange.header("Connection"),
    ) == ("PUT", "b", "", "Bearer t0ken", None, "close")
    assert (exchange.header("User-Agent") or "").startswith("Stormwatch/")


async def test_a_compressed_body_is_looked_at_after_decompression() -> None:
    """And its length is exported so."""
    async with web.serving(web.zipped(b"hello " * 100)) as server:
        result = await run(KIND, server.url, {"compression": "gzip", "expect": {"body_matches": ["^hello hello"]}})
    assert Outcome.UP is result.outcome, result.message
    assert server.exchanges[0].header("Accept-Encoding") == "gzip"
    assert measures(result)["probe_http_uncompressed_body_length"] == 600


@pytest.mark.shows("http", "assertion")
async def test_a_body_larger_than_max_body_is_down_and_not_read_on() -> None:
    """Counted after decompression: one megabyte of nothing is a kilobyte on the wire."""
    async with web.serving(web.zipped(bytes(10**6))) as server:
        result = await run(KIND, server.url, {"compression": "gzip", "max_body": "64KiB"})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "transfer")
    assert result.message == "the body is larger than max_body, 64KiB"
    async with web.serving(web.endless) as server:
        result = await run(KIND, server.url, {"max_body": "1MiB"})
    assert Reason.ASSERTION is result.reason
    assert measures(result)["probe_http_uncompressed_body_length"] < 2**20 + 2**18


async def test_connect_to_goes_elsewhere_and_still_asks_for_the_target() -> None:
    """Host header of the target, connection to the address that was given."""
    async with web.serving(web.answer()) as server:
        result = await run(KIND, "http://shop.test/", {"connect_to": f"127.0.0.1:{server.port}"})
    assert Outcome.UP is result.outcome, result.message
    assert server.exchanges[0].header("Host") == "shop.test"


async def test_a_name_with_a_dead_address_is_up_by_its_other_one() -> None:
    """IPv6 is announced and nobody listens there: as a browser would, the probe uses IPv4."""
    records = {("shop.test.", "A"): ["127.0.0.1"], ("shop.test.", "AAAA"): ["::1"]}
    async with nameserver.naming(nameserver.zone(records)) as names, web.serving(web.answer()) as server:
        result = await run(KIND, server.at("shop.test"), {"resolver": names.address})
        assert (result.outcome, result.message) == (Outcome.UP, "")
        assert measures(result)["probe_ip_protocol"] == 4
        six = await run(KIND, server.at("shop.test"), {"resolver": names.address, "ip": "6"})
        assert Outcome.UP is not six.outcome


async def test_a_name_of_the_system_resolves_without_a_name_server() -> None:
    """/etc/hosts is the system's resolver too."""
    async with web.serving(web.answer()) as server:
        result = await run(KIND, server.at("localhost"))
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe looks at its target, not at somebody's proxy."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with web.serving(web.answer()) as server:
        assert Outcome.UP is (await run(KIND, server.url)).outcome


# TLS


async def test_a_trusted_certificate_is_up_with_the_facts_of_the_handshake(issued: Issued, ca_file: Path) -> None:
    """blackbox_exporter's TLS measures, and the tls phase."""
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        result = await run(KIND, server.url, {"ca_file": str(ca_file)})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "processing", "transfer"]
    values = measures(result)
    assert values["probe_http_ssl"] == 1
    assert issued.not_after == values["probe_ssl_earliest_cert_expiry"]
    assert issued.not_after == values["probe_ssl_last_chain_expiry_timestamp_seconds"]
    info = labels(result, "probe_ssl_last_chain_info")
    assert (
        info["subject"],
        info["issuer"],
        info["subjectalternative"],
    ) == ("CN=shop.test", "CN=Test Authority,O=Storm", "shop.test,localhost")
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    assert labels(result, "probe_tls_cipher_info")["cipher"].startswith("TLS_AES_")
    assert result.evidence["certificates"][0]["subject"] == "CN=shop.test"


@pytest.mark.shows("http", "certificate")
async def test_an_expired_certificate_is_down_and_its_facts_are_exported(authority: Authority, ca_file: Path) -> None:
    """Exactly when they matter most, the expiry's series do not vanish (blackbox_exporter issue 1119)."""
    expired = authority.issue("127.0.0.1", before=timedelta(days=9), after=timedelta(days=-2))
    async with web.serving(web.answer(), tls=expired.server_context()) as server:
        result = await run(KIND, server.url, {"ca_file": str(ca_file)})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert "certificate has expired" in result.message
    assert expired.not_after == measures(result)["probe_ssl_earliest_cert_expiry"]
    assert "probe_ssl_last_chain_expiry_timestamp_seconds" not in measures(result)
    assert measures(result)["probe_http_ssl"] == 0


async def test_a_certificate_for_another_name_or_of_a_stranger_is_down(
    authority: Authority, ca_file: Path, tmp_path: Path
) -> None:
    """Reason certificate for both; without verification both are up."""
    wrong = authority.issue("other.test")
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1")
    for issued in (wrong, stranger):
        async with web.serving(web.answer(), tls=issued.server_context()) as server:
            result = await run(KIND, server.url, {"ca_file": str(ca_file)})
            assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
            assert issued.not_after == measures(result)["probe_ssl_earliest_cert_expiry"]
            trusting = await run(KIND, server.url, {"verify": False})
            assert Outcome.UP is trusting.outcome
            assert measures(trusting)["probe_ssl_last_chain_expiry_timestamp_seconds"] == -62135596800


async def test_a_certificate_near_its_end_is_down_when_asked_for(issued: Issued, ca_file: Path) -> None:
    """`certificate_expires_within` does not wait for the last day."""
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        options = {"ca_file": str(ca_file), "expect": {"certificate_expires_within": "100d"}}
        result = await run(KIND, server.url, options)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert result.message == "a certificate of the chain expires in 89d23h, wanted more than 100d"


async def test_an_intermediate_that_ends_first_is_the_earliest_expiry(tmp_path: Path) -> None:
    """And the verified chain ends with it too."""
    root = Authority(tmp_path, "Root")
    issued = Authority(tmp_path, "Intermediate", parent=root, days=20).issue("127.0.0.1")
    async with web.serving(web.answer(), tls=issued.server_context()) as server:
        result = await run(KIND, server.url, {"ca_file": str(root.file)})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] < issued.not_after
    assert len(result.evidence["certificates"]) == 2


@pytest.mark.shows("http", "protocol")
async def test_a_server_that_does_not_speak_tls_is_down_as_protocol() -> None:
    """A plain HTTP server behind an https target."""
    async with web.serving(web.garble, before_request=True) as server:
        result = await run(KIND, server.url.replace("http:", "https:"))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.PROTOCOL, "tls")


@pytest.mark.shows("http", "reset")
@pytest.mark.parametrize("behaviour", [web.close, web.reset])
async def test_a_connection_that_ends_in_the_handshake_is_down_as_reset(behaviour: web.Behaviour) -> None:
    """In phase tls."""
    async with web.serving(behaviour, before_request=True) as server:
        result = await run(KIND, server.url.replace("http:", "https:"))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.RESET, "tls")


@pytest.mark.shows("http", "up", "tls")
async def test_a_client_certificate_is_shown_when_given_and_its_lack_is_down_as_tls(
    authority: Authority, issued: Issued, ca_file: Path
) -> None:
    """The server's alert is named: it is the reason that operators look for."""
    context = issued.server_context()
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in TLS 1.3 a reset may overtake the alert
    client = authority.issue("client.test")
    async with web.serving(web.answer(), tls=context) as server:
        shown = {"certificate": str(client.chain_file), "key": str(client.key_file)}
        with_it = await run(KIND, server.url, {"ca_file": str(ca_file), "client_certificate": shown})
    with handshaking(context) as port:
        without = await run(KIND, f"https://127.0.0.1:{port}/", {"ca_file": str(ca_file)})
    assert (with_it.outcome, with_it.message) == (Outcome.UP, "")
    assert (without.outcome, without.reason, without.failed_phase) == (Outcome.DOWN, Reason.TLS, "tls")
    assert "alert handshake_failure" in without.message


async def test_a_real_nginx_speaks_http_2_to_the_probe(tmp_path: Path, issued: Issued, ca_file: Path) -> None:
    """Version 2 by default over TLS, 1.1 when asked for, `Connection: close` in neither's way."""
    port, plain = free_port(), free_port()
    config = tmp_path / "nginx.conf"
    temporary = " ".join(
        f"{each}_temp_path {tmp_path}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error;"
        "events {} http { access_log off; " + temporary + f"server {{ listen 127.0.0.1:{port} ssl http2;"
        f"ssl_certificate {issued.chain_file}; ssl_certificate_key {issued.key_file};"
        'location / { return 200 "hello"; } }'
        f"server {{ listen 127.0.0.1:{plain} http2; location / {{ return 200; }} }} }}"
    )
    with running([program("nginx"), "-c", config, "-p", tmp_path], log=tmp_path / "log", port=port):
        options = {"ca_file": str(ca_file)}
        default = await run(KIND, f"https://127.0.0.1:{port}/", {**options, "expect": {"version": "2"}})
        older = await run(KIND, f"https://127.0.0.1:{port}/", {**options, "version": "1.1"})
        cleartext = await run(KIND, f"http://127.0.0.1:{plain}/", {"version": "2", "expect": {"version": "2"}})
    assert (default.outcome, default.message) == (Outcome.UP, "")
    assert (cleartext.outcome, cleartext.message) == (Outcome.UP, "")
    assert (measures(default)["probe_http_version"], measures(older)["probe_http_version"]) == (2, 1.1)
    assert labels(default, "probe_tls_version_info")["version"] == "TLS 1.2"


# Us


async def test_a_prober_without_descriptors_is_broken_not_down() -> None:
    """In a process of its own, which may open no more files: no word about the target."""
    script = textwrap.dedent("""
        import asyncio, resource, sys
        from tests.servers.probing import run
        from tests.servers.probing import check_of
        from stormwatch.probes.clock import SystemClock
        from stormwatch.probes.http import KIND
        from stormwatch.probes.probe import Probe
        from stormwatch.probes.resources import Resources
        from stormwatch.probes.run import run_once

        async def main(target):
            probe = Probe(name="p", kind="http", target=target, check=check_of(KIND, target))
            async with Resources() as resources:
                await run_once(probe, clock=SystemClock(), resources=resources)
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
                result = await run_once(probe, clock=SystemClock(), resources=resources)
            print(result.outcome, result.reason, result.failed_phase, result.message.partition(": ")[2])

        asyncio.run(main(sys.argv[1]))
    """)
    async with web.serving(web.answer()) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, server.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await asyncio.wait_for(child.communicate(), 20)
    assert output.decode().startswith("broken resources connect Too many open files"), (output, errors)


@pytest.fixture(params=[EpollSockets, LoopSockets])
async def resources(request: pytest.FixtureRequest) -> AsyncGenerator[Resources]:
    """An engine on each way to watch sockets."""
    async with Resources() as opened:
        opened.put(CurlEngine, CurlEngine(request.param))
        yield opened


async def test_cancelling_leaves_no_connection_open(resources: Resources) -> None:
    """In every phase: while connecting, shaking hands, waiting, reading."""
    clock = SystemClock()
    async with (
        web.serving(web.silent) as plain,
        web.serving(web.silent, before_request=True) as mute,
        web.serving(web.drip_body) as dripping,
    ):
        for target in (plain.url, f"https://127.0.0.1:{mute.port}/"):  # open what is opened once
            await run(KIND, target, timeout=0.05, resources=resources)
        before = open_files()
        targets = [plain.url, f"https://127.0.0.1:{mute.port}/", dripping.url] * 10
        tasks = [
            asyncio.create_task(
                run_once(
                    Probe(name="p", kind="http", target=target, check=check_of(KIND, target)),
                    clock=clock,
                    resources=resources,
                )
            )
            for target in targets
        ]
        while plain.connections + mute.connections + dripping.connections < 32:
            await asyncio.sleep(0.01)
        assert resources.get(CurlEngine).under_way == 30
        for task in tasks:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in answers)
        assert resources.get(CurlEngine).under_way == 0
        assert await settle(before) <= before


async def in_bytes(exchange: web.Exchange) -> None:
    """A body of a hundred thousand chunks of a byte: `a`, and at the end `b`."""
    chunks = b"1\r\na\r\n" * 99_999 + b"1\r\nb\r\n0\r\n\r\n"
    exchange.writer.write(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    await exchange.writer.drain()


async def test_a_body_in_tiny_chunks_comes_whole_and_lets_others_have_their_turn(resources: Resources) -> None:
    """Between any two turns of the loop no more than a bounded number of pieces is taken."""
    turn, taken = 0, list[int]()

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    engine, body = resources.get(CurlEngine), bytearray()

    def take(piece: bytes) -> None:
        body.extend(piece)
        taken.append(turn)

    async with web.serving(in_bytes) as server:
        ticking = asyncio.create_task(turns())
        handle = engine.take()
        handle.setopt(pycurl.URL, server.url)
        assert (await engine.perform(handle, take)).code == 0
        engine.give_back(handle)
        ticking.cancel()
        assert bytes(body) == b"a" * 99_999 + b"b"
        assert max(taken.count(each) for each in set(taken)) <= PIECES
        judged = await run(KIND, server.url, {"expect": {"body_matches": ["^a+b$"]}}, resources=resources)
        assert judged.outcome is Outcome.UP, judged.message
        assert measures(judged)["probe_http_uncompressed_body_length"] == 100_000


async def test_a_body_in_tiny_chunks_is_stopped_where_it_is_too_large_and_when_its_time_is_over(
    resources: Resources,
) -> None:
    """While the transfer rests, too: nothing stays open, and the handle serves the next run."""

    async def endless(exchange: web.Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            exchange.writer.write(b"1\r\na\r\n" * 1000)
            await exchange.writer.drain()

    async with web.serving(in_bytes) as server, web.serving(endless) as pouring:
        for most in (PIECES - 1, PIECES, PIECES + 1, 50_000):
            result = await run(KIND, server.url, {"max_body": f"{most}B"}, resources=resources)
            assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION), most
            assert "is larger than max_body" in result.message
        for seconds in (0.05, 0.1, 0.15):
            result = await run(KIND, pouring.url, timeout=seconds, resources=resources)
            assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TIMEOUT)
        assert (await run(KIND, server.url, resources=resources)).outcome is Outcome.UP
        assert resources.get(CurlEngine).under_way == 0


async def test_many_runs_at_once_do_not_disturb_each_other(resources: Resources) -> None:
    """Two hundred, half of them of a server that hangs up; each gets its own outcome and body."""

    async def behave(exchange: web.Exchange) -> None:
        number = int(exchange.path[1:])
        await (web.close if number % 2 else web.answer(b"answer %d." % number))(exchange)

    async with web.serving(behave) as server:
        outcomes = await asyncio.gather(
            *(
                run(KIND, f"{server.url}{n}", {"expect": {"body_matches": [f"^answer {n}\\.$"]}}, resources=resources)
                for n in range(200)
            )
        )
    assert [Reason.RESET if number % 2 else Reason.NONE for number in range(200)] == [each.reason for each in outcomes]


async def test_closing_the_engine_cancels_what_is_under_way() -> None:
    """A stop of the service does not wait for slow servers."""
    before = open_files()
    async with web.serving(web.silent) as server:
        before = open_files()
        async with Resources() as resources:
            task = asyncio.create_task(run(KIND, server.url, resources=resources))
            while not server.connections:
                await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await settle(before) <= before


def test_it_works_on_uvloop_too(issued: Issued, ca_file: Path) -> None:
    """The service's loop: up, time-out, TLS, and nothing left open."""

    async def main() -> list[tuple[Outcome, Reason]]:
        async with (
            web.serving(web.answer()) as plain,
            web.serving(web.silent) as silent,
            web.serving(web.answer(), tls=issued.server_context()) as secure,
            Resources() as resources,
        ):
            found = await asyncio.gather(
                run(KIND, plain.at("localhost"), resources=resources),
                run(KIND, silent.url, timeout=0.2, resources=resources),
                run(KIND, secure.url, {"ca_file": str(ca_file)}, resources=resources),
                *(run(KIND, plain.url, resources=resources) for _ in range(50)),
            )
            return [(each.outcome, each.reason) for each in found]

    found = uvloop.run(main())
    up = (Outcome.UP, Reason.NONE)
    assert [up, (Outcome.DOWN, Reason.TIMEOUT), up] + [up] * 50 == found


# Mistakes


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {}, "target is a URL like https://shop.example/, not 'shop.test'"),
    ("ftp://shop.test/", {}, "target is a URL like https://shop.example/, not 'ftp://shop.test/'"),
    ("http://u:p@shop.test/", {}, "target has a user or password in its URL: give basic_auth instead"),
    ("http://shop.test:99999/", {}, "target 'http://shop.test:99999/' is not a URL: Port out of range 0-65535"),
    ("http://a b/", {}, "target 'http://a b/' has a space or a control character in it"),
    (
        "http://shop.test/",
        {"expect": {"body_matches": ["ok", "a("]}},
        "expect.body_matches[1]: 'a(' is not an RE2 expression: missing ): a(",
    ),
    (
        "http://shop.test/",
        {"expect": {"json": [{"path": "a", "equals": 1, "exists": True}]}},
        "expect.json[0]: give exactly one of equals, matches, exists, length and contains, or above and below",
    ),
    (
        "http://shop.test/",
        {"basic_auth": {"username": "u", "password": "p"}, "bearer": "t"},
        "give basic_auth or bearer, not both: a request has one Authorization header",
    ),
    (
        "http://shop.test/",
        {"ca_file": "/no/such.pem"},
        "ca_file /no/such.pem cannot be read: No such file or directory",
    ),
    ("http://shop.test/", {"headers": {"A B": "c"}}, "headers: 'A B' is not the name of a header"),
    ("http://shop.test/", {"headers": {"A": "c\r\nB: d"}}, "headers.A: a value has no line breaks"),
    ("http://shop.test/", {"resolver": "ns:abc"}, "resolver 'ns:abc': 'abc' is not a port between 1 and 65535"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it; the configuration adds file and line."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


def test_a_client_key_that_does_not_fit_is_found_before_anything_runs(authority: Authority) -> None:
    """As libcurl would only say at run time."""
    one, other = authority.issue("a.test"), authority.issue("b.test")
    pair = {"certificate": str(one.chain_file), "key": str(other.key_file)}
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        check_of(KIND, "https://shop.test/", {"client_certificate": pair})


def test_secrets_are_not_in_the_representation_of_the_options() -> None:
    """Options end up in tracebacks and logs."""
    check = check_of(
        KIND,
        "http://shop.test/",
        {"basic_auth": {"username": "u", "password": "hush-1"}, "headers": {"X-Api-Key": "hush-2"}},
    )
    assert "hush" not in repr(check.options)  # type: ignore[attr-defined]  # an HttpCheck
