"""Completes pytest-playwright's fixtures. A plugin of its own: it is registered after pytest-playwright, see there."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserType


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any], browser_type: "BrowserType") -> dict[str, Any]:
    """pytest-playwright's launch options, with the machine's Chromium where Playwright's own is not there."""
    if browser_type.name != "chromium":
        return browser_type_launch_args
    from stormwatch.journeys.chromium import launch_args

    return launch_args(browser_type_launch_args, downloaded=browser_type.executable_path)
