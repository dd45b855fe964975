"""Slack, PagerDuty and mail get the payloads that they take, and everything a person needs stands in them."""

from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.exporters.channel import Failed, Refused, Sending
from stormwatch.exporters.mail import MailChannel, MailServer
from stormwatch.exporters.message import Message, Why
from stormwatch.exporters.notification import Notification
from stormwatch.exporters.pagerduty import event
from stormwatch.exporters.slack import SlackChannel, SlackWebhookChannel
from tests.exporters.dispatching import START
from tests.servers.certificates import Authority
from tests.servers.mailbox import Mailbox
from tests.servers.pagerduty import KEY, wrong
from tests.servers.service import Answer, AnyService
from tests.servers.slack import CHANNEL, TOKEN, Slack

ALERT = Notification(
    labels={"alertname": "ProbeDown", "probe": "shop", "severity": "page", "team": "web"},
    annotations={
        "summary": "shop is down",
        "last_failure": "shop: status: <!channel> wanted 200 & saw 500",
        "runbook_url": "https://runbooks.test/shop",
        "dashboard": "https://dashboards.test/shop",
    },
    starts_at=START,
    generator_url="http://127.0.0.1:9797/probes/shop",
)
FIRST = Message(
    incident="abc",
    sequence=0,
    why=Why.FIRST,
    group={"alertname": "ProbeDown"},
    alerts=(ALERT,),
    news=frozenset({ALERT.fingerprint}),
    page="http://127.0.0.1:9797/",
)
OVER = replace(FIRST, sequence=1, why=Why.RESOLVED, alerts=(replace(ALERT, ends_at=START + 60),))


async def test_slack_keeps_one_message_up_to_date_and_tells_changes_in_its_thread() -> None:
    """And what a target said cannot call everybody in the channel."""
    with Slack() as service:
        channel = SlackChannel("slack", token=TOKEN, channel=CHANNEL, api=service.url)
        first = await channel.send(Sending(message=FIRST, now=START))
        assert first.thread
        await channel.send(Sending(message=OVER, thread=first.thread, now=START + 60))
        await channel.aclose()

    (root,) = service.roots
    assert root["text"] == "[RESOLVED] page: ProbeDown: shop"
    assert "<!channel>" not in str(root)
    assert "&lt;!channel&gt; wanted 200 &amp; saw 500" in str(root)
    assert "https://runbooks.test/shop" in str(root)
    (change,) = [each for each in service.messages.values() if "thread_ts" in each]
    assert change["text"] == "[RESOLVED] page: ProbeDown: shop (resolved)"


@pytest.mark.parametrize(
    ("token", "answer", "failure", "said"),
    [
        ("wrong", None, Refused, "chat.postMessage: invalid_auth"),
        (TOKEN, Answer(200, '{"ok": false, "error": "internal_error"}'), Failed, "internal_error"),
        (TOKEN, Answer(200, "<html>"), Failed, "no answer of Slack"),
        (TOKEN, Answer(429, "", {"Retry-After": "30"}), Failed, "status 429"),
    ],
)
async def test_slack_says_why_not(token: str, answer: Answer | None, failure: type[Exception], said: str) -> None:
    """Status 200 is no success there."""
    with Slack() as service:
        service.before = [answer] if answer else []
        channel = SlackChannel("slack", token=token, channel=CHANNEL, api=service.url)
        with pytest.raises(failure, match=said) as caught:
            await channel.send(Sending(message=FIRST, now=START))
        await channel.aclose()
    assert getattr(caught.value, "retry_after", 0) == (30 if answer and answer.status == 429 else 0)


async def test_an_incoming_webhook_of_slack_says_ok() -> None:
    """Anything else is no success."""
    with AnyService(Answer(200, "ok"), Answer(200, "<html>")) as service:
        channel = SlackWebhookChannel("slack", url=service.url)
        assert (await channel.send(Sending(message=FIRST, now=START))).said == "ok"
        with pytest.raises(Failed, match="no answer of Slack"):
            await channel.send(Sending(message=FIRST, now=START))
        await channel.aclose()
    assert service.requests[0].json["text"] == "[FIRING] page: ProbeDown: shop"


def test_an_event_for_pagerduty_holds_what_a_person_needs() -> None:
    """Links, severity, the last failure; long texts are cut where PagerDuty would refuse them."""
    document = event(ALERT, FIRST, KEY)
    assert wrong(document) == ""
    assert document["payload"]["severity"] == "critical"
    assert document["payload"]["custom_details"]["last_failure"].endswith("wanted 200 & saw 500")
    assert document["payload"]["group"] == "web"
    assert [each["text"] for each in document["links"]] == ["Runbook", "Dashboard", "Status page"]
    long = replace(ALERT, annotations={"summary": "x" * 5000})
    assert wrong(event(long, replace(FIRST, alerts=(long,)), KEY)) == ""


async def test_one_incident_is_one_thread_of_mail(tmp_path: Path) -> None:
    """Over STARTTLS, logged in; text and HTML; a repeated mail has the same Message-ID."""
    authority = Authority(tmp_path, "ca")
    with Mailbox(context=authority.issue("127.0.0.1").server_context(), login="bot:canary-1d") as mailbox:
        server = MailServer(host="127.0.0.1", port=mailbox.port, username="bot", password="canary-1d")
        channel = MailChannel(
            "mail", server, sender="storm@x.test", to=["a@x.test", "b@x.test"], ca_file=authority.file
        )
        receipt = await channel.send(Sending(message=FIRST, now=START))
        await channel.send(Sending(message=FIRST, now=START, in_doubt=True))
        await channel.send(Sending(message=OVER, now=START + 60))

    first, repeated, over = mailbox.mails
    assert first["Message-ID"] == repeated["Message-ID"] == over["References"] == over["In-Reply-To"]
    assert over["Message-ID"] != first["Message-ID"]
    assert first["Message-ID"] in receipt.said
    assert (first["Subject"], first["To"]) == ("[FIRING] page: ProbeDown: shop", "a@x.test, b@x.test")
    plain, html = (first.get_body((kind,)) for kind in ("plain", "html"))
    assert plain
    assert html
    assert "last_failure: shop: status: <!channel> wanted 200 & saw 500" in plain.get_content()
    assert "&lt;!channel&gt;" in html.get_content()
    assert '<a href="https://runbooks.test/shop">' in html.get_content()


@pytest.mark.parametrize(("reply", "failure"), [("550 5.1.1 nobody here", Refused), ("451 4.7.1 greylisted", Failed)])
async def test_a_recipient_may_be_refused_for_now_or_for_good(reply: str, failure: type[Exception]) -> None:
    """By the first digit of the reply."""
    with Mailbox() as mailbox:
        mailbox.refuse = [reply]
        server = MailServer(host="127.0.0.1", port=mailbox.port, tls="none")
        with pytest.raises(failure, match=reply[:3]):
            await MailChannel("mail", server, sender="storm@x.test", to=["a@x.test"]).send(
                Sending(message=FIRST, now=START)
            )


async def test_mail_is_never_sent_in_plain_text_instead(tmp_path: Path) -> None:
    """Neither without STARTTLS nor to a server whose certificate nobody vouches for."""
    with Mailbox() as mailbox:
        server = MailServer(host="127.0.0.1", port=mailbox.port)
        with pytest.raises(Refused, match="does not offer"):
            await MailChannel("mail", server, sender="s@x.test", to=["a@x.test"]).send(
                Sending(message=FIRST, now=START)
            )
    with Mailbox(context=Authority(tmp_path, "ca").issue("127.0.0.1").server_context()) as other:
        server = MailServer(host="127.0.0.1", port=other.port)
        with pytest.raises(Failed, match="CERTIFICATE_VERIFY_FAILED"):
            await MailChannel("mail", server, sender="s@x.test", to=["a@x.test"]).send(
                Sending(message=FIRST, now=START)
            )
    assert mailbox.mails == other.mails == []
