"""One drill at a time in a state directory: a lock that dies with its owner, and that names it."""

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class DrillRunning(Exception):
    """Somebody else runs drills now. One sentence: who, what, since when, the remedy."""


class DrillLock:
    """`with DrillLock(path, owner=…, what=…):` nobody else of this machine holds it meanwhile.

    It is the kernel's lock on an open file, so that it ends with the process that holds it, however that ends: what is
    written in the file is for people, and an old note means nothing. Children do not inherit it.
    """

    def __init__(self, path: Path, *, owner: str, what: str, now: float) -> None:
        """`owner` and `what` are told to whoever comes second, `now` (Unix time) since when."""
        self._path = path
        self._note = {"owner": owner, "what": what, "since": now}
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Raises DrillRunning when it is held, OSError when the file cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(self._note).encode(), 0)
        except BlockingIOError as error:
            held = _told(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise DrillRunning(f"another drill runs: {held}; one at a time: wait for it, or end it") from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: to remove it would let two processes lock two files of one name.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _told(written: bytes) -> str:
    try:
        note: dict[str, Any] = json.loads(written)
        since = datetime.fromtimestamp(note["since"], UTC).strftime("%H:%M:%S UTC")
        return f"{note['what']}, since {since}, by {note['owner']}"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return "its owner has not said who it is yet"
