"""How much memory a browser could have."""

from pathlib import Path

from stormwatch.journeys.memory import available_memory


def test_the_machine_says_what_is_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    2048 kB\n")
    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == 2048 * 1024


def test_a_container_that_has_less_left_bounds_it_and_its_cached_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:    2048 kB\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == 150000


def test_a_container_without_a_limit_bounds_nothing(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:    2048 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900000\n")
    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == 2048 * 1024
