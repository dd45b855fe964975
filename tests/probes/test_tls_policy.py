"""The kind `tls`: versions, suites, groups, keys and signatures that must hold; servers that must refuse; bad options."""

import re
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.tls import KIND
from tests.servers import web
from tests.servers.certificates import Authority, Issued
from tests.servers.handshaker import handshaking
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port


def speaking(issued: Issued, *, oldest: str = "1.2", newest: str = "1.3") -> ssl.SSLContext:
    """A server's context for a range of versions."""
    context = issued.server_context()
    context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
    if oldest < "1.2":
        context.set_ciphers("ALL:@SECLEVEL=0")
    versions = {
        "1.0": ssl.TLSVersion.MINIMUM_SUPPORTED,
        "1.2": ssl.TLSVersion.TLSv1_2,
        "1.3": ssl.TLSVersion.TLSv1_3,
    }
    context.minimum_version, context.maximum_version = versions[oldest], versions[newest]
    return context


@pytest.mark.shows("tls", "up")
async def test_versions_are_tried_one_by_one(issued: Issued, ca_file: Path) -> None:
    """What is refused, and by which alert, stands in the evidence."""
    options = {"ca_file": str(ca_file), "policy": {"supports": ["1.2", "1.3"], "refuses": ["1.0", "1.1"]}}
    with handshaking(speaking(issued)) as port:
        result = await run(KIND, f"127.0.0.1:{port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert result.evidence["versions"] == {
        "1.0": "alert protocol_version",
        "1.1": "alert protocol_version",
        "1.2": "accepted",
        "1.3": "accepted",
    }
    assert phase_names(result)[-1] == "policy"
    supported = {
        each.labels["version"]: each.value
        for each in result.measures
        if each.name == "stormwatch_tls_version_supported"
    }
    assert supported == {"TLS 1.0": 0, "TLS 1.1": 0, "TLS 1.2": 1, "TLS 1.3": 1}


@pytest.mark.shows("tls", "tls")
async def test_a_version_that_must_be_refused_and_one_that_must_not_are_down(issued: Issued, ca_file: Path) -> None:
    """Old servers speak on, and old servers cannot."""
    with handshaking(speaking(issued, oldest="1.0", newest="1.2")) as port:
        target = f"127.0.0.1:{port}"
        old = await run(KIND, target, {"ca_file": str(ca_file), "policy": {"refuses": ["1.0"]}})
        new = await run(KIND, target, {"ca_file": str(ca_file), "policy": {"supports": ["1.3"]}})
    assert (old.outcome, old.reason, old.failed_phase) == (Outcome.DOWN, Reason.TLS, "policy")
    assert old.message == "the server accepts TLS 1.0, wanted it refused"
    assert (new.outcome, new.reason) == (Outcome.DOWN, Reason.TLS)
    assert new.message == "the server does not accept TLS 1.3 (alert protocol_version), wanted it accepted"


async def test_an_old_server_can_be_watched_with_a_lower_minimum(issued: Issued, ca_file: Path) -> None:
    """By default it is down: nothing is agreed on."""
    context = speaking(issued, oldest="1.0", newest="1.2")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with handshaking(context) as port:
        target = f"127.0.0.1:{port}"
        strict = await run(KIND, target, {"ca_file": str(ca_file)})
        mild = await run(KIND, target, {"ca_file": str(ca_file), "minimum_version": "1.0"})
    assert (strict.outcome, strict.reason) == (Outcome.DOWN, Reason.TLS)
    assert strict.message.endswith("ended the TLS handshake with the alert protocol_version")
    assert (mild.outcome, mild.message) == (Outcome.UP, "")
    assert labels(mild, "probe_tls_version_info") == {"version": "TLS 1.1"}


async def test_maximum_version_is_all_that_is_offered(issued: Issued, ca_file: Path) -> None:
    """To watch what older clients get."""
    with handshaking(speaking(issued)) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"ca_file": str(ca_file), "maximum_version": "1.2"})
    assert result.evidence["tls"] == {
        "version": "TLS 1.2",
        "cipher": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "group": "X25519",
        "signature": "ecdsa_secp256r1_sha256",
        "alpn": "",
        "asks_for_certificate": False,
        "secure_renegotiation": True,
        "stapled": False,
    }


POLICIES: list[tuple[dict[str, Any], Reason, str]] = [
    (
        {"ciphers": ["CHACHA20"]},
        Reason.TLS,
        "the server agreed on TLS_AES_256_GCM_SHA384, wanted one that matches 'CHACHA20'",
    ),
    (
        {"forbidden_ciphers": ["CBC", "^TLS_AES"]},
        Reason.TLS,
        "the server agreed on TLS_AES_256_GCM_SHA384, which matches '^TLS_AES' and is forbidden",
    ),
    ({"groups": ["P-521"]}, Reason.TLS, "the server agreed on X25519 with TLS 1.3, wanted P-521"),
    (
        {"minimum_key_bits": {"EC": 384}},
        Reason.CERTIFICATE,
        "the key of CN=shop.test is EC 256, wanted at least 384 bits",
    ),
    (
        {"maximum_validity": "90d"},
        Reason.CERTIFICATE,
        "the certificate of CN=shop.test is valid for 91d in all, wanted at most 90d",
    ),
    ({"ciphers": ["GCM"], "groups": ["X25519"], "minimum_key_bits": {"EC": 256, "RSA": 4096}}, Reason.NONE, ""),
    ({"maximum_validity": "398d", "forbidden_hashes": ["sha1", "md5"], "tidy_chain": True}, Reason.NONE, ""),
]


@pytest.mark.parametrize(("policy", "reason", "message"), POLICIES)
async def test_what_the_policy_says_holds(
    policy: dict[str, Any], reason: Reason, message: str, issued: Issued, ca_file: Path
) -> None:
    """Suites, groups, keys, validity."""
    with handshaking(speaking(issued)) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"ca_file": str(ca_file), "policy": policy})
    assert (result.reason, result.message) == (reason, message)


async def test_weak_signatures_and_short_keys_are_named(authority: Authority) -> None:
    """Whether the chain is trusted or not: verification may be off."""
    weak = authority.issue("127.0.0.1", rsa_bits=1024, signed_with=hashes.SHA224())
    context = weak.server_context  # OpenSSL does not even load it on its ordinary level
    with pytest.raises(ssl.SSLError):
        context()
    permissive = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    permissive.set_ciphers("ALL:@SECLEVEL=0")
    permissive.load_cert_chain(weak.chain_file, weak.key_file)
    with handshaking(permissive) as port:
        target = f"127.0.0.1:{port}"
        short = await run(KIND, target, {"verify": False, "policy": {"minimum_key_bits": {"RSA": 2048}}})
        old = await run(KIND, target, {"verify": False, "policy": {"forbidden_hashes": ["sha224"]}})
    assert short.message == "the key of CN=127.0.0.1 is RSA 1024, wanted at least 2048 bits"
    assert old.message == "the certificate of CN=127.0.0.1 is signed with ecdsa-with-SHA224: sha224 is forbidden"


@pytest.mark.shows("tls", "up", "assertion")
@pytest.mark.parametrize("newest", ["1.2", "1.3"])
async def test_a_server_must_refuse_who_has_no_certificate(
    newest: str, issued: Issued, ca_file: Path, authority: Authority
) -> None:
    """In TLS 1.3 it does so after the handshake; the alert has a name; who has one is let in, which is then wrong."""
    context = speaking(issued, newest=newest)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)
    alert = "certificate_required" if newest == "1.3" else "handshake_failure"
    client = authority.issue("client.test")
    expect = {"rejected": True}
    with handshaking(context) as port:
        target = f"127.0.0.1:{port}"
        refused = await run(KIND, target, {"expect": {**expect, "alert": alert}})
        other = await run(KIND, target, {"expect": {**expect, "alert": "unknown_ca"}})
        welcome = await run(
            KIND, target, {"certificate": str(client.chain_file), "key": str(client.key_file), "expect": expect}
        )
        began = time.monotonic()
    assert (refused.outcome, refused.message, refused.failed_phase) == (Outcome.UP, "", "")
    assert refused.evidence["tls_alert"] == alert
    assert (other.outcome, other.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert other.message == f"{target} refused the handshake with the alert {alert}, wanted unknown_ca"
    assert (welcome.outcome, welcome.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert welcome.message == f"{target} accepted the handshake, wanted it refused"
    assert time.monotonic() - began < 5


async def test_waiting_for_a_refusal_ends_with_the_run_and_leaves_nothing_open(issued: Issued) -> None:
    """The handshake is over, and the server says no more."""
    context = speaking(issued)
    context.num_tickets = 0
    with handshaking(context) as port:
        before = open_files()
        cut = await run(KIND, f"127.0.0.1:{port}", {"expect": {"rejected": True}}, timeout=0.3)
        assert await settle(before) <= before
    assert (cut.outcome, cut.reason) == (Outcome.DOWN, Reason.TIMEOUT)


async def test_a_server_that_lets_everybody_in_is_down_where_it_must_refuse(issued: Issued) -> None:
    """Also one without tickets, after a second of patience; one that is not there has refused nobody."""
    open_to_all = speaking(issued)
    open_to_all.num_tickets = 0
    with handshaking(open_to_all) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"expect": {"rejected": True}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.ASSERTION)
    assert result.message.endswith(" accepted the handshake without a client certificate, wanted it refused")
    absent = await run(KIND, f"127.0.0.1:{free_port()}", {"expect": {"rejected": True}})
    assert (absent.outcome, absent.reason) == (Outcome.DOWN, Reason.REFUSED)
    async with web.serving(web.garble, before_request=True) as server:
        other = await run(KIND, f"127.0.0.1:{server.port}", {"expect": {"rejected": True}})
    assert (other.outcome, other.reason) == (Outcome.DOWN, Reason.PROTOCOL)


async def test_whether_a_server_asks_for_a_certificate_is_seen(issued: Issued, ca_file: Path) -> None:
    """Web servers ask, let everybody in, and answer with an error."""
    context = speaking(issued)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(ca_file)
    options = {"ca_file": str(ca_file)}
    with handshaking(context) as asking, handshaking(speaking(issued)) as silent:
        good = await run(KIND, f"127.0.0.1:{asking}", {**options, "expect": {"asks_for_certificate": True}})
        bad = await run(KIND, f"127.0.0.1:{silent}", {**options, "expect": {"asks_for_certificate": True}})
        wrong = await run(KIND, f"127.0.0.1:{asking}", {**options, "expect": {"asks_for_certificate": False}})
    assert Outcome.UP is good.outcome
    assert bad.message == "the server did not ask for a client certificate, wanted it to"
    assert wrong.message == "the server asked for a client certificate, wanted it not to"


@pytest.mark.parametrize("newest", ["1.2", "1.3"])
async def test_an_application_protocol_is_offered_and_expected(newest: str, issued: Issued, ca_file: Path) -> None:
    """ALPN, RFC 7301."""
    context = speaking(issued, newest=newest)
    context.set_alpn_protocols(["http/1.1"])
    options = {"ca_file": str(ca_file), "alpn": ["h2", "http/1.1"]}
    with handshaking(context) as port:
        good = await run(KIND, f"127.0.0.1:{port}", {**options, "expect": {"alpn": "http/1.1"}})
        bad = await run(KIND, f"127.0.0.1:{port}", {**options, "expect": {"alpn": "h2"}})
        none = await run(KIND, f"127.0.0.1:{port}", {"ca_file": str(ca_file)})
    assert (good.outcome, good.evidence["tls"]["alpn"]) == (Outcome.UP, "http/1.1")
    assert (bad.reason, bad.message) == (Reason.ASSERTION, "the server agreed on http/1.1, wanted h2")
    assert none.evidence["tls"]["alpn"] == ""


async def test_a_chain_that_must_not_be_trusted_is_up_as_long_as_it_is_not(issued: Issued, ca_file: Path) -> None:
    """Why it is not stands in the evidence."""
    with handshaking(speaking(issued)) as port:
        target = f"127.0.0.1:{port}"
        good = await run(KIND, target, {"expect": {"untrusted": True}})
        bad = await run(KIND, target, {"ca_file": str(ca_file), "expect": {"untrusted": True}})
    assert Outcome.UP is good.outcome
    assert "the issuer CN=Test Authority,O=Storm is not in the served chain" in good.evidence["untrusted"]
    assert (bad.reason, bad.message) == (Reason.ASSERTION, f"the chain of {target} is trusted, wanted it not to be")


async def test_authorities_can_be_written_down_in_the_configuration(issued: Issued, ca_file: Path) -> None:
    """Instead of a file."""
    with handshaking(speaking(issued)) as port:
        result = await run(KIND, f"127.0.0.1:{port}", {"ca": ca_file.read_text()})
    assert (result.outcome, result.message) == (Outcome.UP, "")


@pytest.mark.shows("tls", "too-slow", "certificate")
async def test_the_leaf_has_a_limit_of_its_own_and_slowness_names_its_phase(
    issued: Issued, ca_file: Path, tmp_path: Path
) -> None:
    """An intermediate that ends first is named with its position."""
    root = Authority(tmp_path, "Root")
    short = Authority(tmp_path, "Between", parent=root, days=20).issue("127.0.0.1")
    with handshaking(short.server_context()) as port:
        target = f"127.0.0.1:{port}"
        options = {"ca_file": str(root.file), "leaf_expires_within": "30d"}
        leaf = await run(KIND, target, options)
        chain = await run(KIND, target, {**options, "expires_within": "30d"})
    with handshaking(speaking(issued)) as port:
        slow = await run(KIND, f"127.0.0.1:{port}", {"ca_file": str(ca_file), "expect": {"slower_than": "0ms"}})
    assert (leaf.outcome, leaf.message) == (Outcome.UP, "")
    assert chain.message == (
        "the certificate of CN=Between,O=Storm, at position 1 of the chain, expires in 19d23h, wanted more than 30d"
    )
    assert (slow.outcome, slow.reason) == (Outcome.DOWN, Reason.TOO_SLOW)
    assert slow.message.endswith(", wanted at most 0s; slowest was phase tls")


@pytest.mark.shows("tls", "broken")
async def test_the_policy_of_networks_is_asked_before_anything_is_sent(issued: Issued) -> None:
    """Broken, because it says nothing about the target."""
    async with web.serving(web.silent, tls=issued.server_context()) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", reach=Reach(refuse=OWN_HOST))
        assert server.connections == 0
    assert (result.outcome, result.reason) == (Outcome.BROKEN, Reason.POLICY)
    assert measures(result)["probe_ip_protocol"] == 4


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"ca": "x", "ca_file": "/x"}, "ca and ca_file: give only one of them"),
    (
        {"minimum_version": "1.3", "maximum_version": "1.2"},
        "maximum_version 1.2 is older than minimum_version 1.3",
    ),
    (
        {"expect": {"alert": "unknown_ca"}},
        "expect.alert is about a handshake that is refused: give `rejected: true` too",
    ),
    ({"expect": {"alpn": "h2"}}, "expect.alpn: 'h2' is not among the protocols that `alpn` offers"),
    (
        {"verify": False, "expect": {"untrusted": True}},
        "expect.untrusted wants the chain to be verified: do not give `verify: false`",
    ),
    ({"policy": {"supports": ["1.2"], "refuses": ["1.2"]}}, "policy: 1.2 stands in supports and in refuses"),
    (
        {"policy": {"ciphers": ["("]}},
        "policy.ciphers[0]: '(' is not an RE2 expression: missing ): (",
    ),
    ({"log_list": "/no/such"}, "log_list /no/such cannot be read: No such file or directory"),
    ({"server_name": "a b"}, "server_name: 'a b' is not a host name"),
    ({"resolver": "x:y"}, "resolver 'x:y': 'y' is not a port between 1 and 65535"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence(options: dict[str, Any], message: str) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, "shop.test:443", options)


def test_an_unknown_alert_and_authorities_that_are_none_are_mistakes() -> None:
    """What there is to choose from is told."""
    with pytest.raises(ValueError, match=r"^expect.alert: 'bad' is no alert of TLS; there are unexpected_message, "):
        check_of(KIND, "shop.test:443", {"expect": {"rejected": True, "alert": "bad"}})
    with pytest.raises(ValueError, match=r"^ca holds no certificates in PEM form: "):
        check_of(KIND, "shop.test:443", {"ca": "nothing"})
