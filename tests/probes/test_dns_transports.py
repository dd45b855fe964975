"""The kind `dns` over TLS, HTTPS and QUIC: named where it speaks them, servers of ours where they misbehave."""

import asyncio
import importlib.util
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.dns import KIND
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.certificates import Authority, Issued
from tests.servers.named import Space
from tests.servers.nameserver import Behaviour, garbled, mute, naming, only, zone
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle
from tests.servers.quic_names import CLOSE, RESET, quic_naming

ZONE = {("shop.test.", "A"): ["192.0.2.10"]}
WWW: dict[str, Any] = {"answers": ["192.0.2.10", "192.0.2.11"]}


@pytest.mark.shows("dns", "up", "certificate")
async def test_dns_over_tls_of_named_is_up_and_a_certificate_for_another_name_is_down(
    names: Space, ca_file: Path
) -> None:
    """RFC 7858."""
    options = {"server": f"127.0.0.1:{names.tls_port}", "transport": "tls", "ca_file": str(ca_file)}
    good = await run(KIND, "www.shop.test", {**options, "expect": WWW})
    other = await run(KIND, "www.shop.test", {**options, "server_name": "other.test"})
    loose = await run(KIND, "www.shop.test", {**options, "ca_file": "", "verify": False, "expect": WWW})
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert phase_names(good) == ["resolve", "connect", "request"]
    assert (other.outcome, other.reason, other.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "connect")
    assert loose.outcome is Outcome.UP


@pytest.mark.shows("dns", "up", "certificate")
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_dns_over_https_of_named_is_up_and_an_unknown_authority_is_down(
    names: Space, ca_file: Path, method: str
) -> None:
    """RFC 8484, over HTTP/2, which is all that named speaks."""
    options = {"server": f"https://127.0.0.1:{names.https_port}/dns-query", "transport": "https", "method": method}
    good = await run(KIND, "www.shop.test", {**options, "ca_file": str(ca_file), "expect": WWW})
    short = {**options, "server": f"127.0.0.1:{names.https_port}", "ca_file": str(ca_file), "server_name": "shop.test"}
    named = await run(KIND, "www.shop.test", short)
    stranger = await run(KIND, "www.shop.test", options)
    assert (good.outcome, good.message) == (Outcome.UP, "")
    assert phase_names(good) == ["resolve", "connect", "request"]
    assert good.phases[1].seconds > 0
    assert (named.outcome, named.message) == (Outcome.UP, "")
    assert (stranger.outcome, stranger.reason, stranger.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "connect")


def replying(head: bytes, body: bytes) -> web.Behaviour:
    """An HTTP answer, whatever was asked."""

    async def behave(exchange: web.Exchange) -> None:
        exchange.writer.write(head + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await exchange.writer.drain()

    return behave


DNS = b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message"
OTHER = zone({("other.test.", "A"): ["192.0.2.1"]})
HTTPS: list[tuple[web.Behaviour, Reason, str]] = [
    (
        replying(b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain", b"come back\x1b later\n"),
        Reason.STATUS,
        "the server answered with HTTP status 503, wanted 200: come back  later",
    ),
    (
        replying(b"HTTP/1.1 200 OK\r\nContent-Type: text/html", b"<p>hello"),
        Reason.PROTOCOL,
        "the answer is of type text/html, wanted application/dns-message",
    ),
    (replying(DNS, b"no"), Reason.PROTOCOL, "2 bytes came back that are not a DNS message: "),
    (replying(DNS, bytes(70_000)), Reason.PROTOCOL, "more than 65535 bytes came back, which no DNS message has"),
    (web.silent, Reason.TIMEOUT, "no answer from shop.test within 0.3 s in phase request"),
]


@pytest.mark.shows("dns", "status")
async def test_an_http_status_that_is_not_200_is_down_as_status(issued: Issued, ca_file: Path) -> None:
    """With what the server said, on one line."""
    await _over_https(HTTPS[0], issued, ca_file)


@pytest.mark.parametrize("row", HTTPS[1:], ids=lambda row: row[1].value)
async def test_what_is_no_dns_over_https_is_down_with_a_reason(
    row: tuple[web.Behaviour, Reason, str], issued: Issued, ca_file: Path
) -> None:
    """A web server that is another one, or sends too much, or nothing."""
    await _over_https(row, issued, ca_file)


async def _over_https(row: tuple[web.Behaviour, Reason, str], issued: Issued, ca_file: Path) -> None:
    behaviour, reason, message = row
    async with web.serving(behaviour, tls=issued.server_context()) as server:
        options = {"server": f"https://127.0.0.1:{server.port}/q", "transport": "https", "ca_file": str(ca_file)}
        result = await run(KIND, "shop.test", options, timeout=0.3)
    assert (result.outcome, result.reason) == (Outcome.DOWN, reason)
    assert result.message.startswith(message)


@pytest.mark.shows("dns", "up", "certificate", "refused")
async def test_dns_over_quic_is_up_and_certificates_are_verified(issued: Issued, ca_file: Path) -> None:
    """RFC 9250; the number of the question is zero, its length stands before it."""
    async with quic_naming(zone(ZONE), issued) as server:
        options = {"server": server, "transport": "quic", "ca_file": str(ca_file)}
        good = await run(KIND, "shop.test", {**options, "expect": {"answers": ["192.0.2.10"]}})
        other = await run(KIND, "shop.test", {**options, "server_name": "other.test"})
        stranger = await run(KIND, "shop.test", {**options, "ca_file": ""})
        loose = await run(KIND, "shop.test", {**options, "ca_file": "", "verify": False})
    gone = await run(KIND, "shop.test", options, timeout=1)
    assert (good.outcome, good.message, phase_names(good)) == (Outcome.UP, "", ["resolve", "connect", "request"])
    assert good.phases[1].seconds > 0
    assert [(each.outcome, each.reason, each.failed_phase) for each in (other, stranger)] == [
        (Outcome.DOWN, Reason.CERTIFICATE, "connect")
    ] * 2
    assert (loose.outcome, loose.message) == (Outcome.UP, "")
    assert (gone.outcome, gone.reason) == (Outcome.DOWN, Reason.REFUSED)


@pytest.mark.shows("dns", "tls")
async def test_a_quic_server_that_speaks_something_else_is_down_as_tls(issued: Issued, ca_file: Path) -> None:
    """No application protocol in common."""
    async with quic_naming(zone(ZONE), issued, alpn="h3") as server:
        options = {"server": server, "transport": "quic", "ca_file": str(ca_file)}
        result = await run(KIND, "shop.test", options, timeout=2)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TLS, "connect")


QUIC: list[tuple[Behaviour, Reason, str]] = [
    (lambda _query, _transport: RESET, Reason.RESET, "the server reset the stream with error 3"),
    (
        lambda _query, _transport: CLOSE,
        Reason.RESET,
        "the server closed the QUIC connection with error 2: go away",
    ),
    (garbled, Reason.PROTOCOL, "17 bytes came back that are not a DNS message"),
    (only("REFUSED"), Reason.DNS, "the server answered REFUSED, wanted NOERROR"),
    (mute, Reason.TIMEOUT, "no answer from shop.test within 0.4 s in phase request"),
]


@pytest.mark.parametrize(("behaviour", "reason", "message"), QUIC, ids=[f"{row[1]}-{row[2][:9]}" for row in QUIC])
async def test_a_quic_server_that_misbehaves_is_down_with_a_reason(
    behaviour: Behaviour, reason: Reason, message: str, issued: Issued, ca_file: Path
) -> None:
    """In phase request: the connection was there."""
    async with quic_naming(behaviour, issued) as server:
        options = {"server": server, "transport": "quic", "ca_file": str(ca_file)}
        result = await run(KIND, "shop.test", options, timeout=0.4)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, reason, "request")
    assert result.message.startswith(message)


@pytest.mark.parametrize("transport", ["tcp", "tls", "https", "quic"])
async def test_a_cancelled_question_leaves_nothing_open(transport: str, issued: Issued, ca_file: Path) -> None:
    """Over every transport that has a connection, against a server that says nothing."""
    options: dict[str, Any] = {"transport": transport}
    if transport != "tcp":
        options["ca_file"] = str(ca_file)
    async with web.serving(web.silent, before_request=True) as silent, quic_naming(mute, issued) as quic:
        options["server"] = quic if transport == "quic" else f"127.0.0.1:{silent.port}"
        await run(KIND, "shop.test", options, timeout=0.1)
        before = open_files()
        results = await asyncio.gather(*(run(KIND, "shop.test", options, timeout=0.2) for _ in range(10)))
        assert {each.reason for each in results} == {Reason.TIMEOUT}
        assert all(each.seconds < 1 for each in results)
        assert await settle(before) <= before


def test_quic_and_https_work_on_uvloop_too(issued: Issued, ca_file: Path, names: Space) -> None:
    """The service's loop."""

    async def main() -> list[str]:
        async with quic_naming(zone(ZONE), issued) as server:
            told = {"ca_file": str(ca_file)}
            https = f"https://127.0.0.1:{names.https_port}/dns-query"
            return [
                (await run(KIND, "shop.test", {**told, "server": server, "transport": "quic"})).message,
                (await run(KIND, "www.shop.test", {**told, "server": https, "transport": "https"})).message,
                (
                    await run(
                        KIND, "www.shop.test", {**told, "server": f"127.0.0.1:{names.tls_port}", "transport": "tls"}
                    )
                ).message,
            ]

    assert uvloop.run(main()) == ["", "", ""]


async def test_a_client_certificate_is_shown(authority: Authority, issued: Issued, ca_file: Path) -> None:
    """To a server that wants one."""
    mine = authority.issue("prober.test")
    context = issued.server_context()
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    async with naming(zone(ZONE), tls=context) as server:
        options = {"server": server.address, "transport": "tls", "ca_file": str(ca_file)}
        files = {"certificate": str(mine.chain_file), "key": str(mine.key_file)}
        shown = await run(KIND, "shop.test", {**options, "client_certificate": files})
        hidden = await run(KIND, "shop.test", options)
    assert (shown.outcome, shown.message) == (Outcome.UP, "")
    assert (hidden.outcome, hidden.reason) in {(Outcome.DOWN, Reason.TLS), (Outcome.DOWN, Reason.RESET)}


def test_quic_without_its_driver_is_a_mistake_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind itself needs none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"^transport: quic needs .*: pip install 'stormwatch\[doq\]'$"):
        check_of(KIND, "shop.test", {"server": "127.0.0.1", "transport": "quic"})


async def test_a_server_is_only_reached_where_the_policy_allows(issued: Issued, ca_file: Path) -> None:
    """Its question was never sent."""
    for transport in ("tls", "https", "quic"):
        options = {"server": "127.0.0.1:1", "transport": transport, "ca_file": str(ca_file)}
        result = await run(KIND, "shop.test", options, reach=Reach(refuse=OWN_HOST))
        assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
        assert measures(result)["stormwatch_dns_sends"] == 0
