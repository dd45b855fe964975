"""Completes pytest-playwright's fixtures. A plugin of its own: it is registered after pytest-playwright, see there."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserType

    from stormwatch.journeys.client_browser import ClientBrowser

CLIENT: "pytest.StashKey[ClientBrowser]" = pytest.StashKey()
"""On the config: who visits, if anybody said so."""


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any],
    browser_type: "BrowserType",
    pytestconfig: pytest.Config,
    request: pytest.FixtureRequest,
) -> dict[str, Any]:
    """pytest-playwright's launch options: the machine's Chromium where Playwright's own is not there, and the client's."""
    options = browser_type_launch_args
    if browser_type.name == "chromium":
        from stormwatch.journeys.chromium import launch_args

        options = launch_args(options, downloaded=browser_type.executable_path)
    client = pytestconfig.stash.get(CLIENT, None)
    return client.launch_args(browser_type.name, options, request.addfinalizer) if client else options
