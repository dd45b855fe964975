"""Fixtures of the whole suite: asyncio for async tests, a state directory of its own for each test, long files first."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes, or drawing it, says how busy the machine is. Everything else is as Hypothesis has it, here and in CI.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_NUMBERS = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state directory of the person who runs it. Most of them write none: it is not made."""
    state = tmp_path_factory.getbasetemp() / "states" / str(next(_NUMBERS))
    monkeypatch.setenv("STORMWATCH_STATE", str(state))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: processes that share the files are then done at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes that share the files take them so that some wait while others compute."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.schedule import Mixed

    return Mixed(config, log)
