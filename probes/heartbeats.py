"""What is known of all jobs, kept on disk: a ping is acknowledged when it is there, and not before.

One SQLite file, written by one thread; every ping is a transaction of its own with `synchronous=FULL`. Beside the jobs it holds when
somebody was listening, because a ping that nobody could take is not a ping that was not sent.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from stormwatch.probes.heartbeat_state import Absence, Ping, State

FILE: Final = "heartbeats.sqlite"
"""Its name in the data directory."""
SIGN: Final = 10.0
"""Seconds between two marks that somebody listens: an absence is told too long by that at most, never too short."""
DEAD: Final = 3 * SIGN
"""Seconds after the last mark from which on nobody is believed to listen."""
ABSENCES: Final = 200
"""How many absences are remembered."""

T = TypeVar("T")


class HeartbeatsUnavailable(Exception):
    """The file cannot be read or written. The message says which, and why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the file says."""

    states: Mapping[str, State]
    absences: Sequence[Absence]
    heard: float | None
    """Unix time of the last mark that somebody listens; None: nobody ever did."""


class Heartbeats:
    """The state of every job. Checks read it, the web writes it.

    Made without arguments it knows no jobs: that is what a check gets where nobody listens.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.listening = False
        """Whether pings come in here. Otherwise somebody else's file is read."""
        self._pool: ThreadPoolExecutor | None = None
        self._db: sqlite3.Connection | None = None
        self._seen = Seen({}, (), None)

    @classmethod
    async def listen(cls, path: Path, jobs: Mapping[str, str], *, now: float) -> Self:
        """Open the file for writing, and begin to listen for these jobs. Raises HeartbeatsUnavailable.

        `jobs` has the schedule of each in words: who gets another one is waited for anew.
        """
        heartbeats = cls(path)
        heartbeats.listening = True
        heartbeats._pool = ThreadPoolExecutor(1, thread_name_prefix="heartbeats")
        try:
            await heartbeats._in_thread(lambda: heartbeats._begin(jobs, now))
        except HeartbeatsUnavailable:
            await heartbeats.aclose()
            raise
        return heartbeats

    async def seen(self) -> Seen:
        """What is known now: from memory where we listen, from the file where somebody else does."""
        if self.listening or self.path is None:
            return self._seen
        path = self.path
        return await asyncio.to_thread(_read, path)

    async def record(self, job: str, ping: Ping) -> None:
        """Keep a ping of a known job. When this returns, it is on disk. Raises HeartbeatsUnavailable when it is not."""
        await self._in_thread(lambda: self._write(job, ping))

    async def mark(self, now: float) -> None:
        """Say that somebody listens. To be called every `SIGN` seconds; a longer pause was an absence."""
        await self._in_thread(lambda: self._mark(now))

    async def aclose(self) -> None:
        """Close the file. The time from the last mark on counts as an absence."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(pool, self._close)
            pool.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            raise HeartbeatsUnavailable("nobody listens for pings here")
        # Shielded, because a ping that is half written when its client hangs up is written nevertheless.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._pool, self._guarded, work))

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            raise HeartbeatsUnavailable(f"{self.path} cannot be used: {error}") from error

    def _begin(self, jobs: Mapping[str, str], now: float) -> None:
        assert self.path is not None
        self._db = db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, state TEXT NOT NULL, schedule TEXT NOT NULL)"
        )
        db.execute("CREATE TABLE IF NOT EXISTS absence (began REAL NOT NULL, ended REAL NOT NULL)")
        db.execute("CREATE TABLE IF NOT EXISTS heard (only INTEGER PRIMARY KEY CHECK (only = 1), at REAL NOT NULL)")
        known = {
            name: (state, schedule) for name, state, schedule in db.execute("SELECT name, state, schedule FROM job")
        }
        states: dict[str, State] = {}
        db.execute("BEGIN IMMEDIATE")
        for name, schedule in jobs.items():
            text, before = known.get(name, ("", ""))
            state = State.from_json(json.loads(text)) if text else State(since=now)
            if schedule != before:  # nobody waited for it so until now, so that it cannot be late
                state = replace(state, since=now, starts={})
            states[name] = state
            db.execute("INSERT OR REPLACE INTO job VALUES (?, ?, ?)", (name, _text(state), schedule))
        db.executemany("UPDATE job SET schedule = '' WHERE name = ?", [(name,) for name in known if name not in jobs])
        db.execute("COMMIT")
        self._seen = Seen(states, (), None)
        self._mark(now, began=True)

    def _mark(self, now: float, *, began: bool = False) -> None:
        db = self._database()
        row = db.execute("SELECT at FROM heard").fetchone()
        db.execute("BEGIN IMMEDIATE")
        if row is not None and (began or now - row[0] > DEAD):
            db.execute("INSERT INTO absence VALUES (?, ?)", (row[0], now))
            db.execute(
                "DELETE FROM absence WHERE rowid NOT IN (SELECT rowid FROM absence ORDER BY rowid DESC LIMIT ?)",
                (ABSENCES,),
            )
        db.execute("INSERT OR REPLACE INTO heard VALUES (1, ?)", (now,))
        db.execute("COMMIT")
        self._seen = Seen(self._seen.states, _absences(db), now)

    def _write(self, job: str, ping: Ping) -> None:
        state = self._seen.states[job].after(ping)
        self._database().execute("UPDATE job SET state = ? WHERE name = ?", (_text(state), job))
        self._seen = Seen({**self._seen.states, job: state}, self._seen.absences, self._seen.heard)

    def _database(self) -> sqlite3.Connection:
        if self._db is None:
            raise HeartbeatsUnavailable(f"{self.path} is closed")
        if self._db.in_transaction:  # an earlier one failed half-way: the disk was full, perhaps
            self._db.execute("ROLLBACK")
        return self._db

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


def _text(state: State) -> str:
    return json.dumps(state.as_json())


def _absences(db: sqlite3.Connection) -> tuple[Absence, ...]:
    return tuple(
        Absence(began, ended) for began, ended in db.execute("SELECT began, ended FROM absence ORDER BY ended")
    )


def _read(path: Path) -> Seen:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows: list[tuple[str, Any]] = db.execute("SELECT name, state FROM job").fetchall()
            heard = db.execute("SELECT at FROM heard").fetchone()
            states = {name: State.from_json(json.loads(text)) for name, text in rows}
            return Seen(states, _absences(db), heard[0] if heard else None)
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
        raise HeartbeatsUnavailable(f"{path} cannot be read: {error}") from error
