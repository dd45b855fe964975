"""The kind `tcp`: connections, dialogues, TLS; up, down for each reason, and nothing left open."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.connect import alternate
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.tcp import KIND
from tests.servers import web
from tests.servers.certificates import Authority, Issued
from tests.servers.island import HOST, on_an_island
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port


async def greet(exchange: web.Exchange) -> None:
    """A mail server, as far as it matters."""
    exchange.writer.write(b"220-be patient\r\n220 mail.test ESMTP\r\n")
    while line := await exchange.reader.readline():
        if line.startswith(b"NOOP"):
            exchange.writer.write(b"250 fine\r\n")
        elif line.startswith(b"QUIT"):
            exchange.writer.write(b"221 bye")  # without a line's end
            await close_kindly(exchange)
            return


async def close_kindly(exchange: web.Exchange) -> None:
    """All that was written arrives."""
    await exchange.writer.drain()
    exchange.writer.close()
    await exchange.writer.wait_closed()


@pytest.mark.shows("tcp", "up")
async def test_an_open_port_is_up() -> None:
    """No dialogue: the connection is all."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}")
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect"]
    assert measures(result) == {
        "probe_dns_lookup_time_seconds": pytest.approx(0, abs=0.01),
        "probe_ip_protocol": 4,
        "probe_ip_addr_hash": 3668918509,
        "probe_failed_due_to_regex": 0,
        "probe_failed_due_to_bytes": 0,
    }


async def test_a_dialogue_sends_and_expects_line_by_line() -> None:
    """Lines that do not match are passed over; the last one may lack its end."""
    dialogue = [
        {"expect": "^220 .*ESMTP$"},
        {"send": "NOOP\r\n", "expect": "^250", "within": "2s"},
        {"send": "QUIT\r\n", "expect": "^221 bye$"},
    ]
    async with web.serving(greet, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"dialogue": dialogue})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "dialogue"]
    assert result.evidence["heard"] == "220-be patient\r\n220 mail.test ESMTP\r\n250 fine\r\n221 bye"


NO_MATCH = "step 1 of the dialogue wanted a line that matches '^250'"
FAILURES: list[tuple[web.Behaviour, dict[str, Any], Reason, str, int]] = [
    (greet, {"within": "200ms"}, Reason.ASSERTION, f"{NO_MATCH} within 200ms; last came '220 mail.test ESMTP'", 1),
    (web.silent, {"within": "200ms"}, Reason.TIMEOUT, f"{NO_MATCH} within 200ms; nothing came", 0),
    (web.silent, {}, Reason.TIMEOUT, "no answer from ", 0),
    (web.drip_head, {}, Reason.TIMEOUT, "no answer from ", 0),
    (web.close, {}, Reason.ASSERTION, f"{NO_MATCH}; the connection was closed after nothing", 1),
    (web.reset, {}, Reason.RESET, "Connection reset by peer", 0),
    (web.endless, {}, Reason.PROTOCOL, "a line is longer than 65536 bytes", 0),
]


@pytest.mark.shows("tcp", "reset")
async def test_a_connection_that_is_reset_is_down() -> None:
    """In the middle of the dialogue."""
    async with web.serving(web.reset, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"dialogue": [{"expect": "^250"}]})
    assert (result.reason, result.message) == (Reason.RESET, "Connection reset by peer")


@pytest.mark.parametrize(("behaviour", "step", "reason", "message", "regex"), FAILURES)
async def test_a_dialogue_that_goes_wrong_is_down_with_what_was_heard(
    behaviour: web.Behaviour, step: dict[str, Any], reason: Reason, message: str, regex: int
) -> None:
    """Other words, silence, one byte at a time, hanging up, a line without end."""
    async with web.serving(behaviour, before_request=True) as server:
        options = {"dialogue": [{"expect": "^250", **step}]}
        result = await run(KIND, f"127.0.0.1:{server.port}", options, timeout=0.6)
    assert (Outcome.DOWN, reason) == (result.outcome, result.reason)
    assert result.message.startswith(message)
    assert result.failed_phase == "dialogue"
    assert measures(result)["probe_failed_due_to_regex"] == regex
    assert result.seconds < 5


@pytest.mark.shows("tcp", "refused", "assertion")
async def test_a_closed_port_is_refused_or_as_expected() -> None:
    """`expect.refused` turns it round."""
    port = free_port()
    result = await run(KIND, f"127.0.0.1:{port}")
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "connect")
    assert result.message == f"no connection to 127.0.0.1:{port}: Connection refused"
    expect = {"expect": {"refused": True}}
    assert Outcome.UP is (await run(KIND, f"127.0.0.1:{port}", expect)).outcome
    async with web.serving(web.silent, before_request=True) as server:
        opened = await run(KIND, f"127.0.0.1:{server.port}", expect)
    assert (opened.outcome, opened.reason, opened.failed_phase) == (Outcome.DOWN, Reason.ASSERTION, "connect")


async def test_the_second_address_is_tried_when_the_first_is_refused() -> None:
    """In their order."""
    records = {("shop.test.", "A"): ["127.0.0.1"], ("shop.test.", "AAAA"): ["::1"]}
    async with naming(zone(records)) as names, web.serving(web.silent, before_request=True, host="::1") as server:
        result = await run(KIND, f"shop.test:{server.port}", {"resolver": names.address})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_ip_protocol"] == 6


@pytest.mark.shows("tcp", "dns", "too-slow")
async def test_a_name_that_does_not_exist_is_dns_and_a_slow_run_too_slow() -> None:
    """Reasons that all kinds share."""
    async with naming(zone({})) as names:
        result = await run(KIND, "shop.test:1", {"resolver": names.address})
    assert (result.reason, result.failed_phase) == (Reason.DNS, "resolve")
    async with web.serving(web.silent, before_request=True) as server:
        slow = await run(KIND, f"127.0.0.1:{server.port}", {"expect": {"slower_than": "0ms"}})
    assert Reason.TOO_SLOW is slow.reason


async def test_tls_before_the_dialogue_shows_the_certificate(issued: Issued, ca_file: Path) -> None:
    """IANA's cipher names, as blackbox_exporter exports them."""
    async with web.serving(greet, before_request=True, tls=issued.server_context()) as server:
        options = {"tls": True, "ca_file": str(ca_file), "dialogue": [{"expect": "^220 "}]}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "dialogue"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    assert labels(result, "probe_tls_cipher_info")["cipher"].startswith("TLS_")


@pytest.mark.shows("tcp", "certificate")
async def test_a_certificate_that_is_not_accepted_is_shown_all_the_same(tmp_path: Path, ca_file: Path) -> None:
    """With one handshake, that takes any certificate; its facts are those of the whole chain."""
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1")
    async with web.serving(web.silent, before_request=True, tls=stranger.server_context()) as server:
        options = {"tls": True, "ca_file": str(ca_file)}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
        trusting = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True, "verify": False})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    assert Outcome.UP is trusting.outcome


@pytest.mark.shows("tcp", "tls")
async def test_a_server_without_tls_is_down_in_phase_tls() -> None:
    """It speaks first, and nonsense."""
    async with web.serving(web.garble, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True})
    assert (result.outcome, result.failed_phase) == (Outcome.DOWN, "tls")
    assert result.reason is Reason.TLS


@pytest.mark.shows("tcp", "timeout")
async def test_a_handshake_that_never_ends_is_a_timeout() -> None:
    """And leaves nothing behind, on either loop."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True}, timeout=0.3)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "tls")


async def starttls(exchange: web.Exchange, context: ssl.SSLContext, *, injected: bytes = b"") -> None:
    """SMTP as far as it goes: a banner, EHLO, STARTTLS, and another EHLO within TLS."""
    reader, writer = exchange.reader, exchange.writer
    writer.write(b"220 mail.test ESMTP\r\n")
    while line := await reader.readline():
        if line.startswith(b"STARTTLS"):
            writer.write(b"220 go ahead\r\n" + injected)
            await writer.start_tls(context)
        else:
            writer.write(b"250-" + line.split(b" ")[-1].strip() + b"\r\n250 fine\r\n")


MAIL: list[dict[str, Any]] = [
    {"expect": r"^220 (\S+) ESMTP", "labels": {"host": "{{ 1 }}"}},
    {"send": "EHLO {{ 1 }}\r\n", "expect": "^250-mail.test$"},
    {"send": "STARTTLS\r\n", "expect": "^220 ", "starttls": True},
    {"send": "EHLO within\r\n", "expect": "^250-(within)$", "labels": {"said": "{{ 1 }}"}},
]


async def test_tls_begins_within_the_dialogue(issued: Issued, ca_file: Path) -> None:
    """With the facts of the certificate; labels of two steps are one series, where blackbox_exporter panics."""

    async def behave(exchange: web.Exchange) -> None:
        await starttls(exchange, issued.server_context())

    async with web.serving(behave, before_request=True) as server:
        options = {"dialogue": MAIL, "ca_file": str(ca_file), "expect": {"certificate_expires_within": "1d"}}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
        near = await run(
            KIND, f"127.0.0.1:{server.port}", {**options, "expect": {"certificate_expires_within": "1000d"}}
        )
        strange = await run(KIND, f"127.0.0.1:{server.port}", {**options, "server_name": "other.test"})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "dialogue", "tls", "dialogue"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_expect_info") == {"host": "mail.test", "said": "within"}
    assert "250-within" in result.evidence["heard"]
    assert (near.reason, near.failed_phase) == (Reason.CERTIFICATE, "tls")
    assert strange.message == "the certificate is for shop.test, localhost, 127.0.0.1, not for other.test"
    assert "within" not in strange.evidence["heard"]


@pytest.mark.shows("tcp", "protocol")
async def test_plain_text_does_not_pass_for_a_part_of_the_session(issued: Issued, ca_file: Path) -> None:
    """CVE-2011-0411, the other way round: what somebody on the way put behind the answer to STARTTLS."""

    async def behave(exchange: web.Exchange) -> None:
        await starttls(exchange, issued.server_context(), injected=b"250-within\r\n")

    async with web.serving(behave, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"dialogue": MAIL, "ca_file": str(ca_file)})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.PROTOCOL)
    assert result.message.startswith("bytes came in plain text where TLS should begin, after the step was over")


async def test_bytes_that_come_one_at_a_time_are_the_same_bytes() -> None:
    """And those that are others are told apart at the first one."""

    async def answer(exchange: web.Exchange) -> None:
        assert await exchange.reader.readexactly(8) == bytes.fromhex("0000000804d2162f")
        for byte in b"NO":
            exchange.writer.write(bytes([byte]))
            await exchange.writer.drain()
            await asyncio.sleep(0.01)

    ask = {"send_hex": "00 00 00 08 04 d2 16 2f"}
    async with web.serving(answer, before_request=True) as server:
        right = await run(
            KIND, f"127.0.0.1:{server.port}", {"dialogue": [{**ask, "expect_bytes": "NO", "exactly": True}]}
        )
        wrong = await run(
            KIND, f"127.0.0.1:{server.port}", {"dialogue": [{**ask, "expect_hex": "53", "exactly": True}]}
        )
    assert (right.outcome, right.message) == (Outcome.UP, "")
    assert wrong.message == "step 1 of the dialogue wanted the bytes 53; there came 'N'"
    assert (measures(wrong)["probe_failed_due_to_bytes"], measures(wrong)["probe_failed_due_to_regex"]) == (1, 0)


@contextlib.contextmanager
def greeting(context: ssl.SSLContext) -> Generator[int]:
    """A server in a thread, for two connections: asyncio's would not tell the client what it lacks."""

    def serve() -> None:
        for _ in range(2):
            with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as secure:
                secure.sendall(b"220 mail.test\r\n")
                secure.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


async def test_versions_and_a_client_certificate(issued: Issued, authority: Authority, ca_file: Path) -> None:
    """A server that takes no other; TLS 1.3 tells only in phase `dialogue` what it lacks."""
    context = issued.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)
    ours = authority.issue("client")
    shown = {"certificate": str(ours.chain_file), "key_pem": ours.key_file.read_text()}
    options = {"tls": True, "ca_file": str(ca_file), "dialogue": [{"expect": "^220 "}]}
    with greeting(context) as port:
        known = await run(KIND, f"127.0.0.1:{port}", {**options, "client_certificate": shown})
        unknown = await run(KIND, f"127.0.0.1:{port}", options)
    assert (known.outcome, known.message) == (Outcome.UP, "")
    assert (unknown.reason, unknown.failed_phase) == (Reason.TLS, "dialogue")
    assert "CERTIFICATE_REQUIRED" in unknown.message
    old = issued.server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with greeting(old) as port:
        newest = await run(KIND, f"127.0.0.1:{port}", {**options, "tls_min": "1.3"})
        oldest = await run(KIND, f"127.0.0.1:{port}", {**options, "tls_min": "1.0"})
    assert (newest.reason, newest.failed_phase) == (Reason.TLS, "tls")
    assert labels(oldest, "probe_tls_version_info") == {"version": "TLS 1.2"}


@contextlib.asynccontextmanager
async def deaf(host: str) -> AsyncGenerator[int]:
    """A port whose queue is full: the system answers no more requests for connections, and nothing else either."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        listening.bind((host, 0))
        listening.listen(0)
        for _ in range(3):  # one more than a queue of length 0 takes
            waiting = stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname()[:2])
        await asyncio.sleep(0)
        yield int(listening.getsockname()[1])


async def test_the_next_address_is_tried_beside_one_that_is_silent() -> None:
    """RFC 8305: a quarter of a second later, and the first to answer wins."""
    records = {("shop.test.", "A"): ["127.0.0.1"], ("shop.test.", "AAAA"): ["::1"]}
    async with naming(zone(records)) as names, deaf("127.0.0.1") as port:
        listening = await asyncio.start_server(lambda _reader, writer: writer.close(), "::1", port)
        async with listening:
            result = await run(KIND, f"shop.test:{port}", {"resolver": names.address})
            only = await run(KIND, f"shop.test:{port}", {"resolver": names.address, "ip": "prefer-4"}, timeout=0.4)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_ip_protocol"] == 6
    assert 0.2 < result.seconds < 4
    assert (only.reason, only.failed_phase) == (Reason.TIMEOUT, "connect")


def test_families_take_turns() -> None:
    """RFC 8305 §4, beginning with the one that is first."""
    assert alternate(["::1", "::2", "::3", "127.0.0.1"]) == ("::1", "127.0.0.1", "::2", "::3")
    assert alternate(["127.0.0.1", "127.0.0.2"]) == ("127.0.0.1", "127.0.0.2")


async def test_when_no_address_answers_each_is_told() -> None:
    """In the evidence."""
    port = free_port()
    records = {("shop.test.", "A"): ["127.0.0.1", "127.0.0.2"]}
    async with naming(zone(records)) as names:
        result = await run(KIND, f"shop.test:{port}", {"resolver": names.address})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.REFUSED)
    assert result.message.endswith("none of the 2 addresses could be connected to")
    assert {each["address"]: each["failed"] for each in result.evidence["attempts"]} == {
        "127.0.0.1": "Connection refused",
        "127.0.0.2": "Connection refused",
    }


async def test_every_address_is_a_check_of_its_own() -> None:
    """The one that fails is named, and each has its series."""
    records = {("shop.test.", "A"): ["127.0.0.1", "127.0.0.2"]}
    options: dict[str, Any] = {"ip": "every", "dialogue": [{"expect": "^220 mail"}]}
    async with naming(zone(records)) as names, web.serving(greet, before_request=True) as server:
        options["resolver"] = names.address
        result = await run(KIND, f"shop.test:{server.port}", options)
        with socket.create_server(("127.0.0.2", server.port)):  # connections are accepted, and never spoken to
            slow = await run(KIND, f"shop.test:{server.port}", options, timeout=1.5)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.REFUSED, "connect")
    assert result.message == (
        f"1 of 2 addresses failed, 127.0.0.2 with: no connection to 127.0.0.2:{server.port}: Connection refused"
    )
    up = {each.labels["address"]: each.value for each in result.measures if each.name == "stormwatch_tcp_address_up"}
    assert up == {"127.0.0.1": 1, "127.0.0.2": 0}
    assert (slow.reason, slow.failed_phase) == (Reason.TIMEOUT, "dialogue")
    assert slow.message == "1 of 2 addresses failed, 127.0.0.2 with: no answer within 1.5s in phase dialogue"
    records["shop.test.", "A"].pop()
    async with naming(zone(records)) as names, web.serving(greet, before_request=True) as server:
        one = await run(KIND, f"shop.test:{server.port}", {**options, "resolver": names.address})
    assert (one.outcome, phase_names(one)) == (Outcome.UP, ["resolve", "connect", "dialogue"])


async def test_a_connection_that_must_not_come_about() -> None:
    """Silence and refusal are well; an open port is not."""
    expect = {"expect": {"no_connection_within": "100ms"}}
    assert Outcome.UP is (await run(KIND, f"127.0.0.1:{free_port()}", expect)).outcome
    async with deaf("127.0.0.1") as port:
        silent = await run(KIND, f"127.0.0.1:{port}", expect)
        refused = await run(KIND, f"127.0.0.1:{port}", {"expect": {"refused": True}}, timeout=0.2)
    assert (silent.outcome, silent.message) == (Outcome.UP, "")
    assert refused.reason is Reason.TIMEOUT
    async with web.serving(web.silent, before_request=True) as server:
        opened = await run(KIND, f"127.0.0.1:{server.port}", expect)
    assert opened.message == f"127.0.0.1:{server.port} accepted the connection, wanted none within 100ms"


@pytest.mark.shows("tcp", "broken")
async def test_the_source_and_the_policy_are_ours() -> None:
    """So the run is broken, not down."""
    async with web.serving(web.silent, before_request=True) as server:
        target = f"127.0.0.1:{server.port}"
        fine = await run(KIND, target, {"source": "127.0.0.3"})
        nobody = await run(KIND, target, {"source": "192.0.2.7"})
        other = await run(KIND, target, {"source": "::1"})
        refused = await run(KIND, target, reach=Reach(refuse=OWN_HOST))
        assert server.connections == 1
    assert (fine.outcome, fine.message) == (Outcome.UP, "")
    assert (nobody.reason, nobody.message) == (Reason.NETWORK, "source 192.0.2.7 is not an address of this machine")
    assert other.message == "source ::1 cannot reach 127.0.0.1 (127.0.0.1): they are of different families"
    assert (refused.outcome, refused.reason) == (Outcome.BROKEN, Reason.POLICY)


@pytest.mark.shows("tcp", "unreachable")
def test_a_host_without_a_way_to_it_is_unreachable() -> None:
    """As a router says."""
    result = on_an_island(lambda: run(KIND, f"{HOST}:80"))
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.UNREACHABLE)
    assert result.message == f"no connection to {HOST}:80: No route to host"


async def test_a_flood_does_not_keep_the_deadline_from_coming() -> None:
    """Lines without end, none of which matches."""

    async def flood(exchange: web.Exchange) -> None:
        while True:
            exchange.writer.write(b"another line\r\n" * 500)
            await exchange.writer.drain()

    async with web.serving(flood, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"dialogue": [{"expect": "^250"}]}, timeout=0.5)
    assert result.outcome is Outcome.DOWN
    assert result.reason in {Reason.TIMEOUT, Reason.PROTOCOL}
    assert result.seconds < 10
    assert len(result.evidence["heard"]) == 2048


async def _leave_nothing(context: ssl.SSLContext, ca_file: Path) -> tuple[int, int]:
    async with (
        web.serving(greet, before_request=True) as talking,
        web.serving(web.silent, before_request=True) as silent,
        web.serving(greet, before_request=True, tls=context) as secure,
    ):
        dialogue = {"dialogue": [{"expect": "^220 "}]}
        tls = {"tls": True, "ca_file": str(ca_file)}
        await run(KIND, f"127.0.0.1:{talking.port}", dialogue)
        before = open_files()
        await asyncio.gather(
            *(run(KIND, f"127.0.0.1:{talking.port}", dialogue) for _ in range(30)),
            *(run(KIND, f"127.0.0.1:{secure.port}", {**dialogue, **tls}) for _ in range(10)),
            *(run(KIND, f"127.0.0.1:{silent.port}", dialogue, timeout=0.2) for _ in range(10)),
            *(run(KIND, f"127.0.0.1:{silent.port}", tls, timeout=0.2) for _ in range(10)),
        )
        return before, await settle(before)


async def test_nothing_stays_open(issued: Issued, ca_file: Path) -> None:
    """After dialogues, handshakes, and cancelled ones."""
    before, after = await _leave_nothing(issued.server_context(), ca_file)
    assert after <= before


def test_nothing_stays_open_on_uvloop(issued: Issued, ca_file: Path) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(issued.server_context(), ca_file))
    assert after <= before


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {}, "target is written like host:port, not 'shop.test': the port is missing"),
    ("::1:80", {}, "target is written like host:port, not '::1:80': the port is missing"),
    ("shop.test:80", {"dialogue": [{}]}, "dialogue[0]: give send, expect or both"),
    (
        "shop.test:80",
        {"dialogue": [{"expect": "("}]},
        "dialogue[0].expect: '(' is not an RE2 expression: missing ): (",
    ),
    (
        "shop.test:80",
        {"verify": False},
        "ca_file, server_name, verify and client_certificate are for TLS: give `tls: true`, or a step `starttls`",
    ),
    (
        "shop.test:80",
        {"tls": True, "expect": {"refused": True}},
        "expect.refused: a connection that must not come about has no TLS and no dialogue",
    ),
    (
        "shop.test:80",
        {"dialogue": [{"expect": "a"}], "expect": {"no_connection_within": "1s"}},
        "expect.no_connection_within: a connection that must not come about has no TLS and no dialogue",
    ),
    (
        "shop.test:80",
        {"expect": {"refused": True, "no_connection_within": "1s"}},
        "expect: refused and no_connection_within exclude each other",
    ),
    (
        "shop.test:80",
        {"expect": {"certificate_expires_within": "1d"}},
        "expect.certificate_expires_within: give `tls: true`, or a step `starttls`",
    ),
    ("shop.test:80", {"source": "eth0"}, "source: 'eth0' is not an address"),
    ("shop.test:80", {"tls": True, "tls_min": "1.3", "tls_max": "1.2"}, "tls_min 1.3 is newer than tls_max 1.2"),
    (
        "shop.test:80",
        {"tls": True, "client_certificate": {"certificate": "/nowhere.pem"}},
        "client_certificate: give certificate or certificate_pem, and key or key_pem",
    ),
    (
        "shop.test:80",
        {"tls": True, "client_certificate": {"certificate": "/nowhere.pem", "key": "/nowhere.key"}},
        "client certificate /nowhere.pem cannot be read: No such file or directory",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
