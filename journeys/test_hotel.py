"""A new customer finds a room, reads what guests say of it, and books it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.page_errors import PageErrors
from stormwatch.journeys.step import Steps


@pytest.mark.journey
def test_hotel(page: Page, step: Steps, register: Callable[[], None], page_errors: PageErrors) -> None:
    """Register, search by city, read the ratings, book two nights."""
    with step("register"):
        register()

    with step("search"):
        page.get_by_role("link", name="Hotels").click()
        page.get_by_label("City").fill("Lisbon")
        page.get_by_label("Nights").fill("2")
        page.get_by_role("button", name="Search hotels").click()
        hotel = page.get_by_role("article").filter(has_text="Casa do Vento")
        expect(hotel.get_by_text("€188.00")).to_be_visible()

    # Soft: the ratings are another company's. Without them a room can be booked, and somebody is to know.
    with step("ratings", soft=True):
        page_errors.check()
        expect(hotel.get_by_text("of 5, by")).to_be_visible()

    with step("book"):
        book = hotel.get_by_role("button", name="Book")
        expect(book).to_be_visible()
        book.click()
        expect(page.get_by_role("heading", name="Booking confirmed")).to_be_visible()
        expect(page.get_by_text("2 nights, €188.00")).to_be_visible()
