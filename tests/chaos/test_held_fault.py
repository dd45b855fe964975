"""A fault of the host outlives nobody: its owner is killed at every step, and the reaper alone, or `undo` alone, heals it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest

from stormwatch.chaos.fault import Step
from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.host_examples import HELD, Victim, offered, reapers, victim
from tests.servers import held_owner

STEPS = (*(step.value for step in Step), "holding")
IN_PLACE = ("injected", "held", "reverting", "holding")
"""The steps at which the fault is in place."""


class Nursery:
    """A process that forks owners."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def kill_each(self, victims: Sequence[Victim], steps: Sequence[str], journal: Path, *, lease: float) -> None:
        """An owner for each victim, killed with SIGKILL when it is at its step."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for number, (one, step) in enumerate(zip(victims, steps, strict=True)):
            told = {
                "number": number,
                "directory": str(journal),
                "lease": lease,
                "id": one.name,
                "fault": one.spec.as_json(),
                "target": one.target.as_json(),
                "stop": step,
            }
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
        alive = set(range(len(victims)))
        while alive:
            line = (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode()
            assert line, f"the owners ended before {[steps[number] for number in alive]}"
            number, pid, step = line.split()
            assert step != "failed", f"{victims[int(number)].id} failed on its way to {steps[int(number)]}"
            if step == steps[int(number)]:
                self._about_to_kill(journal, victims[int(number)])
                os.kill(int(pid), signal.SIGKILL)
                alive.discard(int(number))

    def _about_to_kill(self, journal: Path, one: Victim) -> None:
        """What else is to die before."""


class NurseryWithoutReapers(Nursery):
    """The reaper is killed first."""

    def _about_to_kill(self, journal: Path, one: Victim) -> None:
        for pid in reapers(journal):
            if one.id in _arguments(pid):
                os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def nursery(kind: type[Nursery]) -> AsyncGenerator[Nursery]:
    """Owners may be had."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, held_owner.__file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield kind(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


@contextlib.contextmanager
def victims(kind: str, count: int, directory: Path) -> Iterator[list[Victim]]:
    """So many things of their own for a kind of fault."""
    if not offered(kind):
        pytest.skip("this kernel has no netem: what is said then is tested in test_host_network.py")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(victim(kind, directory / f"v{number}")) for number in range(count)]


@pytest.mark.parametrize("kind", HELD)
async def test_killed_at_any_step_the_reaper_alone_heals(kind: str, tmp_path: Path) -> None:
    """Nothing is left: no process, file, table, limit; no record, no sign of life, no reaper."""
    journal = UndoJournal(tmp_path / "undo")
    with victims(kind, len(STEPS), tmp_path) as broken:
        async with nursery(Nursery) as owners:
            await owners.kill_each(broken, STEPS, journal.directory, lease=600)
        await _until_nothing_is_left(broken, journal)


@pytest.mark.parametrize("kind", HELD)
async def test_killed_at_any_step_with_its_reaper_undo_heals(kind: str, tmp_path: Path) -> None:
    """All is done by the records: what was in place is undone, what was not is already gone, and none fails."""
    journal = UndoJournal(tmp_path / "undo")
    with victims(kind, len(STEPS), tmp_path) as broken:
        async with nursery(NurseryWithoutReapers) as owners:
            await owners.kill_each(broken, STEPS, journal.directory, lease=600)
        assert reapers(journal.directory) == []
        assert len(journal.pending()) == len(STEPS) - 2
        outcomes = {outcome.id: outcome for outcome in await journal.undo_all()}
        undone = {step for one, step in zip(broken, STEPS, strict=True) if _undone(outcomes, one)}
        failed = [outcome.why for outcome in outcomes.values() if outcome.state is UndoState.FAILED]
        assert failed == []
        assert undone == set(IN_PLACE)
        await _until_nothing_is_left(broken, journal)


def _undone(outcomes: dict[str, object], one: Victim) -> bool:
    return getattr(outcomes.get(one.id), "state", None) is UndoState.UNDONE


async def _until_nothing_is_left(broken: Sequence[Victim], journal: UndoJournal) -> None:
    deadline = time.monotonic() + 30
    while True:
        left = [f"{one.id}: {what}" for one in broken for what in one.left()]
        left += [str(path) for path in journal.directory.iterdir()]
        left += [f"reaper {pid}" for pid in reapers(journal.directory)]
        if not left:
            return
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)


def _arguments(pid: int) -> tuple[str, ...]:
    from stormwatch.chaos.process import command_line

    return command_line(pid)
