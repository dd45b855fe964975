"""Templates: small, safe, found wrong when they are read, and never a reason to keep a message back."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from stormwatch.exporters.dispatcher import Line as ChannelLine
from stormwatch.exporters.grouping import Route
from stormwatch.exporters.slack import SlackChannel
from stormwatch.exporters.template import LONGEST_BODY, Line, TemplateMistake, Templates, line_of, values_of
from tests.exporters.dispatching import alert, started
from tests.exporters.test_alertmanager import until
from tests.exporters.test_channels import ALERT, FIRST
from tests.servers.slack import CHANNEL, TOKEN, Slack


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ status|upper }}: {{ alerts[0].subject }} of {{ alerts[0].labels.team }}", "FIRING: shop of web"),
        ("{% for each in alerts %}{{ loop.index }}. {{ each.name }} {% endfor %}", "1. ProbeDown "),
        ("{% if severity == 'page' and status != 'resolved' %}call{% else %}read{% endif %}", "call"),
        ("{{ alerts[0].labels.owner|default('nobody') }}", "nobody"),
        ("{% if alerts[0].labels.owner is defined %}owned{% endif %}", ""),
        ("{% for name, value in group|dictsort %}{{ name }}={{ value }}{% endfor %}", "alertname=ProbeDown"),
        ("{{ alerts[0].annotations['summary']|replace('down', 'gone')|truncate(6) }}", "sho..."),
        ("{{ count }} {{ why }} {{ page }}", "1 first http://127.0.0.1:9797/"),
    ],
)
def test_a_template_says_what_it_is_told(source: str, said: str) -> None:
    """Expressions, filters, `if` and `for`."""
    assert line_of(source, longest=500).render(values_of(FIRST)) == said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ nope }}", "it knows no nope; there are alerts, count"),
        ("{{ status.nope }}", "no attribute 'nope'"),
        ("one\n{% if status %}", "line 2 of it: "),
        ("{{ alerts[0].labels.items() }}", "call is not part of this template language"),
        ("{{ ''.__class__ }}", "has no attribute '__class__'"),
        ("{{ alerts.__len__ }}", "has no attribute '__len__'"),
        ("{{ 'a' * 1000000000 }}", "mul is not part"),
        ("{{ title|center(1000000000) }}", "there is no filter center; there are capitalize"),
        ("{% set a = 1 %}", "assign is not part"),
        ("{% include 'secrets' %}", "include is not part"),
        ("{% macro m() %}{% endmacro %}", "macro is not part"),
        (
            "{% for a in alerts %}{% for b in alerts %}{% for c in alerts %}x{% endfor %}{% endfor %}{% endfor %}",
            "2 deep",
        ),
        ("{{ 1 if status is divisibleby(2) }}", "there is no test divisibleby"),
        ("x" * 8001, "8,001 characters; 8,000 are allowed"),
        (f"{{{{ 'a'|replace('a', '{'a' * 2000}')|replace('a', '{'a' * 2000}') }}}}", "longer than 20,000"),
    ],
)
def test_a_wrong_template_is_found_when_it_is_read(source: str, said: str) -> None:
    """With the line in it, and nothing of Python within reach."""
    with pytest.raises(TemplateMistake) as caught:
        line_of(source, longest=500)
    assert said in str(caught.value)


def test_what_comes_out_has_an_end() -> None:
    """However much there is to loop over, and soon."""
    many = replace(FIRST, alerts=tuple(replace(ALERT, annotations={"summary": "x" * 5000}) for _ in range(2000)))
    began = time.process_time()
    line = Line("{% for a in alerts %}{% for b in alerts %}{{ b.annotations.summary }}{% endfor %}{% endfor %}")
    assert len(line.render(values_of(many))) == LONGEST_BODY
    assert time.process_time() - began < 2


def test_a_template_that_fails_for_one_message_tells_the_standard_text() -> None:
    """And says so: a label that this alert has not, keeps nobody asleep."""
    templates = Templates(title=line_of("{{ alerts[0].labels.owner }}", longest=500))
    words = templates.words(FIRST)
    assert words.title == ""
    assert "last_failure: shop: status" in words.body
    assert "the template of this channel failed, so this is the standard text" in words.body
    assert "owner" in words.trouble


async def test_a_channel_speaks_in_its_own_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On the real way; the trouble is logged once, not for each message."""
    templates = Templates(
        title=line_of("{{ alerts[0].subject }} burns", longest=500),
        body=line_of("owner: {{ alerts[0].labels.owner }}", longest=500),
    )
    with Slack() as service:
        channel = SlackChannel("slack", token=TOKEN, channel=CHANNEL, api=service.url)
        channel.pause = 0.0
        line = ChannelLine(channel=channel, route=Route(channel="slack", group_by=None), templates=templates)
        async with started(line, data=tmp_path) as dispatcher:
            owned = alert()
            dispatcher.notify(replace(owned, labels={**owned.labels, "owner": "ada"}))
            await until(lambda: len(service.roots) == 1, "the first")
            dispatcher.notify(alert())
            dispatcher.notify(alert(objective="third"))
            await until(lambda: len(service.roots) == 3, "the others")

    first, second, _ = service.roots
    assert first["text"] == "checkout-availability burns"
    assert "owner: ada" in str(first["attachments"])
    assert second["text"] == "[FIRING] page: ErrorBudgetBurn: checkout-availability"
    assert "this is the standard text" in str(second["attachments"])
    assert caplog.text.count("the template of this channel failed") == 1
