"""An activity of any extension as a program: what a drill's `command` fault can run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stormwatch.chaos.catalog import FAULTS
from stormwatch.chaos.fault import FaultSpec
from stormwatch.chaos.held_fault import HeldFault
from stormwatch.chaos.target import Target
from stormwatch.chaos.targets import TARGETS
from stormwatch.chaos.undo import UndoJournal

CALL = (sys.executable, "-m", "stormwatch.chaos.chaostoolkit.call")


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["os.path.exists", '{"path": "/"}'], 0, "true"),
        (["os.path.exists", '{"path": "${WHERE}"}'], 1, "false"),
        (["os.getcwd"], 0, str(Path.cwd())),
        (["os.unlink", '{"path": "/nowhere"}'], 2, "os.unlink: FileNotFoundError"),
        (["nowhere.at.all"], 2, "nowhere.at.all: ModuleNotFoundError"),
        (["os.getcwd", "{"], 2, "MODULE.FUNCTION and one JSON object are needed"),
        (["getcwd"], 2, "MODULE.FUNCTION and one JSON object are needed"),
        ([], 2, "nothing: MODULE.FUNCTION"),
    ],
)
def test_the_exit_code_says_what_it_returned(asked: list[str], code: int, said: str) -> None:
    """0; 1 for a probe that says no; 2 for what could not be called or raised."""
    environ = {**os.environ, "WHERE": "/nowhere/at/all"}
    ran = subprocess.run([*CALL, *asked], capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert (ran.returncode, said in ran.stdout + ran.stderr) == (code, True), ran


async def test_an_action_of_an_extension_is_a_fault_of_a_drill(tmp_path: Path) -> None:
    """It breaks, it is checked, it mends; its undo record is there meanwhile."""
    there = tmp_path / "there"
    journal = UndoJournal(tmp_path / "undo")
    spec = FaultSpec.from_json(
        {
            "kind": "command",
            "target": "here",
            "inject": [*CALL, "os.mkdir", f'{{"path": "{there}"}}'],
            "undo": [*CALL, "shutil.rmtree", f'{{"path": "{there}", "ignore_errors": true}}'],
            "check": [*CALL, "os.path.exists", f'{{"path": "{there}"}}'],
        }
    )
    breakage = FAULTS["command"].breakage
    assert breakage is not None
    target = Target.from_json({"name": "here", "machine": {}}, TARGETS)

    async with HeldFault(spec, lambda identity: breakage(identity, spec.options, target), journal=journal) as fault:
        assert there.exists()
        assert "says that it is broken" in (await fault.evidence()).what
        assert journal.pending()

    assert not there.exists()
    assert not journal.pending()
