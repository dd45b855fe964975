"""Processes that own faults of the host: `python held_owner.py`, told on its standard input, a line of JSON for each.

A line is {"number": …, "directory": of the records, "lease": …, "id": …, "fault": …, "target": …, "stop": the step to hang
at}. Each owner says `number pid step` when it gets to a step; at its own it hangs, with its loop, until it is killed. They
are forked from one interpreter, because starting it takes longer than all that they do.
"""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import FaultSpec, Step
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal


async def own(told: dict[str, Any]) -> None:
    """Inject, hold for a moment, revert."""

    def say(step: str) -> None:
        print(f"{told['number']} {os.getpid()} {step}\n", end="", flush=True)

    def reached(step: Step) -> None:
        say(step.value)
        if step.value == told["stop"]:
            time.sleep(600)

    spec = FaultSpec.from_json(told["fault"])
    target = Target.from_json(told["target"], TARGETS)
    make = FAULTS[spec.kind].breakage
    assert make is not None
    holding = HeldFault(
        spec,
        lambda identity: make(identity, spec.options, target),
        journal=UndoJournal(Path(told["directory"])),
        lease=told["lease"],
        drill="killed",
        on_step=reached,
        new_id=lambda: told["id"],
    )
    async with holding:
        say("holding")
        if told["stop"] == "holding":
            await asyncio.sleep(600)


def main() -> None:
    """Fork an owner for each line."""
    # The kernel collects those that are killed.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                asyncio.run(own(json.loads(line)))
            except BaseException:  # noqa: BLE001 - told to the test, which reads our standard output
                print(f"{json.loads(line)['number']} {os.getpid()} failed\n", end="", flush=True)
                traceback.print_exc()
            os._exit(0)


if __name__ == "__main__":
    main()
