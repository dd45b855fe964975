"""A new customer finds something, buys it, and is thanked for it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.step import Steps

GOOD_CARD = "4242424242424242"


@pytest.mark.journey
def test_checkout(page: Page, step: Steps, register: Callable[[], None]) -> None:
    """Register, search, add to cart, check the total, pay."""
    with step("register"):
        register()

    with step("search"):
        page.get_by_role("link", name="Shop").click()
        page.get_by_role("searchbox", name="Search products").fill("a")
        page.get_by_role("button", name="Search").click()
        product = page.get_by_role("article").first
        price = product.get_by_text("€").inner_text().strip()

    with step("add to cart"):
        product.get_by_role("button", name="Add to cart").click()
        expect(page.get_by_test_id("total")).to_have_text(f"Total {price}")

    with step("pay", budget=7):
        page.get_by_role("link", name="Check out").or_(page.get_by_role("button", name="Check out")).click()
        page.get_by_label("Card number").fill(GOOD_CARD)
        page.get_by_role("button", name="Pay").click()
        # Longer than the budget: a payment that is slow is another failure than one that never comes.
        expect(page.get_by_role("heading", name="Checkout")).to_be_hidden(timeout=20_000)
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        expect(page.get_by_text(f"Paid {price}")).to_be_visible()
