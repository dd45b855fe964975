"""Which process somebody is, and what is known of it."""

import os
import subprocess

from stormwatch.chaos.process import environment


def test_a_program_that_has_just_begun_is_known_by_its_environment() -> None:
    """In the middle of execve(2) it shows none for a moment: one start in eighty is seen in it, and would be left behind."""
    for _ in range(400):
        with subprocess.Popen(["sleep", "60"], env={**os.environ, "MARK": "here"}) as child:
            try:
                assert "MARK=here" in environment(child.pid)
            finally:
                child.kill()
