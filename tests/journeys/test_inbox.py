"""The inbox, against a real dovecot: only what is new, found by what it says, and read whatever it holds."""

import base64
import socket
import threading
import time
from collections.abc import Generator
from email.message import EmailMessage
from pathlib import Path

import pytest

from stormwatch.journeys.inbox import Inbox, NoMail, read_mail
from tests.servers.backends import CANARY
from tests.servers.certificates import Authority
from tests.servers.mail import USER, Mail, mail_server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Test Authority")


@pytest.fixture(scope="module")
def mail(authority: Authority) -> Generator[Mail]:
    with mail_server(authority.issue("127.0.0.1")) as server:
        yield server


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


def message(to: str, subject: str, text: str, rich: str = "") -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Shop <noreply@shop.test>", to, subject
    made.set_content(text)
    if rich:
        made.add_alternative(rich, subtype="html")
    return bytes(made)


@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_what_was_there_before_is_not_waited_for_and_what_comes_is_found_by_what_it_says(
    mail: Mail, trusted: None, scheme: str
) -> None:
    mail.empty()
    mail.put(message("ada@shop.test", "Your code", "It is 111111."), "old")
    box = Inbox.open(f"{scheme}://{USER}@{getattr(mail, scheme)}/INBOX", CANARY)
    try:
        with pytest.raises(NoMail, match=r"no mail to 'ada@shop.test' came within 0.1 s; none came at all"):
            box.wait(to="ada@shop.test", within=0.1)

        def deliver() -> None:
            mail.put(message("bob@shop.test", "Your code", "It is 222222."), "other")
            rich = '<a href="https://shop.test/reset?a=1&amp;b=2">here</a>'
            mail.put(message("Ada <ADA@shop.test>", "Your CODE", "It is 333333, or http://shop.test/x", rich), "wanted")

        later = threading.Timer(0.3, deliver)
        later.start()
        found = box.wait(to="ada@shop.test", subject="your code", sender="shop", within=30, every=0.05)
        later.join()
        assert (found.code(), found.code(r"is (\d)")) == ("333333", "3")
        assert found.link("/reset") == "https://shop.test/reset?a=1&b=2"
        assert found.links == ("https://shop.test/reset?a=1&b=2", "http://shop.test/x")
        assert box.wait(matching=lambda each: "222222" in each.text).recipients.startswith("bob@shop.test")
        with pytest.raises(NoMail, match=r"subject 'Invoice' came within 0.1 s; what came: 'Your code', 'Your CODE'"):
            box.wait(subject="Invoice", within=0.1)
        with pytest.raises(AssertionError, match="'Your CODE' has nothing that fits"):
            found.code(r"\d{9}")
        with pytest.raises(AssertionError, match="'Your CODE' has no link with '/invoice' in it; it has 2 links"):
            found.link("/invoice")
    finally:
        box.close()
    assert not any("S" in path.name.partition(":2,")[2] for path in mail.messages()), "nobody sees that we read them"


def test_what_is_ours_to_mend_is_a_usage_error_without_the_password(mail: Mail, trusted: None) -> None:
    for address, password, said in (
        (f"imaps://{USER}@{mail.imaps}/INBOX", "wrong" + CANARY, "could not be opened: .*uthentication failed"),
        (f"imaps://{USER}@{mail.imaps}/Nowhere", CANARY, "the mailbox has no folder 'Nowhere'"),
        (f"imaps://{USER}:{CANARY}@127.0.0.1:1/INBOX", CANARY, "could not be opened: .*refused"),
        (f"https://{CANARY}@127.0.0.1/", CANARY, "an inbox is written imaps://user@host/INBOX, not https://127.0.0.1"),
    ):
        with pytest.raises(pytest.UsageError, match=said) as caught:
            Inbox.open(address, password)
        assert CANARY not in str(caught.value)


def test_a_server_without_trust_or_without_an_answer_is_no_inbox(mail: Mail) -> None:
    with pytest.raises(pytest.UsageError, match="certificate verify failed"):
        Inbox.open(f"imaps://{USER}@{mail.imaps}", CANARY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(pytest.UsageError, match="timed out"):
            Inbox.open(f"imap://{USER}@127.0.0.1:{silent.getsockname()[1]}", CANARY, timeout=0.2)
        assert time.monotonic() - began < 20


def test_a_mail_that_is_only_html_is_read_as_a_person_does() -> None:
    rich = "<style>p { color: #123456 }</style><p>Your code:\n<b>7890</b></p><a href='http://a.test/'>x</a>"
    made = EmailMessage()
    made.set_content(rich, subtype="html")
    found = read_mail(bytes(made))
    assert (found.text, found.code(), found.links) == ("Your code: 7890 x", "7890", ("http://a.test/",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\0",
        b"Subject: =?x-unknown?q?a?=\r\nContent-Type: text/plain; charset=x-unknown\r\n\r\n\xff",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: text/html\r\n\r\n<a href='\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!" + base64.b64encode(b"\xff"),
        b'To: "<@@>\r\n' + b"From: " + b"a" * 5000 + b"\r\n\r\n",
        Path(__file__).read_bytes(),
    ],
)
def test_a_mail_may_hold_anything(data: bytes) -> None:
    assert read_mail(data).links is not None
