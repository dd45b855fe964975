"""What a matrix has found so far, on disk."""

from pathlib import Path

from stormwatch.chaos.matrix import Control
from stormwatch.chaos.matrix_journal import MatrixJournal
from tests.chaos.cells import alarm, cell, outcome

CELLS = (cell(), cell("tcp-refused"))


def journal(path: Path, *, scale: str = "1", repeat: int = 1) -> MatrixJournal:
    return MatrixJournal(path / "matrix.jsonl", CELLS, scale=scale, repeat=repeat)


def test_what_was_found_is_there_after_a_death(tmp_path: Path) -> None:
    """Another process reads what was written; a line that was torn by the death does not count."""
    first = journal(tmp_path)
    first.begin()
    first.outcome(outcome("a", "pay"))
    first.control(Control(started=1.0, seconds=2.0, alarms=(alarm(),)))
    with first.path.open("a") as file:
        file.write('{"outcome": {"cell": ')

    assert journal(tmp_path).read() == (
        (outcome("a", "pay"),),
        (Control(started=1.0, seconds=2.0, alarms=(alarm(),)),),
    )


def test_a_torn_line_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    """After a second death both that came after the first are there."""
    first = journal(tmp_path)
    first.begin()
    with first.path.open("a") as file:
        file.write('{"outcome": {"cell": ')
    again = journal(tmp_path)
    again.outcome(outcome("b"))
    again.outcome(outcome("c"))

    assert journal(tmp_path).read() == ((outcome("b"), outcome("c")), ())


def test_what_another_matrix_found_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Other cells, another scale, another number of rounds: nothing to go on with."""
    journal(tmp_path).begin()

    assert journal(tmp_path).read() == ((), ())
    assert journal(tmp_path, scale="1/60").read() is None
    assert journal(tmp_path, repeat=2).read() is None
    assert MatrixJournal(tmp_path / "matrix.jsonl", CELLS[:1], scale="1", repeat=1).read() is None
    assert journal(tmp_path / "nowhere").read() is None


def test_beginning_anew_forgets(tmp_path: Path) -> None:
    """Without --resume."""
    first = journal(tmp_path)
    first.begin()
    first.outcome(outcome("a", "pay"))
    first.begin()

    assert first.read() == ((), ())
