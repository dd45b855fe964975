"""Fixtures of the whole suite: asyncio for async tests, nothing left behind, and missing parts that fail in CI."""

import os
import shutil

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state directory of the person who runs it."""
    monkeypatch.setenv("STORMWATCH_STATE", str(tmp_path_factory.mktemp("state")))


def program(name: str) -> str:
    """The path of a program that a test needs. In CI a missing one fails the test; elsewhere it is skipped."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: `make test` installs what the tests need")
    pytest.skip(f"{name} is not installed")
