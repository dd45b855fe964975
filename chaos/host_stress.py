"""Load on the machine by stress-ng: found again by its mark, and with an end of its own in case that nobody is left."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.host_program import MARK, Setting, end_all, find_program, leave_running, marked, show_output
from stormwatch.chaos.shield import to_the_end
from stormwatch.probes.memory import available_memory
from stormwatch.probes.procfs import SYSTEM_TICKS, USER_TICKS, status_of

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import CpuStress, DiskStress, IoStress, MemoryStress

_BEGIN = 20.0
"""Seconds within which the load must be seen."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What stress-ng is asked for, and from when on that is under way."""

    argv: tuple[str, ...]
    at_most: float
    directory: Path | None = None
    """Where it writes; a directory of the fault's own is made in it."""
    room: int = 0
    """Bytes that must be free there."""
    memory: int = 0
    """Bytes of memory that it takes."""
    reserve: int = 0
    """Bytes that must be available beside them."""


@dataclass(slots=True)
class Stressing:
    """stress-ng, and the processes that it starts."""

    fault: str
    load: Load
    method: str = "stress"
    at: float | None = None

    async def prepare(self) -> Mapping[str, Any]:
        find_program("stress-ng", package="stress-ng")
        if self.load.memory:
            available = available_memory()
            if self.load.memory + self.load.reserve > available:
                raise CannotBreak(
                    f"{self.load.memory} bytes are to be taken and {self.load.reserve} left, and {available} are available"
                )
        place = self._place()
        if place is not None:
            if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
                raise CannotBreak(
                    f"{place.parent} is no directory that we may write to; make it, or run the drill as root"
                )
            seen = os.statvfs(place.parent)
            if self.load.room > seen.f_bavail * seen.f_frsize:
                raise CannotBreak(
                    f"{self.load.room} bytes are to be written in {place.parent}, and {seen.f_bavail * seen.f_frsize} are free"
                )
        return {"fault": self.fault, "directory": str(place) if place else ""}

    async def inject(self) -> None:
        place = self._place()
        if place is not None:
            place.mkdir(mode=0o700)
        # Its workers write their names over their environment otherwise, and with it over the mark.
        argv = ("stress-ng", "--quiet", "--keep-name", "--timeout", f"{max(1, round(self.load.at_most))}s")
        where = ("--temp-path", str(place)) if place else ()
        setting = Setting(env={}, directory=str(place or "/"))
        with tempfile.TemporaryFile() as errors:
            await to_the_end(
                asyncio.to_thread(
                    leave_running,
                    (*argv, *where, *self.load.argv),
                    mark={MARK: self.fault},
                    setting=setting,
                    errors=errors,
                )
            )
            deadline = time.monotonic() + _BEGIN
            while not (await asyncio.to_thread(self._seen)).touched:
                if not await asyncio.to_thread(marked, self.fault):
                    errors.seek(0)
                    raise CannotBreak(f"stress-ng ended: {show_output(errors.read().decode(errors='replace'))}")
                if time.monotonic() > deadline:
                    raise CannotBreak(f"stress-ng runs and puts no load on the machine for {_BEGIN:g} s")
                await asyncio.sleep(0.05)
        self.at = time.time()

    async def evidence(self) -> Evidence:
        seen = await asyncio.to_thread(self._seen)
        if not seen.touched:
            raise CannotBreak("stress-ng does not run any more; at_most may have been too short, or memory ran out")
        return seen

    def _seen(self) -> Evidence:
        """What the workers have used until now: the touch is that of the first."""
        workers = [process.pid for process in marked(self.fault)]
        seconds = sum(_cpu_seconds(pid) for pid in workers)
        resident = max((_resident(pid) for pid in workers), default=0)
        under_way = resident >= self.load.memory * 0.9 if self.load.memory else seconds > 0 and bool(workers)
        used = f"{resident} bytes of memory" if self.load.memory else f"{seconds:.1f} s of processor time"
        now = time.time()
        return Evidence(
            first=(self.at or now) if under_way else None,
            last=now if under_way else None,
            bytes=resident if self.load.memory else 0,
            what=f"{len(workers)} processes of stress-ng used {used}",
        )

    def _place(self) -> Path | None:
        return self.load.directory / f".stormwatch-{self.fault}" if self.load.directory else None


async def undo_stress(arguments: Mapping[str, Any]) -> Absence:
    """End the load, and remove what it wrote. Idempotent. Raises UndoFailed."""
    fault, directory = str(arguments["fault"]), str(arguments["directory"])
    try:
        ended = await end_all(lambda: marked(fault))
    except (TimeoutError, PermissionError) as error:
        raise UndoFailed(f"the load goes on: {error}; undo as root, or wait for its own end") from error
    there = False
    if directory:
        try:
            await asyncio.to_thread(shutil.rmtree, directory)
            there = True
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UndoFailed(f"{directory} cannot be removed: {error.strerror}; remove it by hand") from error
    return Absence(
        bool(ended) or there, f"{ended} processes of stress-ng are ended" if ended else "no stress-ng of it runs"
    )


def of_cpu(options: "CpuStress") -> Load:
    """Arithmetic on each processor."""
    share = ("--cpu-load", str(int(options.load * 100)))
    return Load(argv=("--cpu", str(options.workers), *share), at_most=options.at_most)


def of_memory(options: "MemoryStress") -> Load:
    """One process that has touched each page and keeps it."""
    argv = ("--vm", "1", "--vm-bytes", f"{options.bytes}B", "--vm-keep", "--vm-populate", "--vm-hang", "0", "--oomable")
    return Load(argv=argv, at_most=options.at_most, memory=options.bytes, reserve=options.reserve)


def of_io(options: "IoStress") -> Load:
    """sync(2), again and again."""
    return Load(argv=("--io", str(options.workers)), at_most=options.at_most)


def of_disk(options: "DiskStress", directory: str) -> Load:
    """Files that are written, read and removed."""
    workers = options.workers or os.cpu_count() or 1
    argv = ("--hdd", str(workers), "--hdd-bytes", f"{options.bytes}B")
    return Load(argv=argv, at_most=options.at_most, directory=Path(directory), room=workers * options.bytes)


def _cpu_seconds(pid: int) -> float:
    status = status_of(pid)
    return (int(status[USER_TICKS]) + int(status[SYSTEM_TICKS])) / _TICKS if status else 0.0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
