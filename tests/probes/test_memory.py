"""How much memory there is to be had."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from stormwatch.probes.memory import available_memory

Machine = Callable[..., int]


@pytest.fixture
def available(tmp_path: Path) -> Machine:
    """What is found on a machine with so many bytes, in such a cgroup, where cgroups have such files."""

    def found(*, machine: int, ours: str = "/", files: Mapping[str, str] | None = None) -> int:
        (tmp_path / "meminfo").write_text(f"MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    {machine >> 10} kB\n")
        (tmp_path / "membership").write_text(f"1:name=systemd:/elsewhere\n0::{ours}\n")
        for name, text in (files or {}).items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return available_memory(
            meminfo=tmp_path / "meminfo", cgroup=tmp_path / "cgroup", membership=tmp_path / "membership"
        )

    return found


def test_the_machine_says_what_is_available(available: Machine) -> None:
    assert available(machine=2048 * 1024) == 2048 * 1024


def test_a_container_that_has_less_left_bounds_it_and_its_cached_files_do_not_count(available: Machine) -> None:
    files = {"memory.max": "1000000", "memory.current": "900000", "memory.stat": "anon 1\ninactive_file 50000"}

    assert available(machine=2048 * 1024, files=files) == 150000


def test_a_container_without_a_limit_bounds_nothing(available: Machine) -> None:
    assert available(machine=2048 * 1024, files={"memory.max": "max", "memory.current": "900000"}) == 2048 * 1024


def test_a_service_is_bound_by_its_own_limit_and_by_those_around_it(available: Machine) -> None:
    """The MemoryMax= of systemd stands in the service's own cgroup, that of a slice in the one above; the root has none."""
    ours = "system.slice/stormwatch.service"
    files = {f"{ours}/memory.max": "1000000", f"{ours}/memory.current": "400000"}

    assert available(machine=2048 * 1024, ours=f"/{ours}", files=files) == 600000
    files = {"system.slice/memory.max": "700000", "system.slice/memory.current": "690000"}
    assert available(machine=2048 * 1024, ours=f"/{ours}", files=files) == 10000


def test_a_cgroup_that_cannot_be_seen_bounds_nothing(available: Machine) -> None:
    """Seen from a container, what it was started in is above the root that it has."""
    files = {"memory.max": "1000000", "memory.current": "400000"}

    assert available(machine=2048 * 1024, ours="/../../elsewhere", files=files) == 600000
