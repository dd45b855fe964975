"""The mark `journey` of a test that pytest has collected. Not with the mark itself: reading a configuration must not import pytest."""

import pytest

from stormwatch.journeys.journey_mark import JourneyMark, read_mark


class Timeout(pytest.fail.Exception):
    """A journey took longer than its mark gives it. Known for a time-out by its name, and told without a traceback."""

    def __init__(self, took: float, limit: float) -> None:
        super().__init__(f"the journey took {took:.3g} s, and its timeout is {limit:.3g} s", pytrace=False)


def mark_of(item: pytest.Item) -> JourneyMark:
    """What a test says of itself; nothing where it has no mark. Raises ValueError."""
    mark = item.get_closest_marker("journey")
    return read_mark(mark.args, mark.kwargs) if mark else JourneyMark()


def name_of(item: pytest.Item) -> str:
    """The name in a test's mark, with the parameters of this test behind it; empty where there is none. Raises ValueError."""
    name = mark_of(item).name
    # As the names of tests have it: what pytest-playwright adds for the usual browser tells no two journeys apart.
    parameters = item.name.partition("[")[2].removesuffix("]").removeprefix("chromium").removeprefix("-")
    return f"{name}[{parameters}]" if name and parameters else name
