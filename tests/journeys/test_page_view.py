"""What a page says of itself is data from outside: it is read where it makes sense, and never believed to be well formed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.journeys.page_view import KEPT, PageView, PageViews


def said(known: Any, *, name: str = "a", url: str = "https://shop.test/cart?token=secret") -> str:
    return json.dumps({"id": name, "url": url, "known": known})


def test_newer_news_of_a_page_replace_older_ones_and_pages_stay_in_their_order() -> None:
    views = PageViews()
    views.take(said({"ttfb": 12.5, "cls": 0}))
    views.take(said({"ttfb": 30}, name="b", url="https://shop.test/pay"))
    views.take(said({"ttfb": 12.5, "fcp": 80, "lcp": 120.25, "inp": 48, "cls": 0.1, "interactive": 90, "loaded": 150}))
    assert views.views() == (
        PageView(
            url="https://shop.test/cart",
            ttfb=0.0125,
            interactive=0.09,
            loaded=0.15,
            fcp=0.08,
            lcp=0.12025,
            inp=0.048,
            cls=0.1,
        ),
        PageView(url="https://shop.test/pay", ttfb=0.03),
    )
    assert views.views()[1].as_json() == {"url": "https://shop.test/pay", "ttfb": 0.03}


def test_a_run_through_many_pages_tells_of_the_first_ones() -> None:
    views = PageViews()
    for number in range(1000):
        views.take(said({"ttfb": 1}, name=str(number)))
    assert len(views.views()) == KEPT


@pytest.mark.parametrize(
    "lie",
    [
        None,
        17,
        "",
        "[]",
        "{}",
        "[" * 15_000,
        said([]),
        said({}, url="about:blank"),
        said({}, url="https://[::1"),
        json.dumps({"id": [], "url": "https://a.test/", "known": {}}),
        said({"ttfb": 1}) + " " * 20_000,
    ],
)
def test_what_is_no_news_of_a_page_is_left_out(lie: Any) -> None:
    views = PageViews()
    views.take(lie)
    assert views.views() == ()


@pytest.mark.parametrize("value", [-1, 1e9, True, "80", None, [], float("nan"), float("inf")])
def test_what_is_no_number_of_milliseconds_is_not_known(value: Any) -> None:
    views = PageViews()
    views.take(said({"fcp": value, "lcp": 100}))
    assert views.views() == (PageView(url="https://shop.test/cart", lcp=0.1),)


@given(st.text() | st.builds(json.dumps, st.recursive(st.none() | st.floats() | st.text(), st.lists)))
def test_whatever_a_page_says_nothing_is_raised(text: str) -> None:
    PageViews().take(text)


@given(st.dictionaries(st.sampled_from(["ttfb", "fcp", "lcp", "cls", "inp", "x"]), st.floats() | st.text() | st.none()))
def test_whatever_numbers_it_says_those_that_are_kept_are_sane(known: dict[str, Any]) -> None:
    views = PageViews()
    views.take(said(known))
    (view,) = views.views()
    assert all(0 <= value < 1e9 for name, value in view.as_json().items() if name != "url")
