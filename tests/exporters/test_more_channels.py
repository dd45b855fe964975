"""Teams, SMS and Apprise: what their receivers take, what they say when they do not, and what is never said twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.exporters import sms
from stormwatch.exporters.apprise_channel import AppriseChannel, is_known
from stormwatch.exporters.channel import Channel, Failed, Refused, Sending
from stormwatch.exporters.dispatcher import Line
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.sms import SmsChannel, fitted, septets
from stormwatch.exporters.sms_gateway import Gateway
from stormwatch.exporters.teams import TeamsChannel, request
from tests.exporters.dispatching import START, alert, started
from tests.exporters.test_alertmanager import until
from tests.exporters.test_channels import ALERT, FIRST, OVER
from tests.servers.process import free_port
from tests.servers.receiver import Receiver
from tests.servers.service import Answer, AnyService
from tests.servers.sms import ACCOUNT, PASSWORD, TOKEN, SmsGateway, parts
from tests.servers.teams import Teams

ADA, BOB = "+4915112345678", "+4915187654321"
MANY = replace(
    FIRST,
    alerts=tuple(
        replace(
            ALERT,
            labels={**ALERT.labels, "probe": f"shop-{number}"},
            annotations={f"fact_{count}": "ü" * 3000 for count in range(9)},
        )
        for number in range(60)
    ),
)


async def test_teams_shows_a_card() -> None:
    """State, facts and links; what a target said cannot hide a link; the id of the run is kept."""
    with Teams() as service:
        channel = TeamsChannel("teams", url=service.url)
        hostile = replace(ALERT, annotations={**ALERT.annotations, "summary": "see [here](http://evil.test)"})
        receipt = await channel.send(Sending(message=replace(FIRST, alerts=(hostile,)), now=START))
        await channel.send(Sending(message=OVER, now=START + 60))
        await channel.aclose()

    assert receipt.reference == "0858000001"
    assert service.cards[0]["body"][0]["text"] == "\\[FIRING\\] page: ProbeDown: shop"
    assert service.cards[0]["body"][0]["color"] == "attention"
    assert "summary: see \\[here\\](http://evil.test)" in service.texts(0)
    assert [each["title"] for each in service.cards[0]["actions"]] == ["Runbook", "Dashboard", "Status page"]
    assert service.cards[1]["body"][0]["color"] == "good"


async def test_a_card_for_teams_is_never_too_large() -> None:
    """Alerts are left out until it fits; the title goes through where less is taken than documented."""
    with Teams() as service:
        channel = TeamsChannel("teams", url=service.url)
        whole = await channel.send(Sending(message=MANY, now=START))
        assert whole.said == "status 202"
        service.most_bytes = 1500
        smaller = await channel.send(Sending(message=MANY, now=START))
        service.most_bytes = 10
        with pytest.raises(Refused, match="status 413"):
            await channel.send(Sending(message=MANY, now=START))
        await channel.aclose()

    assert "shop-0" in service.texts(0)
    assert "more" in service.texts(0)
    assert "its title was taken" in smaller.said
    assert service.texts(1).startswith("\\[FIRING\\] page: ProbeDown: shop-0, shop-1, shop-2 and 57 more")
    assert len(str(request(Sending(message=MANY, now=START)))) < 28_000


@pytest.mark.parametrize(
    ("answer", "failure", "wait"),
    [
        (Answer(429, "slow down", {"Retry-After": "17"}), Failed, 17),
        (Answer(502, "NoResponse"), Failed, 0),
        (Answer(200, "Webhook message delivery failed with error: HTTP error 429"), Failed, 0),
        (Answer(401, '{"error":{"code":"DirectApiAuthorizationRequired"}}'), Refused, 0),
        (Answer(how="reset"), Failed, 0),
    ],
)
async def test_teams_says_why_not(answer: Answer, failure: type[Exception], wait: float) -> None:
    """By status; old connectors by words."""
    with Teams() as service:
        service.before = [answer]
        channel = TeamsChannel("teams", url=service.url)
        with pytest.raises(failure) as caught:
            await channel.send(Sending(message=FIRST, now=START))
        await channel.aclose()
    assert getattr(caught.value, "retry_after", 0) == wait
    assert service.cards == []


def gateway(service: SmsGateway, *, form: bool = False) -> Gateway:
    """How that gateway is spoken to."""
    if not form:
        return Gateway(url=service.url, token=TOKEN)
    fields = {"To": "{{ number }}", "From": "{{ sender }}", "Body": "{{ text }}"}
    return Gateway(url=service.url, username=ACCOUNT, password=PASSWORD, encoding="form", fields=fields)


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
async def test_a_text_message_goes_to_every_number(form: bool) -> None:
    """In one part each, with the gateway's ids as receipt."""
    with SmsGateway(form=form) as service:
        channel = SmsChannel("sms", gateway(service, form=form), numbers=[ADA, BOB], sender="storm")
        receipt = await channel.send(Sending(message=FIRST, now=START))
        await channel.send(Sending(message=MANY, now=START))
        await channel.aclose()

    assert service.messages[:2] == [
        (number, "[FIRING] page: ProbeDown: shop. shop: status: <!channel> wanted 200 & saw 500")
        for number in (ADA, BOB)
    ]
    assert receipt.reference == "SM00000001, SM00000002"
    assert receipt.said == "taken for 2 of 2"


async def test_a_number_that_fails_makes_no_other_hear_it_twice() -> None:
    """Neither in this life, nor, where the gateway knows the key, in the next."""
    with SmsGateway() as service:
        service.before = [Answer(500, "oops")]
        channel = SmsChannel("sms", gateway(service), numbers=[ADA, BOB])
        with pytest.raises(Failed, match="…678: status 500: oops"):
            await channel.send(Sending(message=FIRST, now=START))
        assert [number for number, _ in service.messages] == [BOB]
        await channel.send(Sending(message=FIRST, now=START, in_doubt=True))
        await channel.aclose()
        assert len(service.requests) == 3
        next_life = SmsChannel("sms", gateway(service), numbers=[ADA, BOB])
        await next_life.send(Sending(message=FIRST, now=START, in_doubt=True))
        await next_life.aclose()

    assert sorted(number for number, _ in service.messages) == [ADA, BOB]


async def test_a_gateway_refuses_one_number_or_everything() -> None:
    """One wrong number is in the receipt; a wrong token is a refusal, so that the fallback is told."""
    with SmsGateway() as service:
        service.refused = frozenset({BOB})
        channel = SmsChannel("sms", gateway(service), numbers=[ADA, BOB])
        receipt = await channel.send(Sending(message=FIRST, now=START))
        wrong = SmsChannel("sms", replace(gateway(service), token="old"), numbers=[ADA])
        with pytest.raises(Refused, match="status 401"):
            await wrong.send(Sending(message=FIRST, now=START))
        service.before = [Answer(200, "<html>log in</html>")]
        with pytest.raises(Failed, match="a page, not the answer of a gateway"):
            await channel.send(Sending(message=OVER, now=START))
        await channel.aclose()
        await wrong.aclose()
    assert receipt.said.startswith("taken for 1 of 2; but refused for …321: status 400")


@given(st.text(max_size=400))
def test_any_text_fits_one_message(text: str) -> None:
    """Of the network's alphabet, 160 septets at the most, and something is left of what had letters."""
    made = fitted(text)
    assert parts(made) == 1 or (not made and not text.split())
    assert septets(made) <= sms.LONGEST


def test_what_the_network_cannot_write_is_written_otherwise() -> None:
    """Readable rather than exact."""
    assert fitted("“Müller’s” – 5 € [ok] … 試") == '"Müller\'s" - 5 € [ok] ... ?'
    assert fitted("ç é ș") == "c é s"
    assert fitted("a" * 161) == "a" * 157 + "..."
    assert fitted("[" * 81) == "[" * 78 + "..."


async def test_a_text_message_is_sent_once_for_a_group(tmp_path: Path) -> None:
    """What joins it is not worth one; its end is."""
    with SmsGateway() as service, Receiver() as receiver:
        channel = SmsChannel("sms", gateway(service), numbers=[ADA])
        text = Line(channel=channel, route=Route(channel="sms", group_by=("alertname",)), leaves_out=sms.LEAVES_OUT)
        told = Line(channel=_hook(receiver), route=Route(channel="hook", group_by=("alertname",)))
        async with started(text, told, data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: len(service.messages) == 1, "the first")
            dispatcher.notify(alert(objective="other"))
            await until(lambda: len(receiver.received) == 2, "the second, elsewhere")
            dispatcher.notify(alert(ends_at=START + 9))
            await until(lambda: len(receiver.received) == 3, "the end of one, elsewhere")
            dispatcher.notify(alert(objective="other", ends_at=START + 9))
            await until(lambda: len(service.messages) == 2, "the end")

    assert [text.split()[0] for _, text in service.messages] == ["[FIRING]", "[RESOLVED]"]


async def test_a_fallback_by_text_message_hears_of_an_incident_that_was_news_only(tmp_path: Path) -> None:
    """What it leaves out is only what it was told before."""
    with SmsGateway() as service, AnyService(Answer(200), Answer(400, "gone")) as dying:
        channel = SmsChannel("sms", gateway(service), numbers=[ADA])
        lines = (
            Line(channel=_hook(dying), route=Route(channel="hook", group_by=("alertname",)), fallback="sms"),
            Line(channel=channel, route=Route(channel="sms"), is_told=False, leaves_out=sms.LEAVES_OUT),
        )
        async with started(*lines, data=tmp_path) as dispatcher:
            dispatcher.notify(alert())
            await until(lambda: len(dying.requests) == 1, "the first")
            dispatcher.notify(alert(objective="other"))
            await until(lambda: len(service.messages) == 1, "the news, by text message")
    assert service.messages[0][1].startswith("[FIRING]")


async def test_apprise_tells_every_address() -> None:
    """An address that took it is not told again while another fails; nothing of an address is shown."""
    with Receiver() as receiver, AnyService(Answer(200)) as other:
        other.answers = [Answer(503, "later"), Answer(200)]
        urls = [_address(receiver.url), _address(f"{other.url}/canary-e0f1")]
        channel = AppriseChannel("all", urls=urls)
        with pytest.raises(Failed) as caught:
            await channel.send(Sending(message=FIRST, now=START))
        receipt = await channel.send(Sending(message=FIRST, now=START, in_doubt=True))
        await channel.send(Sending(message=OVER, now=START))

    assert "503" in str(caught.value)
    assert "canary-e0f1" not in str(caught.value)
    assert receipt.said == "taken by 2 of 2"
    assert [(body["title"], body["type"]) for _, body in receiver.received] == [
        ("[FIRING] page: ProbeDown: shop", "failure"),
        ("[RESOLVED] page: ProbeDown: shop", "success"),
    ]
    assert "last_failure: shop: status" in receiver.received[0][1]["message"]


@pytest.mark.parametrize(
    ("answers", "failure"), [([Answer(403, "no")], Refused), ([Answer(500, "oops")], Failed), ([], Failed)]
)
async def test_apprise_says_why_not(answers: Sequence[Answer], failure: type[Exception]) -> None:
    """A status that will not change is a refusal, so that the fallback is told at once."""
    with AnyService(*answers, Answer(200)) as service:
        service.answers = list(answers) or [Answer(how="reset")]
        channel = AppriseChannel("all", urls=[_address(service.url if answers else f"http://127.0.0.1:{free_port()}")])
        with pytest.raises(failure, match="JSON"):
            await channel.send(Sending(message=FIRST, now=START))


def test_apprise_knows_its_services() -> None:
    """So that a slip in an address is found when the configuration is read."""
    assert is_known("json://127.0.0.1/")
    assert not is_known("jsno://127.0.0.1/")


def _address(url: str) -> str:
    return f"json://{url.removeprefix('http://')}"


def _hook(service: Receiver | AnyService) -> Channel:
    from stormwatch.exporters.webhook import WebhookChannel

    return WebhookChannel("hook", service.url)
