"""A new customer finds something, buys it, and is thanked for it."""

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.step import Steps

GOOD_CARD = "4242424242424242"


@pytest.mark.journey
def test_checkout(page: Page, step: Steps, shop: str, person: dict[str, str]) -> None:
    """Register, search, add to cart, check the total, pay."""
    with step("register"):
        page.goto(shop)
        page.get_by_role("link", name="Register").click()
        page.get_by_label("Name").fill(person["name"])
        page.get_by_label("E-mail").fill(person["e-mail"])
        page.get_by_label("Password").fill(person["password"])
        page.get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", name=f"Welcome, {person['name']}")).to_be_visible()

    with step("search"):
        page.get_by_role("link", name="Shop").click()
        page.get_by_role("searchbox", name="Search products").fill("a")
        page.get_by_role("button", name="Search").click()
        product = page.get_by_role("article").first
        price = product.get_by_text("€").inner_text().strip()

    with step("add to cart"):
        product.get_by_role("button", name="Add to cart").click()
        expect(page.get_by_test_id("total")).to_have_text(f"Total {price}")

    with step("pay"):
        page.get_by_role("link", name="Check out").or_(page.get_by_role("button", name="Check out")).click()
        page.get_by_label("Card number").fill(GOOD_CARD)
        page.get_by_role("button", name="Pay").click()
        expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
        expect(page.get_by_text(f"Paid {price}")).to_be_visible()
