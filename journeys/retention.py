"""How long artifacts of journeys are kept: by age and by size, a journey's own and all together; the oldest runs go first.

artifacts/<probe>/<run>/page.png …        a run is removed whole, so that no picture is left without its trace
"""

import heapq
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
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

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


class KeptRuns:
    """The runs that have artifacts in a directory (`directory/<probe>/<run>`), known without reading it each time.

    `read` reads it; of a run that keeps something thereafter `add` is told. What others put there or took away is known when it is
    read again. Not for two threads at once, and all of it may wait for the disk.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journeys: dict[str, dict[str, _Run]] = {}
        """By the folder of the journey, then by that of the run; the oldest first."""
        self._sizes: dict[str, int] = {}
        """Bytes of all runs of a journey together."""

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._journeys.values())

    def read(self) -> None:
        """Read the whole directory. One that is not there has no runs."""
        found = [run for path in self._directory.glob("*/*/") if (run := _run(path))]
        self._journeys.clear()
        self._sizes.clear()
        for run in sorted(found, key=_age):
            self._put(run)

    def add(self, name: str) -> None:
        """Look at one run, `<probe>/<run>`, that has kept something, or more than before: it is the newest then."""
        path = self._directory / name
        if known := self._journeys.get(path.parent.name, {}).get(path.name):
            self._forget(known)
        if run := _run(path):
            self._put(run)

    def prune(self, retention: Retention, *, now: float, pinned: Collection[str] = frozenset()) -> tuple[Path, ...]:
        """Remove the runs that are too old, and the oldest while all are too large.

        `now` is unix time in seconds. `pinned` are runs as `<probe>/<run>`: somebody was given a link to them. They stay whatever
        their age, and go for their size only when nothing else is left to go. A run of the last half minute stays in any case.
        Returns what was removed, in the order in which it was. What cannot be removed is left for the next time.
        """
        removed: list[Path] = []
        for folder, limits in retention.journeys.items():
            if folder in self._journeys:
                removed += self._hold([folder], limits, now, pinned)
        return (*removed, *self._hold(list(self._journeys), retention.total, now, pinned))

    def _hold(self, folders: Sequence[str], limits: Limits, now: float, pinned: Collection[str]) -> Iterator[Path]:
        """Hold the runs of some journeys to a limit. Those that may stay are not looked at: they may be thousands."""
        left = sum(self._sizes[folder] for folder in folders)
        for last_resort in (False, True):
            if last_resort and left <= limits.bytes:
                return
            # Copies, because runs go meanwhile.
            for run in heapq.merge(*(tuple(self._journeys[folder].values()) for folder in folders), key=_age):
                if (run.name in pinned) is not last_resort:
                    continue
                is_old = not last_resort and now - run.changed > limits.seconds
                if now - run.changed < WRITING or not (is_old or left > limits.bytes):
                    break  # all that follow are younger
                shutil.rmtree(run.path, ignore_errors=True)
                if not run.path.exists():
                    self._forget(run)
                    left -= run.size
                    yield run.path

    def _put(self, run: _Run) -> None:
        folder = run.path.parent.name
        self._journeys.setdefault(folder, {})[run.path.name] = run
        self._sizes[folder] = self._sizes.get(folder, 0) + run.size

    def _forget(self, run: _Run) -> None:
        folder = run.path.parent.name
        del self._journeys[folder][run.path.name]
        self._sizes[folder] -= run.size


def _age(run: _Run) -> float:
    return run.changed


def _run(path: Path) -> _Run | None:
    """A run's folder; None where there is none that is ours to remove."""
    try:
        if path.is_symlink() or path.parent.is_symlink() or not path.is_dir():
            return None  # nobody of ours makes a link, and what it leads to is not ours to remove
        return _Run(path, path.stat().st_mtime, _size(path))
    except OSError:
        return None  # somebody else removed it meanwhile, or it is not ours to read


def _size(directory: Path | str) -> int:
    # Not `rglob`, which takes three times as long: there may be ten thousand of them.
    with os.scandir(directory) as entries:
        return sum(
            _size(entry.path) if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
            for entry in entries
        )
