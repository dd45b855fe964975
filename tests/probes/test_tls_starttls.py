"""The kind `tls` behind other protocols: each dialogue as it is specified, refused, cut into bytes, and hostile."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.starttls import DIALOGUES, MOST, Protocol, Upgrade
from stormwatch.probes.tls import KIND
from tests.servers.certificates import Issued
from tests.servers.probing import measures, open_files, phase_names, run, settle
from tests.servers.upgrading import SCRIPTS, Step, upgrading

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


def test_every_protocol_has_a_dialogue_and_a_server_in_the_tests() -> None:
    """None is forgotten below."""
    assert set(PROTOCOLS) == set(DIALOGUES) == set(SCRIPTS)


@pytest.mark.shows("tls", "up")
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_tls_begins_after_the_dialogue_of_each_protocol(
    protocol: Protocol, issued: Issued, ca_file: Path
) -> None:
    """With phases of its own, and the facts of the certificate."""
    async with upgrading(SCRIPTS[protocol], issued.server_context()) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"ca_file": str(ca_file), "starttls": protocol})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "starttls", "tls"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.02)


async def test_extra_handshakes_speak_the_protocol_again(issued: Issued, ca_file: Path) -> None:
    """One connection for each version that is tried."""
    options = {"ca_file": str(ca_file), "starttls": "imap", "policy": {"supports": ["1.3"], "refuses": ["1.1"]}}
    async with upgrading(SCRIPTS["imap"], issued.server_context()) as port:
        result = await run(KIND, f"127.0.0.1:{port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["versions"]["1.3"] == "accepted"


REFUSALS: list[tuple[Protocol, Sequence[Step], Reason, str]] = [
    ("smtp", (b"220 x\r\n", "EHLO", b"250 mail.test\r\n"), Reason.TLS, "the smtp server does not offer TLS: it said "),
    (
        "smtp",
        (b"220 x\r\n", "EHLO", b"250 STARTTLS\r\n", "STARTTLS", b"454 no\r\n"),
        Reason.TLS,
        "the smtp server does not offer TLS: it said '454 no'",
    ),
    ("smtp", (b"554 go away\r\n",), Reason.PROTOCOL, "the smtp server said '554 go away', wanted 220"),
    ("imap", (b"* OK x\r\n", "a STARTTLS", b"a BAD no\r\n"), Reason.TLS, "the imap server does not offer TLS"),
    ("pop3", (b"+OK x\r\n", "STLS", b"-ERR no\r\n"), Reason.TLS, "the pop3 server does not offer TLS"),
    ("sieve", (b'"SASL" ""\r\nOK\r\n',), Reason.TLS, "the sieve server does not offer TLS"),
    ("nntp", (b"200 x\r\n", "STARTTLS", b"580 no\r\n"), Reason.TLS, "the nntp server does not offer TLS"),
    ("ftp", (b"220 x\r\n", "AUTH TLS", b"500 no\r\n"), Reason.TLS, "the ftp server does not offer TLS"),
    (
        "ldap",
        (31, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"),
        Reason.TLS,
        "the ldap server does not offer TLS: it answered with the result protocolError",
    ),
    ("postgres", (8, b"N"), Reason.TLS, "the postgres server does not offer TLS: it said 'N'"),
    ("postgres", (8, b"E"), Reason.PROTOCOL, "the postgres server said 'E', wanted S"),
    (
        "mysql",
        (b"\x1c\x00\x00\x00\x0a5.5\x00\x01\x00\x00\x00abcdefgh\x00\x00\x00" + bytes(10),),
        Reason.TLS,
        "the mysql server does not offer TLS: version '5.5'",
    ),
    (
        "mysql",
        (b"\x0f\x00\x00\x00\xff\x69\x04Host blocked",),
        Reason.PROTOCOL,
        "the mysql server said 'Host blocked', wanted a greeting",
    ),
    (
        "xmpp",
        (b"<stream:stream><stream:features><sasl/></stream:features>",),
        Reason.TLS,
        "the xmpp server does not offer TLS",
    ),
    ("xmpp", (b"<stream:stream></stream:error>",), Reason.PROTOCOL, "the xmpp server said "),
    ("pop3", (b"SSH-2.0-OpenSSH_9\r\n",), Reason.PROTOCOL, "the pop3 server said 'SSH-2.0-OpenSSH_9', wanted +OK"),
    (
        "pop3",
        (b"+OK x\r\n", "STLS", b"+OK begin\r\n+OK injected\r\n"),
        Reason.PROTOCOL,
        "the pop3 server sent 14 bytes too many in plain text: '+OK injected'",
    ),
    ("imap", (b"x" * 9000,), Reason.PROTOCOL, "the imap server sent "),
]


@pytest.mark.parametrize(("protocol", "script", "reason", "message"), REFUSALS)
async def test_a_server_that_does_not_upgrade_is_down_and_quoted(
    protocol: Protocol, script: Sequence[Step], reason: Reason, message: str
) -> None:
    """A refusal is `tls`; another protocol, and plain text where TLS must begin, is `protocol`."""
    async with upgrading(script, None) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"starttls": protocol})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, reason, "starttls")
    assert result.message.startswith(message)


@pytest.mark.shows("tls", "timeout", "reset")
async def test_silence_and_an_early_end_in_the_dialogue_are_down_in_its_phase() -> None:
    """By the deadline, and at once; nothing stays open."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* BYE\r\n"[:3])
        writer.close()

    closing = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with upgrading((), None) as port:
        before = open_files()
        silent = await asyncio.gather(
            *(run(KIND, f"127.0.0.1:{port}", {"starttls": "imap"}, timeout=0.2) for _ in range(10))
        )
        assert {(each.reason, each.failed_phase) for each in silent} == {(Reason.TIMEOUT, "starttls")}
        assert silent[0].message.endswith(" within 0.2 s in phase starttls")
        assert await settle(before) <= before
    ended = await run(KIND, f"127.0.0.1:{closing.sockets[0].getsockname()[1]}", {"starttls": "imap"})
    closing.close()
    assert (ended.reason, ended.failed_phase) == (Reason.RESET, "starttls")
    assert ended.message == "the imap server closed the connection after '* B', before TLS began"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 3, 4096])
def test_a_dialogue_does_not_mind_how_its_bytes_are_cut(protocol: Protocol, size: int) -> None:
    """One at a time, in threes, all at once: what is sent back is the same."""
    upgrade = Upgrade(protocol, "shop.test")
    upgrade.hello()
    for step in SCRIPTS[protocol]:
        if isinstance(step, bytes):
            for at in range(0, len(step), size):
                upgrade.feed(step[at : at + size])
    assert upgrade.done


@settings(max_examples=300)
@given(
    protocol=st.sampled_from(PROTOCOLS), pieces=st.lists(st.binary(max_size=200), max_size=12), at=st.integers(0, 40)
)
def test_any_bytes_end_a_dialogue_or_wait_for_more(protocol: Protocol, pieces: list[bytes], at: int) -> None:
    """Noise, and the right words with noise in them: a failure with a sentence, never another exception."""
    right = b"".join(step for step in SCRIPTS[protocol] if isinstance(step, bytes))
    for talk in (pieces, [right[:at], *pieces], [right, *pieces]):
        upgrade = Upgrade(protocol, "shop.test")
        upgrade.hello()
        with contextlib.suppress(ProbeFailed):
            for piece in talk:
                assert isinstance(upgrade.feed(piece), bytes)
                if upgrade.done:
                    break


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_never_comes_to_the_point_is_cut_off(protocol: Protocol) -> None:
    """Lines without end, or bytes without a line: at most 64 KiB are read."""
    for flood in (b"220-and so on\r\n", b'"AND" "so on"\r\n', b"* so on\r\n", b"x" * 100):
        upgrade = Upgrade(protocol, "shop.test")
        upgrade.hello()
        ended = False
        with contextlib.suppress(ProbeFailed):
            for _ in range(MOST // len(flood) + 1):
                upgrade.feed(flood)
            ended = True
        assert not ended
