"""An authority whose certificates the tests trust, and one that they do not."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers import probing
from tests.servers.certificates import Authority, Issued
from tests.servers.named import Space, name_space
from tests.servers.process import free_port


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


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory, issued: Issued) -> Generator[Space]:
    """A name space of its own, from a signed root down."""
    with name_space(tmp_path_factory.mktemp("names"), free_port(), issued) as space:
        yield space


@pytest.fixture(autouse=True)
def _shows_what_it_says(request: pytest.FixtureRequest) -> Generator[None]:
    """`@pytest.mark.shows("tcp", "up", "refused")`: runs of that kind ended so in this test, or it fails."""
    probing.SEEN.clear()
    yield
    for mark in request.node.iter_markers("shows"):
        kind, *endings = mark.args
        assert {(kind, ending) for ending in endings} <= set(probing.SEEN), f"the mark {mark} says more than was seen"
