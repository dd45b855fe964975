"""What the system tells of its processes."""

import os
import subprocess
import sys

from stormwatch.probes.procfs import ENDED, PARENT, STATE, environment, is_alive, status_of


def test_a_program_that_has_just_begun_is_known_by_its_environment() -> None:
    """In the middle of execve(2) it shows none for a moment: one start in eighty is seen in it, and would be left behind."""
    for _ in range(400):
        with subprocess.Popen(["sleep", "60"], env={**os.environ, "MARK": "here"}) as child:
            try:
                assert "MARK=here" in environment(child.pid)
            finally:
                child.kill()


def test_a_name_with_brackets_and_spaces_moves_no_field() -> None:
    """A process may call itself what it likes (prctl(2), PR_SET_NAME), as if it had ended and belonged to init."""
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') Z 1 (x', 0, 0, 0); print('now', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"

        assert is_alive(child.pid)
        assert int(status_of(child.pid)[PARENT]) == os.getpid()


def test_who_ended_and_was_not_waited_for_is_not_alive() -> None:
    """It is listed until it is waited for, without an environment; then it is gone."""
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert status_of(child.pid)[STATE] in ENDED
        assert not is_alive(child.pid)
        assert environment(child.pid) == ()
    assert not is_alive(child.pid)
    assert status_of(child.pid) == []
