"""JSON Lines: whole lines only, also when the file is rotated, half written or on a full disk."""

import json
from pathlib import Path

from stormwatch.exporters.jsonl import JsonLines
from stormwatch.probes.result import Result
from tests.exporters.sample import NOW, down, up


def read(path: Path) -> list[Result]:
    """The results in a file."""
    return [Result.from_json(json.loads(line)) for line in path.read_text().splitlines()]


async def test_a_result_is_a_line_that_reads_back_equal(tmp_path: Path) -> None:
    """Appended to what is there already."""
    path = tmp_path / "logs" / "results.jsonl"
    for results in ([up(), down()], [up(at=NOW + 1)]):
        lines = JsonLines(path)
        for result in results:
            lines(result)
        await lines.aclose()

    assert [up(), down(), up(at=NOW + 1)] == read(path)


async def test_a_rotated_file_is_left_alone(tmp_path: Path) -> None:
    """After a rename the next result goes into a new file under the old name."""
    path = tmp_path / "results.jsonl"
    lines = JsonLines(path, interval=0.01)
    lines(up())
    assert await lines.flush()
    path.rename(tmp_path / "results.jsonl.1")
    lines(down())
    await lines.aclose()

    assert [up()] == read(tmp_path / "results.jsonl.1")
    assert [down()] == read(path)


async def test_a_half_line_of_a_killed_process_is_ended(tmp_path: Path) -> None:
    """So that it spoils itself and not the next one."""
    path = tmp_path / "results.jsonl"
    path.write_text('{"probe": "fro')
    lines = JsonLines(path)
    lines(up())
    await lines.aclose()

    half, whole = path.read_text().splitlines()
    assert half == '{"probe": "fro'
    assert up() == Result.from_json(json.loads(whole))


async def test_a_place_that_cannot_be_written_costs_no_result(tmp_path: Path) -> None:
    """It is tried again and counted."""
    blocked = tmp_path / "logs"
    blocked.write_text("a file where the folder should be")
    lines = JsonLines(blocked / "results.jsonl", interval=0.01)
    lines(up())
    assert not await lines.flush(0.3)
    assert lines.errors > 0
    blocked.unlink()

    assert await lines.flush()
    await lines.aclose()
    assert [up()] == read(blocked / "results.jsonl")
