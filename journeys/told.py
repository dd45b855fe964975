"""What the target of a journey's entry says: the rhythm in the mark of a test, or the journeys of a file or directory."""

import re
from collections.abc import Sequence
from pathlib import Path

from stormwatch.journeys.marked_tests import MarkedTest, Unreadable, files_below, marked_tests
from stormwatch.probes.probe import Told


def told_of(target: str) -> Sequence[Told]:
    """For `file::test` what its mark says; for a file or a directory a probe for each test in it with the mark.

    Nothing for what is not there: building the check says so. Raises ValueError, one sentence.
    """
    name, separator, test = target.partition("::")
    path = Path(name)
    if separator:
        return _rhythm(path, test) if path.is_file() else ()
    files = files_below(path) if path.is_dir() else (path,) if path.is_file() else ()
    found = [each for file in files for each in _readable(file)]
    if files and not found:
        raise ValueError(
            f"no test in {path} has the mark `@pytest.mark.journey`; give it to the journeys, or name one test"
        )
    _check(found)
    return [
        Told(
            behind=f"{'' if each.file == path else f'/{each.file.relative_to(path)}'}::{each.test}",
            suffix=name_in_suffix(each),
            every=each.mark.every,
            timeout=each.mark.timeout,
        )
        for each in found
    ]


def name_in_suffix(journey: MarkedTest) -> str:
    """The name in the mark, or that of the test without `test_`: `checkout`, `TestShop.checkout`."""
    classes, _, function = journey.test.rpartition("::")
    own = function.removeprefix("test").lstrip("_") or function
    plain = journey.mark.name or ".".join([*filter(None, classes.split("::")), own])
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain)


def _rhythm(file: Path, test: str) -> Sequence[Told]:
    try:
        journeys = marked_tests(file)
    except Unreadable:
        return ()  # the worker says it, with the line
    plain = test.partition("[")[0]
    return [Told(every=each.mark.every, timeout=each.mark.timeout) for each in journeys if each.test == plain][:1]


def _readable(file: Path) -> Sequence[MarkedTest]:
    try:
        return marked_tests(file)
    except Unreadable as error:
        raise ValueError(f"{file} {error}") from error


def _check(journeys: Sequence[MarkedTest]) -> None:
    places: dict[str, str] = {}
    for each in journeys:
        place = f"{each.file}:{each.line}"
        if each.parametrized:
            raise ValueError(
                f"{place}: {each.test} is parametrized, and only running it tells its parameters; name its file's tests in "
                f"entries of their own, like {each.file.name}::{each.test}[small]"
            )
        name = name_in_suffix(each)
        if name in places:
            raise ValueError(
                f"two journeys are called {name}, in {places[name]} and {place}; give one another with @pytest.mark.journey(name=…)"
            )
        places[name] = place
