"""The status page: what it says, and that nothing anybody said becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.exporters.history import History, Latency
from stormwatch.exporters.picture import bars_of, line_of
from stormwatch.exporters.status import (
    render_overview,
    render_probe,
    show_percent,
    show_seconds,
    show_span,
    verdict,
)
from stormwatch.exporters.view import (
    AlertView,
    ObjectiveView,
    OverviewView,
    ProbeCard,
    ProbeView,
    card_of,
    span_of,
)
from stormwatch.probes.result import Attempt, Measure, Phase
from tests.exporters.sample import (
    NOW,
    broken,
    cards,
    checkout_page,
    down,
    failed_checkout,
    front_page,
    journey_page,
    objectives,
    overview,
    probe,
    up,
)

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements, links and text of a page; fails on elements that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1] == "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What people read, with single spaces."""
        return re.sub(r"\s+", " ", " ".join(self.words))

    def links(self) -> list[str | None]:
        """Where it leads."""
        return [attributes.get("href") for tag, attributes in self.elements if tag == "a"]


def test_the_overview_says_what_is_wrong() -> None:
    """Verdict, alerts with reason and since, each probe with its last failure, budgets."""
    page = Page(render_overview(overview()))

    assert "1 of 5 probes is down: checkout. payments-tls could not be checked." in page.text
    assert "ErrorBudgetBurn" in page.text
    assert "firing for 1 min, since 21 Nov 02:44:10" in page.text
    assert 'step : step "pay": button "Pay" led to "Payments are not available"' in page.text
    assert "last failure 13 h ago: status in processing : wanted status 200, got 502 Bad Gateway" in page.text
    assert "overspent by 42%" in page.text
    assert "probes/checkout" in page.links()
    assert "https://runbooks.example/checkout" in page.links()


def test_nothing_needs_a_script() -> None:
    """The page refreshes by itself and asks nobody for anything; a pattern is a part of the page itself."""
    for html in (render_overview(overview()), render_probe(checkout_page()), render_probe(journey_page())):
        page = Page(html)
        assert not [tag for tag, _ in page.elements if tag == "script"]
        assert {"http-equiv": "refresh", "content": "15"} in [
            attributes for tag, attributes in page.elements if tag == "meta"
        ]
        assert not re.search(r"url\((?!#)|@import|https?://fonts", html)
    assert "refresh" not in render_overview(replace(overview(), refresh=0))


def test_what_is_wrong_comes_first_and_services_are_groups() -> None:
    """Those without a service stand at the end."""
    page = Page(render_overview(overview()))

    names = [href for href in page.links() if href and href.startswith("probes/")]
    assert [*dict.fromkeys(names[3:])][:4] == [
        "probes/checkout",
        "probes/front",
        "probes/shop-dns",
        "probes/payments-tls",
    ]
    assert page.text.index("checkout journey") < page.text.index("payments-tls tls") < page.text.index("Other probes")


def test_the_page_of_a_probe_shows_the_whole_failure() -> None:
    """Steps, evidence, attempts, the picture and the trace."""
    page = Page(render_probe(checkout_page()))

    assert "✗ pay" in page.text
    assert "journeys/test_checkout.py:31" in page.text
    assert "2 attempts" in page.text
    assert "../artifacts/checkout/20261121T024450Z-4bf92f35/trace.zip" in page.links()
    assert "../artifacts/checkout/20261121T024450Z-4bf92f35/page.png" in [
        a.get("src") for t, a in page.elements if t == "img"
    ]


def test_the_page_of_a_probe_that_is_up_still_shows_its_last_failure() -> None:
    """And the facts of its certificate."""
    page = Page(render_probe(front_page()))

    assert "up for 13 h" in page.text
    assert "Last failure" in page.text
    assert "The chain expires in 30 days, on 21 Dec 2026." in page.text
    assert "shop.example, www.shop.example" in page.text


def test_colour_is_never_the_only_sign() -> None:
    """Each state has its own sign and its own shape in the strip."""
    html = render_overview(overview())

    for state, sign in {"up": "✓", "down": "✗", "broken": "?", "waiting": "…"}.items():
        assert f'aria-label="{state}">{sign}<' in html
    heights = set(re.findall(r'<rect class="(up|down|none)"[^>]* height="(\d+)"', html))
    assert {("up", "18"), ("down", "26"), ("none", "3")} == heights
    assert '<path class="broken"' in html


@pytest.mark.parametrize(
    ("states", "sentence", "tone"),
    [
        ([], "Nothing is watched yet.", "waiting"),
        (["up"], "The one probe is up.", "up"),
        (["up"] * 3, "All 3 probes are up.", "up"),
        (["up", "waiting"], "1 of 2 probes is waiting for the first run.", "waiting"),
        (["down", "down", "up"], "2 of 3 probes are down: a and b.", "down"),
        (["down"] * 5, "5 of 5 probes are down: a, b, c and 2 more.", "down"),
        (["broken", "up"], "1 of 2 probes could not be checked: a.", "broken"),
    ],
)
def test_the_verdict_is_one_sentence(states: list[Any], sentence: str, tone: str) -> None:
    """For whoever has one second."""
    probes = [ProbeCard(name="abcdef"[n], kind="web", target="t", state=state) for n, state in enumerate(states)]

    assert (sentence, tone) == verdict(OverviewView(now=NOW, probes=probes))


def test_all_up_is_no_good_verdict_while_alerts_fire() -> None:
    """A budget can burn while everything is up at this moment."""
    view = replace(overview(), probes=cards()[:1], alerts=overview().alerts[:1])

    assert verdict(view) == ("The one probe is up; 1 alert still fires.", "broken")


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='alert(1)",
    "</style><b>",
    "{{ 7*7 }}",
    "&lt;",
]


@pytest.mark.parametrize("said", HOSTILE)
def test_nothing_that_anybody_said_becomes_markup(said: str) -> None:
    """Names, targets, labels, messages, evidence, artifacts, steps, certificates, alerts: all stay text."""
    plain, hostile = (_everywhere(text) for text in ("plain", said))

    for render, view in ((render_overview, 0), (render_probe, 1)):
        expected, page = Page(render(plain[view])), Page(render(hostile[view]))  # type: ignore[operator]
        assert [tag for tag, _ in expected.elements] == [tag for tag, _ in page.elements]
        assert [set(a) for _, a in expected.elements] == [set(a) for _, a in page.elements]
        assert said in "".join(page.words)


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_keeps_the_page_whole(said: str) -> None:
    """Whatever it is, the same elements stand there."""
    expected, page = (Page(render_probe(_everywhere(text)[1])) for text in ("plain", said))

    assert [tag for tag, _ in expected.elements] == [tag for tag, _ in page.elements]


def test_addresses_that_run_something_become_no_links() -> None:
    """Only http and https lead anywhere."""
    evil = "javascript:alert(1)"
    card = replace(cards()[0], target=evil)
    html = render_probe(replace(front_page(), card=card, runbook=evil, dashboard=evil))

    assert not [href for href in Page(html).links() if href and href.startswith("javascript")]
    assert evil in html


def _everywhere(said: str) -> tuple[OverviewView, ProbeView]:
    """Views with a text in every place that can hold one."""
    result = replace(
        failed_checkout(),
        probe=said,
        kind=said,
        target=said,
        message=said,
        failed_phase=said,
        trace_id=said,
        phases=(Phase(said, 1.0, failed=True),),
        measures=(Measure(said, 1.0, {said: said}),),
        evidence={
            said: said,
            "headers": {said: said},
            "list": [said],
            "deep": {"a": [{said: said}]},
            "artifacts": [f"{said}.png", f"{said}.zip"],
            "certificates": [{said: said, "names": [said]}],
        },
        attempts=tuple(
            Attempt(
                started=NOW, seconds=1, outcome=failed_checkout().outcome, reason=failed_checkout().reason, message=said
            )
            for _ in range(2)
        ),
    )
    card = ProbeCard(
        name=said,
        kind=said,
        target=said,
        state="down",
        since=NOW,
        strip=cards()[0].strip,
        latencies=cards()[0].latencies,
        last=result,
        failure=result,
        labels={"service": said, said: said},
        muted_by=said,
    )
    alert = AlertView(
        name=said, severity=said, state=said, since=NOW, subject=said, summary=said, reason=said, message=said, probe=said,
        runbook=said, dashboard=said,
    )  # fmt: skip
    objective = ObjectiveView(name=said, target=said, window=said, left=0.5, good=1, bad=1, asks=said)
    return (
        OverviewView(now=NOW, probes=[card], alerts=[alert], objectives=[objective], location=said),
        ProbeView(
            now=NOW,
            card=card,
            every=1,
            timeout=1,
            failures=[result],
            alerts=[alert],
            objectives=[objective],
            depends_on=(said,),
            runbook=said,
            dashboard=said,
            location=said,
        ),
    )


def test_a_probe_without_any_run_has_a_page() -> None:
    """The first seconds after a start are the first ones that anybody sees."""
    page = Page(render_probe(ProbeView(now=NOW, card=cards()[4], every=15, timeout=5)))

    assert "There was no run yet." in page.text
    assert "None is remembered." in page.text


async def test_a_card_is_filled_from_the_history(tmp_path: Any) -> None:
    """Strip, latencies and uptime over the span that is known."""
    history = History(tmp_path / "history.sqlite", now=lambda: NOW)
    for second in range(90):
        history(down(at=NOW - 90 + second) if second % 10 == 0 else up(at=NOW - 90 + second))
    await history.flush()

    card = card_of(probe(), history, now=NOW, span=span_of(NOW - 90, NOW), last=broken(), since=NOW, failure=down())
    await history.aclose()

    assert (card.state, card.span) == ("broken", 600.0)
    assert card.uptime == 0.9
    assert pytest.approx(card.typical) == 0.182
    assert sum(part.worst is not None for part in card.strip) == 11


@pytest.mark.parametrize(
    ("known", "span"), [(None, 600), (30, 600), (601, 3600), (7200, 21600), (80000, 86400), (9e6, 86400)]
)
def test_a_strip_covers_what_is_known(known: float | None, span: float) -> None:
    """Minutes must not be a speck at the end of a day."""
    assert span == span_of(None if known is None else NOW - known, NOW)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show_seconds(0.0004), "0.4 ms"),
        (show_seconds(0.0821), "82 ms"),
        (show_seconds(0.9996), "1.00 s"),
        (show_seconds(12.345), "12.3 s"),
        (show_span(59.9), "59 s"),
        (show_span(3600), "1 h"),
        (show_span(86400), "24 h"),
        (show_span(200000), "2 days"),
        (show_percent(0.99999), "99.99%"),
        (show_percent(1), "100%"),
    ],
)
def test_numbers_are_written_for_people(shown: str, text: str) -> None:
    """Nothing that is below a hundred percent is shown as a hundred."""
    assert text == shown


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    """A straight line over an outage would be an invention."""
    values = [1.0, 2.0, None, 1.0, None, 2.0, 2.0]
    line = line_of([Latency(n, mean) for n, mean in enumerate(values)], width=60, height=22)

    assert line.path == "M0 12 L10 2 M50 2 L60 2"
    assert line.dots == ((30, 12),)
    assert line.end == (60, 2)
    assert line_of([], width=60, height=22).end is None


def test_bars_of_a_waterfall_lie_where_the_phases_were() -> None:
    """A run of no length has bars all the same."""
    first, second = bars_of([Phase("resolve", 1.0), Phase("connect", 3.0, 1.0, failed=True)], 2.0)

    assert [(bar.left, bar.width) for bar in (first, second)] == [(0.0, 25.0), (25.0, 75.0)]
    assert [(bar.left, bar.width) for bar in bars_of([Phase("resolve", 0.0)], 0.0)] == [(0.0, 0.0)]


def test_budgets_say_what_is_left() -> None:
    """Never more than the bar holds, never a rounded-up hundred."""
    page = Page(render_overview(replace(overview(), objectives=objectives())))

    assert "87% left" in page.text
    assert "8% left" in page.text
    assert "31 of 21,601 were bad" in page.text
