"""How long artifacts of journeys are kept: by age and by size, a journey's own and all together; the oldest runs go first.

artifacts/<probe>/<run>/page.png …        a run is removed whole, so that no picture is left without its trace
"""

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

KEEP_SECONDS = 14 * 86400.0
"""Age in seconds from which a run's artifacts go: long enough to look back over a weekend and a holiday."""
KEEP_BYTES = 2 * 2**30
"""Bytes that all artifacts together may take."""
JOURNEY_BYTES = 200 * 2**20
"""Bytes that those of one journey may take: one that fails every minute does not drive out the evidence of the others."""


WRITING = 30.0
"""Seconds after its last change for which a run is left alone: a worker may be writing into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old and how large artifacts may become."""

    seconds: float = KEEP_SECONDS
    """Age of a run."""
    bytes: int = KEEP_BYTES
    """Size of all runs together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What a directory of artifacts is held to."""

    total: Limits = Limits()
    """For everything in it."""
    journeys: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    """For what lies in a folder below it, by the folder's name; others are held to the total only."""


@dataclass(frozen=True, slots=True)
class _Run:
    path: Path
    changed: float
    size: int


def prune(
    directory: Path, retention: Retention, *, now: float, pinned: Collection[str] = frozenset()
) -> tuple[Path, ...]:
    """Remove the folders of runs (`directory/<probe>/<run>`) that are too old, and the oldest while all are too large.

    `now` is unix time in seconds. `pinned` are runs as `<probe>/<run>`: somebody was given a link to them. They stay whatever
    their age, and go for their size only when nothing else is left to go. A run of the last half
    minute stays in any case. Returns what was removed, in the order in which it was. What cannot be removed is left for the next time. It reads the disk, so call it in a thread.
    """
    removed: list[Path] = []
    left: list[_Run] = []
    for folder, runs in _by_journey(directory).items():
        limits = retention.journeys.get(folder)
        left += _hold(runs, limits, now, pinned, removed) if limits else runs
    _hold(left, retention.total, now, pinned, removed)
    return tuple(removed)


def _hold(runs: Iterable[_Run], limits: Limits, now: float, pinned: Collection[str], removed: list[Path]) -> list[_Run]:
    """Hold runs to a limit. Returns those that are left."""
    left = sorted(runs, key=lambda run: (_is_pinned(run, pinned), run.changed))
    total = sum(run.size for run in left)
    for run in tuple(left):
        if now - run.changed < WRITING:
            continue
        is_old = now - run.changed > limits.seconds and not _is_pinned(run, pinned)
        if not is_old and total <= limits.bytes:
            continue
        shutil.rmtree(run.path, ignore_errors=True)
        if not run.path.exists():
            removed.append(run.path)
            left.remove(run)
            total -= run.size
    return left


def _is_pinned(run: _Run, pinned: Collection[str]) -> bool:
    return f"{run.path.parent.name}/{run.path.name}" in pinned


def _by_journey(directory: Path) -> Mapping[str, list[_Run]]:
    found: dict[str, list[_Run]] = {}
    for path in directory.glob("*/*/"):
        if path.is_symlink() or path.parent.is_symlink():
            continue  # nobody of ours makes one, and what it leads to is not ours to remove
        try:
            size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
            found.setdefault(path.parent.name, []).append(_Run(path, path.stat().st_mtime, size))
        except OSError:
            continue  # somebody else removed it meanwhile, or it is not ours to read
    return found
