"""A browser that is the client a journey asked for: how it is launched, what its contexts have, how slow it is."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stormwatch.journeys.browser_fault import each_page, set_speed
from stormwatch.journeys.client import LATER, Client, parse
from stormwatch.journeys.devices import no_device
from stormwatch.journeys.trust_store import TrustStoreFailed, make_home

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, CDPSession, Page


class ClientBrowser:
    """A pytest plugin: every browser and every context is the client's, whoever makes it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        if client.ca_file:
            # Of the driver, which fetches for `page.request` and shows client certificates itself. It is not started yet.
            os.environ["NODE_EXTRA_CA_CERTS"] = client.ca_file

    @classmethod
    def of_file(cls, path: Path) -> "ClientBrowser":
        """Of a file. Raises pytest.UsageError."""
        try:
            return cls(parse(path.read_text(encoding="utf-8"), path.parent, context=LATER))
        except OSError as error:
            raise pytest.UsageError(f"--stormwatch-client: cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise pytest.UsageError(f"--stormwatch-client: {path}: {error}") from error

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Equip the browser when the fixture `browser` makes one, whoever wrote that fixture."""
        made = yield
        if fixturedef.argname == "browser":
            from playwright.sync_api import Browser

            if isinstance(made, Browser):
                self._equip(made, request.getfixturevalue("playwright").devices)
        return made

    def launch_args(
        self, browser: str, given: Mapping[str, Any], at_end: Callable[[Callable[[], object]], None]
    ) -> dict[str, Any]:
        """Playwright's launch options with the client's. `at_end` takes what is to be called when they are used no more.

        Raises pytest.UsageError for what this browser cannot be.
        """
        client, options = self.client, dict(given)
        try:
            client.check(browser)
        except ValueError as error:
            raise pytest.UsageError(f"client: {error}") from error
        if client.hosts:
            rules = ",".join(f"MAP {host} {address}" for host, address in sorted(client.hosts.items()))
            options["args"] = [*options.get("args", ()), f"--host-resolver-rules={rules}"]
        if client.proxy:
            login = {"username": client.proxy_user, "password": client.proxy_password} if client.proxy_user else {}
            options.setdefault("proxy", {"server": client.proxy, **login})
        if client.ca_file:
            home = Path(tempfile.mkdtemp(prefix="stormwatch-home-"))
            at_end(lambda: shutil.rmtree(home, ignore_errors=True))
            try:
                make_home(home, Path(client.ca_file))
            except TrustStoreFailed as error:
                raise pytest.UsageError(f"client: ca_file: {error}") from error
            options["env"] = {**(options.get("env") or os.environ), "HOME": str(home)}
        return options

    def context_args(self, devices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What a new context is made with. Raises pytest.UsageError for a device that Playwright does not know."""
        client = self.client
        if client.device and client.device not in devices:
            raise pytest.UsageError(f"client: device: {no_device(client.device, devices)}")
        wanted: dict[str, Any] = dict(devices[client.device]) if client.device else {}
        plain = {"locale": client.locale, "timezone_id": client.timezone, "color_scheme": client.color_scheme}
        wanted |= {option: value for option, value in plain.items() if value}
        if at := client.geolocation:
            wanted["geolocation"] = {"latitude": at.latitude, "longitude": at.longitude, "accuracy": at.accuracy}
            wanted["permissions"] = ["geolocation"]
        if client.certificates:
            wanted["client_certificates"] = [
                {"origin": each.origin, "certPath": each.certificate, "keyPath": each.key}
                | ({"passphrase": each.passphrase} if each.passphrase else {})
                for each in client.certificates
            ]
        return wanted

    def _equip(self, browser: "Browser", devices: Mapping[str, Mapping[str, Any]]) -> None:
        wanted = self.context_args(devices)
        new_context, new_page = browser.new_context, browser.new_page

        def own_context(**given: Any) -> "BrowserContext":
            context = new_context(**{**wanted, **given})
            self._slow_down(context)
            return context

        def own_page(**given: Any) -> "Page":
            page = new_page(**{**wanted, **given})
            self._slow_down(page.context, page)
            return page

        # On the instance: Playwright's class stays as it is for everybody else.
        browser.new_context = own_context
        browser.new_page = own_page

    def _slow_down(self, context: "BrowserContext", *there: "Page") -> None:
        if self.client.line or self.client.cpu:
            each_page(context, self._bend, *there)

    def _bend(self, devtools: "CDPSession", _page: "Page") -> None:
        if line := self.client.line:
            set_speed(devtools, latency=line.latency, down=line.down, up=line.up)
        if self.client.cpu:
            devtools.send("Emulation.setCPUThrottlingRate", {"rate": self.client.cpu})
