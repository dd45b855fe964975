"""Which run of an experiment a fault belongs to: what its undo record has as `drill`."""

import os
from collections.abc import Mapping

from stormwatch.chaos.process import ProcessId, identify

RUN = "STORMWATCH_EXPERIMENT"
"""The environment variable by which an activity that is called in a process of its own knows its run."""


def label_of(owner: ProcessId, run: str = "") -> str:
    """The label of a run that this process carries out; `run` tells it from others of the same process."""
    return " ".join(("experiment", str(owner.pid), owner.started or "-", *([run] if run else [])))


def owner_of(label: str) -> ProcessId | None:
    """The process that carries out the run of a label; None when it is no such label."""
    match label.split(" "):
        case ["experiment", pid, started, *_] if pid.isdigit():
            return ProcessId(int(pid), "" if started == "-" else started)
        case _:
            return None


def label_here(environ: Mapping[str, str] = os.environ) -> str:
    """The label of the run that we are part of: told by who called us, or else our own process is the run."""
    return environ.get(RUN) or label_of(identify())
