"""Faults of a file system, on one of the test's own: full for those who write, and bounded whatever happens to it."""

import asyncio
import errno
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.breakage import CannotBreak
from stormwatch.chaos.fault import FaultLost, FaultNotInjected
from stormwatch.chaos.host_disk import Filling
from stormwatch.chaos.host_options import DiskFull
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from tests.chaos.host_examples import Victim, victim
from tests.chaos.test_host_process import held_fault
from tests.program import program


@pytest.fixture
def small(tmp_path: Path) -> Generator[Victim]:
    """A file system of 2 MiB."""
    with victim("disk-full", tmp_path / "small") as made:
        yield made


def place_of(small: Victim) -> Path:
    """Where it is mounted."""
    return small.directory / "disk"


async def test_nobody_can_write_while_it_is_full_and_afterwards_everybody_can(small: Victim, tmp_path: Path) -> None:
    """ENOSPC, and what was written before is whole."""
    written = place_of(small) / "kept"
    written.write_bytes(b"x" * 100_000)
    async with held_fault("disk-full", small.target, journal=tmp_path / "undo", options={}) as fault:
        with pytest.raises(OSError) as full:  # noqa: PT011 - its number is looked at
            (place_of(small) / "more").write_bytes(b"x" * 8192)
        assert full.value.errno == errno.ENOSPC
        (place_of(small) / "more").unlink()
        seen = await fault.evidence()
        assert seen.touched
        assert seen.bytes >= 1_900_000
        assert seen.what.endswith(" bytes, 0 are free")
        assert written.read_bytes() == b"x" * 100_000
    (place_of(small) / "more").write_bytes(b"x" * 1_000_000)
    assert sorted(path.name for path in place_of(small).iterdir()) == ["kept", "more"]


async def test_what_is_to_be_left_is_left(small: Victim, tmp_path: Path) -> None:
    """A megabyte fits, two do not."""
    async with held_fault("disk-full", small.target, journal=tmp_path / "undo", options={"leave": "1MiB"}):
        (place_of(small) / "fits").write_bytes(b"x" * 1_000_000)
        with pytest.raises(OSError, match="No space left on device"):
            (place_of(small) / "more").write_bytes(b"x" * 100_000)


async def test_a_file_that_somebody_removed_is_lost(small: Victim, tmp_path: Path) -> None:
    """By hand, by an operator who found it first."""
    async with held_fault("disk-full", small.target, journal=tmp_path / "undo", options={}) as fault:
        (place_of(small) / f".stormwatch-{fault.id}").unlink()
        with pytest.raises(FaultLost, match=r"\.stormwatch-disk-full-\w+ is not there any more"):
            await fault.evidence()


async def test_the_root_file_system_and_more_than_the_limit_are_refused(small: Victim, tmp_path: Path) -> None:
    """Before anything is touched, with what would have to be written; a directory that is not there, too."""
    root = Target.from_json({"name": "root", "path": {"directory": "/"}}, TARGETS)
    with pytest.raises(
        FaultNotInjected, match=r"/ is on the root file system.*give the fault a `limit` of at least \d+ b"
    ):
        await held_fault("disk-full", root, journal=tmp_path / "undo", options={}).__aenter__()
    with pytest.raises(FaultNotInjected, match=r"\d+ bytes would have to be taken in .*, and limit is 1048576"):
        await held_fault("disk-full", small.target, journal=tmp_path / "undo", options={"limit": "1MiB"}).__aenter__()
    with pytest.raises(FaultNotInjected, match=r"only \d+ bytes are free in .*, and 3145728 are to be left"):
        await held_fault("disk-full", small.target, journal=tmp_path / "undo", options={"leave": "3MiB"}).__aenter__()
    none = Target.from_json({"name": "none", "path": {"directory": str(tmp_path / "none")}}, TARGETS)
    with pytest.raises(FaultNotInjected, match="none is no directory that we may write to"):
        await held_fault("disk-full", none, journal=tmp_path / "undo", options={}).__aenter__()
    assert list(place_of(small).iterdir()) == []
    assert not (tmp_path / "undo").exists()


async def test_a_file_system_that_is_unmounted_between_looking_and_filling_is_not_mistaken(small: Victim) -> None:
    """What lies below the mount point is the root file system, perhaps: not a block of it is taken."""
    filling = Filling("gone-1", DiskFull(limit=4 * 2**20), place_of(small))
    await filling.prepare()
    subprocess.run([program("umount"), str(place_of(small))], check=True)
    with pytest.raises(CannotBreak, match="is on another file system now than when it was looked at"):
        await filling.inject()
    assert filling.file.stat().st_size == 0


async def test_room_that_others_make_meanwhile_is_not_taken(small: Victim) -> None:
    """Never more than was free when it was looked at."""
    (place_of(small) / "others").write_bytes(b"x" * 1_000_000)
    filling = Filling("free-1", DiskFull(), place_of(small))
    await filling.prepare()
    (place_of(small) / "others").unlink()
    await filling.inject()
    assert filling.file.stat().st_size <= 1_100_000


async def test_a_link_that_was_laid_there_is_not_followed(small: Victim, tmp_path: Path) -> None:
    """Whoever may write to the directory must not have us write elsewhere."""
    filling = Filling("link-1", DiskFull(), place_of(small))
    await filling.prepare()
    filling.file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="File exists"):
        await filling.inject()
    assert not (tmp_path / "elsewhere").exists()


async def test_a_busy_disk_is_written_to_in_a_directory_that_is_removed(small: Victim, tmp_path: Path) -> None:
    """disk-stress: its workers use processor time, and nothing is left."""
    program("stress-ng")
    options = {"bytes": "1MiB", "at_most": "60s"}
    async with held_fault("disk-stress", small.target, journal=tmp_path / "undo", options=options) as fault:
        assert [path.name for path in place_of(small).iterdir()] == [f".stormwatch-{fault.id}"]
        seen = await fault.evidence()
        assert seen.touched
        assert "processes of stress-ng used" in seen.what
    assert list(place_of(small).iterdir()) == []
    with pytest.raises(FaultNotInjected, match=r"67108864 bytes are to be written in .*, and \d+ are free"):
        await held_fault("disk-stress", small.target, journal=tmp_path / "undo", options={}).__aenter__()
    await asyncio.sleep(0)
