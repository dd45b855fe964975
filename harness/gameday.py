"""`stormwatch gameday run`: the drills of the day one after the other, people's words between, all of it in one journal.

    journal ──course──▶ where the day stands ──▶ the page, and what is next
       ▲──────────────── drills, checkpoints, notes
A process that dies leaves its journal; started again, it goes on with the first drill that has no report.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormwatch.chaos.audit import AuditJournal, read
from stormwatch.chaos.drill import Drill
from stormwatch.chaos.feed import Feed
from stormwatch.chaos.gameday import Course, GameDay, Played, course
from stormwatch.chaos.report import Progress, Report
from stormwatch.chaos.run import Hold
from stormwatch.chaos.verdict import Verdict
from stormwatch.harness import drilling
from stormwatch.harness.drill_guarding import Guarding
from stormwatch.harness.problem import Exit, Problem
from stormwatch.probes.clock import Clock


class Refused(Exception):
    """What somebody said cannot be taken. One sentence: what was asked, what was seen, the remedy."""


class Running:
    """A game day that is on. Everything that happens is on disk before anybody is told."""

    def __init__(self, day: GameDay, journal: Path, *, clock: Clock) -> None:
        """Raises Problem when the journal is of another day, is over, or cannot be read."""
        self._clock = clock
        self._writing = asyncio.Lock()
        self._journal = AuditJournal(journal, clock=clock)
        self._entries = _entries(journal)
        self._day = day
        self._course = _course(self._entries, journal)
        if self._course and self._course.day != day:
            raise Problem(
                f"{journal} is the journal of another game day, or its file was changed since; name another one with --journal"
            )
        if self._course and self._course.ended is not None:
            raise Problem(f"{journal}: this game day is over; name another file with --journal to have another one")

    @property
    def course(self) -> Course:
        """Where it stands."""
        assert self._course is not None  # `play` writes the first line
        return self._course

    async def begin(self) -> None:
        """Write the first line, if there is none yet."""
        if self._course is None:
            await self._write("began", {"gameday": self._day.as_json()})

    async def reach(self, checkpoint: str, by: str, note: str = "") -> None:
        """Somebody came to a checkpoint of the act that is on. Raises Refused."""
        number, played = self._present()
        names = [one.name for one in played.act.checkpoints]
        if checkpoint not in names:
            raise Refused(f"{played.act.drill} has no checkpoint {checkpoint}; it has {', '.join(names) or 'none'}")
        if played.injected is None:
            raise Refused(f"{checkpoint}: nothing is broken yet; wait until the failure is in place")
        if checkpoint in played.reached:
            raise Refused(f"{checkpoint} was reached already, by {played.reached[checkpoint].by}")
        await self._write("checkpoint", {"act": number, "checkpoint": checkpoint, "by": by or "somebody", "note": note})

    async def note(self, text: str, by: str) -> None:
        """Something to be remembered. Raises Refused."""
        if not text.strip():
            raise Refused("there is nothing in this note; write what is to be remembered")
        await self._write("note", {"by": by or "somebody", "text": text.strip()})

    async def play(self, guard: Guarding, drills: Mapping[str, Drill], feed: Feed) -> Course:
        """Run what has not been run. What is refused by the guard, or interrupted, is raised, and may be gone on with."""
        for number, played in enumerate(self.course.played):
            if not played.over:
                await self._act(number, drills[played.act.drill], guard, feed)
                if (report := self.course.played[number].report) and report.verdict is Verdict.UNSAFE:
                    break  # nothing else is broken while something may still be
        await self._write("ended", {})
        return self.course

    async def _act(self, number: int, drill: Drill, guard: Guarding, feed: Feed) -> None:
        act = self.course.played[number].act
        await self._write("act", {"act": number, "begins": self._clock.now() + act.pause})
        await self._clock.sleep_until(self._clock.monotonic() + act.pause)
        await guard.permit([drill], self._clock)
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        telling = asyncio.create_task(self._tell(number, told))
        try:
            hold = Hold(lambda: self._all_reached(number), act.hold)
            report = await drilling.run(guard.config, drill, feed, self._clock, on_progress=told.put_nowait, hold=hold)
        finally:
            told.put_nowait(None)
            await telling
        await self._report(number, report)

    async def _report(self, number: int, report: Report) -> None:
        await self._write("report", {"act": number, "report": report.as_json()})

    async def _tell(self, number: int, told: "asyncio.Queue[Progress | None]") -> None:
        while progress := await told.get():
            data = {"act": number, "step": progress.step, "at": progress.at, "text": progress.text}
            await self._write("step", data)

    def _all_reached(self, number: int) -> bool:
        played = self.course.played[number]
        return all(one.name in played.reached for one in played.act.checkpoints)

    def _present(self) -> tuple[int, Played]:
        present = self.course.present
        if present is None:
            raise Refused("the game day is over; nothing more is taken")
        return self.course.played.index(present), present

    async def _write(self, event: str, data: Mapping[str, Any]) -> None:
        async with self._writing:
            await asyncio.to_thread(self._journal.append, event, data)
            self._entries = await asyncio.to_thread(_entries, self._journal.path)
            self._course = _course(self._entries, self._journal.path)


def course_in(path: Path) -> Course:
    """The game day of a journal. Raises Problem when there is none."""
    found = _course(_entries(path), path)
    if found is None:
        raise Problem(f"{path}: there is no game day in it", code=Exit.NO_VERDICT)
    return found


def _entries(path: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        found = read(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from error
    if found.problems:
        raise Problem(*(f"{path}: {one}" for one in found.problems), code=Exit.NO_VERDICT)
    return found.entries


def _course(entries: tuple[Mapping[str, Any], ...], path: Path) -> Course | None:
    try:
        return course(entries)
    except ValueError as error:
        raise Problem(f"{path}: {error}", code=Exit.NO_VERDICT) from error
