"""Processes that own faults, one for each step that is given: `python owner.py CONTROL DIRECTORY LEASE STEP …`.

They put them on the routes r0, r1 and so on. Each says `number pid step` when it gets to a step; at its own STEP it hangs, with its loop, until it is killed. They are
forked from one interpreter, because starting ten takes longer than the test.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.proxy_fault import ProxyFault, Step
from stormwatch.chaos.tcp_options import TcpBlackhole
from stormwatch.chaos.undo import UndoJournal


async def own(control: str, directory: str, lease: float, number: int, stop: str) -> None:
    """Inject, hold for a moment, revert."""

    def reached(step: Step) -> None:
        print(f"{number} {os.getpid()} {step.value}\n", end="", flush=True)
        if step.value == stop:
            time.sleep(600)

    fault = ProxyFault(
        FaultSpec(kind="tcp-blackhole", target=f"r{number}", options=TcpBlackhole()),
        control=control,
        journal=UndoJournal(Path(directory)),
        lease=lease,
        drill="killed",
        on_step=reached,
    )
    async with fault:
        if stop == "holding":
            print(f"{number} {os.getpid()} holding\n", end="", flush=True)
            await asyncio.sleep(600)


def main(control: str, directory: str, lease: float, stops: list[str]) -> None:
    """Fork, and reap them all."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    children = 0
    for number, stop in enumerate(stops):
        if os.fork() == 0:
            asyncio.run(own(control, directory, lease, number, stop))
            os._exit(0)
        children += 1
    for _ in range(children):
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
