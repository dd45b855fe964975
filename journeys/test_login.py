"""A customer registers, leaves, comes back, and stays."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.step import Steps


@pytest.mark.journey
def test_login(page: Page, step: Steps, shop: str, person: dict[str, str], register: Callable[[], None]) -> None:
    """Register, log out, log in, look around, and be known still."""
    with step("register"):
        register()

    with step("log out"):
        page.get_by_role("link", name="Log out").or_(page.get_by_role("button", name="Log out")).click()
        expect(page.get_by_role("link", name="Log in")).to_be_visible()

    with step("log in"):
        page.get_by_role("link", name="Log in").click()
        page.get_by_label("E-mail").fill(person["e-mail"])
        page.get_by_label("Password").fill(person["password"])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name=f"Welcome, {person['name']}")).to_be_visible()

    with step("still logged in"):
        page.get_by_role("link", name="Shop").click()
        page.get_by_role("link", name="Account").click()
        expect(page).to_have_url(f"{shop}/account")
