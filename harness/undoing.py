"""`stormwatch undo`: take back every fault that a dead run left behind."""

import os
from collections.abc import Callable

from stormwatch.chaos.undo import UndoJournal, UndoState, state_directory
from stormwatch.harness.problem import Exit

SIGN = {UndoState.UNDONE: "✓", UndoState.ALREADY_GONE: "✓", UndoState.LEFT_ALONE: "·", UndoState.FAILED: "✗"}


async def command(*, force: bool, say: Callable[[str], None]) -> int:
    """Undo all records of the state directory. Exit code 4 when one could not be proved gone."""
    journal = UndoJournal(state_directory(os.environ) / "undo")
    outcomes = await journal.undo_all(force=force)
    if not outcomes:
        say("nothing to undo: no fault is recorded")
    for outcome in outcomes:
        say(f"{SIGN[outcome.state]} {outcome.what}: {outcome.state.value}{f' ({outcome.why})' if outcome.why else ''}")
    failed = any(outcome.state is UndoState.FAILED for outcome in outcomes)
    return Exit.UNSAFE if failed else Exit.GOOD
