"""File descriptors used up: a process's own limit lowered to what it has open, and set back."""

import asyncio
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_process import Daemon, found
from stormwatch.chaos.process import ProcessId

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import FdExhaust


@dataclass(frozen=True, slots=True)
class Limit:
    """How many descriptors one process may have: before, and while the fault is in place."""

    process: ProcessId
    soft: int
    hard: int
    lowered: int

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {"process": self.process.as_json(), "soft": self.soft, "hard": self.hard, "lowered": self.lowered}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Limit":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        process = ProcessId.from_json(document["process"])
        return cls(process, int(document["soft"]), int(document["hard"]), int(document["lowered"]))

    def now(self) -> int | None:
        """What holds for the process; None when it is gone. Raises PermissionError."""
        try:
            soft, _ = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        except ProcessLookupError:
            return None
        # Afterwards: had the number been given again in between, this would not be the process any more.
        return soft if self.process.alive() else None

    def put(self, soft: int) -> None:
        """Set it. Raises PermissionError, ProcessLookupError."""
        if not self.process.alive():
            raise ProcessLookupError
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (soft, self.hard))


@dataclass(slots=True)
class Exhausting:
    """No process is made to open anything: it fails at the next descriptor, as it would when it leaked them."""

    fault: str
    options: "FdExhaust"
    daemon: Daemon
    method: str = "descriptors"
    limits: list[Limit] = field(default_factory=list[Limit])
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        for process in await found(self.daemon):
            try:
                opened = await asyncio.to_thread(descriptors, process.pid)
                soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            except PermissionError as error:
                raise CannotBreak(
                    f"process {process.pid} is not ours: run the drill as root, or as its user"
                ) from error
            except OSError as error:
                raise CannotBreak(f"process {process.pid} ended while it was looked at: {error}") from error
            lowered = lowest(opened, self.options.leave)
            if lowered >= soft:
                raise CannotBreak(
                    f"process {process.pid} may have {soft} descriptors and has {len(opened)} open: with leave "
                    f"{self.options.leave} nothing would change"
                )
            self.limits.append(Limit(process, soft, hard, lowered))
        return {"limits": [limit.as_json() for limit in self.limits]}

    async def inject(self) -> None:
        try:
            for limit in self.limits:
                limit.put(limit.lowered)
        except PermissionError as error:
            raise CannotBreak(f"process {self.limits[0].process.pid} is not ours: run the drill as root") from error
        except ProcessLookupError as error:
            raise CannotBreak("the process ended before the fault was put on it") from error
        self.at = time.time()

    async def evidence(self) -> Evidence:
        for limit in self.limits:
            if limit.now() != limit.lowered:
                raise CannotBreak(
                    f"process {limit.process.pid} may have {limit.now()} descriptors: somebody changed that"
                )
        shown = ", ".join(f"process {limit.process.pid} may have {limit.lowered} descriptors" for limit in self.limits)
        return Evidence(first=self.at, last=time.time(), what=f"{shown}, before {self.limits[0].soft}")


def descriptors(pid: int) -> list[int]:
    """The numbers that a process has open. Blocking. Raises OSError."""
    return [int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()]


def lowest(opened: Iterable[int], leave: int) -> int:
    """The limit with which so many more can be opened: the kernel gives the lowest free number below the limit."""
    taken, limit, free = set(opened), 0, 0
    while limit in taken or free < leave:
        free += limit not in taken
        limit += 1
    return limit


async def undo_descriptors(arguments: Mapping[str, Any]) -> Absence:
    """Set the limits back. Idempotent. Raises UndoFailed."""
    was_there = False
    alive: list[str] = []
    for limit in (Limit.from_json(one) for one in arguments["limits"]):
        try:
            now = await asyncio.to_thread(limit.now)
            if now == limit.lowered:
                was_there = True
                limit.put(limit.soft)
                now = limit.now()
        except (PermissionError, ProcessLookupError) as error:
            if limit.process.alive():
                raise UndoFailed(f"process {limit.process.pid} is not ours: undo as root") from error
            now = None
        if now == limit.lowered:
            raise UndoFailed(f"process {limit.process.pid} may still have {now} descriptors only: restart it")
        if now is not None:
            alive.append(f"process {limit.process.pid} may have {now} descriptors")
    return Absence(was_there, ", ".join(alive) or "the process is gone, and its limit with it")
