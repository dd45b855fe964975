"""A customer registers, leaves, and comes back."""

import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.step import Steps


@pytest.mark.journey
def test_login(page: Page, step: Steps, shop: str, person: dict[str, str]) -> None:
    """Register, log out, log in."""
    with step("register"):
        page.goto(shop)
        page.get_by_role("link", name="Register").click()
        page.get_by_label("Name").fill(person["name"])
        page.get_by_label("E-mail").fill(person["e-mail"])
        page.get_by_label("Password").fill(person["password"])
        page.get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", name=f"Welcome, {person['name']}")).to_be_visible()

    with step("log out"):
        page.get_by_role("link", name="Log out").or_(page.get_by_role("button", name="Log out")).click()
        expect(page.get_by_role("link", name="Log in")).to_be_visible()

    with step("log in"):
        page.get_by_role("link", name="Log in").click()
        page.get_by_label("E-mail").fill(person["e-mail"])
        page.get_by_label("Password").fill(person["password"])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name=f"Welcome, {person['name']}")).to_be_visible()
