"""An authority whose certificates the tests trust, and one that they do not."""

from pathlib import Path

import pytest

from tests.servers.certificates import Authority, Issued


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Trusted with `ca_file`."""
    return Authority(tmp_path_factory.mktemp("authority"), "Test Authority")


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    """Valid for `shop.test`, `localhost` and 127.0.0.1."""
    return authority.issue("shop.test", "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def ca_file(authority: Authority) -> Path:
    """The authority's own certificate."""
    return authority.file
