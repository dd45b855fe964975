"""Who injected what, when, and how it ended: one line of JSON a step, flushed to disk, each chained to the one before.

A line that was changed, removed or put in between breaks the chain from there on; `verify` says where. It does not
protect against somebody who rewrites the whole file: keep the last hash elsewhere for that.
"""

import fcntl
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stormwatch.probes.clock import Clock

START = "0" * 64
"""What the first line is chained to."""
_TAIL = 1024 * 1024


class AuditJournal:
    """Appends to one file; several processes may. Every method is blocking and short."""

    def __init__(self, path: Path, *, clock: Clock, actor: str = "") -> None:
        """`actor` is who is responsible, for people; by default user, machine and process."""
        self.path = path
        self._clock = clock
        self._actor = actor or myself()

    def append(self, event: str, data: Mapping[str, Any]) -> str:
        """Write a line and flush it to the disk; its hash. `data` is JSON values, and never a secret. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released with the descriptor
            last, torn = _last_line(file)
            entry: dict[str, Any] = {
                "number": last.get("number", 0) + 1,
                "at": self._clock.now(),
                "actor": self._actor,
                "event": event,
                "data": dict(data),
                "previous": last.get("hash", START),
            }
            if torn:
                # Its writer died in the middle of a line, which was therefore never acknowledged to anybody.
                entry["after_torn_line"] = True
            entry["hash"] = _hash(entry)
            line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            file.write((b"\n" if torn else b"") + line)
            os.fsync(file.fileno())
        return str(entry["hash"])


@dataclass(frozen=True, slots=True)
class Reading:
    """A journal as it was found."""

    entries: tuple[Mapping[str, Any], ...]
    """Every line that is readable, in order."""
    problems: tuple[str, ...]
    """What is wrong with the chain: then it cannot be relied on."""
    torn: str = ""
    """That the last line is not complete: its writer died while it wrote, or the end was cut off."""

    @property
    def last_hash(self) -> str:
        """The hash of the last line: what to keep elsewhere against somebody who rewrites the whole file."""
        return str(self.entries[-1].get("hash", START)) if self.entries else START


def read(path: Path) -> Reading:
    """Every line of a journal, and whether the chain is whole. Raises OSError."""
    entries: list[Mapping[str, Any]] = []
    problems: list[str] = []
    previous = START
    torn = 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        entry = _entry(line)
        if entry is None:
            torn = number
            continue
        if torn and not entry.get("after_torn_line"):
            problems.append(f"line {torn} is not readable")
        torn = 0
        if entry.get("previous") != previous:
            problems.append(f"line {number} is not chained to the line before: something was removed or put in between")
        if entry.get("hash") != _hash(entry):
            problems.append(f"line {number} was changed: it does not have its own hash")
        previous = str(entry.get("hash"))
        entries.append(entry)
    end = f"line {torn} is not complete: its writer died, or the end was cut off" if torn else ""
    return Reading(tuple(entries), tuple(problems), end)


def verify(path: Path) -> list[str]:
    """What is wrong with a journal, line by line; empty when the chain is whole. Raises OSError."""
    reading = read(path)
    return [*reading.problems, *([reading.torn] if reading.torn else [])]


def _last_line(file: BinaryIO | Any) -> tuple[Mapping[str, Any], bool]:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    lines = tail.split(b"\n")
    torn = bool(lines.pop())
    for line in reversed(lines):
        entry = _entry(line)
        if entry is not None:
            return entry, torn
    return {}, torn


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _hash(entry: Mapping[str, Any]) -> str:
    unsigned = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(unsigned, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def myself() -> str:
    """Who we are, for people: user, machine and process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user in the password database, as in some containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
