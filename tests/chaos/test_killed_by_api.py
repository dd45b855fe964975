"""Owners of faults that are put by an API, killed with SIGKILL: nothing may be left.

Here it is one fault of each way to put and to undo, at the steps before, during and after; `bench/undo.py` goes over all of
them and all steps.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from stormwatch.chaos.undo import UndoJournal, UndoState
from tests.chaos.api_examples import kill_each, left_in_the_end, reached
from tests.chaos.deaths import Nursery

REAL = os.environ.get("STORMWATCH_TOXIPROXY", "")
KINDS = (
    "toxiproxy-latency",
    "toxiproxy-down",
    "container-kill",
    "pod-kill",
    "workload-scale",
    "workload-isolate",
    "browser-blocked",
)
DEATHS = [(kind, step) for kind in KINDS for step in ("recorded", "injected", "reverting")]


@pytest.fixture(scope="module")
def nursery() -> Generator[Nursery]:
    """Owners may be had."""
    with Nursery() as made:
        yield made


@pytest.mark.parametrize("reaper_too", [False, True])
async def test_whoever_dies_at_whatever_step_leaves_nothing(
    nursery: Nursery, tmp_path: Path, *, reaper_too: bool
) -> None:
    """The reaper heals it alone; where that is killed too, `undo` does, by the records."""
    journal = UndoJournal(tmp_path / "undo")
    kinds, steps = zip(*DEATHS, strict=True)
    async with reached(kinds, toxiproxy=REAL) as owners:
        await kill_each(nursery, owners, steps, journal.directory, reaper_too=reaper_too)
        if reaper_too:
            assert journal.pending()
            outcomes = await journal.undo_all()
            assert [one.why for one in outcomes if one.state in (UndoState.FAILED, UndoState.LEFT_ALONE)] == []
            undone = {one.id for one in outcomes if one.state is UndoState.UNDONE}
            # A deleted pod is made again by its controller, whether anybody undoes it or not.
            assert undone - {one.id for one in owners if one.kind == "pod-kill"} == {
                one.id for one, step in zip(owners, steps, strict=True) if step != "recorded" and one.kind != "pod-kill"
            }
        assert await left_in_the_end(owners, journal) == []
