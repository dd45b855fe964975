"""Owners of faults of the host that are killed with SIGKILL when they are at a step, and what has to be gone afterwards."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stormwatch.chaos.fault import Step
from stormwatch.chaos.process import ProcessId, identify
from stormwatch.chaos.undo import UndoJournal
from stormwatch.probes.procfs import command_line
from tests.chaos.host_examples import Victim, reapers, victim
from tests.servers import held_owner

STEPS = (*(step.value for step in Step), "holding")
IN_PLACE = ("injected", "held", "reverting", "holding")
"""The steps at which the fault is in place."""
_PATIENCE = 60.0
"""Seconds, against a hang."""


class Nursery:
    """A process that forks owners: the imports of an owner take longer than all that it does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, held_owner.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE)
        self._process.stdout.close()

    def kill_each(
        self, victims: Sequence[Victim], steps: Sequence[str], journal: Path, *, lease: float = 600, reaper_too: bool
    ) -> None:
        """An owner for each victim, killed when it is at its step; `reaper_too`: its reaper a moment before."""
        assert self._process.stdin is not None
        for number, (one, step) in enumerate(zip(victims, steps, strict=True)):
            self._process.stdin.write(json.dumps(told(number, one, step, journal, lease)) + "\n")
        alive, owners = set(range(len(victims))), dict[int, ProcessId]()
        try:
            while alive:
                number, pid, step = self._said()
                owners.setdefault(number, identify(pid))
                assert step != "failed", f"{victims[number].id} failed on its way to {steps[number]}"
                if step != steps[number]:
                    continue
                if reaper_too:
                    for reaper in reapers(journal):
                        if victims[number].id in command_line(reaper):
                            os.kill(reaper, signal.SIGKILL)
                owners[number].send(signal.SIGKILL)
                alive.discard(number)
            # A kill is heard of later on a busy machine: of owners that live, undo keeps its hands off.
            while any(owner.alive() for owner in owners.values()) or (reaper_too and reapers(journal)):
                time.sleep(0.01)
        finally:
            # None of them may go on when what it breaks is taken away.
            for number in alive & owners.keys():
                owners[number].send(signal.SIGKILL)

    def _said(self) -> tuple[int, int, str]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        assert ready, "no owner said anything"
        # Line by line from the descriptor: what a buffer had read ahead, select would not tell of.
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self._process.stdout.fileno(), 1)
            assert more, "the nursery ended"
            line += more
        number, pid, step = line.decode().split()
        return int(number), int(pid), step


def told(number: int, one: Victim, step: str, journal: Path, lease: float) -> dict[str, object]:
    """What an owner is told."""
    return {
        "number": number,
        "directory": str(journal),
        "lease": lease,
        "id": one.name,
        "fault": one.spec.as_json(),
        "target": one.target.as_json(),
        "stop": step,
    }


@contextlib.contextmanager
def victims(kind: str, count: int, directory: Path) -> Generator[list[Victim]]:
    """So many things of their own for a kind of fault."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(victim(kind, directory / f"v{number}")) for number in range(count)]


def left_of(broken: Sequence[Victim], journal: UndoJournal) -> Iterator[str]:
    """What is left: of the faults, records, signs of life, reapers."""
    for one in broken:
        yield from (f"{one.id}: {what}" for what in one.left())
    yield from (str(path) for path in journal.directory.iterdir())
    yield from (f"reaper {pid}" for pid in reapers(journal.directory))


def left_in_the_end(broken: Sequence[Victim], journal: UndoJournal, *, seconds: float = 30) -> list[str]:
    """What is left after so many seconds; empty as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (left := list(left_of(broken, journal))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
