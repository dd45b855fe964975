"""How long artifacts of journeys are kept: the oldest runs go first, so that evidence never fills a disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path

KEEP_SECONDS = 14 * 86400.0
"""Age in seconds from which a run's artifacts go: long enough to look back over a weekend and a holiday."""
KEEP_BYTES = 2 * 2**30
"""Bytes that all artifacts together may take."""


@dataclass(frozen=True, slots=True)
class _Run:
    path: Path
    changed: float
    size: int


def prune(
    directory: Path, *, now: float, keep_seconds: float = KEEP_SECONDS, keep_bytes: int = KEEP_BYTES
) -> tuple[Path, ...]:
    """Remove the folders of runs (`directory/<probe>/<run>`) that are too old, and the oldest while all are too large.

    `now` is unix time in seconds. Returns what was removed, the oldest first. What cannot be removed is left for the next time.
    """
    runs = sorted(_runs(directory), key=lambda run: run.changed)
    total = sum(run.size for run in runs)
    removed: list[Path] = []
    for run in runs:
        if now - run.changed <= keep_seconds and total <= keep_bytes:
            break
        shutil.rmtree(run.path, ignore_errors=True)
        if not run.path.exists():
            removed.append(run.path)
            total -= run.size
    return tuple(removed)


def _runs(directory: Path) -> list[_Run]:
    found: list[_Run] = []
    for path in directory.glob("*/*/"):
        try:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found.append(_Run(path, path.stat().st_mtime, size))
        except FileNotFoundError:
            continue  # somebody else removed it meanwhile
    return found
