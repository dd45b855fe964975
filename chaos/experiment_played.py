"""Which rollbacks of an experiment were played: each of them once, although three processes may want to play it.

Whoever runs the experiment does; so does the reaper when the lease is over, and `stormwatch undo`. A rollback of somebody else's
(start one more, add a rule) need not be idempotent.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

_KEPT = 86_400.0
"""Seconds for which the file of a run that is over stays: somebody may have read its record just before it was removed."""


class Played:
    """The numbers of the rollbacks that were played, on disk as soon as each of them was."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        text = os.pread(descriptor, 1 << 20, 0).decode("ascii", errors="replace")
        # What a death in the middle of a line left behind is no number that was synced.
        self.numbers = {int(line) for line in text.split("\n")[:-1] if line.isdigit()}

    async def mark(self, number: int) -> None:
        """It was played. Raises OSError."""
        self.numbers.add(number)
        await asyncio.to_thread(self._write, number)

    def _write(self, number: int) -> None:
        os.write(self._descriptor, f"{number}\n".encode())
        os.fsync(self._descriptor)


@contextlib.asynccontextmanager
async def playing(path: Path) -> AsyncGenerator[Played]:
    """Nobody else plays them while the block lasts. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the descriptor
                break
            await asyncio.sleep(0.1)
        yield Played(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Remove what runs left that are long over. Blocking."""
    for path in directory.glob("*.played") if directory.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):
            recorded = any(directory.glob(f"{path.stem}*.json"))
            if time.time() - path.stat().st_mtime > _KEPT and not recorded:
                path.unlink()
