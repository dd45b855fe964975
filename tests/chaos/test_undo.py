"""The undo journal: records survive what is half written, and one that cannot be undone keeps no other in place."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stormwatch.chaos.absence import Absence, UndoFailed
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.chaos.undo import UndoJournal, UndoRecord, UndoState, Unreadable, state_directory

DEAD = ProcessId(2**22 + 1, "long ago")


def record(identity: str, at: float = 1.0, **more: Any) -> UndoRecord:
    """A record of a dead owner."""
    return UndoRecord(
        id=identity, method="test", what=f"{identity} on x", arguments={"n": 1}, owner=DEAD, at=at, **more
    )


async def gone(arguments: Mapping[str, Any]) -> Absence:
    """An undoer that finds the fault and takes it back."""
    assert arguments == {"n": 1}
    return Absence(True, "taken back")


def test_a_record_is_read_back_equal(tmp_path: Path) -> None:
    """As it was written; readable by its owner only; none left after it is forgotten, twice."""
    journal = UndoJournal(tmp_path / "deep" / "undo")
    assert journal.pending() == []
    journal.record(record("a", drill="d"))
    assert journal.pending() == [record("a", drill="d")]
    (path,) = journal.directory.iterdir()
    assert (path.name, path.stat().st_mode & 0o777) == ("a.json", 0o600)
    journal.forget("a")
    journal.forget("a")
    assert journal.pending() == []


def test_an_identity_is_no_path(tmp_path: Path) -> None:
    """No record is written outside of the directory."""
    with pytest.raises(ValueError, match=r"a record's id is letters, digits, dots and dashes, not '\.\./x'"):
        UndoJournal(tmp_path).record(record("../x"))


async def test_faults_are_taken_back_in_the_reverse_of_their_order(tmp_path: Path) -> None:
    """The youngest first, and each record is gone afterwards."""
    journal = UndoJournal(tmp_path)
    for number, name in enumerate("abc"):
        journal.record(record(name, at=float(number)))
    outcomes = await journal.undo_all(undoers={"test": gone})
    assert [(outcome.id, outcome.state) for outcome in outcomes] == [
        ("c", UndoState.UNDONE),
        ("b", UndoState.UNDONE),
        ("a", UndoState.UNDONE),
    ]
    assert journal.pending() == []


async def test_one_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    """Each outcome says how it ended; the failed one is kept for the next try."""
    journal = UndoJournal(tmp_path)
    journal.record(record("bad", at=2))
    journal.record(record("good", at=1))

    async def undo(arguments: Mapping[str, Any]) -> Absence:
        if len(journal.pending()) == 2 and not tried:
            tried.append(1)
            raise UndoFailed("it is stuck")
        return await gone(arguments)

    tried: list[int] = []
    outcomes = await journal.undo_all(undoers={"test": undo})
    assert [(one.id, one.state, one.why) for one in outcomes] == [
        ("bad", UndoState.FAILED, "it is stuck"),
        ("good", UndoState.UNDONE, "taken back"),
    ]
    assert journal.pending() == [record("bad", at=2)]


async def test_a_file_that_is_no_record_is_a_failure_and_is_kept(tmp_path: Path) -> None:
    """Nobody knows what it would have undone: it says which file, and what to do."""
    journal = UndoJournal(tmp_path)
    for name, text in (("cut", '{"id": "cut"'), ("list", "[]"), ("empty", ""), ("less", '{"id": "less"}')):
        (tmp_path / f"{name}.json").write_text(text)
    journal.record(record("whole"))
    assert sum(isinstance(one, Unreadable) for one in journal.pending()) == 4
    outcomes = {one.id: one for one in await journal.undo_all(undoers={"test": gone})}
    assert outcomes["whole"].state is UndoState.UNDONE
    assert outcomes["cut"].state is UndoState.FAILED
    assert f"{tmp_path}/cut.json is not readable" in outcomes["cut"].why
    assert "look for its fault by hand, then delete the file" in outcomes["cut"].why
    assert len(journal.pending()) == 4


async def test_what_was_half_written_when_its_writer_died_is_swept_away(tmp_path: Path) -> None:
    """Nothing was injected yet. The temporary file of a living process stays."""
    journal = UndoJournal(tmp_path)
    (tmp_path / f".dead.{DEAD.pid}.tmp").write_text('{"id": "de')
    (tmp_path / f".mine.{os.getpid()}.tmp").write_text("{")
    assert await journal.undo_all(undoers={"test": gone}) == []
    assert [path.name for path in tmp_path.iterdir()] == [f".mine.{os.getpid()}.tmp"]


async def test_a_way_of_injection_that_is_not_known_is_a_failure(tmp_path: Path) -> None:
    """A record of a newer version is not thrown away."""
    journal = UndoJournal(tmp_path)
    journal.record(record("new"))
    (outcome,) = await journal.undo_all(undoers={})
    assert outcome.state is UndoState.FAILED
    assert outcome.why == "its way of injection, test, is not known to this version"
    assert journal.pending() != []


async def test_the_fault_of_a_running_drill_is_left_alone(tmp_path: Path) -> None:
    """Unless it is asked for by force."""
    journal = UndoJournal(tmp_path)
    document = record("mine").as_json() | {"owner": identify().as_json()}
    (tmp_path / "mine.json").write_text(json.dumps(document))
    (outcome,) = await journal.undo_all(undoers={"test": gone})
    assert outcome.state is UndoState.LEFT_ALONE
    assert outcome.why == f"its drill runs now, as process {os.getpid()}; --force takes the fault away from it"
    (outcome,) = await journal.undo_all(undoers={"test": gone}, force=True)
    assert outcome.state is UndoState.UNDONE


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STORMWATCH_STATE": "/var/lib/storm", "HOME": "/home/me"}, "/var/lib/storm"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/stormwatch"),
    ],
)
def test_the_state_directory_is_told_by_the_environment(environ: dict[str, str], expected: str) -> None:
    """Its own variable first."""
    assert Path(expected) == state_directory(environ)


def test_without_a_home_the_remedy_is_named() -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="say with STORMWATCH_STATE where state is kept"):
        state_directory({})
