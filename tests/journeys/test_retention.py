"""Artifacts are kept by age and by size; the oldest go first."""

import os
from pathlib import Path

from stormwatch.journeys.retention import prune

NOW = 1_800_000_000.0


def run(directory: Path, name: str, *, age: float, size: int) -> Path:
    """A run's folder with one artifact in it."""
    folder = directory / "checkout" / name
    folder.mkdir(parents=True)
    (folder / "trace.zip").write_bytes(b"x" * size)
    os.utime(folder, (NOW - age, NOW - age))
    return folder


def test_runs_that_are_too_old_go(tmp_path: Path) -> None:
    """Age alone is enough, whatever the size."""
    old, young = run(tmp_path, "old", age=101, size=1), run(tmp_path, "young", age=99, size=1)

    assert (old,) == prune(tmp_path, now=NOW, keep_seconds=100, keep_bytes=1000)
    assert young.exists()
    assert not old.exists()


def test_the_oldest_go_while_all_are_too_large(tmp_path: Path) -> None:
    """No more than needed is removed."""
    first = run(tmp_path, "first", age=30, size=400)
    second = run(tmp_path, "second", age=20, size=400)
    third = run(tmp_path, "third", age=10, size=400)

    assert (first,) == prune(tmp_path, now=NOW, keep_seconds=100, keep_bytes=800)
    assert second.exists()
    assert third.exists()


def test_a_directory_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """The first journey has not run yet."""
    assert prune(tmp_path / "none", now=NOW) == ()
