"""The kind `imap` against a real dovecot, and against servers that misbehave."""

import asyncio
import os
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.probes.imap import KIND
from stormwatch.probes.reach import OWN_HOST, Reach
from stormwatch.probes.result import Outcome, Reason
from tests.servers import web
from tests.servers.backends import CANARY, check_the_way, ending, is_silent_about_secrets
from tests.servers.certificates import Issued
from tests.servers.mail import USER, Mail, imap_script, mail_server
from tests.servers.probing import check_of, measures, open_files, phase_names, run, settle

PLAIN = {"tls": "none"}
ANYBODY = {**PLAIN, "username": "a", "password": CANARY}


@pytest.fixture(scope="module")
def mail(issued: Issued) -> Generator[Mail]:
    """One for all tests of this file, with three messages, the oldest of which is of yesterday."""
    with mail_server(issued) as server:
        for number in range(3):
            path = server.put(f"Subject: number {number}\r\n\r\nHello.\r\n".encode(), f"{number}.message")
            moment = time.time() - 86400 + number * 42000
            os.utime(path, (moment, moment))
        yield server


@pytest.fixture
def tls(ca_file: Path) -> dict[str, Any]:
    """Trust in the server."""
    return {"ca_file": str(ca_file)}


@pytest.fixture
def login(tls: dict[str, Any]) -> dict[str, Any]:
    """Who we are."""
    return {**tls, "username": USER, "password": CANARY}


@pytest.mark.shows("imap", "up")
async def test_a_server_that_greets_is_up(mail: Mail, tls: dict[str, Any], issued: Issued) -> None:
    """With STARTTLS, with TLS from the first byte, with none."""
    result = await run(KIND, mail.imap, tls)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result) == ["resolve", "connect", "greeting", "tls", "capability"]
    assert measures(result)["probe_ssl_earliest_cert_expiry"] == issued.not_after
    assert "IMAP4REV1" in result.evidence["capabilities"]
    implicit = await run(KIND, mail.imaps, {**tls, "tls": "implicit"})
    assert phase_names(implicit) == ["resolve", "connect", "tls", "greeting", "capability"]
    assert (implicit.outcome, (await run(KIND, mail.imap, PLAIN)).outcome) == (Outcome.UP, Outcome.UP)


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login"])
@pytest.mark.shows("imap", "up")
async def test_a_mailbox(mail: Mail, login: dict[str, Any], mechanism: str) -> None:
    """Counted, searched, the newest message's age; nothing in it changes."""
    names = [path.name for path in mail.messages()]
    expect = {
        "greeting": "Dovecot",
        "capabilities": ["idle", "UIDPLUS"],
        "messages": {"equals": 3},
        "unseen": {"above": 2},
        "found": {"equals": 1},
        "newest_within": "1h",
    }
    options = {**login, "mechanism": mechanism, "mailbox": "INBOX", "search": 'SUBJECT "number 1"', "expect": expect}
    assert (await run(KIND, mail.imap, options)).outcome is Outcome.UP
    result = await run(KIND, mail.imap, options)
    assert (result.outcome, result.message) == (Outcome.UP, "")
    assert phase_names(result)[-3:] == ["capability", "login", "mailbox"]
    seen = measures(result)
    assert (seen["stormwatch_imap_messages"], seen["stormwatch_imap_unseen"]) == (3, 3)
    assert seen["stormwatch_imap_found"] == 1
    assert 2300 < seen["stormwatch_imap_newest_age_seconds"] < 3600
    assert is_silent_about_secrets(result)
    assert {name.partition(":")[0] for name in names} == {p.name.partition(":")[0] for p in mail.messages()}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"expect": {"messages": {"below": 3}}}, "mailbox", "the number of messages is 3, wanted below 3"),
    ({"expect": {"unseen": {"equals": 0}}}, "mailbox", "the number of unseen messages is 3, wanted equal to 0"),
    (
        {"search": "SUBJECT nothing", "expect": {"found": {"above": 0}}},
        "mailbox",
        "the number of messages found is 0, wanted above 0",
    ),
    ({"expect": {"newest_within": "5m"}}, "mailbox", ", wanted a message of the last 5m"),
    ({"mailbox": "Nothing"}, "mailbox", 'refused to open mailbox "Nothing": it said NO'),
    ({"search": "NONSENSE"}, "mailbox", "refused the search: it said BAD"),
    ({"expect": {"capabilities": ["XYZ"]}}, "capability", "does not offer XYZ: it offers"),
    ({"expect": {"greeting": "Cyrus"}}, "greeting", "wanted to match 'Cyrus'"),
]


@pytest.mark.parametrize(("options", "phase", "message"), WRONG)
@pytest.mark.shows("imap", "assertion")
async def test_another_answer_than_expected_is_down_with_what_was_seen(
    mail: Mail, login: dict[str, Any], options: dict[str, Any], phase: str, message: str
) -> None:
    """Numbers, ages, words."""
    result = await run(KIND, mail.imap, {**login, "mailbox": "INBOX", **options})
    assert ending(result) == (Outcome.DOWN, Reason.ASSERTION, phase)
    assert message in result.message


@pytest.mark.parametrize("mechanism", ["plain", "login", "xoauth2"])
@pytest.mark.shows("imap", "broken")
async def test_a_login_that_is_refused_is_our_mistake(mail: Mail, login: dict[str, Any], mechanism: str) -> None:
    """By each mechanism."""
    result = await run(KIND, mail.imap, {**login, "password": "wrong", "mechanism": mechanism}, timeout=20)
    assert ending(result) == (Outcome.BROKEN, Reason.CREDENTIALS, "login")
    assert "refused the login of 'watcher': NO" in result.message


@pytest.mark.shows("imap", "up", "assertion")
async def test_no_login_without_tls(mail: Mail, tls: dict[str, Any]) -> None:
    """By its own address dovecot takes one: there it is down, and up by another."""
    options = {**tls, "server_name": "localhost", "expect": {"no_plain_login": True}}
    closed = await run(KIND, f"127.0.0.2:{mail.imap_port}", options)
    assert (closed.outcome, closed.message) == (Outcome.UP, "")
    opened = await run(KIND, mail.imap, options)
    assert ending(opened) == (Outcome.DOWN, Reason.ASSERTION, "greeting")
    assert opened.message.endswith("takes a login without TLS: it does not say LOGINDISABLED")
    liar = imap_script({"CAPABILITY": "* CAPABILITY IMAP4rev1 LOGINDISABLED\r\n{tag} OK", "AUTHENTICATE": "+ "})
    async with web.serving(liar, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {**PLAIN, "expect": {"no_plain_login": True}})
    assert result.message.endswith("takes a login without TLS: it answered AUTHENTICATE PLAIN with OK done")


LOOKING = {**ANYBODY, "mailbox": "INBOX"}
SCRIPTS: list[tuple[dict[str, str], str, dict[str, Any], Reason, str, str]] = [
    ({}, "* BYE too many", {}, Reason.ASSERTION, "greeting", "refused to talk: it said BYE too many"),
    ({}, "* 3 EXISTS", {}, Reason.PROTOCOL, "greeting", "the server greeted with 'EXISTS', wanted * OK"),
    ({}, "220 mx ESMTP", {}, Reason.PROTOCOL, "greeting", "which is no response of IMAP"),
    ({}, "* PREAUTH hello", {"tls": "starttls"}, Reason.TLS, "greeting", "greeted with PREAUTH"),
    (
        {"STARTTLS": "{tag} BAD what"},
        "* OK",
        {"tls": "starttls"},
        Reason.TLS,
        "greeting",
        "refused STARTTLS: it said BAD what",
    ),
    (
        {"STARTTLS": "{tag} OK go\r\n* OK injected"},
        "* OK",
        {"tls": "starttls"},
        Reason.PROTOCOL,
        "tls",
        "the server sent 15 bytes too many in plain text before TLS: '* OK injected'",
    ),
    ({"CAPABILITY": "s99 OK"}, "* OK", {}, Reason.PROTOCOL, "capability", "an answer to 's99', which nobody asked"),
    ({"CAPABILITY": "{tag} NO"}, "* OK", {}, Reason.ASSERTION, "capability", "refused CAPABILITY: it said NO"),
    ({"CAPABILITY": "* BYE bye"}, "* OK", {}, Reason.RESET, "capability", "hung up: it said BYE bye"),
    ({"CAPABILITY": "* X {9999999}\r\n"}, "* OK", {}, Reason.PROTOCOL, "capability", "a literal of 9999999 bytes"),
    ({"CAPABILITY": "* X " + "{0}\r\n" * 300}, "* OK", {}, Reason.PROTOCOL, "capability", "more than 256 literals"),
    ({"CAPABILITY": "* X\r\n" * 10_001}, "* OK", {}, Reason.PROTOCOL, "capability", "more than 10000 responses"),
    ({"CAPABILITY": "x" * 2**20 + "x"}, "* OK", {}, Reason.PROTOCOL, "capability", "a line is longer than 1MiB"),
    ({"CAPABILITY": ""}, "* OK", {}, Reason.TIMEOUT, "capability", "no answer from"),
    (
        {"CAPABILITY": "* CAPABILITY LOGINDISABLED\r\n{tag} OK"},
        "* OK",
        ANYBODY,
        Reason.ASSERTION,
        "login",
        "offers no login on this connection (LOGINDISABLED)",
    ),
    ({"LOGIN": "{tag} NO [UNAVAILABLE] later"}, "* OK", ANYBODY, Reason.ASSERTION, "login", "NO [UNAVAILABLE] later"),
    ({"LOGIN": "{tag} NO no"}, "* OK", ANYBODY, Reason.CREDENTIALS, "login", "refused the login of 'a': NO no"),
    (
        {"STATUS": "* STATUS INBOX ()\r\n{tag} OK"},
        "* OK",
        {**LOOKING, "expect": {"unseen": {"equals": 0}}},
        Reason.PROTOCOL,
        "mailbox",
        "a status without a number of unseen messages",
    ),
    (
        {"EXAMINE": "* 1 EXISTS\r\n{tag} OK", "FETCH": "* 1 FETCH (INTERNALDATE x)\r\n{tag} OK"},
        "* OK",
        {**LOOKING, "expect": {"newest_within": "1h"}},
        Reason.PROTOCOL,
        "mailbox",
        "a message without INTERNALDATE",
    ),
    (
        {"EXAMINE": "* 0 EXISTS\r\n{tag} OK"},
        "* OK",
        {**LOOKING, "expect": {"newest_within": "1h"}},
        Reason.ASSERTION,
        "mailbox",
        "there is none, wanted a message of the last 1h",
    ),
    (
        {"CAPABILITY": "* CAPABILITY ESEARCH\r\n{tag} OK", "UID SEARCH RETURN": "* ESEARCH UID\r\n{tag} OK"},
        "* OK",
        {**LOOKING, "search": "ALL"},
        Reason.PROTOCOL,
        "mailbox",
        "a search whose answer has no count",
    ),
]


@pytest.mark.parametrize(("answers", "greeting", "options", "reason", "phase", "message"), SCRIPTS)
async def test_servers_that_misbehave(
    answers: dict[str, str], greeting: str, options: dict[str, Any], *, reason: Reason, phase: str, message: str
) -> None:
    """Each in its own way."""
    timeout = 0.4 if reason is Reason.TIMEOUT else 5
    async with web.serving(imap_script(answers, greeting=greeting), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", {**PLAIN, **options}, timeout=timeout)
    assert (result.reason, result.failed_phase) == (reason, phase), result.message
    assert message in result.message
    assert is_silent_about_secrets(result)


@pytest.mark.shows("imap", "up")
async def test_an_old_server() -> None:
    """Without SASL-IR, ESEARCH and AUTH=PLAIN; numbers of a search over several responses."""
    said = {
        "EXAMINE": "* FLAGS (\\Seen)\r\n* 7 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n{tag} OK [READ-ONLY] done",
        "UID SEARCH": "* SEARCH 1 2\r\n* SEARCH 3\r\n{tag} OK",
    }
    options = {**LOOKING, "search": "ALL", "expect": {"messages": {"equals": 7}, "found": {"equals": 3}}}
    async with web.serving(imap_script(said), before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", options)
    assert (result.outcome, result.message) == (Outcome.UP, "")


@pytest.mark.shows("imap", "dns", "refused", "unreachable", "timeout", "reset", "protocol", "broken")
async def test_the_ways_on_which_a_run_goes_wrong_before_an_answer() -> None:
    """Each leaves nothing open."""
    await check_the_way(KIND, {**PLAIN, "username": USER}, phase="greeting")


@pytest.mark.shows("imap", "certificate", "tls", "up")
async def test_certificates(mail: Mail, tls: dict[str, Any], issued: Issued) -> None:
    """For another name, of an authority that nobody trusts, near its end; what is no TLS at all."""
    for target, begin in ((mail.imap, "starttls"), (mail.imaps, "implicit")):
        named = await run(KIND, target, {**tls, "tls": begin, "server_name": "other.test"})
        stranger = await run(KIND, target, {"tls": begin})
        for wrong in (named, stranger):
            assert ending(wrong) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
            assert measures(wrong)["probe_ssl_earliest_cert_expiry"] == issued.not_after
        assert (await run(KIND, target, {"tls": begin, "verify": False})).outcome is Outcome.UP
    near = await run(KIND, mail.imap, {**tls, "expect": {"certificate_expires_within": "100d"}})
    assert ending(near) == (Outcome.DOWN, Reason.CERTIFICATE, "tls")
    plain = await run(KIND, mail.imap, {**tls, "tls": "implicit"}, timeout=1)
    assert ending(plain) == (Outcome.DOWN, Reason.TLS, "tls")


@pytest.mark.shows("imap", "too-slow")
async def test_a_slow_run_is_too_slow(mail: Mail) -> None:
    """And says which phase took longest."""
    result = await run(KIND, mail.imap, {**PLAIN, "expect": {"slower_than": "0ms"}})
    assert (result.outcome, result.reason) == (Outcome.DOWN, Reason.TOO_SLOW)


async def _leave_nothing(mail: Mail, login: dict[str, Any]) -> tuple[int, int]:
    await run(KIND, mail.imap, login)
    before = open_files()
    async with web.serving(imap_script({"CAPABILITY": ""}), before_request=True) as silent:
        before = open_files()
        results = await asyncio.gather(
            *(run(KIND, mail.imap, {**login, "mailbox": "INBOX"}) for _ in range(5)),
            *(run(KIND, mail.imap, {**login, "password": "wrong"}, timeout=20) for _ in range(3)),
            *(run(KIND, f"127.0.0.1:{silent.port}", PLAIN, timeout=0.2) for _ in range(3)),
        )
        assert {result.outcome for result in results[:5]} == {Outcome.UP}
        return before, await settle(before)


async def test_nothing_stays_open(mail: Mail, login: dict[str, Any]) -> None:
    """After good runs, refused ones and cancelled ones."""
    before, after = await _leave_nothing(mail, login)
    assert after <= before


def test_nothing_stays_open_on_uvloop(mail: Mail, login: dict[str, Any]) -> None:
    """The service's loop."""
    before, after = uvloop.run(_leave_nothing(mail, login))
    assert after <= before


@pytest.mark.shows("imap", "broken")
async def test_the_policy_is_asked() -> None:
    """Before anything is connected to."""
    async with web.serving(web.silent, before_request=True) as server:
        result = await run(KIND, f"127.0.0.1:{server.port}", PLAIN, reach=Reach(refuse=OWN_HOST))
    assert (result.outcome, result.reason, server.connections) == (Outcome.BROKEN, Reason.POLICY, 0)


WHO = {"username": "a", "password": "b"}
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a b", {}, "target 'a b': 'a b' is not a host name"),
    (
        "mail.test",
        {"tls": "none", "ca_file": "x"},
        "ca_file, server_name, verify, certificate and key are for TLS: leave out `tls: none`",
    ),
    ("mail.test", {"password": "a"}, "username and password belong together: give both or none"),
    ("mail.test", {**WHO, "search": "ALL"}, "search: give the `mailbox` to look into"),
    ("mail.test", {"expect": {"unseen": {"above": 1}}}, "expect.unseen: give the `mailbox` to look into"),
    ("mail.test", {"mailbox": "INBOX"}, "mailbox: only who is logged in has one: give `username` and `password`"),
    ("mail.test", {**WHO, "mailbox": "a\tb"}, "mailbox: 'a\\tb' is no name of a mailbox"),
    ("mail.test", {**WHO, "mailbox": "a", "expect": {"found": {"above": 1}}}, "expect.found: give the `search`"),
    (
        "mail.test",
        {**WHO, "mailbox": "a", "expect": {"messages": {}}},
        "expect.messages: give equals, matches, above or below",
    ),
    (
        "mail.test",
        {**WHO, "mailbox": "a", "search": "ALL\r\ns9 DELETE INBOX"},
        "search: IMAP's words are printable ASCII on one line, without literals",
    ),
    (
        "mail.test:993",
        {"expect": {"no_plain_login": True}},
        "expect.no_plain_login: with implicit TLS there is no connection without TLS to look at",
    ),
    (
        "mail.test",
        {"tls": "none", "expect": {"certificate_expires_within": "1d"}},
        "expect.certificate_expires_within: there is no certificate with `tls: none`",
    ),
    ("mail.test", {"expect": {"greeting": "("}}, "expect.greeting: '(' is not an RE2 expression: missing ): ("),
]


@pytest.mark.parametrize(("target", "options", "message"), MISTAKES)
def test_a_mistake_is_one_clear_sentence_before_anything_runs(
    target: str, options: dict[str, Any], message: str
) -> None:
    """`build` raises it."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_of(KIND, target, options)
