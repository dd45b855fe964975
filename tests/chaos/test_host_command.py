"""A user's own fault, `command`: what its three programs say is believed, and checked; none of them is left running."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.test_host_process import held_fault

Make = Callable[..., HeldFault]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A fault that makes a file, with other programs where they are given."""

    def made(*, env: dict[str, str] | None = None, patience: float = 10.0, **options: Any) -> HeldFault:
        here = Target.from_json({"name": "here", "machine": {"env": env or {}}}, TARGETS)
        file = str(tmp_path / "broken")
        usual = {"inject": ["touch", file], "undo": ["rm", "-f", file], "check": ["test", "-e", file]}
        return held_fault("command", here, journal=tmp_path / "undo", options={**usual, **options}, patience=patience)

    return made


async def test_it_is_broken_while_the_block_lasts(make: Make, tmp_path: Path) -> None:
    """And `check` is the evidence."""
    async with make() as fault:
        assert (tmp_path / "broken").exists()
        assert (await fault.evidence()).what == "`test` says that it is broken"
    assert not (tmp_path / "broken").exists()


async def test_without_a_check_its_exit_codes_are_believed(make: Make, tmp_path: Path) -> None:
    """That is all that is known, and it is said so."""
    async with make(check=[]) as fault:
        seen = await fault.evidence()
        assert (seen.touched, seen.what) == (True, "`touch` ended with 0")
    assert not (tmp_path / "broken").exists()


async def test_what_mended_itself_is_lost(make: Make, tmp_path: Path) -> None:
    """`check` tells."""
    async with make() as fault:
        (tmp_path / "broken").unlink()
        with pytest.raises(FaultLost, match="`test` says that it is not broken"):
            await fault.evidence()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inject": ["sh", "-c", "echo no such zone >&2; exit 3"]}, "`sh` ended with 3: no such zone"),
        ({"inject": ["true"]}, "`test` says that it is not broken"),
        ({"inject": ["sleep", "60"], "timeout": "200ms"}, "`sleep` did not end in time"),
        ({"inject": ["no-such-program"]}, "the program no-such-program is not installed"),
        ({"check": ["true"]}, "`true` says that it is broken already; mend it first"),
        ({"check": ["sh", "-c", "exit 7"]}, "`sh` cannot tell whether it is broken: it ended with 7; it ends with 0"),
    ],
)
async def test_what_cannot_be_broken_is_told_and_undone(
    make: Make, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """Whatever the program did before it failed."""
    with pytest.raises(FaultNotInjected, match=said):
        async with make(**options):
            pass
    assert UndoJournal(tmp_path / "undo").pending() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"undo": ["sh", "-c", "echo out of reach; exit 1"]}, "`sh` ended with 1: out of reach; mend it by hand"),
        ({"undo": ["true"]}, "`test` says that it is broken still, after `true`"),
    ],
)
async def test_what_cannot_be_mended_is_unsafe(make: Make, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """The record is kept, for another try."""
    with pytest.raises(FaultNotReverted, match=said):
        async with make(**options, patience=0.0):
            pass
    (outcome,) = await UndoJournal(tmp_path / "undo").undo_all(force=True)
    assert outcome.state is UndoState.FAILED
    # The reaper would try for ever.
    UndoJournal(tmp_path / "undo").forget(outcome.id)


def test_it_is_so_on_the_loop_that_stormwatch_runs_on(make: Make, tmp_path: Path) -> None:
    """A pipe that is closed before it is written to is minded by uvloop; programs that read nothing are usual."""

    async def broken() -> None:
        async with make(inject=["sh", "-c", f"exec 0<&-; touch {tmp_path}/broken"]):
            assert (tmp_path / "broken").exists()
        with pytest.raises(FaultNotInjected, match="`false` ended with 1"):
            async with make(inject=["false"], undo=["true"], check=[]):
                pass

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(broken())
    assert UndoJournal(tmp_path / "undo").pending() == []


async def test_a_defect_of_ours_is_unsafe_and_keeps_the_record(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the undoing raises: nobody says that the fault is gone."""

    async def defective(_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stormwatch.chaos.held_fault.UNDOERS", {"command": defective})
    with pytest.raises(FaultNotReverted, match="may still be in place: ZeroDivisionError; its record is kept in"):
        async with make(patience=0.0):
            pass
    monkeypatch.undo()
    (outcome,) = await UndoJournal(tmp_path / "undo").undo_all(force=True)
    assert outcome.state is UndoState.UNDONE


async def test_two_that_undo_at_once_undo_once(make: Make, tmp_path: Path) -> None:
    """The owner, the reaper and a person may come together: the second finds the record gone."""
    undo = ["sh", "-c", f"sleep 0.2; echo undone >> {tmp_path}/undone; rm -f {tmp_path}/broken"]
    async with make(undo=undo):
        journal = UndoJournal(tmp_path / "undo")
        outcomes = await asyncio.gather(*(journal.undo_all(force=True) for _ in range(3)))
        states = sorted(outcome.state.value for each in outcomes for outcome in each)
        assert states == ["already gone", "already gone", "undone"]
        assert (tmp_path / "undone").read_text() == "undone\n"


async def test_its_environment_reaches_it_and_nobody_else(make: Make, tmp_path: Path) -> None:
    """A program that tells its secret is not repeated."""
    told = ["sh", "-c", f'test "$TOKEN" = hunter-22 && touch {tmp_path}/broken']
    async with make(env={"TOKEN": "hunter-22"}, inject=told):
        assert (tmp_path / "broken").exists()
        (record,) = (tmp_path / "undo").glob("*.json")
        assert record.stat().st_mode & 0o077 == 0
    with pytest.raises(FaultNotInjected, match=r"`sh` ended with 1: my token is \*\*\*") as refused:
        async with make(env={"TOKEN": "hunter-22"}, inject=["sh", "-c", "echo my token is $TOKEN; exit 1"]):
            pass
    assert "hunter" not in str(refused.value)


async def test_an_injection_that_is_under_way_is_ended_before_it_is_undone(make: Make, tmp_path: Path) -> None:
    """Its owner died, and the program that injects did not: it must not break what was mended a moment ago."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    os.mkfifo(go)
    script = f"touch {begun}; cat {go}; touch {tmp_path}/broken"
    fault = make(inject=["sh", "-c", script])
    entering = asyncio.create_task(fault.__aenter__())
    while not begun.exists():
        await asyncio.sleep(0.01)
    (outcome,) = await UndoJournal(tmp_path / "undo").undo_all(force=True)
    assert outcome.state is UndoState.ALREADY_GONE
    # The one that waited is gone: nobody reads the pipe any more.
    with pytest.raises(OSError, match="No such device or address"):
        os.open(go, os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(FaultNotInjected, match=rf"`sh` ended with -{signal.SIGKILL.value}"):
        await entering
    assert not (tmp_path / "broken").exists()


async def test_what_the_program_leaves_running_on_purpose_is_not_ended(make: Make, tmp_path: Path) -> None:
    """A service that it starts in a session of its own stays, because nobody said that it is the fault."""
    pid_file = tmp_path / "pid"
    script = f"setsid --fork sh -c 'echo $$ > {pid_file}; exec sleep 60'; touch {tmp_path}/broken"
    async with make(inject=["sh", "-c", script]):
        while not (pid_file.exists() and pid_file.read_text().strip()):
            await asyncio.sleep(0.01)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
