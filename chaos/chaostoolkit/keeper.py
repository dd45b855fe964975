"""Holds one fault for a run of the Chaos Toolkit: a process of its own that takes it back when the run is over or dead.

An activity is one call and has no end, so that nobody in it could renew a lease. The keeper is in a session of its own: no Ctrl-C,
and no kill of the run's process group, reaches it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault import FaultLost, FaultNotInjected, FaultNotReverted, FaultSpec
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.process import ProcessId
from stormwatch.chaos.proxy_fault import ProxyFault
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal

_POLL = 0.25
"""Seconds between two looks whether the run is still there."""


async def keep(order: dict[str, Any], starter: asyncio.StreamReader) -> None:
    """Inject, say so, and hold it while its owner lives and its record is there. Without the word of `starter`, let go."""
    owner = ProcessId.from_json(order["owner"])
    journal = UndoJournal(Path(order["directory"]))
    fault = _fault_of(order, journal)
    told = asyncio.create_task(starter.readline(), name="the starter's word")
    entering = asyncio.create_task(fault.__aenter__(), name="injecting")
    await asyncio.wait({told, entering}, return_when=asyncio.FIRST_COMPLETED)
    if not entering.done():
        # Nobody is there to be told any more: entering that is cancelled proves that nothing is in place.
        entering.cancel()
    try:
        await entering
    except (FaultNotInjected, FaultNotReverted) as error:
        _say({"error": str(error)})
        return
    try:
        _say({"id": fault.id})
        if await told == b"keep\n":
            while owner.alive() and await asyncio.to_thread(journal.holds, fault.id):
                await asyncio.sleep(_POLL)
                await fault.evidence()
    except FaultLost:
        return
    finally:
        await fault.__aexit__(None, None, None)


def _fault_of(order: dict[str, Any], journal: UndoJournal) -> ProxyFault | HeldFault:
    """Raises ValueError with what is wrong with the order."""
    options = {key: value for key, value in order["fault"].items() if key not in ("kind", "target")}
    kind, target = order["fault"]["kind"], order["fault"]["target"]
    if kind not in FAULTS:
        raise ValueError(f"no fault is called {kind!r}; there are: {', '.join(FAULTS)}")
    try:
        spec = FaultSpec(kind=kind, target=target, options=read_options(kind, options))
    except ValueError as error:
        raise ValueError(f"the options of {kind}: {_sentence(error)}") from error
    breakage, on = FAULTS[kind].breakage, order["on"]
    if breakage is None:
        if on is not None:
            raise ValueError(f"{kind} is put on a route of the proxy: leave `on` out")
        return ProxyFault(spec, control=order["control"], journal=journal, lease=order["lease"], drill=order["label"])
    if on is None or FAULTS[kind].on not in on:
        raise ValueError(f"{kind} needs `on`: a {FAULTS[kind].on}")
    thing = Target.from_json(on, TARGETS)
    return HeldFault(
        spec,
        lambda identity: breakage(identity, spec.options, thing),
        journal=journal,
        lease=order["lease"],
        drill=order["label"],
    )


async def _main() -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.current_task()
    assert stopped is not None
    loop.add_signal_handler(signal.SIGTERM, stopped.cancel)
    starter = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(starter), sys.stdin)
    try:
        await keep(json.loads(await starter.readline()), starter)
    except ValueError as error:
        _say({"error": _sentence(error)})
    except KeyError as error:
        _say({"error": f"`on` has one of {', '.join(TARGETS)}, not {error}"})
    except FaultNotReverted:
        # Its record says how to take it back; `stormwatch undo` tries again, and says what stands in the way.
        sys.exit(4)


def _sentence(error: ValueError) -> str:
    """In one line; pydantic uses four for each mistake."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


def _say(what: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_main())
