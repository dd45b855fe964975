"""`stormwatch undo`: take back every fault that a dead run left behind."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from stormwatch.chaos.audit import AuditJournal
from stormwatch.chaos.replay import UNDONE
from stormwatch.chaos.undo import UndoJournal, UndoOutcome, UndoState, state_directory
from stormwatch.harness.problem import Exit
from stormwatch.probes.clock import SystemClock

SIGN = {UndoState.UNDONE: "✓", UndoState.ALREADY_GONE: "✓", UndoState.LEFT_ALONE: "·", UndoState.FAILED: "✗"}


async def command(*, force: bool, say: Callable[[str], None]) -> int:
    """Undo all records of the state directory. Exit code 4 when one could not be proved gone."""
    journal = UndoJournal(state_directory(os.environ) / "undo")
    outcomes = await journal.undo_all(force=force)
    write_down(outcomes, state_directory(os.environ))
    if not outcomes:
        say("nothing to undo: no fault is recorded")
    for outcome in outcomes:
        say(f"{SIGN[outcome.state]} {outcome.what}: {outcome.state.value}{f' ({outcome.why})' if outcome.why else ''}")
    failed = any(outcome.state is UndoState.FAILED for outcome in outcomes)
    return Exit.UNSAFE if failed else Exit.GOOD


def write_down(outcomes: Sequence[UndoOutcome], state: Path) -> None:
    """Into the audit journal, beside what the drills wrote. What was undone stays undone when that cannot be written."""
    journal = AuditJournal(state / "audit.jsonl", clock=SystemClock())
    with contextlib.suppress(OSError):
        for one in outcomes:
            if one.state is not UndoState.LEFT_ALONE:
                gone = one.state is not UndoState.FAILED
                journal.append(
                    UNDONE, {"what": one.what, "fault": one.id, "state": one.state.value, "why": one.why, "gone": gone}
                )
