"""A fault of the host outlives nobody: its owner is killed at every step, and the reaper alone, or `undo` alone, heals it."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.deaths import IN_PLACE, STEPS, Nursery, left_in_the_end, left_of, victims
from tests.chaos.host_examples import HELD, offered

HEALED = ("recorded", "injected", "holding", "reverting", "reverted")
"""The steps at which there is a reaper, and something or nothing for it to do. `python -m bench undo` goes over all."""


@pytest.fixture(scope="module")
def nursery() -> Generator[Nursery]:
    """Owners may be had."""
    with Nursery() as made:
        yield made


@pytest.mark.parametrize("kind", HELD)
def test_killed_at_any_step_the_reaper_alone_heals(kind: str, tmp_path: Path, nursery: Nursery) -> None:
    """Nothing is left: no process, file, table, limit; no record, no sign of life, no reaper."""
    _skip_what_the_kernel_has_not(kind)
    journal = UndoJournal(tmp_path / "undo")
    with victims(kind, len(HEALED), tmp_path) as broken:
        nursery.kill_each(broken, HEALED, journal.directory, reaper_too=False)
        assert left_in_the_end(broken, journal) == []


@pytest.mark.parametrize("kind", HELD)
def test_killed_at_any_step_with_its_reaper_undo_heals(kind: str, tmp_path: Path, nursery: Nursery) -> None:
    """All is done by the records: what was in place is undone, what was not is already gone, and none fails."""
    _skip_what_the_kernel_has_not(kind)
    journal = UndoJournal(tmp_path / "undo")
    with victims(kind, len(STEPS), tmp_path) as broken:
        nursery.kill_each(broken, STEPS, journal.directory, reaper_too=True)
        assert len(journal.pending()) == len(STEPS) - 2
        assert len(list(left_of(broken, journal))) >= len(IN_PLACE)
        outcomes = {outcome.id: outcome for outcome in asyncio.run(journal.undo_all())}
        assert [outcome.why for outcome in outcomes.values() if outcome.state is UndoState.FAILED] == []
        undone = {
            step
            for one, step in zip(broken, STEPS, strict=True)
            if one.id in outcomes and outcomes[one.id].state is UndoState.UNDONE
        }
        assert undone == _told_apart(kind)
        assert left_in_the_end(broken, journal) == []


def _told_apart(kind: str) -> set[str]:
    """The steps at which undoing knows that there was something to undo."""
    # A process that was restarted runs: after the fault as before it.
    return set() if kind == "process-restart" else set(IN_PLACE)


def _skip_what_the_kernel_has_not(kind: str) -> None:
    if not offered(kind):
        pytest.skip("this kernel has no netem: what is said then is tested in test_host_network.py")
