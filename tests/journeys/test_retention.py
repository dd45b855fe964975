"""Artifacts are kept by age and by size, a journey's own and all together; the oldest go first, what is linked to last."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from stormwatch.journeys.journey import JourneyOptions, folder_of, limits_of
from stormwatch.journeys.retention import KeptRuns, Limits, Retention

NOW = 1_800_000_000.0


def run(directory: Path, name: str, *, age: float, size: int, journey: str = "checkout") -> Path:
    """A run's folder with one artifact in it."""
    folder = directory / journey / name
    folder.mkdir(parents=True)
    (folder / "trace.zip").write_bytes(b"x" * size)
    os.utime(folder, (NOW - age, NOW - age))
    return folder


def prune(
    directory: Path, retention: Retention, *, now: float, pinned: Collection[str] = frozenset()
) -> tuple[Path, ...]:
    """What goes of a directory that is read for it."""
    runs = KeptRuns(directory)
    runs.read()
    return runs.prune(retention, now=now, pinned=pinned)


def total(*, seconds: float = 100, size: int = 1000) -> Retention:
    """Limits for everything together, and none for a single journey."""
    return Retention(total=Limits(seconds=seconds, bytes=size))


def test_runs_that_are_too_old_go(tmp_path: Path) -> None:
    """Age alone is enough, whatever the size."""
    old, young = run(tmp_path, "old", age=101, size=1), run(tmp_path, "young", age=99, size=1)

    assert prune(tmp_path, total(), now=NOW) == (old,)
    assert young.exists()
    assert not old.exists()


def test_the_oldest_go_while_all_are_too_large(tmp_path: Path) -> None:
    """No more than needed is removed, whatever journey it is of."""
    first = run(tmp_path, "first", age=60, size=400, journey="search")
    second = run(tmp_path, "second", age=50, size=400)
    third = run(tmp_path, "third", age=40, size=400)

    assert prune(tmp_path, total(size=800), now=NOW) == (first,)
    assert second.exists()
    assert third.exists()


def test_a_journey_that_fails_all_the_time_does_not_drive_out_the_others(tmp_path: Path) -> None:
    """Its own limit is met first; the only run of another journey is older, and stays."""
    other = run(tmp_path, "only", age=90, size=400, journey="search")
    runs = [run(tmp_path, str(age), age=age, size=400) for age in (80, 70, 60, 50)]
    retention = Retention(total=Limits(seconds=100, bytes=1200), journeys={"checkout": Limits(seconds=75, bytes=800)})

    assert prune(tmp_path, retention, now=NOW) == (runs[0], runs[1])
    assert other.exists()
    assert runs[2].exists()


def test_what_an_alert_links_to_stays_longest(tmp_path: Path) -> None:
    """It outlives its age, and goes for the size after all the others have gone."""
    linked = run(tmp_path, "linked", age=500, size=400)
    runs = [run(tmp_path, str(age), age=age, size=400) for age in (90, 80)]

    assert prune(tmp_path, total(size=800), now=NOW, pinned={"checkout/linked"}) == (runs[0],)
    assert linked.exists()
    assert prune(tmp_path, total(size=300), now=NOW, pinned={"checkout/linked"}) == (runs[1], linked)


def test_a_run_that_may_still_be_written_is_left_alone(tmp_path: Path) -> None:
    """It counts for the size, so an older one makes room for it."""
    old, young = run(tmp_path, "old", age=60, size=400), run(tmp_path, "young", age=2, size=900)

    assert prune(tmp_path, total(size=800), now=NOW) == (old,)
    assert young.exists()


def test_nothing_outside_is_removed(tmp_path: Path) -> None:
    """A link in the place of a run, or of a journey, is not followed."""
    outside = run(tmp_path / "elsewhere", "precious", age=500, size=4000, journey="home")
    artifacts = tmp_path / "artifacts"
    (artifacts / "checkout").mkdir(parents=True)
    (artifacts / "checkout" / "run").symlink_to(outside)
    (artifacts / "search").symlink_to(outside.parent)

    assert prune(artifacts, total(), now=NOW) == ()
    assert (outside / "trace.zip").exists()


def test_a_directory_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """The first journey has not run yet."""
    assert prune(tmp_path / "none", Retention(), now=NOW) == ()


def test_a_run_that_is_told_of_is_held_without_reading_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand others are not looked at, neither by the new run nor by what goes for it."""
    for number in range(1000):
        run(tmp_path, f"{number:04}", age=90 - number / 100, size=10)
    runs = KeptRuns(tmp_path)
    runs.read()
    looked: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or real(path))

    run(tmp_path, "new", age=1, size=15)
    runs.add("checkout/new")
    assert looked == [str(tmp_path / "checkout" / "new")]
    looked.clear()
    assert runs.prune(total(size=10_000), now=NOW) == (tmp_path / "checkout/0000", tmp_path / "checkout/0001")
    # Removing them may look into them, by name or by descriptor; nothing else is looked at.
    assert len(looked) <= 2
    assert len(runs) == 999
    assert runs.prune(total(size=10_000), now=NOW) == ()


def test_a_run_that_is_told_of_twice_counts_once(tmp_path: Path) -> None:
    """With what it has now."""
    old = run(tmp_path, "old", age=60, size=400)
    runs = KeptRuns(tmp_path)
    for size in (300, 600):
        new = tmp_path / "checkout" / "new"
        new.mkdir(exist_ok=True)
        (new / "trace.zip").write_bytes(b"x" * size)
        os.utime(new, (NOW - 40, NOW - 40))
        runs.add("checkout/old") if size == 300 else None
        runs.add("checkout/new")

    assert runs.prune(total(size=1000), now=NOW) == ()
    assert runs.prune(total(size=999), now=NOW) == (old,)


def test_what_was_taken_away_by_hand_is_not_counted_after_the_next_reading(tmp_path: Path) -> None:
    """And what was put there is; until then the runs that are there are not worse off for it."""
    gone, there = run(tmp_path, "gone", age=60, size=900), run(tmp_path, "there", age=50, size=400)
    runs = KeptRuns(tmp_path)
    runs.read()
    (gone / "trace.zip").unlink()
    gone.rmdir()
    put = run(tmp_path, "put", age=55, size=400, journey="search")

    runs.read()
    assert runs.prune(total(size=1000), now=NOW) == ()
    assert runs.prune(total(size=500), now=NOW) == (put,)
    assert there.exists()


def test_a_run_that_is_not_there_any_more_is_forgotten(tmp_path: Path) -> None:
    """It was told of, and somebody was faster."""
    runs = KeptRuns(tmp_path)
    runs.add("checkout/never")

    assert len(runs) == 0
    assert runs.prune(total(), now=NOW) == ()


def test_a_journey_says_what_its_artifacts_are_held_to() -> None:
    """By its options, in a folder that is named after the probe."""
    options = JourneyOptions(artifacts_max_size=5, artifacts_max_age=7.0)

    assert limits_of(options) == Limits(seconds=7.0, bytes=5)
    assert folder_of("check.out") == "check-out"
