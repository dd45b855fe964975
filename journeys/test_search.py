"""A visitor who is nobody yet looks for something, and looks at it."""

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.page_errors import PageErrors
from stormwatch.journeys.step import Steps


@pytest.mark.journey
def test_search(page: Page, step: Steps, shop: str, page_errors: PageErrors) -> None:
    """Search for what is there and what is not, open a product."""
    with step("open the shop", budget=10):
        page.goto(f"{shop}/shop")
        expect(page.get_by_role("article")).not_to_have_count(0)

    with step("search for nothing"):
        page.get_by_role("searchbox", name="Search products").fill("sunshine")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("status")).to_contain_text("Nothing matches")

    with step("search"):
        page.get_by_role("searchbox", name="Search products").fill("umbrella")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("article")).to_have_count(1)

    with step("look at it"):
        page.get_by_role("link", name="Storm umbrella").click()
        expect(page.get_by_role("heading", name="Storm umbrella", level=1)).to_be_visible()
        expect(page.get_by_text("€12.50")).to_be_visible()
        page_errors.check()
