"""The state of a service: one SQLite file, written by one process, durable enough for a SIGKILL of that process."""

import sqlite3
from pathlib import Path


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """A connection in autocommit mode to a file that has the tables of `schema` (CREATE … IF NOT EXISTS).

    Rows are `sqlite3.Row`. Write-ahead log: a killed process loses nothing that it acknowledged.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;{schema}")
    return connection
