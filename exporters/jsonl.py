"""JSON Lines: one result a line, appended to a file that may be rotated by renaming it."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stormwatch.exporters.batch import INTERVAL, Batches
from stormwatch.probes.result import Result


class JsonLines:
    """A sink. Lines are whole or not there: a half line of a killed process or of a full disk is ended or taken back.

    The file is opened anew when its name leads elsewhere (after logrotate's `create`), without a signal.
    """

    def __init__(self, path: Path, *, interval: float = INTERVAL) -> None:
        """`interval` is how many seconds a line may wait to be written."""
        self.path = path
        self._file: int | None = None
        self._batches: Batches[Result] = Batches(
            f"JSON lines {path}", self._write, failures=(OSError,), interval=interval
        )

    def __call__(self, result: Result) -> None:
        """Append a result. Never waits."""
        self._batches.put(result)

    @property
    def errors(self) -> int:
        """How often lines could not be written."""
        return self._batches.errors

    @property
    def dropped(self) -> int:
        """Results that were given up because too many waited."""
        return self._batches.dropped

    async def flush(self, seconds: float = 10.0) -> bool:
        """Wait until what was given before is in the file; False when it takes longer."""
        return await asyncio.to_thread(self._batches.flush, seconds)

    async def aclose(self, seconds: float = 5.0) -> None:
        """Write what is left and close the file."""
        await asyncio.to_thread(self._batches.close, seconds)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, batch: Sequence[Result]) -> None:
        if not batch:
            return
        text = "".join([json.dumps(r.as_json(), separators=(",", ":"), default=str) + "\n" for r in batch]).encode()
        file = self._current()
        size = os.fstat(file).st_size
        try:
            while text:
                text = text[os.write(file, text) :]
        except OSError:
            os.ftruncate(file, size)
            raise

    def _current(self) -> int:
        if self._file is not None and not _is_at(self._file, self.path):
            os.close(self._file)
            self._file = None
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        return self._file


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
