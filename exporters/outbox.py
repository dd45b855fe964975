"""The outbox: what has to be told is on disk before anything is sent, so that no crash loses a page.

One SQLite file, synced at every commit. The whole state lives in memory as well: a disk that is full or broken must not
keep anybody asleep, so what cannot be written is sent all the same, and written as soon as that is possible again.
"""

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from stormwatch.exporters.exposition import Family, Sample
from stormwatch.exporters.message import Message
from stormwatch.exporters.step import Reached, Step, unheard

log = logging.getLogger(__name__)

VERSION = 1
"""Of the tables: `PRAGMA user_version`."""
KEEP = 90 * 86400.0
"""Seconds that receipts are kept."""
CHORE = 1000
"""Receipts that one commit removes at the most, so that a page never waits for the tidying."""
RECENT = 1000
"""Receipts that one answer of the log may hold."""

_TABLES = """
CREATE TABLE records (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE deliveries (
  id INTEGER PRIMARY KEY,
  channel TEXT NOT NULL,
  state TEXT NOT NULL,
  created REAL NOT NULL,
  settled REAL,
  document TEXT NOT NULL
);
CREATE INDEX waiting_deliveries ON deliveries (id) WHERE state = 'waiting';
CREATE INDEX deliveries_in_time ON deliveries (created);
CREATE INDEX settled_deliveries ON deliveries (settled);
"""


class DeliveryState(StrEnum):
    """What became of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """The receiver will never take it: it said so, or its channel is not configured any more."""


class OutboxUnavailable(Exception):
    """The file cannot be opened. The message says which and why."""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One message for one channel, and how its delivery stands. Settled, it is the receipt."""

    id: int
    channel: str
    key: str
    """Deliveries of one channel with one key stay in order."""
    message: Message
    created: float
    due: float
    """Unix time of the next try."""
    attempts: int = 0
    """Tries so far, counted on disk before each: 1 after a restart says that a receiver may have it already."""
    state: DeliveryState = DeliveryState.WAITING
    said: str = ""
    """What the receiver answered last, or why it could not be asked."""
    reference: str = ""
    """The id by which the receiver knows it, if it said one."""
    settled: float | None = None
    """Unix time at which the receiver took it or refused it for good."""
    instead_of: str = ""
    """The channel that could not be reached, when this one is its fallback."""
    passed_on: bool = False
    """Whether the fallback has it."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back equal."""
        return {
            "id": self.id,
            "channel": self.channel,
            "key": self.key,
            "state": self.state.value,
            "created": self.created,
            "due": self.due,
            "settled": self.settled,
            "attempts": self.attempts,
            "said": self.said,
            "reference": self.reference,
            "instead_of": self.instead_of,
            "passed_on": self.passed_on,
            "message": self.message.as_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Delivery":
        """Read what `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        values = dict(document)
        values["state"] = DeliveryState(values["state"])
        values["message"] = Message.from_json(values["message"])
        return cls(**values)


@dataclass(slots=True)
class Changes:
    """What one commit writes."""

    records: dict[tuple[str, str], Mapping[str, Any] | None] = field(
        default_factory=dict[tuple[str, str], Mapping[str, Any] | None]
    )
    """By kind and key; None removes it."""
    deliveries: dict[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])

    def put(self, delivery: Delivery) -> None:
        """Write a delivery as it is now."""
        self.deliveries[delivery.id] = delivery.as_json()

    def merge(self, later: "Changes") -> None:
        """Take in what came later; the later state of a thing is the one that counts."""
        self.records |= later.records
        self.deliveries |= later.deliveries


class Outbox:
    """The file. Its one connection lives in one thread; `write` returns when the disk has it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor, step: Reached) -> None:
        self.error = ""
        """Why the last commit failed; empty when the disk has everything."""
        self.commits = 0
        """Commits that the disk has."""
        self.failures = 0
        """Commits that it refused."""
        self._path = path
        self._connection = connection
        self._thread = thread
        self._step = step
        self._unwritten = Changes()
        self._asked = 0
        """Calls of `write` so far."""
        self._written = 0
        """How many of them the disk has."""
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, *, step: Reached = unheard) -> "Outbox":
        """Open or make the file. `step` hears, in the file's own thread, of each commit. Raises OutboxUnavailable."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        except (sqlite3.Error, OSError) as error:
            thread.shutdown(wait=False)
            raise OutboxUnavailable(f"the outbox {path} cannot be opened: {error}") from error
        return cls(path, connection, thread, step)

    async def write(self, changes: Changes, *, now: float) -> bool:
        """Commit, synced. False when the disk refuses: then it is written together with what comes next.

        What comes while a commit is under way shares the next one, however many want to write.
        """
        self._unwritten.merge(changes)
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._written >= mine:
                return True
            batch, covered = self._unwritten, self._asked
            self._unwritten = Changes()
            try:
                await self._run(_commit, self._connection, batch, now - KEEP, self._step)
            except BaseException as error:
                batch.merge(self._unwritten)
                self._unwritten = batch
                if not isinstance(error, sqlite3.Error):
                    raise
                self._failed(str(error))
                return False
            self._written = covered
            self.commits += 1
            if self.error:
                log.warning("the outbox is written again after %s", self.error)
                self.error = ""
            return True

    async def records(self, kind: str) -> dict[str, Any]:
        """Every record of a kind, by its key."""
        rows = await self._run(
            lambda: self._connection.execute("SELECT key, document FROM records WHERE kind = ?", (kind,)).fetchall()
        )
        return {key: json.loads(document) for key, document in rows}

    async def waiting(self) -> list[Delivery]:
        """What no receiver has taken yet, the oldest first."""
        rows = await self._run(
            lambda: self._connection.execute(
                "SELECT document FROM deliveries WHERE state = 'waiting' ORDER BY id"
            ).fetchall()
        )
        return [Delivery.from_json(json.loads(document)) for (document,) in rows]

    async def next_id(self) -> int:
        """A number that no delivery had."""
        ((last,),) = await self._run(lambda: self._connection.execute("SELECT max(id) FROM deliveries").fetchall())
        return (last or 0) + 1

    async def recent(
        self, since: float, *, channel: str = "", state: str = "", limit: int = RECENT
    ) -> Sequence[dict[str, Any]]:
        """Deliveries that were made since a Unix time, the newest first."""
        rows = await self._run(
            lambda: self._connection.execute(
                "SELECT document FROM deliveries WHERE created >= ? AND (? = '' OR channel = ?) "
                "AND (? = '' OR state = ?) ORDER BY id DESC LIMIT ?",
                (since, channel, channel, state, state, limit),
            ).fetchall()
        )
        return [json.loads(document) for (document,) in rows]

    def families(self) -> list[Family]:
        """The metrics of the file."""
        return [
            Family("stormwatch_outbox_commits_total", "Commits of the outbox.", "counter", [Sample(self.commits)]),
            Family(
                "stormwatch_outbox_failures_total",
                "Commits of the outbox that the disk refused.",
                "counter",
                [Sample(self.failures)],
            ),
            Family(
                "stormwatch_outbox_unwritten",
                "Whether a crash now would lose what has to be told: the last commit was refused.",
                "gauge",
                [Sample(int(bool(self.error)))],
            ),
        ]

    async def aclose(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            await self._run(self._connection.close)
        self._thread.shutdown(wait=True)

    def _failed(self, said: str) -> None:
        self.failures += 1
        if said != self.error:  # once for each new trouble, not once for each try
            log.error("the outbox %s cannot be written, so a crash would lose alerts: %s", self._path, said)
        self.error = said

    async def _run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    path.chmod(0o600)  # messages tell of failures inside: nobody else's business
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it has version {version}, this stormwatch knows {VERSION}; use the newer one")
    if version == 0:
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    return connection


def _commit(connection: sqlite3.Connection, changes: Changes, before: float, step: Reached) -> None:
    """One transaction: all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", _gone(changes))
        connection.executemany(
            "INSERT OR REPLACE INTO records (kind, key, document) VALUES (?, ?, ?)",
            ((kind, key, json.dumps(value)) for (kind, key), value in changes.records.items() if value is not None),
        )
        connection.executemany(
            "INSERT OR REPLACE INTO deliveries (id, channel, state, created, settled, document) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (id_, each["channel"], each["state"], each["created"], each["settled"], json.dumps(each))
                for id_, each in changes.deliveries.items()
            ),
        )
        connection.execute(
            "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE settled < ? LIMIT ?)", (before, CHORE)
        )
        step(Step.COMMIT)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _gone(changes: Changes) -> Iterable[tuple[str, str]]:
    return (place for place, value in changes.records.items() if value is None)
