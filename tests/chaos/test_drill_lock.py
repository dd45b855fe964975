"""One drill at a time: the lock names its owner and dies with it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.chaos.drill_lock import DrillLock, DrillRunning

HOLDING = """
import sys, subprocess, time
from pathlib import Path
from stormwatch.chaos.drill_lock import DrillLock
with DrillLock(Path(sys.argv[1]), owner="eve@shop, process 7", what="drill payments", now=1_700_000_000.0):
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def lock(path: Path) -> DrillLock:
    """Ours."""
    return DrillLock(path, owner="me", what="drill mine", now=0.0)


def test_the_second_is_told_who_is_first_and_an_owner_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    """Also when a child of the owner lives on: what is stale vanishes by itself."""
    path = tmp_path / "state" / "drill.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        orphan = int(owner.stdout.readline())
        try:
            with pytest.raises(DrillRunning) as refused, lock(path):
                pass
            assert str(refused.value) == (
                "another drill runs: drill payments, since 22:13:20 UTC, by eve@shop, process 7; "
                "one at a time: wait for it, or end it"
            )
            owner.kill()
            owner.wait(30)
            with lock(path), pytest.raises(DrillRunning, match=re.escape("drill mine, since 00:00:00 UTC, by me")):
                lock(path).__enter__()
            with lock(path):
                pass
        finally:
            subprocess.run(["kill", f"-{signal.SIGKILL}", str(orphan)], check=False)


@pytest.mark.parametrize("note", ["", "nonsense", "[]", '{"what": "x", "owner": "y", "since": 1e300}'])
def test_a_note_that_says_nothing_is_no_obstacle(tmp_path: Path, note: str) -> None:
    """The lock is the kernel's; the note is for people."""
    path = tmp_path / "drill.lock"
    path.write_text(note)
    with lock(path):
        path.write_text(note)
        with pytest.raises(DrillRunning, match="its owner has not said who it is yet"):
            lock(path).__enter__()
