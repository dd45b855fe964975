"""Faults as actions of the Chaos Toolkit. What is injected is taken back at the end of the run, however that ends."""

import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from typing import Any

from stormwatch.chaos.experiment_label import label_here, owner_of
from stormwatch.chaos.process import identify
from stormwatch.chaos.undo import UndoJournal, UndoRecord, state_directory

__all__ = ["inject_fault", "undo_faults"]

CONTROL = "http://127.0.0.1:8474"
"""Where `stormwatch proxy` is told what to do, unless its configuration says something else."""
_PATIENCE = 30.0
"""Seconds in which a fault must be in place."""


class FaultRefused(Exception):
    """The fault is not in place. One sentence: asked, seen, remedy."""


class FaultLeft(Exception):
    """A fault may still be in place. One sentence a fault."""


def inject_fault(  # noqa: PLR0917 - keyword-only arguments are not shown by `chaos discover`
    kind: str,
    target: str,
    options: dict[str, Any] | None = None,
    control: str = CONTROL,
    lease: float = 15.0,
    on: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put a fault on a route of the fault proxy, or on a target, and keep it there until undo_faults or the end of the run.

    kind, target and options are those of a drill (docs/reference/faults.md); control is the URL of the proxy's control API.
    For a fault that is not on a route, `on` says what the target is, as an entry of `targets:` does without its name:
    {"process": {"pid_file": "/run/payments.pid"}}. The undo record is on disk and the lease is held before anything is injected.
    """
    document = {"kind": kind, "target": target, **(options or {})}
    label = label_here()
    owner = owner_of(label) or identify()
    order = {
        "fault": document,
        # `chaos init` writes an empty mapping where nothing was typed in.
        "on": {"name": target, **on} if on else None,
        "control": control,
        "lease": lease,
        "directory": str(_journal().directory),
        "label": label,
        "owner": owner.as_json(),
    }
    answer = _begin_keeping(order)
    if "error" in answer:
        raise FaultRefused(answer["error"])
    return {"id": answer["id"], "kind": kind, "target": target}


def undo_faults() -> dict[str, Any]:
    """Take back every fault of this run, the youngest first, and prove that they are gone."""
    from stormwatch.chaos.experiment_undo import left_behind

    journal, label = _journal(), label_here()
    mine = [one.what for one in journal.pending() if isinstance(one, UndoRecord) and one.drill == label]
    if left := asyncio.run(left_behind(journal, label)):
        raise FaultLeft("; ".join(left))
    return {"undone": mine}


def _begin_keeping(order: dict[str, Any]) -> dict[str, Any]:
    """Start what holds the fault, and wait until it is in place. A keeper whose starter died meanwhile lets go by itself."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "stormwatch.chaos.chaostoolkit.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as orders, process.stdout as said:
        orders.write(json.dumps(order).encode() + b"\n")
        orders.flush()
        seen, _, _ = select.select([said], [], [], _PATIENCE)
        line = said.readline() if seen else b""
        if line:
            with contextlib.suppress(BrokenPipeError):
                orders.write(b"keep\n")
    # Collected when it ends, which is when the fault is gone: no zombie of ours.
    threading.Thread(target=process.wait, name=f"keeper {process.pid}", daemon=True).start()
    if not line:
        when = "the process that would keep it ended" if seen else f"it was not within {_PATIENCE:g} s"
        return {"error": f"{order['fault']['kind']} on {order['fault']['target']} is not in place: {when}"}
    return json.loads(line)


def _journal() -> UndoJournal:
    return UndoJournal(state_directory(os.environ) / "undo")
