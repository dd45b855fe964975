"""Load on the machine, as small as it can be told apart: it is there, it ends with the fault, and it is bounded."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.fault import FaultLost, FaultNotInjected
from stormwatch.chaos.host_program import marked
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.probes.memory import available_memory
from tests.chaos.test_host_process import held_fault
from tests.program import program

HERE = Target.from_json({"name": "here", "machine": {}}, TARGETS)


@pytest.mark.parametrize(
    ("kind", "options", "workers"),
    [
        ("cpu-stress", {"workers": 1, "load": "10%"}, 1),
        ("io-stress", {}, 1),
        ("memory-stress", {"bytes": "32MiB"}, 1),
    ],
)
async def test_the_load_is_there_while_the_fault_is(
    tmp_path: Path, kind: str, options: dict[str, Any], workers: int
) -> None:
    """By what its workers use; and afterwards none of its processes is left."""
    program("stress-ng")
    async with held_fault(kind, HERE, journal=tmp_path / "undo", options=options) as fault:
        seen = await fault.evidence()
        assert seen.touched
        assert len(marked(fault.id)) > workers
        if kind == "memory-stress":
            assert 32 * 2**20 <= seen.bytes < 48 * 2**20
            assert f"used {seen.bytes} bytes of memory" in seen.what
        else:
            assert "s of processor time" in seen.what
    assert marked(fault.id) == []


async def test_it_ends_by_itself_and_the_drill_is_told(tmp_path: Path) -> None:
    """The second expiry: nobody is needed for it."""
    program("stress-ng")
    options = {"workers": 1, "load": "1%", "at_most": "3s"}
    async with held_fault("cpu-stress", HERE, journal=tmp_path / "undo", options=options) as fault:
        while marked(fault.id):
            await asyncio.sleep(0.05)
        with pytest.raises(FaultLost, match="stress-ng does not run any more; at_most may have been too short"):
            await fault.evidence()


async def test_more_memory_than_there_is_is_not_taken(tmp_path: Path) -> None:
    """With what is to be left, and with what is there."""
    program("stress-ng")
    asked = {"bytes": "1MiB", "reserve": "1000GiB"}
    assert available_memory() < 1000 * 2**30
    with pytest.raises(FaultNotInjected, match=r"1048576 bytes are to be taken and \d+ left, and \d+ are available"):
        async with held_fault("memory-stress", HERE, journal=tmp_path / "undo", options=asked):
            pass
    assert not (tmp_path / "undo").exists()


async def test_a_stress_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package to install."""
    monkeypatch.setattr("stormwatch.chaos.host_program._PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FaultNotInjected, match="the program stress-ng is not installed; install stress-ng"):
        async with held_fault("cpu-stress", HERE, journal=tmp_path / "undo", options={}):
            pass
