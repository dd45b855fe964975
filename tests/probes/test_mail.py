"""What the mail kinds are made of: replies, responses, messages and their headers. No network."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.imap import read_internal_date
from stormwatch.probes.imap_response import (
    Response,
    literal_size,
    mailbox_name,
    numbers,
    pairs,
    quoted,
    read_response,
)
from stormwatch.probes.mail_message import Template, new_identity, owner_tag, read_header, sent_at
from stormwatch.probes.smtp_reply import Reply, extensions, offers, read_line, read_reply
from stormwatch.probes.smtp_session import stuffed

NEAR_SMTP = st.lists(st.sampled_from([b"250", b"2", b"-", b" ", b"\r\n", b"STARTTLS", b"\xff", b"999", b"AUTH="])).map(
    b"".join
)
NEAR_IMAP = st.lists(
    st.sampled_from(
        [
            b"* ",
            b"s1 ",
            b"+ ",
            b"OK ",
            b"FETCH ",
            b"12 ",
            b"(",
            b")",
            b'"',
            b"\\",
            b"[",
            b"]",
            b"{3}\r\n",
            b"abc",
            b"NIL",
            b"\r\n",
            b"BODY[HEADER] ",
            b"\xff",
            b"{99999999999}\r\n",
            b" ",
        ]
    )
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=40) | NEAR_SMTP, max_size=4))
def test_any_bytes_are_a_reply_of_smtp_or_are_refused(lines: list[bytes]) -> None:
    """And nothing else happens."""
    try:
        reply = read_reply(lines)
    except ProbeFailed:
        return
    assert 200 <= reply.code <= 599
    assert len(reply.lines) == len(lines)
    assert str(reply).isprintable()
    for each in extensions(reply):
        assert offers(extensions(reply), each)


def test_replies_of_several_lines() -> None:
    """As servers have them, also such that end their lines in their own way."""
    lines = [b"250-mx.shop.test\r\n", b"250-auth=LOGIN plain\n", b"250-SIZE 1000\r\n", b"250\r\n"]
    reply = read_reply(lines)
    assert extensions(reply) == ("AUTH LOGIN PLAIN", "SIZE 1000")
    assert [offers(extensions(reply), each) for each in ("auth plain", "SIZE", "AUTH NTLM", "DSN")] == [
        True,
        True,
        False,
        False,
    ]
    assert read_line(b"250-more\r\n") == (250, "more", True)
    with pytest.raises(ProbeFailed, match="the lines of one reply have the codes 220, 250"):
        read_reply([b"250-a\r\n", b"220 b\r\n"])
    with pytest.raises(ProbeFailed, match=r"the server said 'HTTP/1\.1 400', which is no reply of SMTP"):
        read_line(b"HTTP/1.1 400\r\n")
    assert Reply(450, ("4.2.0 later",)).temporary


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | NEAR_IMAP)
def test_any_bytes_are_a_response_of_imap_or_are_refused(data: bytes) -> None:
    """And nothing else happens."""
    try:
        literal_size(data)
        response = read_response(data)
    except ProbeFailed:
        return
    assert isinstance(response, Response)
    assert all(number >= 0 for number in numbers(response.values))
    assert all(isinstance(name, str) for name in pairs(response.values))


RESPONSES = [
    (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", Response("*", "OK", code="CAPABILITY IMAP4REV1", text="ready")),
    (
        b"s1 NO [AUTHENTICATIONFAILED] wrong\r\n",
        Response("s1", "NO", code="AUTHENTICATIONFAILED", text="wrong"),
    ),
    (b"+ go on\r\n", Response("+", "", text="go on")),
    (b"+\r\n", Response("+", "")),
    (b"* 12 EXISTS\r\n", Response("*", "EXISTS", 12)),
    (b"* SEARCH 1 2 30\r\n", Response("*", "SEARCH", values=(b"1", b"2", b"30"))),
    (
        b"* 1 FETCH (UID 7 BODY[HEADER.FIELDS (FROM TO)] {6}\r\na) b\r\n FLAGS () X NIL)\r\n",
        Response(
            "*",
            "FETCH",
            1,
            values=((b"UID", b"7", b"BODY[HEADER.FIELDS (FROM TO)]", b"a) b\r\n", b"FLAGS", (), b"X", None),),
        ),
    ),
    (
        rb'* LIST (\HasNoChildren) "." "a \"b\" \\c"' + b"\r\n",
        Response("*", "LIST", values=((rb"\HasNoChildren",), b".", rb'a "b" \c')),
    ),
    (b"* X {2}\r\n\r\n\r\n", Response("*", "X", values=(b"\r\n",))),
]


@pytest.mark.parametrize(("data", "response"), RESPONSES)
def test_responses(data: bytes, response: Response) -> None:
    """With every form of value."""
    assert read_response(data) == response


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"* ", b"* 1 FETCH (", b"* 1 FETCH )", b'* X "a', b"s1 FETCH x", b"* X {9}\r\nabc\r\n"]
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    """With the beginning of what came."""
    with pytest.raises(ProbeFailed, match="which is no response of IMAP"):
        read_response(data)


def test_lists_within_lists_end_somewhere() -> None:
    """Depth costs a stack."""
    assert read_response(b"* X " + b"(" * 32 + b")" * 32).values
    with pytest.raises(ProbeFailed):
        read_response(b"* X " + b"(" * 100_000)


def test_the_head_of_a_literal() -> None:
    """Also of those that do not wait, and of those that are too large."""
    assert literal_size(b"* 1 FETCH (BODY[] {12}\r\n") == 12
    assert literal_size(b"* 1 FETCH (BODY[] {12+}\r\n") == 12
    assert literal_size(b"* 1 FETCH (BODY[] {12} \r\n") is None
    with pytest.raises(ProbeFailed, match="a literal of 1048577 bytes, 1048576 at most are read"):
        literal_size(b"x {1048577}\r\n")


def test_names_of_mailboxes() -> None:
    """The examples of RFC 3501."""
    assert mailbox_name("INBOX") == '"INBOX"'
    assert mailbox_name("~peter/mail/台北/日本語") == '"~peter/mail/&U,BTFw-/&ZeVnLIqe-"'
    assert mailbox_name('a&b "c"') == r'"a&-b \"c\""'
    with pytest.raises(ValueError, match="is no name of a mailbox"):
        mailbox_name("a\r\nb")
    with pytest.raises(ValueError, match="only ASCII"):
        quoted("ä")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b".", b"\r\n", b"a", b"\n", b"\r", b"..", b"\xff"])).map(b"".join))
def test_dots_come_back_as_they_went(message: bytes) -> None:
    """A receiver takes one off where a line begins with one; no line is a dot alone."""
    wire = stuffed(message)
    lines = wire.split(b"\r\n")
    assert b"." not in lines
    assert wire == b"" or wire.endswith(b"\r\n")
    back = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    as_sent = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert back.removesuffix(b"\r\n") == as_sent.removesuffix(b"\r\n")


def test_a_message_is_seven_bits_wide_and_has_its_id_three_times() -> None:
    """In Message-ID and in a field of its own; subject and text in any language."""
    identity = new_identity(owner_tag("shop mail"), 1_700_000_000.9, "abcdef")
    message = Template.of("a@shop.test", "b@shop.test", "Grüße", "Zeile\n.\n" + "x" * 2000 + "ß").message(
        identity, 1_700_000_000.9
    )
    assert message.isascii()
    assert max(map(len, message.split(b"\r\n"))) <= 998
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert message.startswith(b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n")
    assert f"Message-ID: <{identity}@shop.test>".encode() in message
    assert read_header(message).identity == identity
    assert sent_at(identity, owner_tag("shop mail")) == 1_700_000_000
    assert sent_at(identity, owner_tag("other")) is None
    assert sent_at("nonsense", owner_tag("other")) is None


def test_the_way_of_a_message() -> None:
    """From the oldest field, which stands last, to the newest; a clock that runs behind shows as less than nothing."""
    header = read_header(
        b"Received: from b by c.test; Tue, 14 Nov 2023 22:13:29 +0000\r\n"
        b"Received: from a by b.test with ESMTP (x; y)\r\n id 7; Tue, 14 Nov 2023 23:13:20 +0100 (CET)\r\n"
        b"Received: by a.test; nonsense\r\n"
        b"Authentication-Results: c.test; spf=pass\r\n\r\nReceived: by nobody; never\r\n"
    )
    assert [hop.by for hop in header.hops] == ["a.test", "b.test", "c.test"]
    assert header.seconds == 9
    assert [each["seconds"] for each in header.as_evidence()] == [None, None, 9]
    assert header.authentication == "c.test; spf=pass"
    assert read_header(b"Received: x\r\n\r\n").seconds is None


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from([b"Received: ", b"by a;", b"\r\n", b" ", b"Tue, 14 Nov 99999 22:13:20 +9999", b"(", b"X", b":"])
    ).map(b"".join)
)
def test_any_bytes_are_a_header(data: bytes) -> None:
    """What cannot be read is left out."""
    header = read_header(data)
    assert len(header.as_evidence()) <= 50
    assert header.seconds is None or isinstance(header.seconds, float)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.none())
def test_any_bytes_are_a_date_or_none(data: bytes | None) -> None:
    """INTERNALDATE."""
    moment = read_internal_date(data)
    assert moment is None or isinstance(moment, float)


def test_dates_of_mailboxes() -> None:
    """RFC 9051: a day of one digit has a space before it."""
    assert read_internal_date(b"17-Jul-1996 02:44:25 -0700") == 837596665
    assert read_internal_date(b" 7-Jul-1996 02:44:25 -0700") == 837596665 - 10 * 86400
    assert read_internal_date(b"7-Foo-1996 02:44:25 -0700") is None
