"""Faults in the browser of a journey: options as users write them, the target, and what puts them there and takes them away."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import Breakage, CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.fault_kind import FaultKind
from stormwatch.chaos.option import STRICT, Options
from stormwatch.chaos.target import Target, TargetKind
from stormwatch.journeys import browser_fault
from stormwatch.journeys.browser_fault import BrowserFault
from stormwatch.probes.options import File
from stormwatch.probes.result import Reason
from stormwatch.probes.units import Bytes, Seconds

LIFE = 60.0
"""Seconds after the last sign of life from the holder in which journeys still meet the fault, if nobody takes it away."""

ResourceType = Literal[
    "document",
    "stylesheet",
    "image",
    "media",
    "font",
    "script",
    "texttrack",
    "xhr",
    "fetch",
    "eventsource",
    "websocket",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyTarget:
    """The browser of a journey, wherever it is run with this state directory."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    file: File
    """The journey's file."""
    test: str = ""
    """The test in it, as behind `::`; all of them when empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserOffline:
    """The browser has no network: requests of pages fail at once."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSlowNetwork:
    """The browser is behind a slow line. Chromium only."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    latency: Seconds = 0.4
    """Added to each request."""
    rate: Annotated[Bytes, Field(ge=1)] = 50 * 1024
    """Bytes a second, each way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserBlocked:
    """Matching requests of pages do not go out, as when a content blocker or a third party's outage stops them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    urls: Annotated[str, Field(min_length=1)]
    """Which: Playwright's glob over the whole address, `**/analytics.js`, `https://fonts.example/**`."""
    types: tuple[ResourceType, ...] = ()
    """Only requests of these types; all when empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserStatus:
    """Matching requests of pages are answered with a status, and never reach the service."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    urls: Annotated[str, Field(min_length=1)]
    """Which: Playwright's glob over the whole address, `**/api/cart`."""
    types: tuple[ResourceType, ...] = ()
    """Only requests of these types, `[xhr, fetch]` for those of scripts; all when empty."""
    status: Annotated[int, Field(ge=200, le=599)] = 500
    """The status of the answer, whose body is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSlowCpu:
    """The browser's scripts and drawing run slower. Chromium only."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    factor: Annotated[float, Field(gt=1, le=100)] = 6.0
    """How many times."""


@dataclass(slots=True)
class Bending:
    """A file that workers of journeys read; renewed whenever its evidence is asked for."""

    fault: BrowserFault
    directory: Path
    clock: Callable[[], float] = time.time
    method: str = "browser"

    async def prepare(self) -> Mapping[str, Any]:
        if not await asyncio.to_thread(Path(self.fault.file).is_file):
            raise CannotBreak(f"there is no journey {self.fault.file}; correct the target's `file`")
        return {"fault": self.fault.id, "directory": str(self.directory)}

    async def inject(self) -> None:
        await self._put()

    async def evidence(self) -> Evidence:
        if not await asyncio.to_thread(browser_fault.is_there, self.fault.id, self.directory):
            raise CannotBreak("its file is gone: somebody took it away")
        await self._put()
        try:
            met = await asyncio.to_thread(browser_fault.touches, self.fault.id, self.directory)
        except OSError as error:
            raise CannotBreak(f"what it touched cannot be read: {error.strerror}") from error
        if not met:
            return Evidence()
        what = f"{len(met)} request{'s' if len(met) > 1 else ''} of the journey's browser met it"
        return Evidence(requests=len(met), first=met[0], last=met[-1], what=what)

    async def _put(self) -> None:
        fault = replace(self.fault, expires_at=self.clock() + LIFE)
        try:
            await asyncio.to_thread(browser_fault.put, fault, self.directory)
        except OSError as error:
            raise CannotBreak(f"{self.directory} cannot be written: {error.strerror}") from error


async def undo_browser_fault(arguments: Mapping[str, Any]) -> Absence:
    """Take the file away. Idempotent. Raises UndoFailed."""
    fault, directory = str(arguments["fault"]), Path(arguments["directory"])
    try:
        was_there = await asyncio.to_thread(browser_fault.take, fault, directory)
        left = await asyncio.to_thread(browser_fault.is_there, fault, directory)
    except OSError as error:
        raise UndoFailed(f"{directory / fault}.json cannot be removed: {error.strerror}; remove it") from error
    if left:
        raise UndoFailed(f"{directory / fault}.json is there again after it was removed: somebody renews it, end that")
    why = "taken back: no run that begins from now on meets it" if was_there else "no such fault is there any more"
    return Absence(was_there, why)


def _bending(kind: browser_fault.Kind) -> Callable[[str, Any, Target], Breakage]:
    def make(identity: str, options: Any, target: Target) -> Breakage:
        journey = cast("JourneyTarget", target.options)
        said = {each.name: getattr(options, each.name) for each in fields(options)}
        fault = BrowserFault(
            id=identity,
            kind=kind,
            file=str(Path(journey.file).absolute()),
            test=journey.test,
            expires_at=0.0,
            **said,
        )
        return Bending(fault, browser_fault.fault_directory())

    return make


_SEEN = frozenset({Reason.STEP, Reason.ASSERTION, Reason.TIMEOUT})

BROWSER_TARGETS: tuple[TargetKind, ...] = (TargetKind("journey", JourneyTarget, "the browser of a journey"),)

BROWSER_FAULTS: tuple[FaultKind[Options], ...] = (
    FaultKind(
        "browser-offline",
        BrowserOffline,
        "the journey's browser has no network",
        _SEEN,
        on="journey",
        breakage=_bending("offline"),
    ),
    FaultKind(
        "browser-slow-network",
        BrowserSlowNetwork,
        "the journey's browser is behind a slow line",
        _SEEN | {Reason.TOO_SLOW},
        reason_note="by what the journey waits for, and for how long",
        on="journey",
        breakage=_bending("slow-network"),
    ),
    FaultKind(
        "browser-blocked",
        BrowserBlocked,
        "matching requests of the journey's pages do not go out",
        _SEEN,
        on="journey",
        breakage=_bending("blocked"),
    ),
    FaultKind(
        "browser-status",
        BrowserStatus,
        "matching requests of the journey's pages are answered with a status",
        _SEEN,
        on="journey",
        breakage=_bending("status"),
    ),
    FaultKind(
        "browser-slow-cpu",
        BrowserSlowCpu,
        "the journey's pages compute slowly",
        _SEEN | {Reason.TOO_SLOW},
        reason_note="by what the journey waits for, and for how long",
        on="journey",
        breakage=_bending("slow-cpu"),
    ),
)
