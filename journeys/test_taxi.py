"""A new customer asks for a ride, and sees the driver set off."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.step import Steps


@pytest.mark.journey
def test_taxi(page: Page, step: Steps, register: Callable[[], None]) -> None:
    """Register, request a ride, wait on its page until the driver has set off."""
    with step("register"):
        register()

    with step("request"):
        page.get_by_role("link", name="Taxi").click()
        page.get_by_label("From").fill("Harbour")
        page.get_by_label("To").fill("Airport")
        page.get_by_role("button", name="Request ride").click()
        expect(page.get_by_role("heading", name="Your ride is on its way")).to_be_visible()

    # The page asks for it again and again: nothing here does.
    with step("driver", budget=10):
        expect(page.get_by_role("status")).to_contain_text("has set off")
