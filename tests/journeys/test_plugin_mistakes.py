"""What somebody gets wrong on pytest's command line is one line and exit code 4, as pytest's own; what a journey gets wrong is `broken`."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Write = Callable[..., Path]

JOURNEY = """
    def test_it(step):
        with step("go"):
            pass
"""


def pytest_run(file: Path, *options: str) -> tuple[int, str]:
    """The exit code of pytest, and what it wrote."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), *options]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            # Each of them is tried, and none keeps the others from being written.
            [f"--stormwatch-{name}=a-file/x" for name in ("metrics", "report", "json")],
            [
                "stormwatch: --stormwatch-metrics: cannot write SUITE/a-file/x: File exists",
                "stormwatch: --stormwatch-report: cannot write SUITE/a-file: File exists",
                "stormwatch: --stormwatch-json: cannot write SUITE/a-file: File exists",
            ],
        ),
        (
            ["--stormwatch-keep=page,vidoe"],
            ["ERROR: --stormwatch-keep does not know vidoe; it knows har, page, steps, trace, video"],
        ),
    ],
    ids=["files", "keep"],
)
def test_what_cannot_be_written_or_kept_is_told_in_a_line(
    write: Write, options: Sequence[str], lines: Sequence[str]
) -> None:
    """And no traceback."""
    file = write(JOURNEY)
    (file.parent / "a-file").touch()
    code, said = pytest_run(file, *options)
    found = [line for line in said.splitlines() if "stormwatch-" in line]
    assert sorted(found) == sorted(line.replace("SUITE", str(file.parent)) for line in lines)
    assert (code, "Traceback" in said, "INTERNALERROR" in said) == (4, False, False)


def test_what_the_journey_has_wrong_is_broken_at_its_own_line(write: Write) -> None:
    """It says nothing about the site; a seed stands nowhere, and no line of a library is told."""
    file = write("""
        def test_seed(one_time_password, step):
            one_time_password("not base32: 0189")

        def test_fixture(step, no_such_fixture):
            pass
    """)
    code, said = pytest_run(file, "--stormwatch-exit-codes", "--stormwatch-annotations=on", "--tb=no")
    assert code == 3
    seed, fixture = [line for line in said.splitlines() if line.startswith("::error")]
    assert "one_time_password: the seed of a one-time password is text in base32 (A-Z, 2-7)" in seed
    assert "0189" not in seed
    lines = file.read_text().splitlines()
    for told, wanted in (
        (seed, '    one_time_password("not base32: 0189")'),
        (fixture, "def test_fixture(step, no_such_fixture):"),
    ):
        assert f"test_it.py,line={lines.index(wanted) + 1}," in told
