"""`made`: what a journey made at the target, and how it is taken away again: always, also after a run that was killed.

A run writes down what it made before it goes on, in a file that it keeps locked (flock) as long as it lives. A file that nobody has
locked belongs to a run that is dead: the next run of the journey takes away what it left.

    [{"file": "/suite/test_shop.py", "name": "delete_customer", "arguments": ["c-17"], "tries": 0}, …]
"""

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

TRIES: Final = 5
"""How many runs try to take a thing away before it is given up."""

T = TypeVar("T")


class RemovalFailed(Exception):
    """What a journey made could not be taken away again."""


@dataclass(slots=True)
class _Thing:
    """Something that was made: the call that takes it away."""

    remove: Callable[..., object]
    arguments: tuple[Any, ...]
    record: dict[str, Any] | None
    """How another process finds the call again; None where it cannot."""

    def __str__(self) -> str:
        return f"{getattr(self.remove, '__qualname__', self.remove)}({', '.join(map(repr, self.arguments))})"


class Made:
    """What the fixture `made` gives to one run.

    email = made(delete_customer, f"ada-{token_hex(4)}@shop.example")     named first: nothing is made that nobody knows of
    register(email)
    """

    def __init__(self, journal: Path | None) -> None:
        """`journal` is where this run writes down what it made; None: nowhere, then a run that is killed leaves it."""
        self._things: list[_Thing] = []
        self._journal = journal
        self._descriptor: int | None = None

    def __call__(self, remove: Callable[..., object], thing: T, *more: Any) -> T:
        """Say that `thing` was made: `remove(thing, *more)` is called when the run is over, whatever came of it.

        The last that was made goes first. Where `remove` is a function of a module and the arguments are JSON values, the next
        run does it for one that was killed. Returns `thing`.
        """
        self._things.append(_Thing(remove, (thing, *more), _record(remove, (thing, *more))))
        self._write()
        return thing

    def remove_all(self) -> None:
        """Take everything away, the last first, each also when another cannot be. Raises RemovalFailed with all that failed."""
        failures: list[tuple[_Thing, Exception]] = []
        for thing in reversed(self._things):
            try:
                thing.remove(*thing.arguments)
            except Exception as error:  # noqa: BLE001 - the journey's own code: anything may be raised
                failures.append((thing, error))
        self._things = [thing for thing, _ in reversed(failures)]
        for thing in self._things:
            if thing.record:
                thing.record["tries"] += 1
        self._write()
        self._close()
        if failures:
            told = "; ".join(f"{thing}: {type(error).__name__}: {error}" for thing, error in failures)
            raise RemovalFailed(f"what the journey made could not be taken away again: {told}") from failures[0][1]

    def _write(self) -> None:
        records = [thing.record for thing in self._things if thing.record]
        if self._journal is None or (not records and self._descriptor is None):
            return
        if self._descriptor is None:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._journal, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _overwrite(self._descriptor, records)
        if not records:
            self._journal.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remove_leftovers(directory: Path) -> list[str]:
    """Take away what dead runs left, as far as it can be. Returns a sentence for each that could not be.

    Files of runs that are alive are locked, and left alone. What failed is tried again by the next run, `TRIES` times.
    """
    failures: list[str] = []
    for path, descriptor, records in _abandoned(directory):
        left: list[dict[str, Any]] = []
        for record in reversed(records):
            try:
                _function(record)(*record["arguments"])
            except Exception as error:  # noqa: BLE001 - the journey's own code: anything may be raised
                record["tries"] += 1
                given_up = record["tries"] >= TRIES
                if not given_up:
                    left.insert(0, record)
                call = f"{record['name']}({', '.join(map(repr, record['arguments']))})"
                end = f"; given up after {TRIES} tries" if given_up else ""
                failures.append(f"{call}: {type(error).__name__}: {error}{end}")
        _overwrite(descriptor, left)
        if not left:
            path.unlink(missing_ok=True)
    return failures


def _abandoned(directory: Path) -> Iterator[tuple[Path, int, list[dict[str, Any]]]]:
    for path in sorted(directory.glob("*.json")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            continue  # its own run was faster
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            records = json.loads(path.read_bytes() or b"[]")
            yield path, descriptor, records
        except (OSError, ValueError):
            continue
        finally:
            os.close(descriptor)


def _overwrite(descriptor: int, records: list[dict[str, Any]]) -> None:
    # In one write, and padded where it got shorter, so that there is a whole list in the file at any moment.
    data = json.dumps(records).encode()
    before = os.fstat(descriptor).st_size
    os.pwrite(descriptor, data.ljust(before), 0)
    os.fsync(descriptor)


def _record(remove: Callable[..., object], arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    module = sys.modules.get(getattr(remove, "__module__", "") or "")
    name = getattr(remove, "__qualname__", "")
    if module is None or not getattr(module, "__file__", None) or _named(module, name) is not remove:
        return None
    try:
        if json.loads(json.dumps(arguments)) != list(arguments):
            return None
    except (TypeError, ValueError):
        return None
    return {"file": module.__file__, "name": name, "arguments": list(arguments), "tries": 0}


def _function(record: dict[str, Any]) -> Callable[..., object]:
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == record["file"]:
            found = _named(module, record["name"])
            if callable(found):
                return found
    raise LookupError(f"{record['file']} has no function {record['name']} any more")


def _named(module: object, name: str) -> object:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
