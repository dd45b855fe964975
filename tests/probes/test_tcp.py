"""The kind `tcp`: connections, dialogues, TLS; up, down for each reason, and nothing left open."""

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.tcp import KIND
from tests.servers import web
from tests.servers.certificates import Authority, Issued
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
    assert result.seconds < 0.9


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


async def test_a_certificate_that_is_not_accepted_is_shown_all_the_same(tmp_path: Path, ca_file: Path) -> None:
    """By one more handshake that does not verify."""
    stranger = Authority(tmp_path, "Stranger").issue("127.0.0.1")
    async with web.serving(web.silent, before_request=True, tls=stranger.server_context()) as server:
        options = {"tls": True, "ca_file": str(ca_file)}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
        trusting = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True, "verify": False})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == stranger.not_after
    assert Outcome.UP is trusting.outcome


async def test_a_server_without_tls_is_down_in_phase_tls() -> None:
    """It speaks first, and nonsense."""
    async with web.serving(web.garble, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True})
    assert (result.outcome, result.failed_phase) == (Outcome.DOWN, "tls")
    assert result.reason in {Reason.TLS, Reason.PROTOCOL}


async def test_a_handshake_that_never_ends_is_a_timeout() -> None:
    """And leaves nothing behind, on either loop."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"tls": True}, timeout=0.3)
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.TIMEOUT, "tls")


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
    ("shop.test:80", {"verify": False}, "ca_file, server_name and verify are for TLS: give `tls: true` too"),
    (
        "shop.test:80",
        {"tls": True, "expect": {"refused": True}},
        "expect.refused: a connection that must be refused has no TLS and no dialogue",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
