"""Outlives whoever injected a fault: takes it back when its owner is dead, or gave no sign of life for the lease.

One process for each fault, in a session of its own, so that no Ctrl-C, no closed terminal and no kill of the owner's process
group reaches it. It ends when the fault's record is gone.
"""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from stormwatch.chaos.process import ProcessId
from stormwatch.chaos.undo import UndoJournal, UndoRecord, UndoState

LEASE = 15.0
"""Seconds without a sign of life after which a fault is taken back."""
_READY = b"ready\n"
_PATIENCE = 20.0
"""Seconds that a reaper may take to stand by."""
_RETRY = 2.0
"""Seconds between two tries to take a fault back."""


class ReaperFailed(Exception):
    """No reaper stands by: a fault without one would outlive us. One sentence."""


def begin_reaping(directory: Path, identity: str, *, lease: float = LEASE) -> None:
    """Start the reaper of a recorded fault, and wait until it watches. Blocking. Raises ReaperFailed."""
    UndoJournal(directory).sign(identity).touch()
    command = [sys.executable, "-m", "stormwatch.chaos.reaper", str(directory), identity, str(lease)]
    # The reaper is meant to outlive this process: nobody waits for it, and the `with` below is over before it ends.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        seen, _, _ = select.select([said], [], [], _PATIENCE)
        if not seen or os.read(said.fileno(), len(_READY)) != _READY:
            process.kill()
            process.wait()
            raise ReaperFailed(
                f"the process that would take the fault back if we die did not start ({' '.join(command[:3])}); "
                "nothing was injected"
            )
    # Not a zombie of ours when it ends: the child is left to be collected by a thread that only waits.
    _collect(process)


def renew(directory: Path, identity: str) -> None:
    """A sign of life of the fault's owner. Blocking."""
    # Never made anew: whoever removed it meanwhile did so because the fault is gone.
    with contextlib.suppress(FileNotFoundError):
        os.utime(UndoJournal(directory).sign(identity))


def reap(directory: Path, identity: str, *, lease: float, poll: float) -> None:
    """Watch over one fault until its record is gone. Blocking."""
    journal = UndoJournal(directory)
    owner = _owner(journal, identity)
    sign = journal.sign(identity)
    seen, since = _signed(sign), time.monotonic()
    while journal.holds(identity):
        if (signed := _signed(sign)) != seen:
            seen, since = signed, time.monotonic()
        if (owner is not None and not owner.alive()) or time.monotonic() - since > lease:
            if _taken_back(journal, identity):
                break
            time.sleep(_RETRY)
        time.sleep(poll)
    sign.unlink(missing_ok=True)


def _taken_back(journal: UndoJournal, identity: str) -> bool:
    # A loop is a third of what it costs to start this process, and seldom needed.
    import asyncio

    outcome = asyncio.run(journal.undo(identity))
    return outcome is None or outcome.state is not UndoState.FAILED


def _owner(journal: UndoJournal, identity: str) -> ProcessId | None:
    for one in journal.pending():
        if isinstance(one, UndoRecord) and one.id == identity:
            return one.owner
    return None


def _signed(sign: Path) -> int:
    try:
        return sign.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _collect(process: "subprocess.Popen[bytes]") -> None:
    threading.Thread(target=process.wait, name=f"reaper {process.pid}", daemon=True).start()


def _main() -> None:
    directory, identity, lease = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    os.write(1, _READY)
    os.close(1)
    reap(directory, identity, lease=lease, poll=min(0.5, lease / 5))


if __name__ == "__main__":
    _main()
