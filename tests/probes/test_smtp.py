"""The kind `smtp` against a real exim4 with a dovecot behind it, and against servers that misbehave."""

import asyncio
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.mail_message import ID, new_identity, owner_tag
from stormwatch.probes.reach import OWN_HOST, Reach, networks
from stormwatch.probes.result import Outcome, Reason
from stormwatch.probes.smtp import KIND
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets
from tests.servers.certificates import Issued
from tests.servers.mail import USER, Mail, imap_script, mail_server, smtp_script
from tests.servers.probing import check_of, labels, measures, open_files, phase_names, run, settle
from tests.servers.process import free_port

PLAIN = {"tls": "none"}
FROM_TO = {"from": "watch@shop.test", "to": "box@shop.test"}


@pytest.fixture(scope="module")
def mail(issued: Issued) -> Generator[Mail]:
    """One for all tests of this file."""
    with mail_server(issued) as server:
        yield server


@pytest.fixture
def tls(ca_file: Path) -> dict[str, Any]:
    """Trust in the server."""
    return {"ca_file": str(ca_file)}


@pytest.fixture
def login(tls: dict[str, Any]) -> dict[str, Any]:
    """Who we are."""
    return {**tls, "username": USER, "password": CANARY}


def arriving(mail: Mail, login: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Options for a message that must arrive."""
    return {**login, "mail": {**FROM_TO, "arrives": {**login, "imap": mail.imap, **more}}}


@pytest.mark.shows("smtp", "up")
async def test_a_server_that_offers_starttls_is_up(mail: Mail, tls: dict[str, Any], issued: Issued) -> None:
    """The smallest probe: TLS is demanded without being asked for."""
    result = await run(KIND, mail.smtp, tls)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "tls", "hello"]
    assert result.evidence["greeting"].startswith("mx.shop.test ESMTP Exim")
    assert "AUTH PLAIN LOGIN" in result.evidence["capabilities"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert labels(result, "probe_tls_version_info") == {"version": "TLS 1.3"}
    plain = await run(KIND, mail.smtp, PLAIN)
    assert (plain.outcome, phase_names(plain)) == (Outcome.UP, ["resolve", "connect", "greeting", "hello"])


@pytest.mark.shows("smtp", "up")
async def test_when_tls_begins_is_said_by_the_target_and_not_by_where_it_is_connected_to(
    mail: Mail, tls: dict[str, Any]
) -> None:
    """Port 465 means TLS from the first byte; the certificate is for the target's name, which is never looked up."""
    implicit = await run(KIND, "shop.test:465", {**tls, "connect_to": mail.smtps})
    asked_for = await run(KIND, "shop.test", {**tls, "connect_to": mail.smtp})
    assert (implicit.outcome, phase_names(implicit)[2]) == (Outcome.UP, "tls"), implicit.message
    assert (asked_for.outcome, phase_names(asked_for)[2]) == (Outcome.UP, "greeting"), asked_for.message


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login"])
@pytest.mark.shows("smtp", "up")
async def test_a_login_with_implicit_tls(mail: Mail, login: dict[str, Any], mechanism: str) -> None:
    """By each mechanism."""
    options = {**login, "tls": "implicit", "mechanism": mechanism}
    expect = {"greeting": "^mx.*Exim", "capabilities": ["pipelining", "AUTH PLAIN"]}
    result = await run(KIND, mail.smtps, {**options, "expect": expect})
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "tls", "greeting", "hello", "login"]
    assert is_silent_about_secrets(result)


@pytest.mark.parametrize("options", [{"password": "wrong"}, {"username": "nobody", "mechanism": "login"}])
@pytest.mark.shows("smtp", "broken")
async def test_a_login_that_is_refused_is_our_mistake(
    mail: Mail, login: dict[str, Any], options: dict[str, Any]
) -> None:
    """A wrong password, a user that is not there."""
    result = await run(KIND, mail.smtp, {**login, **options})
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert "535 Incorrect authentication data; check username and password" in result.message
    assert is_silent_about_secrets(result)


@pytest.mark.shows("smtp", "assertion")
async def test_a_mechanism_that_is_not_offered(mail: Mail, login: dict[str, Any]) -> None:
    """Down, with what is offered; and nothing is offered without TLS."""
    result = await run(KIND, mail.smtp, {**login, "mechanism": "xoauth2"})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "login")
    assert result.message.endswith("offers AUTH PLAIN LOGIN, wanted a login by AUTH XOAUTH2")
    plain = await run(KIND, mail.smtp, {"username": USER, "password": CANARY, **PLAIN})
    assert ending(plain) == (Outcome.DOWN, Reason.ASSERTION, "login")
    assert plain.message.endswith("offers no AUTH, wanted a login by AUTH PLAIN")


@pytest.mark.shows("smtp", "up", "broken")
async def test_a_token_by_xoauth2() -> None:
    """Taken; refused with a reason in between, which wants an empty answer."""
    said = {"EHLO": "250-x\r\n250 AUTH XOAUTH2", "AUTH": "235 in"}
    options = {**PLAIN, "username": USER, "password": CANARY, "mechanism": "xoauth2"}
    async with web.serving(smtp_script(said), before_request=True) as server:
        taken = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (taken.outcome, taken.message) == (Outcome.UP, "")
    refusing = {**said, "AUTH": "334 eyJzdGF0dXMiOiI0MDAifQ==", "": "535 5.7.3 no"}
    async with web.serving(smtp_script(refusing), before_request=True) as server:
        refused = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert ending(refused) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert "535 5.7.3 no" in refused.message


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.shows("smtp", "up")
async def test_a_message_arrives_is_measured_and_is_gone(
    mail: Mail, login: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, idle: bool
) -> None:
    """The very message that was sent, not another; told by the server, or looked for again and again."""
    mail.empty()
    other = mail.put(b"Subject: other\r\n\r\nNo message of ours.\r\n", "1.other")
    if not idle:
        monkeypatch.setattr("stormwatch.probes.delivery._IDLE", "NO-SUCH-CAPABILITY")
    result = await run(KIND, mail.smtp, arriving(mail, login, within="8s"), timeout=10)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result)[-3:] == ["mailbox", "mail", "delivery"]
    seen = measures(result)
    assert 0 <= seen["stormwatch_smtp_delivery_seconds"] < 8
    assert seen["stormwatch_smtp_hops"] == 1
    assert result.evidence["hops"] == [{"by": "mx.shop.test", "seconds": None}]
    assert result.evidence["accepted"].startswith("250 OK id=")
    assert result.evidence["remote"] == mail.smtp
    assert [path.name.partition(":")[0] for path in mail.messages()] == [other.name]
    assert is_silent_about_secrets(result)


@pytest.mark.shows("smtp", "up")
async def test_what_earlier_runs_left_is_cleaned_up(mail: Mail, login: dict[str, Any]) -> None:
    """When it is old and of this probe: another prober may wait for a young one still."""
    mail.empty()
    now = time.time()
    kept = []
    for name, probe, age in (("old", "watched", 7200), ("young", "watched", 60), ("foreign", "another", 7200)):
        identity = new_identity(owner_tag(probe), now - age, "ab")
        mail.put(f"Subject: {name}\r\n{ID}: {identity}\r\n\r\n.\r\n".encode(), f"1.{name}")
        kept += [f"1.{name}"] * (name != "old")
    left = await run(KIND, mail.smtp, arriving(mail, login, delete=False), timeout=10)
    assert (left.outcome, len(mail.messages())) == (Outcome.UP, 4)
    mail.empty()
    for name, probe, age in (("old", "watched", 7200), ("young", "watched", 60), ("foreign", "another", 7200)):
        identity = new_identity(owner_tag(probe), now - age, "ab")
        mail.put(f"Subject: {name}\r\n{ID}: {identity}\r\n\r\n.\r\n".encode(), f"2.{name}")
    result = await run(KIND, mail.smtp, arriving(mail, login), timeout=10)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert sorted(path.name.partition(":")[0] for path in mail.messages()) == ["2.foreign", "2.young"]


@pytest.mark.shows("smtp", "timeout")
async def test_a_message_that_is_taken_and_lost_is_a_timeout(mail: Mail, login: dict[str, Any]) -> None:
    """With the words with which it was taken: they have the number to look for in the server's log."""
    options = arriving(mail, login, within="300ms")
    options["mail"] = {**options["mail"], "to": "lost@shop.test"}
    result = await run(KIND, mail.smtp, options, timeout=10)
    assert ending(result) == (Outcome.DOWN, Reason.TIMEOUT, "delivery")
    assert re.search(
        r"is not in mailbox INBOX at \S+ \S+ after the server took it with '250 OK id=\S+'", result.message
    )
    late = await run(
        KIND,
        mail.smtp,
        arriving(mail, login) | {"mail": options["mail"] | {"arrives": {**login, "imap": mail.imap}}},
        timeout=0.8,
    )
    assert ending(late) == (Outcome.DOWN, Reason.TIMEOUT, "delivery")
    assert "is not in mailbox INBOX" in late.message


@pytest.mark.shows("smtp", "broken", "assertion", "refused")
async def test_what_is_wrong_with_the_mailbox_is_told_of_it_before_anything_is_sent(
    mail: Mail, login: dict[str, Any]
) -> None:
    """A wrong password, no such mailbox, nobody there, a policy."""
    mail.empty()
    wrong = await run(KIND, mail.smtp, arriving(mail, login, password="wrong"), timeout=20)
    assert ending(wrong) == (Outcome.BROKEN, Reason.CREDENTIALS, "mailbox")
    assert wrong.message.startswith(f"the mailbox at {mail.imap}: imap at {mail.imap} refused the login of 'watcher'")
    missing = await run(KIND, mail.smtp, arriving(mail, login, mailbox="Nö & such"))
    assert ending(missing) == (Outcome.DOWN, Reason.ASSERTION, "mailbox")
    assert 'refused to open mailbox "N&APY- &- such": it said NO' in missing.message
    nobody = await run(KIND, mail.smtp, arriving(mail, login, imap=f"127.0.0.1:{free_port()}"))
    assert ending(nobody) == (Outcome.DOWN, Reason.REFUSED, "mailbox")
    reach = Reach(refuse=networks(["127.0.0.2/32"]))
    policy = await run(KIND, mail.smtp, arriving(mail, login, imap=f"127.0.0.2:{mail.imap_port}"), reach=reach)
    assert ending(policy) == (Outcome.BROKEN, Reason.POLICY, "mailbox")
    assert mail.messages() == []
    assert all(is_silent_about_secrets(each) for each in (wrong, missing, nobody, policy))


@pytest.mark.shows("smtp", "reset")
async def test_each_end_of_a_connection_is_told_of_the_one_that_ended(mail: Mail, login: dict[str, Any]) -> None:
    """The mail server's while the mailbox is open, and the mailbox's while the message is on its way."""
    options = arriving(mail, login) | {**PLAIN, "ca_file": "", "username": "", "password": ""}

    async def hang_up(exchange: web.Exchange) -> None:
        exchange.writer.write(b"220 x\r\n")
        await exchange.reader.readline()
        exchange.writer.write(b"250 x\r\n")
        await exchange.reader.readline()

    async with web.serving(hang_up, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert ending(result) == (Outcome.DOWN, Reason.RESET, "mail")
    assert result.message == f"127.0.0.1:{server.port} closed the connection before its answer was complete"
    box = imap_script({"UID SEARCH": "* BYE going down"})
    async with (
        web.serving(smtp_script({}), before_request=True) as server,
        web.serving(box, before_request=True) as imap,
    ):
        arrives = {**PLAIN, "imap": f"127.0.0.1:{imap.port}", "username": "a", "password": CANARY, "delete": False}
        options = {**PLAIN, "mail": {**FROM_TO, "arrives": arrives}}
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert ending(result) == (Outcome.DOWN, Reason.RESET, "delivery")
    assert result.message.endswith("hung up: it said BYE going down")


@pytest.mark.shows("smtp", "up", "assertion")
async def test_a_relay_must_be_closed(mail: Mail, tls: dict[str, Any]) -> None:
    """Up when it refuses with one of the codes; down when it does not, or otherwise."""
    mail.empty()
    abroad = {**tls, "mail": {"from": "a@other.test", "to": "b@other.test"}}
    closed = await run(KIND, mail.smtp, {**abroad, "expect": {"rejected": [550, 554]}})
    assert (closed.outcome, closed.evidence["rejected"]) == (Outcome.UP, "550 relay not permitted")
    otherwise = await run(KIND, mail.smtp, {**abroad, "expect": {"rejected": [554]}})
    assert ending(otherwise) == (Outcome.DOWN, Reason.ASSERTION, "mail")
    assert otherwise.message.endswith("refused RCPT TO:<b@other.test> with 550 relay not permitted, wanted 554")
    opened = await run(KIND, mail.smtp, {**tls, "mail": FROM_TO, "expect": {"rejected": [550]}})
    assert ending(opened) == (Outcome.DOWN, Reason.ASSERTION, "mail")
    assert "takes a message for box@shop.test that it must refuse, and answered 250 Accepted" in opened.message
    refused = await run(KIND, mail.smtp, abroad)
    assert ending(refused) == (Outcome.DOWN, Reason.ASSERTION, "mail")
    assert refused.message.endswith("refused RCPT TO:<b@other.test>: it said 550 relay not permitted")
    assert mail.messages() == []


@pytest.mark.shows("smtp", "up", "assertion")
async def test_a_virus_must_be_refused(mail: Mail, tls: dict[str, Any]) -> None:
    """After it was sent."""
    expect = {"rejected": [550], "rejected_at": "data"}
    virus = {**tls, "mail": {**FROM_TO, "to": "lost@shop.test", "body": "NOT-A-REAL-VIRUS"}}
    refused = await run(KIND, mail.smtp, {**virus, "expect": expect})
    assert (refused.outcome, refused.evidence["rejected"]) == (Outcome.UP, "550 this message has a virus")
    harmless = {**tls, "mail": {**FROM_TO, "to": "lost@shop.test"}}
    taken = await run(KIND, mail.smtp, {**harmless, "expect": expect})
    assert ending(taken) == (Outcome.DOWN, Reason.ASSERTION, "mail")
    assert "took a message that it must refuse, and answered 250 OK" in taken.message


@pytest.mark.shows("smtp", "up", "assertion")
async def test_greylisting(mail: Mail, tls: dict[str, Any]) -> None:
    """Down in the server's words, unless that is well."""
    grey = {**tls, "mail": {**FROM_TO, "to": "grey@shop.test"}}
    result = await run(KIND, mail.smtp, grey)
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "mail")
    assert result.message.endswith("refused RCPT TO:<grey@shop.test>: it said 451 greylisted, come back later")
    well = await run(KIND, mail.smtp, {**grey, "greylisting": "ok"})
    assert (well.outcome, well.evidence["greylisted"]) == (Outcome.UP, "451 greylisted, come back later")


@pytest.mark.shows("smtp", "up", "assertion")
async def test_no_login_without_tls(mail: Mail, tls: dict[str, Any]) -> None:
    """What is offered counts, and so does what is taken without having been offered. No password is sent."""
    expect = {"expect": {"no_plain_login": True}}
    assert (await run(KIND, mail.smtp, {**tls, **expect})).outcome is Outcome.UP
    assert (await run(KIND, mail.smtp, {**PLAIN, **expect})).outcome is Outcome.UP
    offering = smtp_script({"EHLO": "250-x\r\n250 AUTH PLAIN"})
    async with web.serving(offering, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {**PLAIN, **expect})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, "greeting")
    assert result.message.endswith("takes a login without TLS: it offers AUTH PLAIN")
    async with web.serving(smtp_script({"AUTH": "334 "}), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {**PLAIN, **expect})
    assert result.message.endswith("takes a login without TLS: it answered AUTH PLAIN with 334")


SCRIPTS: list[tuple[dict[str, str], str, dict[str, Any], Reason, str, str]] = [
    ({}, "554 no service", {}, Reason.ASSERTION, "greeting", "refused the greeting: it said 554 no service"),
    ({}, "250 hm", {}, Reason.PROTOCOL, "greeting", "answered the greeting with 250 hm"),
    ({}, "SSH-2.0-x", {}, Reason.PROTOCOL, "greeting", "'SSH-2.0-x', which is no reply of SMTP"),
    ({}, "220-a\r\n250 b", {}, Reason.PROTOCOL, "greeting", "the lines of one reply have the codes 220, 250"),
    ({}, "220-a\r\n" * 300, {}, Reason.PROTOCOL, "greeting", "a reply has more than 256 lines"),
    ({}, "220 " + "x" * 9000, {}, Reason.PROTOCOL, "greeting", "a line is longer than 8KiB"),
    ({"EHLO": "502 what"}, "220 x", {}, Reason.ASSERTION, "hello", "refused EHLO: it said 502 what"),
    (
        {"EHLO": "250 x"},
        "220 x",
        {"expect": {"capabilities": ["SIZE"]}},
        Reason.ASSERTION,
        "hello",
        "does not offer SIZE: it offers nothing",
    ),
    (
        {},
        "220 x",
        {"expect": {"greeting": "Postfix"}},
        Reason.ASSERTION,
        "greeting",
        "the greeting is 'x', wanted to match 'Postfix'",
    ),
    ({"EHLO": "250 x"}, "220 x", {"tls": "starttls"}, Reason.TLS, "greeting", "does not offer STARTTLS"),
    ({"STARTTLS": "454 no"}, "220 x", {"tls": "starttls"}, Reason.TLS, "greeting", "refused STARTTLS: it said 454 no"),
    (
        {"STARTTLS": "220 go\r\n250 injected"},
        "220 x",
        {"tls": "starttls"},
        Reason.PROTOCOL,
        "tls",
        "the server sent 14 bytes too many in plain text before TLS: '250 injected'",
    ),
    (
        {"MAIL": "530 5.7.0 log in first"},
        "220 x",
        {"mail": FROM_TO},
        Reason.CREDENTIALS,
        "login",
        "a run without username",
    ),
    ({"MAIL": "452 full"}, "220 x", {"mail": FROM_TO, "greylisting": "ok"}, Reason.ASSERTION, "mail", "452 full"),
    ({"DATA": "554 no"}, "220 x", {"mail": FROM_TO}, Reason.ASSERTION, "mail", "refused DATA: it said 554 no"),
    ({"DATA": "250 hm"}, "220 x", {"mail": FROM_TO}, Reason.PROTOCOL, "mail", "answered DATA with 250 hm"),
    (
        {"MESSAGE": "451 later"},
        "220 x",
        {"mail": FROM_TO},
        Reason.ASSERTION,
        "mail",
        "refused the message: it said 451",
    ),
    ({"MESSAGE": ""}, "220 x", {"mail": FROM_TO}, Reason.TIMEOUT, "mail", "no answer from"),
    ({"EHLO": ""}, "220 x", {}, Reason.TIMEOUT, "hello", "no answer from"),
]


@pytest.mark.parametrize(("replies", "greeting", "options", "reason", "phase", "message"), SCRIPTS)
async def test_servers_that_misbehave(
    replies: dict[str, str], greeting: str, options: dict[str, Any], *, reason: Reason, phase: str, message: str
) -> None:
    """Each in its own way."""
    async with web.serving(smtp_script(replies, greeting=greeting), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {**PLAIN, **options}, timeout=0.4)
    assert (result.reason, result.failed_phase) == (reason, phase), result.message
    assert message in result.message


@pytest.mark.shows("smtp", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {**PLAIN, "username": USER}, phase="greeting")


@pytest.mark.shows("smtp", "certificate", "tls", "up")
async def test_certificates(mail: Mail, tls: dict[str, Any], issued: Issued) -> None:
    """For another name, of an authority that nobody trusts, near its end; what is no TLS at all."""
    for target, begin in ((mail.smtp, "starttls"), (mail.smtps, "implicit")):
        named = await run(KIND, target, {**tls, "tls": begin, "server_name": "other.test"})
        stranger = await run(KIND, target, {"tls": begin})
        for wrong in (named, stranger):
            assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
            assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert (await run(KIND, target, {"tls": begin, "verify": False})).outcome is Outcome.UP
    near = await run(KIND, mail.smtp, {**tls, "expect": {"certificate_expires_within": "100d"}})
    assert ending(near) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    assert near.message.endswith("wanted more than 100d")
    far = await run(KIND, mail.smtp, {**tls, "expect": {"certificate_expires_within": "10d"}})
    assert far.outcome is Outcome.UP
    plain = await run(KIND, mail.smtp, {**tls, "tls": "implicit"}, timeout=1)
    assert ending(plain) == (Outcome.DOWN, Reason.TLS, "tls")


@pytest.mark.shows("smtp", "too-slow")
async def test_a_slow_run_is_too_slow(mail: Mail) -> None:
    """And says which phase took longest."""
    result = await run(KIND, mail.smtp, {**PLAIN, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)


async def _leave_nothing(mail: Mail, login: dict[str, Any]) -> tuple[int, int]:
    options = arriving(mail, login)
    lost = {**options, "mail": {**options["mail"], "to": "lost@shop.test"}}
    await run(KIND, mail.smtp, options, timeout=10)
    before = open_files()
    results = await asyncio.gather(
        *(run(KIND, mail.smtp, options, timeout=10) for _ in range(3)),
        *(run(KIND, mail.smtp, lost, timeout=0.7) for _ in range(3)),
        *(run(KIND, mail.smtp, {**login, "password": "wrong"}, timeout=20) for _ in range(3)),
    )
    assert {result.outcome for result in results[:3]} == {Outcome.UP}
    task = asyncio.create_task(run(KIND, mail.smtp, lost, timeout=30))
    await asyncio.wait({task}, timeout=0.4)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    return before, await settle(before)


async def test_nothing_stays_open(mail: Mail, login: dict[str, Any]) -> None:
    """After good runs, refused ones, and such as were cancelled while they waited for a message."""
    tasks = len(asyncio.all_tasks())
    before, after = await _leave_nothing(mail, login)
    assert after <= before
    assert len(asyncio.all_tasks()) <= tasks


def test_nothing_stays_open_on_uvloop(mail: Mail, login: dict[str, Any]) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(mail, login))
    assert after <= before


@pytest.mark.shows("smtp", "broken")
async def test_the_policy_is_asked() -> None:
    """Before anything is connected to."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", PLAIN, reach=Reach(refuse=OWN_HOST))
    assert (result.outcome, result.reason, server.connections) == (Outcome.BROKEN, Reason.POLICY, 0)


ARRIVES = {"imap": "mail.test", "username": "a", "password": "b"}
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a b", {}, "target 'a b': 'a b' is not a host name"),
    (
        "mx.test",
        {"tls": "none", "verify": False},
        "ca_file, server_name, verify, certificate and key are for TLS: leave out `tls: none`",
    ),
    ("mx.test", {"username": "a"}, "username and password belong together: give both or none"),
    ("mx.test", {"key": "k"}, "certificate and key belong together: give both or none"),
    ("mx.test", {"ehlo": "a b"}, "ehlo: 'a b' is not a host name or an address in brackets"),
    ("mx.test", {"expect": {"rejected": [550]}}, "expect.rejected: give the `mail` that must be refused"),
    (
        "mx.test",
        {"mail": {**FROM_TO, "arrives": ARRIVES}, "expect": {"rejected": [550]}},
        "expect.rejected: a message that must be refused arrives nowhere: leave out `mail.arrives`",
    ),
    (
        "mx.test:465",
        {"expect": {"no_plain_login": True}},
        "expect.no_plain_login: with implicit TLS there is no connection without TLS to look at",
    ),
    (
        "mx.test",
        {**PLAIN, "expect": {"certificate_expires_within": "1d"}},
        "expect.certificate_expires_within: there is no certificate with `tls: none`",
    ),
    ("mx.test", {"expect": {"capabilities": [" "]}}, "expect.capabilities: ' ' is no extension"),
    ("mx.test", {"expect": {"greeting": "("}}, "expect.greeting: '(' is not an RE2 expression: missing ): ("),
    ("mx.test", {"mail": {"from": "a", "to": "b@c"}}, "mail.from: 'a' is not an address like watch@shop.example"),
    (
        "mx.test",
        {"mail": {"to": "b@c>\r\nRCPT TO:<d@e"}},
        "mail.to: 'b@c>\\r\\nRCPT TO:<d@e' is not an address like watch@shop.example",
    ),
    (
        "mx.test",
        {"mail": {**FROM_TO, "subject": "a\r\nBcc: all"}},
        "mail.subject: Header values may not contain linefeed or carriage return characters",
    ),
    (
        "mx.test",
        {"mail": {**FROM_TO, "arrives": {"imap": "mail.test"}}},
        "mail.arrives.username: nobody has a mailbox without one: give `username` and `password`",
    ),
    (
        "mx.test",
        {"mail": {**FROM_TO, "arrives": {**ARRIVES, "mailbox": "a\nb"}}},
        "mail.arrives: 'a\\nb' is no name of a mailbox",
    ),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
