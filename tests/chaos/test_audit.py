"""The audit journal: chained line by line, whole after a crash, and honest about what was done to it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.chaos.audit import START, AuditJournal, verify
from stormwatch.probes.clock import SystemClock


def journal(path: Path) -> AuditJournal:
    """A journal of `tester`."""
    return AuditJournal(path, clock=SystemClock(), actor="tester")


def entries(path: Path) -> list[dict[str, object]]:
    """Its lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_is_chained_to_the_one_before(tmp_path: Path) -> None:
    """Number, moment, actor, event, data, and the hash of the line before; also by another writer."""
    path = tmp_path / "deep" / "audit.jsonl"
    first = journal(path).append("injected", {"drill": "d"})
    second = journal(path).append("reverted", {"drill": "d", "name": "zürich"})
    one, two = entries(path)
    assert (one["number"], one["actor"], one["event"], one["data"]) == (1, "tester", "injected", {"drill": "d"})
    assert (one["previous"], one["hash"], two["previous"], two["hash"]) == (START, first, first, second)
    assert verify(path) == []


def _change(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"n":1', b'"n":7'), *lines[2:]]


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_change, "line 2 was changed: it does not have its own hash"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 is not chained to the line before"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 is not chained to the line before"),
        (lambda lines: [lines[0], b"garbage\n", *lines[1:]], "line 2 is not readable"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "line 4 is not complete"),
    ],
)
def test_a_change_is_found(tmp_path: Path, tamper: object, said: str) -> None:
    """Changed, removed, swapped, put in between, cut off."""
    path = tmp_path / "audit.jsonl"
    for number in range(4):
        journal(path).append("step", {"n": number})
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))  # type: ignore[operator]
    assert any(problem.startswith(said) for problem in verify(path)), verify(path)


def test_a_line_that_was_torn_by_a_crash_does_not_break_the_chain(tmp_path: Path) -> None:
    """The next writer begins a new line, chained to the last whole one, and says what it found."""
    path = tmp_path / "audit.jsonl"
    journal(path).append("one", {})
    with path.open("ab") as file:
        file.write(b'{"number":2,"at":1')
    journal(path).append("two", {})
    assert verify(path) == []
    assert json.loads(path.read_text().splitlines()[-1])["after_torn_line"] is True


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    """Four at once, ten lines each: forty lines, none lost, none in between."""
    path = tmp_path / "audit.jsonl"
    code = (
        "import sys; from pathlib import Path; from stormwatch.chaos.audit import AuditJournal;"
        "from stormwatch.probes.clock import SystemClock;"
        "j = AuditJournal(Path(sys.argv[1]), clock=SystemClock());"
        "[j.append('step', {'n': n}) for n in range(10)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert verify(path) == []
    assert [entry["number"] for entry in entries(path)] == list(range(1, 41))
