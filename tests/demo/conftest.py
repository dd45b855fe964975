"""One running platform for all tests that only use it: whoever stops a part of it starts it again."""

import asyncio
from collections.abc import Generator

import pytest

from stormwatch.demo.platform import Platform, start_platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """The sample platform, on ports of its own."""
    running = asyncio.run(start_platform(tmp_path_factory.mktemp("platform"), ports="free", linger=0))
    try:
        yield running
    finally:
        asyncio.run(running.stop())
