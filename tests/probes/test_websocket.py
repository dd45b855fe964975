"""The kind `websocket`: upgrades, dialogues, pings, closes; up, down for each reason, and nothing left open."""

import asyncio
import base64
import contextlib
import hashlib
import re
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.websocket import KIND
from stormwatch.probes.websocket_talk import Frames, read_status
from tests.servers import island, web
from tests.servers.certificates import Authority, Issued
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port

TEXT, BINARY, CLOSE, PING, PONG, FINAL = 1, 2, 8, 9, 10, 0x80


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """RFC 6455 §5.2, as a server sends it: not masked."""
    size = len(payload)
    start = bytes((opcode | (FINAL if final else 0),))
    if size < 126:
        return start + bytes((size,)) + payload
    return start + (b"\x7e" + struct.pack("!H", size) if size < 2**16 else b"\x7f" + struct.pack("!Q", size)) + payload


async def upgrade(exchange: web.Exchange, *, headers: str = "", accept: str = "") -> None:
    """Answer the request as RFC 6455 §4.2.2 says."""
    key = exchange.header("Sec-WebSocket-Key") or ""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    said = accept or base64.b64encode(digest).decode()
    head = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {said}\r\n"
    exchange.writer.write((head + headers + "\r\n").encode())
    await exchange.writer.drain()


def sending(*pieces: bytes, hold: bool = True) -> web.Behaviour:
    """Upgrade, say these bytes, then nothing more; hang up unless it is held."""

    async def behave(exchange: web.Exchange) -> None:
        await upgrade(exchange)
        for piece in pieces:
            exchange.writer.write(piece)
            await exchange.writer.drain()
        if hold:
            await exchange.reader.read()
        else:
            exchange.writer.close()

    return behave


def url(server: web.Server, path: str = "/") -> str:
    """Where the server listens, as a websocket."""
    return f"{'wss' if server.secure else 'ws'}://127.0.0.1:{server.port}{path}"


Talk = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def talking(talk: Talk, **options: Any) -> AsyncGenerator[str]:
    """A server by the library that most Python services use."""
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"{'wss' if 'ssl' in options else 'ws'}://127.0.0.1:{port}/feed?of=prices"


async def echo(connection: ServerConnection) -> None:
    """Greets, and says everything again."""
    await connection.send('{"hello": "you", "session": "s-\\"1\\""}')
    async for message in connection:
        await connection.send(message)


@pytest.mark.shows("websocket", "up")
async def test_an_upgrade_is_up_and_closes_as_it_should() -> None:
    """The thinnest probe: the handshake and a farewell."""
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def listen(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.set_result(connection.close_code)

    async with talking(listen) as target:
        result = await run(KIND, target)
        assert await asyncio.wait_for(closed, 30) == 1000
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "processing", "transfer"]
    assert measures(result) == {
        "probe_dns_lookup_time_seconds": pytest.approx(0, abs=0.01),
        "probe_ip_protocol": 4,
        "probe_ip_addr_hash": 3668918509,
        "probe_websocket_status_code": 101,
        "probe_websocket_connection_upgraded": 1,
        "probe_websocket_failed_due_to_regex": 0,
    }
    assert result.evidence["response_head"].startswith("HTTP/1.1 101 Switching Protocols")
    assert set(result.evidence) == {"remote", "response_head"}


async def test_the_upgrade_asks_as_it_was_told_and_keeps_nothing_of_it() -> None:
    """Compression is not offered: a small message could become a large one."""
    options = {
        "headers": {"X-Shop": ["one", "two"], "Host": "shop.test"},
        "origin": "https://shop.test",
        "subprotocols": ["v2.feed", "v1.feed"],
        "basic_auth": {"username": "probe", "password": "hush"},
        "expect": {"subprotocol": "v1.feed"},
    }

    async def behave(exchange: web.Exchange) -> None:
        await upgrade(exchange, headers="Sec-WebSocket-Protocol: v1.feed\r\n")
        await exchange.reader.read()

    async with web.serving(behave) as server:
        result = await run(KIND, url(server, "/feed?a=b"), options)
        token = await run(KIND, url(server), {"bearer": "hush", "subprotocols": ["v1.feed"]})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    first, second = server.exchanges
    assert (first.method, first.path) == ("GET", "/feed?a=b")
    assert first.header("Host") == "shop.test"
    assert first.header("Origin") == "https://shop.test"
    assert first.header("Sec-WebSocket-Protocol") == "v2.feed, v1.feed"
    assert first.header("Sec-WebSocket-Extensions") is None
    assert (first.header("User-Agent") or "").startswith("Stormwatch")
    assert first.request.count(b"X-Shop: ") == 2
    assert first.header("Authorization") == "Basic " + base64.b64encode(b"probe:hush").decode()
    assert second.header("Authorization") == "Bearer hush"
    assert "hush" not in str(result.as_json()) + str(token.as_json())


async def test_a_dialogue_sends_expects_and_captures() -> None:
    """Text and bytes; a captured value is written into JSON as it must be there."""
    dialogue = [
        {"expect": '"hello"', "capture": {"session": {"json": "session"}}},
        {"send": '{"join": "{{ session | json }}"}', "expect": "join", "within": "2s"},
        {"send_hex": "00 ff", "expect": "^\\C\\C$", "capture": {"key": {"regex": "(?s)^(.)", "secret": True}}},
    ]
    async with talking(echo) as target:
        result = await run(KIND, target, {"dialogue": dialogue, "ping": True})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    greeting, joined, data = result.evidence["heard"].split("\n")
    assert greeting == '{"hello": "you", "session": "s-\\"1\\""}'
    assert joined == '{"join": "s-\\"1\\""}'
    assert data == "\0�"
    assert 0 < measures(result)["stormwatch_websocket_ping_seconds"] < 2


async def test_a_secret_capture_is_shown_nowhere() -> None:
    """Neither in evidence nor in a message, though the server says it again."""
    dialogue = [
        {"expect": "session", "capture": {"session": {"json": "session", "secret": True}}},
        {"send": "{{ session }}", "expect": "never", "within": "100ms"},
    ]
    async with talking(echo) as target:
        result = await run(KIND, target, {"dialogue": dialogue})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message.endswith("within 100ms; last came '***'")
    assert 's-"1"' not in str(result.as_json())
    assert 's-\\"1' not in result.evidence["heard"]


async def test_fragments_pings_and_other_messages_are_in_order() -> None:
    """A ping in the middle of a message is answered; both kinds of message match."""
    pieces = (
        frame(TEXT, b"noise"),
        frame(TEXT, b"pri", final=False),
        frame(PING, b"there?"),
        frame(0, b"ce 4", final=False),
        frame(0, b"2"),
        frame(BINARY, b"\x00\x01done"),
    )
    async with web.serving(sending(*pieces)) as server:
        result = await run(KIND, url(server), {"dialogue": [{"expect": "^price 42$"}, {"expect": "done"}]})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["heard"] == "noise\nprice 42\n\0\x01done"


@pytest.mark.shows("websocket", "up", "assertion")
async def test_the_server_may_have_to_close_with_a_code() -> None:
    """A feed that ends, a token that has expired."""
    expect = {"expect": {"close_code": [1001, 4401]}}
    async with web.serving(sending(frame(CLOSE, struct.pack("!H", 4401) + b"token expired"))) as server:
        right = await run(KIND, url(server), expect)
        wrong = await run(KIND, url(server), {"expect": {"close_code": [1000]}})
        cut = await run(KIND, url(server), {"dialogue": [{"expect": "price"}]})
    assert (right.outcome, right.message) == (Outcome.UP, "")
    assert (wrong.outcome, wrong.reason, wrong.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "transfer")
    assert wrong.message == "the server closed with code 4401 (token expired), wanted a close with code 1000"
    assert cut.message == (
        "step 1 of the dialogue wanted a message that matches 'price'; the server closed with code 4401 (token expired) "
        "after nothing"
    )
    assert measures(cut)["probe_websocket_failed_due_to_regex"] == 1


@pytest.mark.shows("websocket", "status")
async def test_an_upgrade_may_have_to_be_refused() -> None:
    """Feeds that want a login must not open without one."""
    refusing = web.answer(b"who are you?", status=401, headers={"Set-Cookie": "s=hush"})
    async with web.serving(refusing) as server:
        refused = await run(KIND, url(server), {"expect": {"status": [401, 403]}})
        wanted = await run(KIND, url(server))
    assert (refused.outcome, refused.message) == (Outcome.UP, "")
    assert measures(refused)["probe_websocket_connection_upgraded"] == 0
    assert "hush" not in str(refused.evidence)
    assert (wanted.outcome, wanted.reason, wanted.failed_phase) == (Outcome.DOWN, Reason.STATUS, "processing")
    assert wanted.message == "the upgrade was answered with status 401, wanted 101"
    assert measures(wanted)["probe_websocket_status_code"] == 401
    async with talking(echo) as target:
        opened = await run(KIND, target, {"expect": {"status": [401]}})
    assert opened.message == "the upgrade was answered with status 101, wanted 401"


async def wrong_accept(exchange: web.Exchange) -> None:
    """Not made of our key."""
    await upgrade(exchange, accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")


async def zipping(exchange: web.Exchange) -> None:
    """An extension that was not offered."""
    await upgrade(exchange, headers="Sec-WebSocket-Extensions: permessage-deflate\r\n")


async def flood(exchange: web.Exchange) -> None:
    """Messages without end."""
    await upgrade(exchange)
    while True:
        exchange.writer.write(frame(TEXT, b"x" * 60_000))
        await exchange.writer.drain()


async def pinging(exchange: web.Exchange) -> None:
    """Pings without end, and never a message."""
    await upgrade(exchange)
    while True:
        exchange.writer.write(frame(PING, b"?"))
        await exchange.writer.drain()
        await asyncio.sleep(0.01)


async def drip(exchange: web.Exchange) -> None:
    """A byte at a time of a message that is never whole."""
    await upgrade(exchange)
    exchange.writer.write(frame(TEXT, bytes(1000))[:4])
    while True:
        exchange.writer.write(b"x")
        await exchange.writer.drain()
        await asyncio.sleep(0.02)


async def long_head(exchange: web.Exchange) -> None:
    """A header line without end."""
    exchange.writer.write(b"HTTP/1.1 101 OK\r\nX: " + b"x" * 200_000)
    await exchange.reader.read()


NOTHING = "step 1 of the dialogue wanted a message that matches 'price'"
FAILURES: list[tuple[web.Behaviour, Reason, str, str]] = [
    (web.silent, Reason.TIMEOUT, "processing", "no answer from "),
    (web.drip_head, Reason.TIMEOUT, "processing", "no answer from "),
    (web.close, Reason.RESET, "processing", "closed the connection before its answer was complete"),
    (web.reset, Reason.RESET, "processing", "closed the connection before its answer was complete"),
    (web.garble, Reason.PROTOCOL, "processing", "and that is not HTTP"),
    (long_head, Reason.PROTOCOL, "processing", "the head of the answer is longer than 64KiB"),
    (
        wrong_accept,
        Reason.PROTOCOL,
        "processing",
        "the upgrade is not as RFC 6455 wants it: invalid Sec-WebSocket-Accept",
    ),
    (zipping, Reason.PROTOCOL, "processing", "the upgrade is not as RFC 6455 wants it: no extensions supported"),
    (sending(), Reason.TIMEOUT, "transfer", "no answer from "),
    (drip, Reason.TIMEOUT, "transfer", "no answer from "),
    (pinging, Reason.TIMEOUT, "transfer", "no answer from "),
    (flood, Reason.PROTOCOL, "transfer", "the server sent more than 4MiB in one run"),
    (sending(hold=False), Reason.ASSERTION, "transfer", f"{NOTHING}; the connection was closed without a close frame"),
    (sending(b"\xff\xff\xff"), Reason.PROTOCOL, "transfer", "the server broke the protocol of websockets"),
    (sending(frame(TEXT, b"\xff\xfe")), Reason.PROTOCOL, "transfer", "a text message is not UTF-8"),
    (sending(frame(TEXT, bytes(2000))), Reason.ASSERTION, "transfer", "a message is larger than max_message, 1KiB"),
    (sending(frame(0, b"x")), Reason.PROTOCOL, "transfer", "the server broke the protocol of websockets"),
]


@pytest.mark.shows("websocket", "timeout", "reset", "protocol", "assertion")
async def test_each_wrong_server_is_down_for_its_own_reason() -> None:
    """By the deadline, and with bounded memory."""
    for number, (behaviour, reason, phase, message) in enumerate(FAILURES):
        async with web.serving(behaviour) as server:
            most = "64KiB" if behaviour is flood else "1KiB"
            options = {"dialogue": [{"expect": "price"}], "max_message": most}
            result = await run(KIND, url(server), options, timeout=0.3 if reason is Reason.TIMEOUT else 30)
        shown = (number, behaviour.__name__, result.message)
        assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, reason, phase), shown
        assert message in result.message, shown
        assert result.seconds < 10, shown


async def test_a_step_has_a_time_of_its_own() -> None:
    """Silence and other words are told apart."""
    step = {"dialogue": [{"expect": "price", "within": "100ms"}]}
    async with web.serving(sending()) as server:
        silent = await run(KIND, url(server), step)
    async with web.serving(sending(frame(TEXT, b"weather"))) as server:
        other = await run(KIND, url(server), step)
    assert (silent.reason, silent.message) == (Reason.TIMEOUT, f"{NOTHING} within 100ms; nothing came")
    assert (other.reason, other.message) == (Reason.ASSERTION, f"{NOTHING} within 100ms; last came 'weather'")


async def test_a_server_that_does_not_say_goodbye_is_up() -> None:
    """The wait for it ends before the run does, and is no part of the run's duration."""
    async with web.serving(sending()) as server:
        short = await run(KIND, url(server), timeout=0.3)
        long = await run(KIND, url(server), timeout=60)
    assert (short.outcome, short.message) == (Outcome.UP, "")
    assert long.seconds < 0.24


async def test_a_ping_that_nobody_answers_is_a_timeout() -> None:
    """Or a close in its place."""
    async with web.serving(sending()) as server:
        silent = await run(KIND, url(server), {"ping": True}, timeout=0.3)
    assert (silent.reason, silent.failed_phase) == (Reason.TIMEOUT, "transfer")
    async with web.serving(sending(frame(CLOSE, struct.pack("!H", 1011)))) as server:
        closed = await run(KIND, url(server), {"ping": True}, timeout=2)
        late = await run(KIND, url(server), {"dialogue": [{"expect": "x", "within": "1s"}]}, timeout=2)
    assert closed.message == "the server closed with code 1011 instead of answering a ping"
    assert (
        late.message
        == "step 1 of the dialogue wanted a message that matches 'x'; the server closed with code 1011 after nothing"
    )


async def test_what_cannot_be_captured_or_sent_is_told() -> None:
    """With what was seen instead."""
    async with talking(echo) as target:
        result = await run(KIND, target, {"dialogue": [{"capture": {"id": {"json": "id"}}}]})
        chosen = await run(KIND, target, {"subprotocols": ["v1"], "expect": {"subprotocol": "v1"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message == "step 1 of the dialogue could not capture id: the body has no value at json id"
    assert chosen.message == "the server chose no subprotocol, wanted v1"

    async def shut(exchange: web.Exchange) -> None:
        await upgrade(exchange)
        exchange.writer.write(frame(TEXT, b"hi") + frame(CLOSE, struct.pack("!H", 1001)))
        await exchange.reader.read()

    async with web.serving(shut) as server:
        result = await run(KIND, url(server), {"dialogue": [{"expect": "hi"}, {"send": "more"}]})
    assert result.message == "step 2 of the dialogue could not be sent: the server closed with code 1001"


@pytest.mark.shows("websocket", "dns", "refused", "broken", "too-slow")
async def test_names_ports_policy_and_speed() -> None:
    """What all kinds share."""
    async with naming(zone({})) as names:
        lost = await run(KIND, "ws://shop.test/", {"resolver": names.address})
    assert (lost.reason, lost.failed_phase) == (Reason.DNS, "resolve")
    closed = await run(KIND, f"ws://127.0.0.1:{free_port()}/")
    assert (closed.reason, closed.failed_phase) == (Reason.REFUSED, "connect")
    async with web.serving(sending()) as server:
        policy = await run(KIND, url(server), reach=Reach(refuse=OWN_HOST))
        slow = await run(KIND, url(server), {"expect": {"slower_than": "0ms"}})
    assert (policy.outcome, policy.reason, server.connections) == (Outcome.BROKEN, Reason.POLICY, 1)
    assert slow.reason is Reason.TOO_SLOW
    records = {("shop.test.", "A"): ["127.0.0.2", "127.0.0.1"]}
    async with naming(zone(records)) as names, web.serving(sending()) as server:
        second = await run(KIND, f"ws://shop.test:{server.port}/", {"resolver": names.address})
    assert (second.outcome, second.message) == (Outcome.UP, "")
    assert server.exchanges[0].header("Host") == f"shop.test:{server.port}"


@pytest.mark.shows("websocket", "unreachable")
def test_a_host_that_no_way_leads_to_is_unreachable() -> None:
    """A router says so; here, the kernel's own routes."""
    result = island.on_an_island(lambda: run(KIND, f"ws://{island.HOST}/"))
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.UNREACHABLE, "connect")


@pytest.mark.shows("websocket", "certificate", "tls")
async def test_tls_shows_the_certificate_also_when_it_is_not_accepted(
    issued: Issued, ca_file: Path, tmp_path: Path
) -> None:
    """As every kind with TLS."""
    trusted = {"ca_file": str(ca_file)}
    async with talking(echo, ssl=issued.server_context()) as target:
        result = await run(KIND, target, {**trusted, "dialogue": [{"expect": "hello"}]})
        near = await run(KIND, target, {**trusted, "expect": {"certificate_expires_within": "91d"}})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "processing", "transfer"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    assert (near.outcome, near.reason) == (Outcome.DOWN, Reason.CERTIFICATE)
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1", after=timedelta(days=1))
    async with web.serving(sending(), tls=stranger.server_context()) as server:
        refused = await run(KIND, url(server), trusted)
        trusting = await run(KIND, url(server), {"verify": False})
    assert (refused.outcome, refused.reason, refused.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert measures(refused)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    assert trusting.outcome is Outcome.UP
    async with web.serving(web.garble, before_request=True) as server:
        plain = await run(KIND, f"wss://127.0.0.1:{server.port}/", trusted)
    assert (plain.outcome, plain.reason, plain.failed_phase) == (Outcome.DOWN, Reason.TLS, "tls")


async def _leave_nothing(issued: Issued, ca_file: Path) -> tuple[int, int, int]:
    tls = {"ca_file": str(ca_file)}
    dialogue = {"dialogue": [{"expect": "price"}]}
    async with (
        web.serving(sending(frame(TEXT, b"price"))) as talking_server,
        web.serving(sending(frame(TEXT, b"price")), tls=issued.server_context()) as secure,
        web.serving(sending()) as silent,
        web.serving(web.silent, before_request=True) as mute,
    ):
        await run(KIND, url(talking_server), dialogue)
        before, tasks = open_files(), len(asyncio.all_tasks())
        await asyncio.gather(
            *(run(KIND, url(talking_server), dialogue) for _ in range(10)),
            *(run(KIND, url(secure), {**dialogue, **tls}) for _ in range(5)),
            *(run(KIND, url(silent), dialogue, timeout=0.2) for _ in range(10)),
            *(run(KIND, f"wss://127.0.0.1:{mute.port}/", tls, timeout=0.2) for _ in range(5)),
            *(run(KIND, url(mute), timeout=0.2) for _ in range(5)),
        )
        after = await settle(before)
        return before, after, len(asyncio.all_tasks()) - tasks


async def test_nothing_stays_open(issued: Issued, ca_file: Path) -> None:
    """After farewells, and after runs that were cut off."""
    before, after, tasks = await _leave_nothing(issued, ca_file)
    assert (after <= before, tasks <= 0) == (True, True)


def test_nothing_stays_open_on_uvloop(issued: Issued, ca_file: Path) -> None:
    """The service's loop."""
    before, after, _ = uvloop.run(_leave_nothing(issued, ca_file))
    assert after <= before


TLS_ONLY = "is for TLS: the target begins with wss:// then"
REFUSED = "expect.status: an upgrade that must be refused has no dialogue, ping, close_code or subprotocol"
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("http://shop.test/", {}, "target is a URL like wss://shop.example/feed, not 'http://shop.test/'"),
    ("wss://", {}, "target is a URL like wss://shop.example/feed, not 'wss://'"),
    ("ws://a:b@shop.test/", {}, "target has a user or password in its URL: give basic_auth instead"),
    ("ws://shop.test:0/", {}, "target 'ws://shop.test:0/': 0 is not a port"),
    ("ws://shop.test/", {"verify": False}, f"verify {TLS_ONLY}"),
    ("ws://shop.test/", {"ca_file": "x"}, f"ca_file {TLS_ONLY}"),
    ("ws://shop.test/", {"server_name": "x"}, f"server_name {TLS_ONLY}"),
    ("ws://shop.test/", {"client_certificate": {"certificate": "x", "key": "y"}}, f"client_certificate {TLS_ONLY}"),
    (
        "ws://shop.test/",
        {"expect": {"certificate_expires_within": "1d"}},
        f"expect.certificate_expires_within {TLS_ONLY}",
    ),
    (
        "ws://shop.test/",
        {"bearer": "x", "basic_auth": {"username": "a", "password": "b"}},
        "give basic_auth or bearer, not both: a request has one Authorization header",
    ),
    ("ws://shop.test/", {"headers": {"a b": ""}}, "headers: 'a b' is not the name of a header"),
    (
        "ws://shop.test/",
        {"headers": {"Upgrade": "x"}},
        "headers: Upgrade is of the protocol itself; see origin and subprotocols",
    ),
    ("ws://shop.test/", {"origin": "a\nb"}, "origin.Origin: a value has no line breaks"),
    ("ws://shop.test/", {"subprotocols": ["a,b"]}, "subprotocols: 'a,b' is not the name of a header"),
    ("ws://shop.test/", {"max_message": "5MiB"}, "max_message is at most 4MiB, and not zero"),
    ("ws://shop.test/", {"expect": {"status": []}}, "expect.status: give at least one status code"),
    ("ws://shop.test/", {"expect": {"status": [401]}, "ping": True}, REFUSED),
    (
        "ws://shop.test/",
        {"expect": {"subprotocol": "v1"}},
        "expect.subprotocol: 'v1' is not offered: put it into subprotocols",
    ),
    ("ws://shop.test/", {"dialogue": [{}]}, "dialogue[0]: give send, send_hex, expect or capture"),
    (
        "ws://shop.test/",
        {"dialogue": [{"send": "", "send_hex": ""}]},
        "dialogue[0]: give send or send_hex, not both: they are two messages",
    ),
    (
        "ws://shop.test/",
        {"dialogue": [{"send_hex": "0"}]},
        "dialogue[0].send_hex cannot be read: non-hexadecimal number found in fromhex() arg at position 1",
    ),
    (
        "ws://shop.test/",
        {"dialogue": [{"expect": "("}]},
        "dialogue[0].expect: '(' is not an RE2 expression: missing ): (",
    ),
    (
        "ws://shop.test/",
        {"dialogue": [{"send": "{{ id }}", "capture": {"id": {"json": "id"}}}]},
        "dialogue[0].send: {{ id }} refers to nothing; known here: none",
    ),
    (
        "ws://shop.test/",
        {"dialogue": [{"capture": {"my id": {"json": "id"}}}]},
        "dialogue[0].capture: 'my id' is no name that a reference could have",
    ),
    (
        "ws://shop.test/",
        {"dialogue": [{"capture": {"id": {"cookie": "id"}}}]},
        "dialogue[0].capture.id: a message has no cookie: give json or regex",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), st.booleans())
def test_any_bytes_are_messages_or_a_failure(pieces: list[bytes], opened: bool) -> None:
    """Before and after the upgrade."""
    protocol = ClientProtocol(
        parse_uri("ws://shop.test/"), subprotocols=[Subprotocol("v1")], max_size=1024, state=State.OPEN
    )
    if not opened:
        protocol = ClientProtocol(parse_uri("ws://shop.test/"), max_size=1024)
        pieces = [b"HTTP/1.1 101 OK\r\n", *pieces]
    frames = Frames(protocol)
    with contextlib.suppress(ProbeFailed):
        for piece in [*pieces, b""]:
            frames.feed(piece)
    assert all(isinstance(each, bytes) for each in frames.messages)


@given(st.binary(max_size=40), st.booleans())
def test_any_head_has_a_status_or_is_a_failure(data: bytes, close: bool) -> None:
    """Three digits behind HTTP's name."""
    with contextlib.suppress(ProbeFailed):
        assert 0 <= read_status((b"HTTP/1.1 " if close else b"") + data) <= 999
