"""The kind `grpc`: health checks and unary calls; up, down for each reason, and nothing left open."""

import asyncio
import base64
import contextlib
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.grpc import KIND
from stormwatch.probes.grpc_wire import (
    Status,
    frame,
    health_request,
    metadata_line,
    read_health_response,
    read_message,
    read_status,
    split_lines,
    timeout_header,
)
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason, Result
from tests.servers import http2, island, web
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port

KIND_OF_BODY = [("content-type", "application/grpc")]
OK = [("grpc-status", "0")]


def answering(message: bytes = b"\x08\x01", code: int = 0, said: str = "") -> http2.Behaviour:
    """A whole answer: head, one message, trailers."""

    async def behave(call: http2.Call) -> None:
        call.head(KIND_OF_BODY)
        if code == 0:
            call.data(frame(message))
        call.trailers([("grpc-status", str(code)), *([("grpc-message", said)] if said else [])])

    return behave


def at_once(code: str, said: str = "", status: int = 200) -> http2.Behaviour:
    """A head and nothing else, as servers answer that did not even begin."""

    async def behave(call: http2.Call) -> None:
        call.head([*KIND_OF_BODY, ("grpc-status", code), ("grpc-message", said)], status=status, end=True)

    return behave


def serving_statuses(result: Result) -> dict[str, float]:
    """The gauge of the health check, by its label."""
    return {
        each.labels["serving_status"]: each.value
        for each in result.measures
        if each.name == "probe_grpc_healthcheck_response"
    }


@pytest.mark.shows("grpc", "up")
async def test_a_server_that_serves_is_up_and_was_asked_as_the_protocol_wants() -> None:
    """HTTP/2 from the first byte, a framed message, a deadline; answered with status in the trailers."""
    async with http2.serving(answering()) as server:
        result = await run(KIND, server.place, {"service": "shop.v1.Orders"}, timeout=3)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    (call,) = server.calls
    fields = dict(call.headers)
    assert fields[":method"] == "POST"
    assert fields[":scheme"] == "http"
    assert fields[":path"] == "/grpc.health.v1.Health/Check"
    assert fields[":authority"] == server.place
    assert fields["content-type"] == "application/grpc"
    assert fields["te"] == "trailers"
    assert fields["user-agent"].startswith("Stormwatch")
    assert 2000 < int(fields["grpc-timeout"].removesuffix("m")) <= 3000
    assert "accept" not in fields
    assert call.body == b"\0\0\0\0\x10\x0a\x0eshop.v1.Orders"
    assert phase_names(result) == ["resolve", "check"]
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.002)
    assert serving_statuses(result) == {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 0, "SERVICE_UNKNOWN": 0}
    seen = measures(result)
    assert (seen["probe_grpc_status_code"], seen["probe_grpc_ssl"], seen["probe_ip_protocol"]) == (0, 0, 4)
    assert seen["probe_ip_addr_hash"] == 3668918509
    assert result.evidence == {
        "remote": server.place,
        "grpc_status": {"code": "OK", "message": ""},
        "answer_bytes": 7,
        "serving_status": "SERVING",
    }
    parts = [each.labels["part"] for each in result.measures if each.name == "stormwatch_grpc_check_part_seconds"]
    assert parts == ["connect", "processing", "transfer"]


async def test_connect_to_goes_elsewhere_and_still_asks_for_the_target(issued: Issued, ca_file: Path) -> None:
    """The authority stays, with its port, and the name that the certificate is for; the target's name is never looked up."""
    context = issued.server_context()
    context.set_alpn_protocols(["h2"])
    async with http2.serving(answering(), tls=context) as server:
        options = {"connect_to": server.place, "tls": True, "ca_file": str(ca_file)}
        result = await run(KIND, "shop.test:8443", options)
        same_port = await run(KIND, f"shop.test:{server.port}", {**options, "connect_to": "127.0.0.1"})
    assert (result.outcome, result.message) == (same_port.outcome, same_port.message) == (Outcome.UP, "")
    assert dict(server.calls[0].headers)[":authority"] == "shop.test:8443"
    assert result.evidence["remote"] == same_port.evidence["remote"] == server.place


async def test_metadata_and_user_agent_are_sent_and_never_kept() -> None:
    """Several values; binary ones in base64."""
    metadata = {"authorization": "Bearer hush", "x-shop": ["one", "two"], "trace-bin": "a\nb", "empty": ""}
    async with http2.serving(answering()) as server:
        result = await run(KIND, server.place, {"metadata": metadata, "user_agent": "probe/1"})
    assert Outcome.UP is result.outcome
    (call,) = server.calls
    assert call.header("authorization") == "Bearer hush"
    assert call.header("x-shop") == "one,two"
    assert call.header("trace-bin") == "YQpi"
    assert ("empty", "") in call.headers
    assert call.header("user-agent") == "probe/1"
    assert "hush" not in str(result.as_json())


async def test_a_unary_call_sends_what_it_is_given_and_judges_the_code() -> None:
    """No description of the service is needed: bytes in, status out."""
    message = {"hex": "0a 03 616263"}
    expect = {"code": ["NOT_FOUND", "OK"]}
    async with http2.serving(answering(code=5, said="no order%20of%20this name")) as server:
        result = await run(KIND, server.place, {"method": "shop.v1.Orders/Get", "message": message, "expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["grpc_status"] == {"code": "NOT_FOUND", "message": "no order of this name"}
    assert measures(result)["probe_grpc_status_code"] == 5
    (call,) = server.calls
    assert (call.header(":path"), call.body) == ("/shop.v1.Orders/Get", frame(b"\x0a\x03abc"))
    async with http2.serving(answering(b"\x0a\x09whatever!")) as server:
        encoded = {"base64": base64.b64encode(b"\x0a\x03abc").decode()}
        result = await run(KIND, server.place, {"method": "shop.v1.Orders/Get", "message": encoded})
        empty = await run(KIND, server.place, {"method": "shop.v1.Orders/Get"})
    assert (result.outcome, empty.outcome) == (Outcome.UP, Outcome.UP)
    assert [call.body for call in server.calls] == [frame(b"\x0a\x03abc"), frame(b"")]


HEALTH: list[tuple[bytes, list[str], Outcome, str]] = [
    (b"\x08\x02", ["SERVING"], Outcome.DOWN, "the server is NOT_SERVING, wanted SERVING"),
    (b"\x08\x02", ["SERVING", "NOT_SERVING"], Outcome.UP, ""),
    (b"\x08\x03", ["SERVING", "UNKNOWN"], Outcome.DOWN, "the server is SERVICE_UNKNOWN, wanted SERVING or UNKNOWN"),
    (b"", ["UNKNOWN"], Outcome.UP, ""),
    (b"\x08\x2a", ["SERVING"], Outcome.DOWN, "the server is 42, wanted SERVING"),
    (b"\x12\x01x\x1d1234\x218bytes!!\x08\x01", ["SERVING"], Outcome.UP, ""),
]


@pytest.mark.parametrize(("message", "wanted", "outcome", "said"), HEALTH)
async def test_the_serving_status_is_judged(message: bytes, wanted: list[str], outcome: Outcome, said: str) -> None:
    """A status that is left out is UNKNOWN; fields that nobody knows are passed over."""
    async with http2.serving(answering(message)) as server:
        result = await run(KIND, server.place, {"expect": {"status": wanted}})
    assert (result.outcome, result.message) == (outcome, said)
    if outcome is Outcome.DOWN:
        assert (result.reason, result.failed_phase) == (Reason.ASSERTION, "check")


async def no_trailers(call: http2.Call) -> None:
    """A message, and the end."""
    call.head(KIND_OF_BODY)
    call.data(frame(b"\x08\x01"), end=True)


async def two_messages(call: http2.Call) -> None:
    """More than a unary call may answer."""
    call.head(KIND_OF_BODY)
    call.data(frame(b"\x08\x01") * 2)
    call.trailers(OK)


async def compressed(call: http2.Call) -> None:
    """Though nobody asked for it."""
    call.head(KIND_OF_BODY)
    call.data(b"\1\0\0\0\2\x08\x01")
    call.trailers(OK)


async def nothing(call: http2.Call) -> None:
    """OK without a message."""
    call.head(KIND_OF_BODY)
    call.trailers(OK)


async def page(call: http2.Call) -> None:
    """What a proxy says about a server that is away."""
    call.head([("content-type", "text/html")], status=503)
    call.data(b"<h1>away</h1>", end=True)


async def welcome(call: http2.Call) -> None:
    """A web server."""
    call.head([("content-type", "text/html")])
    call.data(b"<h1>welcome</h1>", end=True)


async def fail_stream(call: http2.Call) -> None:
    """INTERNAL_ERROR."""
    call.reset(2)


async def refuse_stream(call: http2.Call) -> None:
    """REFUSED_STREAM: nothing was done, so libcurl asks again, five times."""
    call.reset(7)


async def go_away(call: http2.Call) -> None:
    """ENHANCE_YOUR_CALM."""
    call.go_away(11)
    await call.writer.drain()
    call.writer.close()


async def silent(call: http2.Call) -> None:
    """Takes the call and never answers."""
    await call.reader.read()


async def half(call: http2.Call) -> None:
    """A head, and then nothing."""
    call.head(KIND_OF_BODY)
    await call.reader.read()


async def drip(call: http2.Call) -> None:
    """A byte of the message at a time, without end."""
    call.head(KIND_OF_BODY)
    call.data(b"\0\xff\xff\xff\xff")
    while True:
        call.data(b"x")
        await call.writer.drain()
        await asyncio.sleep(0.02)


async def flood(call: http2.Call) -> None:
    """A message that is too long."""
    call.head(KIND_OF_BODY)
    call.data(b"\0\0\0\x40\0")
    for _ in range(16):
        call.data(bytes(1024))
    call.trailers(OK)


async def garble(call: http2.Call) -> None:
    """Frames that make no sense."""
    call.writer.write(b"\xff" * 64)


async def hang_up(call: http2.Call) -> None:
    """Without a word."""
    call.writer.close()


FAILURES: list[tuple[http2.Behaviour, Reason, str, int]] = [
    (at_once("14", "draining"), Reason.STATUS, "Health/Check ended with UNAVAILABLE (14), wanted OK: draining", 14),
    (at_once("99"), Reason.STATUS, "Health/Check ended with 99 (99), wanted OK", 99),
    (answering(code=4), Reason.TIMEOUT, "Health/Check ended with DEADLINE_EXCEEDED (4), wanted OK", 4),
    (at_once("16", "100%25 no"), Reason.STATUS, "ended with UNAUTHENTICATED (16), wanted OK: 100% no", 16),
    (at_once("x"), Reason.PROTOCOL, "not an answer of gRPC: grpc-status is 'x', and not a number", 2),
    (page, Reason.STATUS, "HTTP status 503 without a gRPC status, wanted OK: see what stands before the server", 14),
    (welcome, Reason.PROTOCOL, "not an answer of gRPC: content-type is 'text/html', wanted application/grpc", 2),
    (no_trailers, Reason.PROTOCOL, "not an answer of gRPC: the stream ended without a grpc-status", 2),
    (nothing, Reason.PROTOCOL, "the answer has 0 bytes, and a message begins with five that say its length", 0),
    (two_messages, Reason.PROTOCOL, "the message should have 2 bytes, and 9 came", 0),
    (compressed, Reason.PROTOCOL, "the message is compressed, which was not asked for", 0),
    (answering(b"\xff"), Reason.PROTOCOL, "the message is not protobuf: it ends within a number", 0),
    (answering(b"\x0a\x01x"), Reason.PROTOCOL, "the message is not a HealthCheckResponse", 0),
    (fail_stream, Reason.PROTOCOL, "the server ended the HTTP/2 stream with an error", 14),
    (refuse_stream, Reason.RESET, "tried 5 times", 14),
    (go_away, Reason.PROTOCOL, "", 14),
    (garble, Reason.PROTOCOL, "", 14),
    (hang_up, Reason.RESET, "", 14),
    (silent, Reason.TIMEOUT, "no answer from ", 4),
    (half, Reason.TIMEOUT, "no answer from ", 4),
    (drip, Reason.TIMEOUT, "no answer from ", 4),
    (flood, Reason.ASSERTION, "the answer is larger than max_message, 1KiB", 14),
]


@pytest.mark.shows("grpc", "status", "timeout", "protocol", "reset", "assertion")
async def test_each_wrong_answer_is_down_for_its_own_reason() -> None:
    """By the deadline, with the code that a client of gRPC would report."""
    for behaviour, reason, message, code in FAILURES:
        async with http2.serving(behaviour) as server:
            most = 0.4 if reason is Reason.TIMEOUT else 30
            result = await run(KIND, server.place, {"max_message": "1KiB"}, timeout=most)
        shown = (behaviour.__name__, result.reason, result.message)
        assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, reason, "check"), shown
        assert message in result.message, shown
        assert measures(result)["probe_grpc_status_code"] == code, shown
        assert result.seconds < 10, shown
        if reason is Reason.TIMEOUT and behaviour in (silent, half):
            assert result.evidence["reached"] == ("processing" if behaviour is silent else "transfer")


async def test_an_http_status_can_be_the_one_that_is_wanted() -> None:
    """As gRPC's clients read it: 503 is UNAVAILABLE."""
    async with http2.serving(page) as server:
        result = await run(KIND, server.place, {"expect": {"code": ["UNAVAILABLE"]}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["http_status"] == 503


async def test_the_word_of_the_server_counts_when_it_resets_the_stream_behind_it() -> None:
    """Some do so to be rid of a client that still sends."""

    async def behave(call: http2.Call) -> None:
        call.head([*KIND_OF_BODY, ("grpc-status", "8")])
        call.reset(8)

    async with http2.serving(behave) as server:
        result = await run(KIND, server.place)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.STATUS)
    assert "RESOURCE_EXHAUSTED (8)" in result.message


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (web.answer(), Reason.PROTOCOL),
        (web.garble, Reason.PROTOCOL),
        (web.reset, Reason.RESET),
        (web.silent, Reason.TIMEOUT),
    ],
)
async def test_a_server_of_another_protocol_is_told(behaviour: web.Behaviour, reason: Reason) -> None:
    """HTTP/1.1, noise, a reset, silence."""
    async with web.serving(behaviour, before_request=behaviour is not web.answer) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", timeout=0.4)
    assert (result.outcome, result.reason) == (Outcome.DOWN, reason), result.message


@pytest.mark.shows("grpc", "dns", "refused", "broken")
async def test_names_ports_and_policy() -> None:
    """Nothing was asked: the status code is what a client would have made up."""
    async with naming(zone({})) as names:
        lost = await run(KIND, "shop.test:1", {"resolver": names.address})
    assert (lost.reason, lost.failed_phase) == (Reason.DNS, "resolve")
    assert measures(lost)["probe_ip_protocol"] == 0
    port = free_port()
    closed = await run(KIND, f"127.0.0.1:{port}")
    assert (closed.outcome, closed.reason, closed.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "check")
    assert closed.message == f"no connection to 127.0.0.1:{port}: Connection refused"
    assert measures(closed)["probe_grpc_status_code"] == 14
    async with http2.serving(answering()) as server:
        refused = await run(KIND, server.place, reach=Reach(refuse=OWN_HOST))
    assert (refused.outcome, refused.reason, server.connections) == (Outcome.BROKEN, Reason.POLICY, 0)


@pytest.mark.shows("grpc", "unreachable")
def test_a_host_that_no_way_leads_to_is_unreachable() -> None:
    """A router says so; here, the kernel's own routes."""
    result = island.on_an_island(lambda: run(KIND, f"{island.HOST}:1"))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.UNREACHABLE, "check")


async def test_the_second_address_is_tried_and_the_authority_stays_the_name() -> None:
    """Both are loopback's; the server is on the second."""
    records = {("shop.test.", "A"): ["127.0.0.2", "127.0.0.1"]}
    async with naming(zone(records)) as names, http2.serving(answering()) as server:
        result = await run(KIND, f"shop.test:{server.port}", {"resolver": names.address})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["remote"] == server.place
    assert server.calls[0].header(":authority") == f"shop.test:{server.port}"


async def test_a_family_can_be_preferred_or_demanded() -> None:
    """As blackbox_exporter's `preferred_ip_protocol` and `ip_protocol_fallback`."""
    records = {("shop.test.", "A"): ["127.0.0.1"]}
    async with naming(zone(records)) as names, http2.serving(answering()) as server:
        options = {"resolver": names.address, "ip": "prefer-6"}
        other = await run(KIND, f"shop.test:{server.port}", options)
        none = await run(KIND, f"shop.test:{server.port}", {**options, "ip_fallback": False})
    assert (other.outcome, measures(other)["probe_ip_protocol"]) == (Outcome.UP, 4)
    assert (none.outcome, none.reason) == (Outcome.DOWN, Reason.DNS)


@pytest.mark.shows("grpc", "too-slow")
async def test_a_slow_answer_names_its_slowest_part() -> None:
    """It came, and it was right."""

    async def behave(call: http2.Call) -> None:
        await asyncio.sleep(0.1)
        await answering()(call)

    async with http2.serving(behave) as server:
        result = await run(KIND, server.place, {"expect": {"slower_than": "50ms"}})
    assert (result.reason, result.failed_phase) == (Reason.TOO_SLOW, "check")
    assert re.fullmatch(r"took \d+ ms, wanted at most 50ms; slowest was processing", result.message)


async def test_tls_agrees_on_h2_and_shows_the_certificate(issued: Issued, ca_file: Path) -> None:
    """`server_name` is what is asked for, what the certificate must be for, and the authority."""
    async with http2.serving(answering(), tls=issued.server_context()) as server:
        options = {"tls": True, "ca_file": str(ca_file), "server_name": "shop.test"}
        result = await run(KIND, server.place, options)
        older = await run(KIND, server.place, {**options, "tls_max": "1.2"})
        near = await run(KIND, server.place, {**options, "expect": {"certificate_expires_within": "91d"}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert dict(server.calls[0].headers)[":authority"] == "shop.test"
    assert dict(server.calls[0].headers)[":scheme"] == "https"
    assert measures(result)["probe_grpc_ssl"] == 1
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    assert labels(older, "probe_tls_version_info") == {"version": "TLS 1.2"}
    assert (near.outcome, near.reason) == (Outcome.DOWN, Reason.CERTIFICATE)


@pytest.mark.shows("grpc", "certificate", "tls")
async def test_a_certificate_that_is_not_accepted_is_shown_all_the_same(tmp_path: Path, ca_file: Path) -> None:
    """Its expiry is exported, and no alert on it falls silent."""
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1", after=timedelta(days=1))
    async with http2.serving(answering(), tls=stranger.server_context()) as server:
        result = await run(KIND, server.place, {"tls": True, "ca_file": str(ca_file)})
        trusting = await run(KIND, server.place, {"tls": True, "verify": False})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "check")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    assert measures(result)["probe_grpc_ssl"] == 0
    assert Outcome.UP is trusting.outcome
    with handshaking(only_newest(stranger)) as port:
        options = {"tls": True, "verify": False, "tls_max": "1.2"}
        old = await run(KIND, f"127.0.0.1:{port}", options)
    assert (old.outcome, old.reason) == (Outcome.DOWN, Reason.TLS), old.message


def only_newest(issued: Issued) -> ssl.SSLContext:
    """TLS 1.3 and nothing else."""
    context = issued.server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def test_a_tls_server_of_http_1_is_told(issued: Issued, ca_file: Path) -> None:
    """It does not agree on `h2`."""
    context = issued.server_context()
    context.set_alpn_protocols(["http/1.1"])
    async with web.serving(web.answer(), tls=context) as server:
        options = {"tls": True, "ca_file": str(ca_file)}
        result = await run(KIND, f"127.0.0.1:{server.port}", options, timeout=1)
    assert result.outcome is Outcome.DOWN
    assert result.reason in {Reason.TLS, Reason.PROTOCOL}, result.message
    assert "h2" in result.message or "HTTP/2" in result.message or "protocol" in result.message


async def test_a_client_certificate_is_shown_where_it_is_asked_for(issued: Issued, authority: Authority) -> None:
    """Mutual TLS."""
    mine = authority.issue("probe.test")
    context = issued.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    files = {"certificate": str(mine.chain_file), "key": str(mine.key_file)}
    async with http2.serving(answering(), tls=context) as server:
        options = {"tls": True, "ca_file": str(authority.file)}
        known = await run(KIND, server.place, {**options, "client_certificate": files})
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in TLS 1.3 a reset may overtake the alert
    with handshaking(context) as port:
        unknown = await run(KIND, f"127.0.0.1:{port}", options)
    assert (known.outcome, known.message) == (Outcome.UP, "")
    assert (unknown.outcome, unknown.reason) == (Outcome.DOWN, Reason.TLS)
    assert "with the alert" in unknown.message


async def _leave_nothing(context: ssl.SSLContext, ca_file: Path) -> tuple[int, int]:
    async with (
        http2.serving(answering()) as healthy,
        http2.serving(answering(), tls=context) as secure,
        http2.serving(half) as stuck,
        web.serving(web.silent, before_request=True) as mute,
    ):
        await run(KIND, healthy.place)
        before = open_files()
        tls = {"tls": True, "ca_file": str(ca_file)}
        await asyncio.gather(
            *(run(KIND, healthy.place) for _ in range(20)),
            *(run(KIND, secure.place, tls) for _ in range(10)),
            *(run(KIND, stuck.place, timeout=0.2) for _ in range(10)),
            *(run(KIND, f"127.0.0.1:{mute.port}", tls, timeout=0.2) for _ in range(10)),
        )
        return before, await settle(before)


async def test_nothing_stays_open(issued: Issued, ca_file: Path) -> None:
    """After answers, and after runs that were cut off."""
    before, after = await _leave_nothing(issued.server_context(), ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(issued: Issued, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(issued.server_context(), ca_file))
    assert after <= before


TLS_ONLY = "is for TLS: give `tls: true` too"
RESERVED = "cannot be sent: a name is in lower case, and those of gRPC itself are reserved"
NOT_BASE64 = "Invalid base64-encoded string: number of data characters (1) cannot be 1 more than a multiple of 4"
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {}, "target is written like host:port, not 'shop.test': the port is missing"),
    ("shop.test:1", {"method": "Get"}, "method is written like shop.v1.Orders/List, not 'Get'"),
    ("shop.test:1", {"method": "/a.B/Get"}, "method is written like shop.v1.Orders/List, not '/a.B/Get'"),
    (
        "shop.test:1",
        {"method": "a.B/Get", "service": "x"},
        "service is asked for by the health check: give service or method, not both",
    ),
    (
        "shop.test:1",
        {"method": "a.B/Get", "expect": {"status": ["UNKNOWN"]}},
        "expect.status is what the health check says: with method, give expect.code",
    ),
    ("shop.test:1", {"message": {"hex": "00"}}, "message is for a method: give method too"),
    (
        "shop.test:1",
        {"method": "a.B/Get", "message": {"hex": "00", "base64": "AA=="}},
        "message: give base64 or hex, not both",
    ),
    (
        "shop.test:1",
        {"method": "a.B/Get", "message": {"hex": "0g"}},
        "message.hex cannot be read: non-hexadecimal number found in fromhex() arg at position 1",
    ),
    (
        "shop.test:1",
        {"method": "a.B/Get", "message": {"base64": "A"}},
        f"message.base64 cannot be read: {NOT_BASE64}",
    ),
    ("shop.test:1", {"metadata": {"X-A": "1"}}, f"metadata: 'X-A' {RESERVED}"),
    ("shop.test:1", {"metadata": {"grpc-timeout": "1S"}}, f"metadata: 'grpc-timeout' {RESERVED}"),
    ("shop.test:1", {"metadata": {"te": "1"}}, f"metadata: 'te' {RESERVED}"),
    (
        "shop.test:1",
        {"metadata": {"x-a": ["1", "a\nb"]}},
        "metadata.x-a: a value is printable ASCII; for another, let the name end in -bin",
    ),
    ("shop.test:1", {"verify": False}, f"verify {TLS_ONLY}"),
    ("shop.test:1", {"ca_file": "x"}, f"ca_file {TLS_ONLY}"),
    ("shop.test:1", {"server_name": "x"}, f"server_name {TLS_ONLY}"),
    (
        "shop.test:1",
        {"client_certificate": {"certificate": "x", "key": "y"}},
        f"client_certificate {TLS_ONLY}",
    ),
    (
        "shop.test:1",
        {"expect": {"certificate_expires_within": "1d"}},
        f"expect.certificate_expires_within {TLS_ONLY}",
    ),
    (
        "shop.test:1",
        {"tls": True, "tls_min": "1.3", "tls_max": "1.2"},
        "tls_min 1.3 is newer than tls_max 1.2",
    ),
    ("shop.test:1", {"expect": {"code": []}}, "expect.code: give at least one status code"),
    ("shop.test:1", {"expect": {"status": []}}, "expect.status: give at least one serving status"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


@settings(max_examples=400)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_failure(data: bytes) -> None:
    """Framed or not, protobuf or not."""
    with contextlib.suppress(ProbeFailed):
        assert isinstance(read_message(data), bytes)
    with contextlib.suppress(ProbeFailed):
        assert read_health_response(data) >= 0
    assert read_message(frame(data)) == data


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b"grpc-status: ", b"grpc-message: %", b"content-type: ", b"HTTP/2 ", b"\r\n"])),
    st.binary(),
)
def test_any_lines_are_a_status_or_a_failure(starts: list[bytes], rest: bytes) -> None:
    """Heads and trailers of every shape."""
    head, trailers = split_lines([start + rest for start in starts])
    for status in (200, 503):
        with contextlib.suppress(ProbeFailed):
            assert isinstance(read_status(status, head, trailers), Status)


@given(st.text(max_size=300))
def test_the_name_of_a_service_is_field_1(name: str) -> None:
    """Read back by our own reader of fields, which refuses it because it is not a number."""
    request = health_request(name)
    if not name.encode():
        assert request == b""
        return
    size = len(name.encode())
    assert request.endswith(name.encode())
    assert request[:1] == b"\x0a"
    assert request[1:-size] == (bytes((size,)) if size < 128 else bytes((size & 0x7F | 0x80, size >> 7)))


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.0, "1m"), (0.25, "250m"), (99_999.0, "99999000m"), (100_000.0, "100000S"), (1e12, "99999999S")],
)
def test_a_timeout_has_at_most_eight_digits(seconds: float, header: str) -> None:
    """And is never zero."""
    assert timeout_header(seconds) == header


def test_a_binary_value_has_no_padding() -> None:
    """As gRPC's own clients send it."""
    assert metadata_line("x-bin", "a") == "x-bin: YQ"
    assert metadata_line("x", "a") == "x: a"
