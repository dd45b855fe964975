"""What kills itself, like `kill -9`: a whole service at a certain step on the way from an alert to people, a drill in its fault.

Lives are forked from a server that has imported everything, so that hundreds of them take seconds.
"""

import asyncio
import os
import signal
from pathlib import Path

from stormwatch.exporters.message import Message
from stormwatch.exporters.step import Step
from stormwatch.harness.config import load
from stormwatch.harness.injecting import fault_of
from stormwatch.harness.service import Service
from stormwatch.probes.clock import SystemClock

TOLD = ("pager", "hook", "desk")
"""The channels that have to tell the end before a life is over."""


def live(config: Path, data: Path, fatal: tuple[str, int] | None, trace: Path, environ: dict[str, str]) -> None:
    """Watch until everybody was told of the end; or only up to the `fatal` step, at its n-th time."""
    os.environ["STORMWATCH_STATE"] = str(data / "state")
    asyncio.run(_watch(config, data, fatal, trace, environ))


def die_while_broken(config: Path, drill: str, state: Path) -> None:
    """Break what a drill breaks, as it does, and be killed while it is broken."""
    asyncio.run(_break(config, drill, state))


async def _break(config: Path, name: str, state: Path) -> None:
    loaded = load(config, environ={})
    drill = next(each for each in loaded.drills if each.name == name)
    async with fault_of(loaded, drill.fault, state=state, drill=name, clock=SystemClock()):
        os.kill(os.getpid(), signal.SIGKILL)


async def _watch(config: Path, data: Path, fatal: tuple[str, int] | None, trace: Path, environ: dict[str, str]) -> None:
    name, left = fatal or ("", 0)
    with trace.open("a") as file:

        def reached(step: Step) -> None:
            nonlocal left
            file.write(f"{step}\n")
            file.flush()
            left -= step == name
            if step == name and left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        async with Service(load(config, environ=environ), data=data, comes_back=1.0, step=reached) as service:
            while not await _is_over(service):
                await asyncio.sleep(0.1)


async def _is_over(service: Service) -> bool:
    found = await service.notifying.outbox.recent(0.0)
    settled = {each["channel"] for each in found if each["settled"] and Message.from_json(each["message"]).is_resolved}
    return settled >= set(TOLD) and all(each["settled"] for each in found)
