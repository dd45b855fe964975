"""History: every result and every alert transition in one SQLite file, written in batches by a thread of its own.

    Result ▸ queue ▸ one transaction at most every quarter of a second ▸ WAL, synced ▸ readers

A commit is synced to the disk (`synchronous=FULL`): what is acknowledged survives SIGKILL and power loss, and only what
came within the last moment is lost. The tables are described in docs/reference/history.md.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormwatch.exporters.batch import INTERVAL, KEPT, Batches
from stormwatch.exporters.exposition import Family, FamilyKind, Sample
from stormwatch.probes.result import Attempt, Outcome, Reason, Result

log = logging.getLogger(__name__)

VERSION = 2
"""Of the tables: `PRAGMA user_version`."""
KEEP = 35 * 86400.0
"""Seconds that results are kept by default: the window of a 30-day objective, and some days to look back."""
KEEP_DETAILS = 3 * 86400.0
"""Seconds that phases, measures and evidence of runs that were up are kept. Those of failures stay as long as the run."""
KEEP_JUDGED = 800 * 86400.0
"""Seconds that alert transitions are kept, and what objectives counted by the hour: two years, for reports that compare."""
HOUR = 3600
CHORE = 5000
"""Rows that one round of retention deletes, so that a writer never waits long."""
ABANDONED = 60.0
"""Seconds between two rounds of retention."""

_TABLES = """
CREATE TABLE probes (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  target TEXT NOT NULL,
  location TEXT NOT NULL,
  UNIQUE (name, kind, target, location)
);
CREATE TABLE results (
  id INTEGER PRIMARY KEY,
  probe INTEGER NOT NULL REFERENCES probes (id),
  started REAL NOT NULL,
  decided REAL NOT NULL,
  seconds REAL NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  failed_phase TEXT NOT NULL
);
CREATE INDEX results_of_probe ON results (probe, started, outcome, seconds);
CREATE INDEX failures_of_probe ON results (probe, started) WHERE outcome <> 'up';
CREATE INDEX results_in_time ON results (started);
CREATE TABLE details (
  id INTEGER PRIMARY KEY REFERENCES results (id),
  document BLOB NOT NULL
);
CREATE TABLE transitions (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  document TEXT NOT NULL
);
CREATE INDEX transitions_in_time ON transitions (at);
"""

_JUDGED = """
CREATE TABLE judged (
  objective TEXT NOT NULL,
  hour INTEGER NOT NULL,
  good INTEGER NOT NULL,
  bad INTEGER NOT NULL,
  PRIMARY KEY (objective, hour)
) WITHOUT ROWID;
CREATE INDEX judged_in_time ON judged (hour)
"""
"""Since version 2."""

_SELECT = """
SELECT r.id, p.name, p.kind, p.target, p.location, r.started, r.decided, r.seconds, r.outcome, r.reason, r.message,
  r.failed_phase, d.document
FROM results r JOIN probes p ON p.id = r.probe LEFT JOIN details d ON d.id = r.id
"""


class HistoryUnavailable(Exception):
    """The file cannot be read now: it is locked, damaged, or cannot be opened. The message says which and where."""


class HistoryTooNew(ValueError):
    """The file was written by a later version of stormwatch, whose tables this one does not know."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What happened to one probe in one part of a span of time."""

    start: float
    """Unix time in seconds at which the part begins."""
    up: int = 0
    down: int = 0
    broken: int = 0

    @property
    def worst(self) -> Outcome | None:
        """The worst outcome in it: down before broken before up. None: no run."""
        if self.down:
            return Outcome.DOWN
        if self.broken:
            return Outcome.BROKEN
        return Outcome.UP if self.up else None


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the runs that were up took in one part of a span of time. Seconds; None: there was none."""

    start: float
    mean: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What an objective counted in one hour."""

    objective: str
    hour: int
    """Unix time in seconds at which it begins: a multiple of 3600."""
    good: int
    bad: int


_Entry = Result | tuple[float, str] | Judged
"""A result, the moment and the JSON text of a transition, or results to add to what an objective counted."""


class Recorded:
    """What a history file holds, for reading: every question opens it anew, so that no writer is held up.

    Questions wait for the disk, so ask them in a thread. They raise HistoryUnavailable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def results(
        self,
        probe: str | None = None,
        *,
        since: float = 0.0,
        until: float = float("inf"),
        limit: int = 1000,
        outcome: Outcome | None = None,
    ) -> tuple[Result, ...]:
        """Results that started in `since <= started < until` (Unix seconds), the newest first, at most `limit`."""
        where = ["r.started >= ?", "r.started < ?"]
        values: list[Any] = [since, until]
        if outcome:
            where.append("r.outcome = ?")
            values.append(outcome.value)
        return self._newest(probe, where, values, limit)

    def failures(self, probe: str, *, limit: int = 20) -> tuple[Result, ...]:
        """The last results of a probe that were down or broken, the newest first."""
        return self._newest(probe, ["r.outcome <> 'up'"], [], limit)

    def last(self, probe: str) -> Result | None:
        """The last result of a probe."""
        return next(iter(self._newest(probe, [], [], 1)), None)

    def last_failure(self, probe: str) -> Result | None:
        """The last result of a probe that was down or broken."""
        return next(iter(self.failures(probe, limit=1)), None)

    def first_started(self, probe: str | None = None) -> float | None:
        """Unix time at which the oldest run that is remembered started."""
        with self._reading() as db:
            if probe is None:
                return db.execute("SELECT min(started) FROM results").fetchone()[0]
            found = [
                db.execute("SELECT min(started) FROM results WHERE probe = ?", (identity,)).fetchone()[0]
                for identity in _identities(db, probe)
            ]
        return min((started for started in found if started is not None), default=None)

    def strip(self, probe: str, since: float, until: float, buckets: int) -> tuple[Stretch, ...]:
        """The span in `buckets` equal parts, with how many runs ended how in each. For one probe."""
        width = (until - since) / buckets
        counts = [dict.fromkeys(Outcome, 0) for _ in range(buckets)]
        with self._reading() as db:
            for place, outcome, count in db.execute(
                "SELECT min(CAST((started - ?) / ? AS INTEGER), ?), outcome, count(*) FROM results"  # noqa: S608 - only ids
                f" WHERE probe IN ({_listed(_identities(db, probe))}) AND started >= ? AND started < ? GROUP BY 1, 2",
                (since, width, buckets - 1, since, until),
            ):
                counts[place][Outcome(outcome)] = count
        return tuple(
            Stretch(since + place * width, up=c[Outcome.UP], down=c[Outcome.DOWN], broken=c[Outcome.BROKEN])
            for place, c in enumerate(counts)
        )

    def latencies(self, probe: str, since: float, until: float, buckets: int) -> tuple[Latency, ...]:
        """The span in `buckets` equal parts, with how long the runs of a probe that were up took in each."""
        width = (until - since) / buckets
        found = [Latency(since + place * width) for place in range(buckets)]
        with self._reading() as db:
            for place, mean, longest in db.execute(
                "SELECT min(CAST((started - ?) / ? AS INTEGER), ?), avg(seconds), max(seconds) FROM results"  # noqa: S608 - only ids
                f" WHERE probe IN ({_listed(_identities(db, probe))}) AND started >= ? AND started < ?"
                " AND outcome = 'up' GROUP BY 1",
                (since, width, buckets - 1, since, until),
            ):
                found[place] = Latency(found[place].start, mean, longest)
        return tuple(found)

    def transitions(self, since: float = 0.0, limit: int = 10_000) -> tuple[dict[str, Any], ...]:
        """The documents of the transitions since a Unix time, the oldest first; of more than `limit` the newest."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT document FROM transitions WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit)
            ).fetchall()
        return tuple(json.loads(document) for (document,) in reversed(rows))

    def judged(self, since: float = 0.0, until: float = float("inf")) -> tuple[Judged, ...]:
        """What each objective counted, by the hour; hours that begin in `since <= hour < until`, the oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT objective, hour, good, bad FROM judged WHERE hour >= ? AND hour < ? ORDER BY hour, objective",
                (since, min(until, 2.0**62)),
            ).fetchall()
        return tuple(Judged(*row) for row in rows)

    def replay(self, since: float = 0.0) -> Iterator[Result]:
        """Results that started since a Unix time, in the order in which they came: to restart what counts them.

        Without phases, measures and evidence, and with the deciding attempt only.
        """
        with self._reading() as db:
            first = db.execute("SELECT min(id) FROM results WHERE started >= ?", (since,)).fetchone()[0]
            if first is None:
                return
            probes = {row[0]: row[1:] for row in db.execute("SELECT id, name, kind, target, location FROM probes")}
            for row in db.execute(
                "SELECT probe, started, decided, seconds, outcome, reason, message, failed_phase FROM results"
                " WHERE id >= ? AND started >= ? ORDER BY id",
                (first, since),
            ):
                yield _light(probes[row[0]], row[1:])

    def replay_whole(self, since: float, probes: Collection[str]) -> Iterator[Result]:
        """The same with all that was seen, of the runs of these probes of which it is still kept."""
        with self._reading() as db:
            for row in db.execute(
                f"{_SELECT} WHERE r.started >= ? AND d.document IS NOT NULL"
                f" AND p.name IN ({','.join('?' * len(probes))}) ORDER BY r.id",
                (since, *probes),
            ):
                yield _whole(row)

    def _newest(self, probe: str | None, where: list[str], values: list[Any], limit: int) -> tuple[Result, ...]:
        with self._reading() as db:
            # One query for each identity of the probe: so each one walks an index from its end and stops at the limit.
            identities = [None] if probe is None else _identities(db, probe)
            rows = list(
                itertools.chain.from_iterable(
                    db.execute(
                        f"{_SELECT} WHERE {' AND '.join([*where, 'TRUE' if each is None else 'r.probe = ?'])}"
                        " ORDER BY r.started DESC, r.id DESC LIMIT ?",
                        [*values, *([] if each is None else [each]), limit],
                    )
                    for each in identities
                )
            )
        if len(identities) > 1:
            rows.sort(key=lambda row: (row[5], row[0]), reverse=True)
        return tuple(_whole(row) for row in rows[:limit])

    @contextlib.contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                db.execute("PRAGMA busy_timeout = 2000")
                yield db
        except sqlite3.Error as error:
            raise HistoryUnavailable(f"history {self.path} cannot be read: {error}") from error


class History(Recorded):
    """A sink. Taking a result never waits and never fails; reading does wait, so call it in a thread.

    A full disk, a locked or an unreadable file does not stop anything: results wait in memory (100,000 of them), the
    write is tried again, `errors` counts. A damaged file is put aside under another name and a new one is begun.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: float = KEEP,
        keep_details: float = KEEP_DETAILS,
        interval: float = INTERVAL,
        pending: int = KEPT,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open or make the file. `keep` and `keep_details` in seconds. Raises HistoryTooNew, and nothing else."""
        super().__init__(path)
        self._keep = keep
        self._keep_details = keep_details
        self._now = now
        self._swept = 0.0
        self._writer: sqlite3.Connection | None = None
        self._ids: dict[tuple[str, str, str, str], int] = {}
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            log.error("history %s: %s; tried again until it can be opened", path, error)  # noqa: TRY400 - the sentence says it
        self._batches: Batches[_Entry] = Batches(
            f"history {path}",
            self._write,
            failures=(sqlite3.Error, OSError),
            interval=interval,
            idle=ABANDONED,
            kept=pending,
        )

    # -- writing ----------------------------------------------------------------------------------------------------

    def __call__(self, result: Result) -> None:
        """Remember a result."""
        self._batches.put(result)

    def record_transition(self, document: Mapping[str, Any]) -> None:
        """Remember that an alert changed its state: a JSON object with its Unix time under `at`."""
        self._batches.put((float(document["at"]), json.dumps(document, separators=(",", ":"))))

    def count_judged(self, objective: str, at: float, *, good: int, bad: int) -> None:
        """Add to what an objective counted in the hour of a Unix time."""
        self._batches.put(Judged(objective, int(at) // HOUR * HOUR, good, bad))

    @property
    def errors(self) -> int:
        """How often a batch could not be written."""
        return self._batches.errors

    @property
    def error(self) -> str:
        """What the last write said; empty when it went well."""
        return self._batches.error

    @property
    def waiting(self) -> int:
        """Entries that are accepted and not yet on disk."""
        return self._batches.waiting

    @property
    def dropped(self) -> int:
        """Entries that were given up: too many waited, or no try could have written them."""
        return self._batches.dropped

    @property
    def written(self) -> int:
        """Entries that are on disk: what was acknowledged."""
        return self._batches.written

    async def flush(self, seconds: float = 10.0) -> bool:
        """Wait until what was given before is on disk; False when it takes longer."""
        return await asyncio.to_thread(self._batches.flush, seconds)

    async def aclose(self, seconds: float = 5.0) -> None:
        """Write what is left and close the file. What cannot be written in this time is lost, and logged."""
        await asyncio.to_thread(self._close, seconds)

    def _close(self, seconds: float) -> None:
        self._batches.close(seconds)
        if self._writer:
            self._writer.close()
            self._writer = None

    def families(self) -> list[Family]:
        """The history's own metrics: a source for `/metrics`."""
        numbers: list[tuple[str, FamilyKind, str, int]] = [
            ("written_total", "counter", "Results and transitions that are on disk.", self.written),
            ("write_errors_total", "counter", "Batches that could not be written, to be tried again.", self.errors),
            ("dropped_total", "counter", "Results and transitions that were given up.", self.dropped),
            ("waiting", "gauge", "Results and transitions that are not on disk yet.", self.waiting),
        ]
        return [
            Family(f"stormwatch_history_{name}", text, kind, [Sample(value)]) for name, kind, text, value in numbers
        ]

    # -- the writing thread -----------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[_Entry]) -> None:
        """One transaction, or none. Runs in the thread of `Batches`."""
        try:
            db = self._writer or self._open()
            if batch:
                self._insert(db, batch)
            self._sweep(db)
        except Exception as error:
            self._ids.clear()  # those that were made in the transaction that is undone are not in the file
            if _is_damaged(error):
                self._put_aside(error)
            raise

    def _insert(self, db: sqlite3.Connection, batch: Sequence[_Entry]) -> None:
        with _transaction(db):
            for entry in batch:
                if isinstance(entry, Judged):
                    db.execute(
                        "INSERT INTO judged (objective, hour, good, bad) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                        " SET good = good + excluded.good, bad = bad + excluded.bad",
                        (entry.objective, entry.hour, entry.good, entry.bad),
                    )
                    continue
                if isinstance(entry, tuple):
                    db.execute("INSERT INTO transitions (at, document) VALUES (?, ?)", entry)
                    continue
                row = (
                    self._identity(db, entry),
                    entry.started,
                    entry.attempts[-1].started if entry.attempts else entry.started,
                    entry.seconds,
                    entry.outcome.value,
                    entry.reason.value,
                    _text(entry.message),
                    _text(entry.failed_phase),
                )
                identity = db.execute(
                    "INSERT INTO results (probe, started, decided, seconds, outcome, reason, message, failed_phase)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).lastrowid
                db.execute("INSERT INTO details (id, document) VALUES (?, ?)", (identity, _packed(entry)))

    def _identity(self, db: sqlite3.Connection, result: Result) -> int:
        key = (result.probe, result.kind, result.target, result.location)
        if key not in self._ids:
            db.execute("INSERT OR IGNORE INTO probes (name, kind, target, location) VALUES (?, ?, ?, ?)", key)
            self._ids[key] = db.execute(
                "SELECT id FROM probes WHERE name = ? AND kind = ? AND target = ? AND location = ?", key
            ).fetchone()[0]
        return self._ids[key]

    def _sweep(self, db: sqlite3.Connection) -> None:
        """Delete what is older than it is kept, a bit at a time."""
        now = self._now()
        if abs(now - self._swept) < ABANDONED:
            return
        with _transaction(db):
            gone = [
                db.execute(
                    "DELETE FROM details WHERE id IN (SELECT d.id FROM results r JOIN details d ON d.id = r.id"
                    " WHERE r.started < ? AND r.outcome = 'up' LIMIT ?)",
                    (now - self._keep_details, CHORE),
                ).rowcount,
                db.execute(
                    "DELETE FROM details WHERE id IN (SELECT id FROM results WHERE started < ? LIMIT ?)",
                    (now - self._keep, CHORE),
                ).rowcount,
                db.execute(
                    "DELETE FROM results WHERE id IN (SELECT r.id FROM results r WHERE r.started < ?"
                    " AND NOT EXISTS (SELECT 1 FROM details d WHERE d.id = r.id) LIMIT ?)",
                    (now - self._keep, CHORE),
                ).rowcount,
                db.execute("DELETE FROM transitions WHERE at < ?", (now - KEEP_JUDGED,)).rowcount,
                db.execute("DELETE FROM judged WHERE hour < ?", (now - KEEP_JUDGED,)).rowcount,
            ]
        if max(gone) < CHORE:
            self._swept = now  # otherwise the next batch goes on

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.Error) and _is_damaged(error):
                self._put_aside(error)
                return self._open()
            raise
        self._writer = db
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA busy_timeout = 1000")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise HistoryTooNew(
                f"history {self.path} has tables of version {version}, this stormwatch knows {VERSION}:"
                " start the newer one, or move the file away"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        if version < VERSION:
            with _transaction(db):
                for statement in (_TABLES if version == 0 else "").split(";") + _JUDGED.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")

    def _put_aside(self, error: Exception) -> None:
        """Keep a damaged file for those who can repair it, and begin a new one."""
        if self._writer:
            self._writer.close()
            self._writer = None
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ending).rename(aside.with_name(aside.name + ending))
        log.error("history %s is damaged (%s): kept as %s, and a new one is begun", self.path, error, aside)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def _is_damaged(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _identities(db: sqlite3.Connection, probe: str) -> list[int]:
    """A probe whose target, kind or location changed has several."""
    return [row[0] for row in db.execute("SELECT id FROM probes WHERE name = ?", (probe,))]


def _listed(identities: Sequence[int]) -> str:
    return ",".join(map(str, identities))


_IN_COLUMNS = frozenset(
    {"probe", "kind", "target", "location", "started", "seconds", "outcome", "reason", "message", "failed_phase"}
)


def _packed(result: Result) -> bytes:
    document = {key: value for key, value in result.as_json().items() if key not in _IN_COLUMNS}
    return zlib.compress(json.dumps(document, separators=(",", ":"), default=str).encode(), 6)


def _whole(row: tuple[Any, ...]) -> Result:
    """From a row of `_SELECT`."""
    identity, (started, decided, seconds, outcome, reason, message, failed_phase), details = (
        row[1:5],
        row[5:12],
        row[12],
    )
    if details is None:
        return _light(identity, (started, decided, seconds, outcome, reason, message, failed_phase))
    columns = dict(zip(("probe", "kind", "target", "location"), identity, strict=True))
    return Result.from_json(
        {
            **json.loads(zlib.decompress(details)),
            **columns,
            "started": started,
            "seconds": seconds,
            "outcome": outcome,
            "reason": reason,
            "message": message,
            "failed_phase": failed_phase,
        }
    )


def _light(identity: Sequence[str], run: tuple[float, float, float, str, str, str, str]) -> Result:
    """A result whose details are not asked for, or no longer kept: with the deciding attempt only."""
    probe, kind, target, location = identity
    started, decided, seconds, outcome, reason, message, failed_phase = run
    ended, why = Outcome(outcome), Reason(reason)
    return Result(
        probe=probe,
        kind=kind,
        target=target,
        location=location,
        started=started,
        seconds=seconds,
        outcome=ended,
        reason=why,
        message=message,
        failed_phase=failed_phase,
        attempts=(Attempt(started=decided, seconds=seconds, outcome=ended, reason=why, message=message),),
    )


def _text(text: str) -> str:
    """SQLite takes UTF-8 only; what a hostile server said may hold lone surrogates."""
    return text.encode(errors="replace").decode()
