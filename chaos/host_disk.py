"""The file system of a directory filled up: one file that takes what is free, its name known before it is there."""

import asyncio
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.evidence import Evidence
from stormwatch.chaos.shield import to_the_end

if TYPE_CHECKING:
    from stormwatch.chaos.host_options import DiskFull

_PIECE = 2**28
"""Bytes that are asked for at a time: between two pieces it can be cancelled."""


@dataclass(slots=True)
class Filling:
    """One file of zeros that need not be written: the file system sets the blocks aside."""

    fault: str
    options: "DiskFull"
    directory: Path
    method: str = "file"
    device: int = 0
    """The file system that was looked at."""
    size: int = 0
    """Bytes that were free on it, less what is to be left: the file gets no larger."""
    at: float | None = None

    @property
    def file(self) -> Path:
        """Hidden, and the fault's own."""
        return self.directory / f".stormwatch-{self.fault}"

    async def prepare(self) -> Mapping[str, Any]:
        if not self.directory.is_dir() or not os.access(self.directory, os.W_OK):
            raise CannotBreak(
                f"{self.directory} is no directory that we may write to; make it, or run the drill as root"
            )
        seen = os.statvfs(self.directory)
        free = seen.f_bavail * seen.f_frsize
        self.size = free - self.options.leave
        if self.size <= 0:
            raise CannotBreak(
                f"only {free} bytes are free in {self.directory}, and {self.options.leave} are to be left"
            )
        self.device, root = await asyncio.to_thread(_devices, self.directory)
        if self.options.limit is None and self.device == root:
            raise CannotBreak(
                f"{self.directory} is on the root file system, on which everything else depends; "
                f"to fill it all the same, give the fault a `limit` of at least {self.size} bytes"
            )
        if self.options.limit is not None and self.size > self.options.limit:
            raise CannotBreak(
                f"{self.size} bytes would have to be taken in {self.directory}, and limit is {self.options.limit}"
            )
        return {"file": str(self.file)}

    async def inject(self) -> None:
        # Opened with O_EXCL: a link that somebody laid there is not followed.
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_dev != self.device:
                # It was unmounted meanwhile: what lies below its mount point may be the root file system.
                raise CannotBreak(f"{self.directory} is on another file system now than when it was looked at")
            await self._fill(descriptor)
        except OSError as error:
            raise CannotBreak(f"{self.directory} could not be filled: {error.strerror}") from error
        finally:
            os.close(descriptor)
        self.at = time.time()

    async def evidence(self) -> Evidence:
        try:
            found, seen = self.file.stat(), os.statvfs(self.file)
        except OSError as error:
            raise CannotBreak(f"{self.file} is not there any more: {error.strerror}") from error
        taken, free = found.st_blocks * 512, seen.f_bavail * seen.f_frsize
        what = f"{self.file} takes {taken} bytes, {free} are free"
        return Evidence(bytes=taken, first=self.at, last=time.time(), what=what)

    async def _fill(self, descriptor: int) -> None:
        taken, piece = 0, _PIECE
        while True:
            # Asked of the open file, which stays on its file system whatever is mounted or unmounted.
            seen = os.fstatvfs(descriptor)
            free = seen.f_bavail * seen.f_frsize - self.options.leave
            wanted = min(piece, free, self.size - taken)
            if wanted < seen.f_frsize:
                return
            try:
                # To its end: a thread that goes on behind our back would take blocks after the file was removed.
                await to_the_end(asyncio.to_thread(os.posix_fallocate, descriptor, taken, wanted))
                taken += wanted
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # What is free includes what the file system needs itself to set blocks aside.
                piece = wanted // 2


async def undo_file(arguments: Mapping[str, Any]) -> Absence:
    """Remove the file. Idempotent. Raises UndoFailed."""
    file = Path(arguments["file"])
    try:
        await asyncio.to_thread(file.unlink)
    except FileNotFoundError:
        return Absence(False, f"there is no {file}")
    except OSError as error:
        raise UndoFailed(f"{file} cannot be removed: {error.strerror}; remove it by hand") from error
    return Absence(True, f"{file} is removed")


def _devices(directory: Path) -> tuple[int, int]:
    """The file systems of a directory and of the root."""
    return directory.stat().st_dev, Path("/").stat().st_dev
