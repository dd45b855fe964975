"""Processes that own faults, one for each that is given: `python owner.py CONTROL DIRECTORY LEASE FAULTS`.

FAULTS is a JSON list of {"fault": as users write it, "stop": the step to hang at}. Each owner says `number pid step` when
it gets to a step; at its own it hangs, with its loop, until it is killed. They are forked from one interpreter, because
starting ten takes longer than the test.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from stormwatch.chaos.fault import FaultSpec, Step
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.undo import UndoJournal

AT_ONCE = 12


async def own(control: str, directory: str, lease: float, *, number: int, fault: dict[str, Any]) -> None:
    """Inject, hold for a moment, revert."""
    stop = fault["stop"]

    def reached(step: Step) -> None:
        print(f"{number} {os.getpid()} {step.value}\n", end="", flush=True)
        if step.value == stop:
            time.sleep(600)

    holding = ProxyFault(
        FaultSpec.from_json(fault["fault"]),
        control=control,
        journal=UndoJournal(Path(directory)),
        lease=lease,
        drill="killed",
        on_step=reached,
    )
    async with holding:
        if stop == "holding":
            print(f"{number} {os.getpid()} holding\n", end="", flush=True)
            await asyncio.sleep(600)


def main(control: str, directory: str, lease: float, faults: list[dict[str, Any]]) -> None:
    """Fork, and reap them all; so many at a time that none waits for its turn longer than the control API is asked."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    numbered = list(enumerate(faults))
    for start in range(0, len(numbered), AT_ONCE):
        batch = numbered[start : start + AT_ONCE]
        for number, one in batch:
            if os.fork() == 0:
                asyncio.run(own(control, directory, lease, number=number, fault=one))
                os._exit(0)
        for _ in batch:
            os.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4]))
