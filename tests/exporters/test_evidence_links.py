"""An alert with a picture, a video and a trace brings their addresses to people, whatever they are told by."""

import json
from dataclasses import replace

from stormwatch.exporters.channel import Sending
from stormwatch.exporters.mail import compose
from stormwatch.exporters.message import text_of
from stormwatch.exporters.pagerduty import event
from stormwatch.exporters.slack import content
from stormwatch.exporters.teams import request
from stormwatch.exporters.webhook import payload
from tests.exporters.dispatching import START
from tests.exporters.test_channels import ALERT, FIRST
from tests.servers.pagerduty import KEY, wrong

LINKS = {
    "picture": "https://stormwatch.example/artifacts/checkout/run/page.png",
    "video": "https://stormwatch.example/artifacts/checkout/run/video.webm",
    "trace": "https://stormwatch.example/artifacts/checkout/run/trace.zip",
}
TOLD = replace(ALERT, annotations={**ALERT.annotations, **LINKS})
MESSAGE = replace(FIRST, alerts=(TOLD,))
SENDING = Sending(message=MESSAGE, now=START)


def test_pagerduty_has_them_as_links() -> None:
    """Beside those that it always has, and still an event that PagerDuty takes."""
    document = event(TOLD, MESSAGE, KEY)

    assert wrong(document) == ""
    assert {each["href"] for each in document["links"]} >= {*LINKS.values()}


def test_teams_has_them_as_buttons() -> None:
    """With a title each."""
    card = json.dumps(request(SENDING))

    for what, address in LINKS.items():
        assert f'"title": "{what.capitalize()}", "url": "{address}"' in card


def test_slack_mail_and_plain_text_have_them_as_facts() -> None:
    """In full, so that they can be followed; in the mail's HTML they are links."""
    mail = compose(SENDING, sender="storm@x.test", to=["ada@x.test"])
    html = mail.get_body(("html",))
    assert html

    for what, address in LINKS.items():
        assert f"• {what}: {address}" in json.dumps(content(SENDING), ensure_ascii=False)
        assert f"  {what}: {address}" in text_of(MESSAGE)
        assert f'<a href="{address}">' in html.get_content()


def test_a_webhook_has_them_as_annotations() -> None:
    """Each an address and nothing else, as Alertmanager has them."""
    annotations = payload(MESSAGE, receiver="x")["alerts"][0]["annotations"]

    assert LINKS.items() <= annotations.items()


def test_an_alert_without_evidence_links_to_none() -> None:
    """No empty buttons, no empty facts."""
    document = event(ALERT, FIRST, KEY)

    assert [each["text"] for each in document["links"]] == ["Runbook", "Dashboard", "Status page"]
    assert "picture" not in text_of(FIRST)
