"""Another clock for one process: it is started again below libfaketime, and afterwards without it."""

import asyncio
import glob
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_process import Daemon, NotFound, bring_back, end, found
from stormwatch.chaos.host_program import MARK, end_all, gone, marked
from stormwatch.chaos.process import ProcessId
from stormwatch.chaos.shield import to_the_end

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import ClockShift

_LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
"""Where Debian, others, and its own Makefile put it; MT is the one for programs with threads."""

_LOADING = 5.0
"""Seconds that a program may take from its start until its libraries are loaded."""


@dataclass(slots=True)
class Shifting:
    """The process ends, and one with another clock takes its place."""

    fault: str
    options: "ClockShift"
    daemon: Daemon
    method: str = "clock"
    hit: tuple[ProcessId, ...] = ()
    library: str = ""
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        self.library = await asyncio.to_thread(library)
        self.hit = await found(self.daemon)
        return {
            "fault": self.fault,
            "daemon": self.daemon.as_json(),
            "hit": [process.as_json() for process in self.hit],
        }

    async def inject(self) -> None:
        await end(self.hit, signal.SIGTERM, self.daemon.grace)
        offset = f"{'+' if self.options.direction == 'forward' else '-'}{self.options.by:.3f}s"
        # Not the monotonic clock: with it time-outs of the process would be shifted too, and no clock that is set wrong does that.
        env = {
            "LD_PRELOAD": self.library,
            "FAKETIME": offset,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        try:
            await to_the_end(asyncio.to_thread(lambda: self.daemon.begin(self.fault, variable=MARK, env=env)))
            await self.daemon.found_within(self.daemon.back)
        except (NotFound, OSError, KeyError, subprocess.SubprocessError) as error:
            raise CannotBreak(f"it did not start with another clock: {error}") from error
        await self.evidence()
        self.at = time.time()

    async def evidence(self) -> Evidence:
        deadline = time.monotonic() + _LOADING
        # A program that becomes another (exec) has no library for a moment, until the loader has read it again.
        while not (shifted := await asyncio.to_thread(self._shifted)) and time.monotonic() < deadline:
            if not await asyncio.to_thread(marked, self.fault):
                break
            await asyncio.sleep(0.02)
        if not shifted:
            raise CannotBreak("no process of it runs with another clock (is it statically linked, or has set-user-ID?)")
        way = "fast" if self.options.direction == "forward" else "slow"
        what = f"process {shifted[0].pid} runs with a clock that is {self.options.by:g} s {way}"
        return Evidence(first=self.at, last=time.time(), what=what)

    def _shifted(self) -> list[ProcessId]:
        """Those into which the library was really loaded."""
        return [process for process in marked(self.fault) if process.alive() and self.library in _maps(process.pid)]


async def undo_clock(arguments: Mapping[str, Any]) -> Absence:
    """End the process with another clock, and have it run again without. Idempotent. Raises UndoFailed."""
    daemon, fault = Daemon.from_json(arguments["daemon"]), str(arguments["fault"])
    hit = [ProcessId.from_json(one) for one in arguments["hit"]]
    shifted = await asyncio.to_thread(marked, fault)
    try:
        for process in shifted:
            process.send(signal.SIGTERM)
        await gone(shifted, daemon.grace)
        await end_all(lambda: marked(fault))
    except (TimeoutError, PermissionError) as error:
        raise UndoFailed(f"the process with another clock runs on: {error}; undo as root") from error
    # It may have been told to end a moment before whoever told it died.
    ended = await gone(hit, 0.0 if shifted else daemon.grace)
    back = await bring_back(daemon, fault, without=hit if ended else ())
    return Absence(
        bool(shifted) or not back.was_there, f"process {back.processes[0].pid} runs with the clock of the machine"
    )


def library() -> str:
    """The path of libfaketime. Blocking. Raises CannotBreak."""
    for pattern in _LIBRARIES:
        if found := sorted(glob.glob(pattern)):  # noqa: PTH207 - an absolute pattern
            return found[0]
    raise CannotBreak("libfaketime is not installed; install faketime")


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
