"""Faults in the browser of a journey: who holds one writes a file, a worker reads it before each run, contexts are bent.

Only the journey's own browser meets it. Nothing of it outlives a context, and a file outlives nobody for long: it expires
unless whoever holds the fault goes on renewing it.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, CDPSession, Page, Route

_DEVTOOLS: "WeakKeyDictionary[Page, CDPSession]" = WeakKeyDictionary()
"""One session a page: where two slow a network down, Chromium (156) keeps to what the first of them said."""

Kind = Literal["offline", "slow-network", "blocked", "status", "slow-cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserFault:
    """What is done to the browser of which journeys."""

    id: str
    kind: Kind
    file: str
    """The journey's file: an absolute path."""
    test: str = ""
    """The test in it; empty: all."""
    expires_at: float
    """Unix time from which it is no more."""
    urls: str = "**"
    """`blocked`, `status`: Playwright's glob over the address of a request."""
    types: tuple[str, ...] = ()
    """`blocked`, `status`: Playwright's resource types (`script`, `font`, `xhr` …); empty: all."""
    status: int = 0
    """`status`: what is answered."""
    latency: float = 0.0
    """`slow-network`: seconds that are added to each request."""
    rate: float = 0.0
    """`slow-network`: bytes a second, each way; 0: as many as there are."""
    factor: float = 1.0
    """`slow-cpu`: how many times slower."""

    def meets(self, file: Path, test: str, now: float) -> bool:
        """Whether a run of this test, beginning now, is to meet it."""
        return now < self.expires_at and self.file == str(file) and self.test in ("", test, test.partition("[")[0])


def fault_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the files are: the state directory of those who run drills and of those who run journeys is one."""
    state = environ.get("STORMWATCH_STATE") or str(Path.home() / ".local" / "state" / "stormwatch")
    return Path(state) / "browser-faults"


def put(fault: BrowserFault, directory: Path) -> None:
    """Put a fault, or renew it. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = directory / f".{fault.id}.tmp"
    beside.write_text(json.dumps(asdict(fault)))
    beside.replace(directory / f"{fault.id}.json")


def take(fault: str, directory: Path) -> bool:
    """Take a fault away, and what it has touched; whether it was there. Raises OSError."""
    path = directory / f"{fault}.json"
    was_there = path.exists()
    for each in (path, directory / f".{fault}.tmp", _touched(fault, directory)):
        each.unlink(missing_ok=True)
    return was_there


def is_there(fault: str, directory: Path) -> bool:
    """Whether a fault is put."""
    return (directory / f"{fault}.json").exists()


def touches(fault: str, directory: Path) -> Sequence[float]:
    """When it was met: Unix times. Raises OSError."""
    try:
        lines = _touched(fault, directory).read_text().splitlines()
    except FileNotFoundError:
        return ()
    return [float(line) for line in lines]


def in_force(file: Path, test: str, *, directory: Path, now: float) -> Sequence[BrowserFault]:
    """The faults that a run of this test is to meet. What cannot be read is none."""
    found: list[BrowserFault] = []
    for path in sorted(directory.glob("[!.]*.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            document: dict[str, Any] = json.loads(path.read_text())
            document["types"] = tuple(document["types"])
            fault = BrowserFault(**document)
            if fault.meets(file, test, now):
                found.append(fault)
    return found


def bend(context: "BrowserContext", fault: BrowserFault, touched: Callable[[], None]) -> None:
    """Put a fault on a context, before it has a page; `touched` is called for whatever meets it. It ends with the context."""
    if fault.kind == "offline":
        context.on("requestfailed", lambda _request: touched())
        context.set_offline(True)
    elif fault.kind in ("blocked", "status"):
        context.route(fault.urls, partial(_answer, fault=fault, touched=touched))
    else:
        _slow_down(context, fault, touched)


def note(fault: BrowserFault, directory: Path, clock: Callable[[], float] = time.time) -> None:
    """Write down that something met a fault. One that was taken away meanwhile is left so."""
    if is_there(fault.id, directory):
        with suppress(OSError), _touched(fault.id, directory).open("a") as file:
            file.write(f"{clock()}\n")


def _touched(fault: str, directory: Path) -> Path:
    return directory / f"{fault}.touched"


def _answer(route: "Route", *, fault: BrowserFault, touched: Callable[[], None]) -> None:
    if fault.types and route.request.resource_type not in fault.types:
        route.fallback()
        return
    touched()
    if fault.kind == "blocked":
        route.abort("blockedbyclient")
    else:
        # Readable for scripts of any origin, as an answer of the service would be that allows them.
        headers = {"access-control-allow-origin": "*"}
        route.fulfill(status=fault.status, body="", headers=headers)


def _slow_down(context: "BrowserContext", fault: BrowserFault, touched: Callable[[], None]) -> None:
    def slow(devtools: "CDPSession", page: "Page") -> None:
        if fault.kind == "slow-cpu":
            devtools.send("Emulation.setCPUThrottlingRate", {"rate": fault.factor})
        else:
            set_speed(devtools, latency=fault.latency, down=fault.rate, up=fault.rate)
        page.on("request", lambda _request: touched())

    each_page(context, slow)


def each_page(context: "BrowserContext", prepare: Callable[["CDPSession", "Page"], None], *there: "Page") -> None:
    """Prepare each page by the DevTools protocol, which Chromium alone speaks, before the test has it in its hands.

    `there` are pages that the context has already. Who prepares last wins: what a drill does replaces what the client has.
    """

    def prepare_page(page: "Page") -> None:
        devtools = _DEVTOOLS.get(page)
        if devtools is None:
            devtools = _DEVTOOLS[page] = context.new_cdp_session(page)
        prepare(devtools, page)
        # Those that pages open by themselves: their first request may be too quick for us.
        page.on("popup", prepare_page)

    new_page = context.new_page

    def prepared_page() -> "Page":
        page = new_page()
        prepare_page(page)
        return page

    context.new_page = prepared_page
    for page in there:
        prepare_page(page)


def set_speed(devtools: "CDPSession", *, latency: float, down: float | None, up: float | None) -> None:
    """Put a page behind a line: seconds that are added to each request, bytes a second (none: as many as there are)."""
    devtools.send("Network.enable")
    conditions = {
        "offline": False,
        "latency": latency * 1000,
        "downloadThroughput": down or -1,
        "uploadThroughput": up or -1,
    }
    devtools.send("Network.emulateNetworkConditions", conditions)
