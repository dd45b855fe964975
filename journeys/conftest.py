"""The sample journeys' own fixtures: where the sample platform is, a browser that finds and trusts it, a customer.

`stormwatch demo --keep` starts the platform. STORMWATCH_PLATFORM is the path of its platform.json; without it the demo's
own place is taken.
"""

import json
import os
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from stormwatch.journeys.leftovers import Made
from stormwatch.journeys.page_errors import PageErrors


def _platform() -> dict[str, Any]:
    state = os.environ.get("STORMWATCH_STATE") or str(Path.home() / ".local" / "state" / "stormwatch")
    path = Path(os.environ.get("STORMWATCH_PLATFORM") or Path(state, "demo", "platform.json"))
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise pytest.UsageError(
            f"no sample platform: there is no {path}. `stormwatch demo --keep` starts one; "
            "STORMWATCH_PLATFORM names the platform.json of another"
        ) from None


def forget_customer(mail: str) -> None:
    """Remove an account. Past the shop, the name server and every fault: what tidies up does not depend on what is watched."""
    platform = _platform()
    accounts = httpx.URL(platform["services"]["accounts"]["direct"])
    with httpx.Client(verify=ssl.create_default_context(cafile=platform["ca"]), trust_env=False, timeout=5) as client:
        client.delete(
            accounts.copy_with(host="127.0.0.1", path=f"/accounts/{quote(mail)}"),
            headers={"host": accounts.netloc.decode()},
            extensions={"sni_hostname": accounts.host},
        ).raise_for_status()


@pytest.fixture
def shop() -> str:
    """The address of the shop, read anew for each run: a platform may come back on another port."""
    return _platform()["shop"]


@pytest.fixture(scope="session")
def base_url(pytestconfig: pytest.Config) -> str:
    """pytest-playwright's, as a function: its own is a method, which pytest 9 warns of, and here warnings are errors."""
    return pytestconfig.getoption("--base-url") or _platform()["shop"]


@pytest.fixture
def person(made: Made) -> dict[str, str]:
    """A customer who was never here before, and is forgotten afterwards."""
    tag = secrets.token_hex(4)
    mail = made(forget_customer, f"ada-{tag}@mail.storm.test")
    return {"name": f"Ada {tag}", "e-mail": mail, "password": secrets.token_urlsafe(12)}


@pytest.fixture
def register(page: Page, shop: str, person: dict[str, str]) -> Callable[[], None]:
    """What every journey of a new customer begins with."""

    def register() -> None:
        page.goto(shop)
        page.get_by_role("link", name="Register").click()
        page.get_by_label("Name").fill(person["name"])
        page.get_by_label("E-mail").fill(person["e-mail"])
        page.get_by_label("Password").fill(person["password"])
        page.get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", name=f"Welcome, {person['name']}")).to_be_visible()

    return register


@pytest.fixture
def page_errors(page: Page) -> PageErrors:
    """What goes wrong in the page while it seems to work."""
    return PageErrors(page)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Names of the platform lead to this machine, and certificates from its authority are good."""
    arguments = [
        *browser_type_launch_args.get("args", ()),
        "--host-resolver-rules=MAP *.storm.test 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={_platform()['spki']}",
    ]
    return {**browser_type_launch_args, "args": arguments}
