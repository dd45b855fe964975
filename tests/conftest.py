"""Fixtures of the whole suite: asyncio for async tests, and a state directory of its own for each test."""

import pytest
from hypothesis import settings

# How long one example takes says how busy the machine is. Everything else is as Hypothesis has it, here and in CI.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state directory of the person who runs it."""
    monkeypatch.setenv("STORMWATCH_STATE", str(tmp_path_factory.mktemp("state")))
