"""The kind `tls`: the facts of every certificate, trusted or not, and the verdict for a given moment."""

import asyncio
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.result import Outcome, Reason, Result
from stormwatch.probes.tls import KIND
from tests.servers import island, web
from tests.servers.certificates import Authority, Issued
from tests.servers.nameserver import naming, zone
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port


def by_position(result: Result, name: str) -> dict[str, float]:
    """The values of a measure by the position in the chain."""
    return {measure.labels["chain_pos"]: measure.value for measure in result.measures if measure.name == name}


async def test_a_trusted_chain_is_up_with_the_facts_of_each_certificate(tmp_path: Path) -> None:
    """Leaf and intermediate each have their expiry; the verified chain has one too."""
    root = Authority(tmp_path, "Root")
    issued = Authority(tmp_path, "Between", parent=root, days=700).issue("127.0.0.1", "shop.test")
    async with web.serving(web.silent, tls=issued.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(root.file)})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls"]
    assert result.seconds == pytest.approx(sum(phase.seconds for phase in result.phases), abs=0.005)
    values = measures(result)
    assert values["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert values["probe_ssl_last_chain_expiry_timestamp_seconds"] == issued.not_after
    assert values["probe_ip_addr_hash"] == 3668918509
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    ends = by_position(result, "stormwatch_tls_certificate_expiry_timestamp_seconds")
    assert ends["0"] == issued.not_after < ends["1"]
    days = by_position(result, "stormwatch_tls_certificate_days_left")
    assert (round(days["0"]), round(days["1"])) == (90, 700)
    assert [each["subject"] for each in result.evidence["certificates"]] == ["CN=127.0.0.1", "CN=Between,O=Storm"]
    assert result.evidence["chain"] == {
        "length": 2,
        "in_order": True,
        "superfluous": 0,
        "issuer_not_served": "CN=Root,O=Storm",
    }
    leaf = result.evidence["certificates"][0]
    assert (leaf["names"], leaf["key"], leaf["signature"]) == (["shop.test", "127.0.0.1"], "EC 256", "sha256")


async def test_an_expired_certificate_is_down_and_its_facts_stay(authority: Authority, ca_file: Path) -> None:
    """Exactly when they matter."""
    expired = authority.issue("127.0.0.1", before=timedelta(days=9), after=timedelta(days=-2))
    async with web.serving(web.silent, tls=expired.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(ca_file)})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    ended = datetime.fromtimestamp(expired.not_after, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert result.message == f"the certificate of CN=127.0.0.1 expired at {ended}"
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == expired.not_after


DISTRUSTED: list[tuple[dict[str, Any], str]] = [
    ({"server_name": "other.test"}, "the certificate is for shop.test, localhost, 127.0.0.1, not for other.test"),
    ({"ca_file": ""}, "no valid chain from CN=shop.test, issued by CN=Test Authority,O=Storm, to a trusted authority"),
    ({"at": "2001-01-01T00:00:00Z"}, "the certificate of CN=shop.test is not valid before "),
    ({"at": "2101-01-01T00:00:00Z"}, "the certificate of CN=shop.test expired at "),
    ({"expires_within": "100d"}, "the certificate of CN=shop.test expires in 89d23h, wanted more than 100d"),
]


@pytest.mark.parametrize(("options", "message"), DISTRUSTED)
async def test_what_is_wrong_with_a_certificate_is_said(
    options: dict[str, Any], message: str, issued: Issued, ca_file: Path
) -> None:
    """Name, authority, time: down with reason certificate."""
    async with web.serving(web.silent, tls=issued.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(ca_file), **options})
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert result.message.startswith(message)
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after


async def test_an_expired_intermediate_is_named(tmp_path: Path) -> None:
    """The leaf is fine, and nobody's browser accepts it."""
    root = Authority(tmp_path, "Root")
    issued = Authority(tmp_path, "Between", parent=root, days=-1).issue("127.0.0.1")
    async with web.serving(web.silent, tls=issued.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(root.file)})
    assert Reason.CERTIFICATE is result.reason
    assert "the intermediate CN=Between,O=Storm expired at" in result.message


async def test_without_verification_any_certificate_is_up(tmp_path: Path) -> None:
    """Its facts and its expiry are watched all the same."""
    stranger = Authority(tmp_path, "Stranger").issue("elsewhere.test", after=timedelta(days=5))
    async with web.serving(web.silent, tls=stranger.server_context()) as server:
        target = f"127.0.0.1:{server.port}"
        result = await run(KIND, target, {"verify": False})
        near = await run(KIND, target, {"verify": False, "expires_within": "7d"})
    assert Outcome.UP is result.outcome
    assert measures(result)["probe_ssl_last_chain_expiry_timestamp_seconds"] == -62135596800
    assert (near.outcome, near.reason) == (Outcome.DOWN, Reason.CERTIFICATE)


async def test_a_self_signed_certificate_that_is_trusted_itself_is_up(tmp_path: Path) -> None:
    """`ca_file` may name the server's own certificate, as with curl."""
    alone = Authority(tmp_path, "Alone").issue("127.0.0.1")
    async with web.serving(web.silent, tls=alone.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(alone.chain_file)})
    assert (result.outcome, result.message) == (Outcome.UP, "")


async def test_an_old_protocol_version_is_down_as_tls(issued: Issued, ca_file: Path) -> None:
    """`minimum_version` names what was agreed on."""
    context = issued.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with web.serving(web.silent, tls=context) as server:
        options = {"ca_file": str(ca_file), "minimum_version": "1.3"}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TLS)
    assert result.message == "the server agreed on TLS 1.2, wanted at least TLS 1.3"
    assert labels(result, "probe_tls_cipher_info")["cipher"].startswith("TLS_ECDHE_ECDSA_WITH_")


FAILURES = [
    (web.close, Reason.RESET),
    (web.reset, Reason.RESET),
    (web.garble, Reason.PROTOCOL),
    (web.silent, Reason.TIMEOUT),
    (web.drip_head, Reason.PROTOCOL),
]


@pytest.mark.parametrize(("behaviour", "reason"), FAILURES)
async def test_a_server_that_does_not_shake_hands_is_down_in_phase_tls(
    behaviour: web.Behaviour, reason: Reason
) -> None:
    """Closed, reset, nonsense, silence, one byte at a time."""
    async with web.serving(behaviour, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", timeout=0.5)
    assert (result.outcome, result.failed_phase) == (Outcome.DOWN, "tls")
    assert result.reason in {reason, Reason.TIMEOUT} if behaviour is web.drip_head else result.reason is reason
    assert [phase.failed for phase in result.phases if phase.name == "tls"] == [True]


@pytest.mark.shows("tls", "unreachable")
def test_a_host_that_no_way_leads_to_is_unreachable() -> None:
    """Plain, and where another protocol comes first."""
    for options in ({}, {"starttls": "imap"}):
        result = island.on_an_island(lambda options=options: run(KIND, f"{island.HOST}:1", options))
        assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.UNREACHABLE, "connect")


@pytest.mark.shows("tls", "protocol")
async def test_a_server_of_another_protocol_is_down_as_protocol() -> None:
    """It answers, and not with TLS."""
    async with web.serving(web.garble, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}")
    assert (result.outcome, result.reason, result.failed_phase) == (Outcome.DOWN, Reason.PROTOCOL, "tls")
    assert "does not speak TLS" in result.message


@pytest.mark.shows("tls", "refused", "dns")
async def test_a_closed_port_is_refused_and_a_missing_name_is_dns() -> None:
    """In phases connect and resolve."""
    refused = await run(KIND, f"127.0.0.1:{free_port()}")
    assert (refused.reason, refused.failed_phase) == (Reason.REFUSED, "connect")
    async with naming(zone({})) as names:
        missing = await run(KIND, "shop.test:443", {"resolver": names.address})
    assert (missing.reason, missing.failed_phase) == (Reason.DNS, "resolve")
    assert phase_names(missing) == ["resolve"]


async def test_a_name_is_resolved_by_the_given_server_and_sent_as_sni(issued: Issued, ca_file: Path) -> None:
    """The server sees the name, not the address."""
    asked: list[str | None] = []
    context = issued.server_context()
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with (
        naming(zone({("shop.test.", "A"): ["127.0.0.1"]})) as names,
        web.serving(web.silent, tls=context) as server,
    ):
        options = {"ca_file": str(ca_file), "resolver": names.address}
        result = await run(KIND, f"shop.test:{server.port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert asked == ["shop.test"]


async def test_starttls_upgrades_a_mail_server(issued: Issued, ca_file: Path) -> None:
    """SMTP greets, offers STARTTLS (RFC 3207), shakes hands; one that does not offer it is down as tls."""
    offered = True

    async def greet(exchange: web.Exchange) -> None:
        reader, writer = exchange.reader, exchange.writer
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"EHLO"):
                writer.write(b"250-mail.test\r\n250 STARTTLS\r\n" if offered else b"250 mail.test\r\n")
            elif line.upper().startswith(b"STARTTLS"):
                writer.write(b"220 go ahead\r\n")
                await writer.start_tls(issued.server_context())
            else:
                writer.write(b"221 bye\r\n")
                return

    async with web.serving(greet, before_request=True) as server:
        options = {"ca_file": str(ca_file), "starttls": "smtp"}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
        offered = False
        without = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert (without.outcome, without.reason) == (Outcome.DOWN, Reason.TLS)


async def test_nothing_stays_open_after_many_runs_and_cancelled_ones(issued: Issued, ca_file: Path) -> None:
    """Completed handshakes hang up; cancelled ones too."""
    async with (
        web.serving(web.silent, tls=issued.server_context()) as server,
        web.serving(web.silent, before_request=True) as mute,
    ):
        before = open_files()
        good = await asyncio.gather(
            *(run(KIND, f"127.0.0.1:{server.port}", {"ca_file": str(ca_file)}) for _ in range(40))
        )
        bad = await asyncio.gather(*(run(KIND, f"127.0.0.1:{mute.port}", timeout=0.2) for _ in range(20)))
        assert {Reason.NONE} == {each.reason for each in good}
        assert {Reason.TIMEOUT} == {each.reason for each in bad}
        assert await settle(before) <= before


def test_it_works_on_uvloop_too(issued: Issued, ca_file: Path) -> None:
    """The service's loop."""

    async def main() -> tuple[Reason, Reason]:
        async with (
            web.serving(web.silent, tls=issued.server_context()) as server,
            web.serving(web.silent, before_request=True) as mute,
        ):
            good = await run(KIND, f"localhost:{server.port}", {"ca_file": str(ca_file)})
            return good.reason, (await run(KIND, f"127.0.0.1:{mute.port}", timeout=0.2)).reason

    assert uvloop.run(main()) == (Reason.NONE, Reason.TIMEOUT)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("shop.test", {}, "target is written like host:port, not 'shop.test': the port is missing"),
    ("shop.test:0", {}, "target 'shop.test:0': '0' is not a port between 1 and 65535"),
    ("a b:443", {}, "target 'a b:443': 'a b' is not a host name"),
    ("shop.test:443", {"key": "k.pem"}, "certificate and key belong together: give both or none"),
    ("shop.test:443", {"ca_file": "/no/such"}, "ca_file /no/such cannot be read: No such file or directory"),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
