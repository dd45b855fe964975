"""What outlives us: a record on disk for each fault, written before it is injected, removed when it is proved gone.

    temporary file ▸ fsync ▸ rename ▸ fsync of the directory ▸ inject ▸ … ▸ revert ▸ absence proved ▸ remove

Whatever dies in between leaves a record that says how to take the fault back, to another process, from the file alone.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from stormwatch.chaos.process import ProcessId
from stormwatch.chaos.undoers import UNDOERS, Undoer


def state_directory(environ: Mapping[str, str]) -> Path:
    """`$STORMWATCH_STATE`, or `~/.local/state/stormwatch`. Raises ValueError when neither can be told."""
    if chosen := environ.get("STORMWATCH_STATE"):
        return Path(chosen)
    if home := environ.get("HOME"):
        return Path(home) / ".local" / "state" / "stormwatch"
    raise ValueError("neither STORMWATCH_STATE nor HOME is set: say with STORMWATCH_STATE where state is kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRecord:
    """How to take one fault back, and whose it is."""

    id: str
    method: str
    """A key of `undoers.UNDOERS`."""
    what: str
    """For people: `tcp-blackhole on payments`."""
    arguments: Mapping[str, Any]
    """JSON values that the method needs."""
    owner: ProcessId
    """Who runs the drill. While it lives, the fault is in good hands."""
    at: float
    """Unix time of the record."""
    drill: str = ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "id": self.id,
            "method": self.method,
            "what": self.what,
            "arguments": dict(self.arguments),
            "owner": self.owner.as_json(),
            "at": self.at,
            "drill": self.drill,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "UndoRecord":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            id=str(document["id"]),
            method=str(document["method"]),
            what=str(document["what"]),
            arguments=dict(document["arguments"]),
            owner=ProcessId.from_json(document["owner"]),
            at=float(document["at"]),
            drill=str(document["drill"]),
        )


class UndoState(StrEnum):
    """How the undoing of one record ended."""

    UNDONE = "undone"
    ALREADY_GONE = "already gone"
    LEFT_ALONE = "left alone"
    """It belongs to a drill that is running."""
    FAILED = "failed"
    """The fault may still be in place."""


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """What became of one record."""

    id: str
    what: str
    state: UndoState
    why: str
    """One sentence; for a failure with the remedy."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file in the journal that is no record: what it would have undone is not known."""

    path: Path
    why: str


class UndoJournal:
    """The records of one directory. Every method is blocking and short; each record is a file of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def record(self, record: UndoRecord) -> None:
        """Write a record so that it survives the death of this process and of the machine. Raises OSError."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", record.id):
            raise ValueError(f"a record's id is letters, digits, dots and dashes, not {record.id!r}")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.directory / f".{record.id}.{os.getpid()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(record.as_json(), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path(record.id))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync()

    def forget(self, identity: str) -> None:
        """Remove a record whose fault is proved gone, and the sign of life beside it; none is no error."""
        self._path(identity).unlink(missing_ok=True)
        self.sign(identity).unlink(missing_ok=True)
        if self.directory.is_dir():
            self._sync()

    def pending(self) -> list[UndoRecord | Unreadable]:
        """All records, the youngest first: faults are taken back in the reverse of their order."""
        found: list[UndoRecord | Unreadable] = []
        for path in sorted(self.directory.glob("*.json")) if self.directory.is_dir() else []:
            try:
                found.append(UndoRecord.from_json(json.loads(path.read_text(encoding="utf-8"))))
            except FileNotFoundError:
                continue  # its owner removed it just now
            except (OSError, ValueError, KeyError, TypeError) as error:
                found.append(Unreadable(path, f"{type(error).__name__}: {error}"))
        return sorted(found, key=lambda one: -one.at if isinstance(one, UndoRecord) else 0.0)

    async def undo_all(self, *, force: bool = False, undoers: Mapping[str, Undoer] = UNDOERS) -> list[UndoOutcome]:
        """Take back what dead drills left behind; with `force` also the faults of drills that run now."""
        self._sweep()
        return [await self._undo(one, force=force, undoers=undoers) for one in self.pending()]

    async def undo(self, identity: str, *, undoers: Mapping[str, Undoer] = UNDOERS) -> UndoOutcome | None:
        """Take one fault back, whoever owns it; None when it has no record (any more)."""
        found = [one for one in self.pending() if isinstance(one, UndoRecord) and one.id == identity]
        return await self._undo(found[0], force=True, undoers=undoers) if found else None

    def sign(self, identity: str) -> Path:
        """The file that the owner of a fault touches as a sign of life."""
        return self.directory / f"{identity}.alive"

    def holds(self, identity: str) -> bool:
        """Whether there is a record of this fault."""
        return self._path(identity).exists()

    @asynccontextmanager
    async def alone(self, identity: str, *, patience: float = 60.0) -> AsyncGenerator[bool]:
        """While nobody else takes this fault back: whether it has a record still. Raises TimeoutError.

        The fault's owner, its reaper and `stormwatch undo` may all come to it at once, and what one of them starts again the
        others must not. The lock is on the record itself, and ends with the process that has it.
        """
        from asyncio import sleep

        try:
            descriptor = os.open(self._path(identity), os.O_RDONLY)
        except FileNotFoundError:
            yield False
            return
        try:
            deadline = time.monotonic() + patience
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"somebody else has been taking {identity} back for {patience:g} s")
                await sleep(0.02)
            # Whoever had it before may have removed the record.
            yield self.holds(identity)
        finally:
            os.close(descriptor)

    async def _undo(
        self, record: UndoRecord | Unreadable, *, force: bool, undoers: Mapping[str, Undoer]
    ) -> UndoOutcome:
        if isinstance(record, Unreadable):
            why = f"{record.path} is not readable ({record.why}): look for its fault by hand, then delete the file"
            return UndoOutcome(record.path.stem, "unknown fault", UndoState.FAILED, why)
        if not force and record.owner.alive():
            why = f"its drill runs now, as process {record.owner.pid}; --force takes the fault away from it"
            return UndoOutcome(record.id, record.what, UndoState.LEFT_ALONE, why)
        if record.method not in undoers:
            why = f"its way of injection, {record.method}, is not known to this version"
            return UndoOutcome(record.id, record.what, UndoState.FAILED, why)
        try:
            async with self.alone(record.id) as mine:
                if not mine:
                    return UndoOutcome(record.id, record.what, UndoState.ALREADY_GONE, "taken back by another just now")
                absence = await undoers[record.method](record.arguments)
                self.forget(record.id)
        except Exception as error:  # noqa: BLE001 - one record that cannot be undone must not keep the others in place
            return UndoOutcome(record.id, record.what, UndoState.FAILED, str(error) or type(error).__name__)
        state = UndoState.UNDONE if absence.was_there else UndoState.ALREADY_GONE
        return UndoOutcome(record.id, record.what, state, absence.why)

    def _sweep(self) -> None:
        """Remove what was half written when its writer died: nothing was injected yet. And signs of life of nobody."""
        for path in self.directory.glob("*.alive") if self.directory.is_dir() else []:
            if not self.holds(path.stem):
                path.unlink(missing_ok=True)
        for path in self.directory.glob(".*.tmp") if self.directory.is_dir() else []:
            pid = path.name.split(".")[-2]
            if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
                path.unlink(missing_ok=True)

    def _path(self, identity: str) -> Path:
        return self.directory / f"{identity}.json"

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
