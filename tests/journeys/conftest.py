"""Journeys written for one test, the shop they visit, and a look at which processes are left."""

import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.servers.shop import Shop, shop_running


@pytest.fixture(autouse=True)
def no_hypothesis_in_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plugin imports all of itself at the end of every pytest session, and we start dozens of them."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")


@pytest.fixture
def shop() -> Generator[Shop]:
    """A shop of its own."""
    with shop_running() as running:
        yield running


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of journeys, with the imports that all need, and gives its path."""

    def write(body: str, name: str = "test_it.py") -> Path:
        path = tmp_path / "suite" / name
        path.parent.mkdir(exist_ok=True)
        head = (
            "import os, time\nimport pytest\nfrom playwright.sync_api import Page, expect\n"
            if name != "pytest.ini"
            else ""
        )
        path.write_text(head + textwrap.dedent(body))
        return path

    write("[pytest]\n", "pytest.ini")
    return write


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """The temporary directory of all that this test starts. Short: Chromium puts a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="sw"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def left(scratch: Path) -> Callable[[], list[str]]:
    """The command lines of processes that work in `scratch`, found without any code of ours."""

    def left() -> list[str]:
        found: list[str] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes()
                    if line and str(scratch).encode() in line + (entry / "environ").read_bytes():
                        found.append(line.replace(b"\0", b" ").decode(errors="replace")[:200])
                except OSError:
                    continue
        return found

    return left


@pytest.fixture
def nothing_left(left: Callable[[], list[str]]) -> Callable[[], None]:
    """Waits until no process is left, for ten seconds."""

    def nothing_left() -> None:
        until = time.monotonic() + 10
        while left() and time.monotonic() < until:
            time.sleep(0.05)
        assert left() == []

    return nothing_left
