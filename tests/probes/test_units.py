"""Durations, sizes and ratios: what people write comes back as it was meant, and nothing else is accepted."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.probes.units import parse_duration, parse_ratio, parse_size, show_duration, show_ratio, show_size


@given(st.integers(min_value=0, max_value=10**9))
def test_whole_seconds_survive_being_shown_and_read(seconds: int) -> None:
    """Any number of them."""
    assert parse_duration(show_duration(float(seconds))) == seconds


@given(st.integers(min_value=1, max_value=999))
def test_milliseconds_survive_being_shown_and_read(milliseconds: int) -> None:
    """Below a second nothing is lost."""
    assert parse_duration(show_duration(milliseconds / 1000)) == milliseconds / 1000


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["w", "d", "h", "m", "s", "ms"])), min_size=1, max_size=6)
)
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    """In any order, also twice the same unit."""
    sizes = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": Fraction(1, 1000)}
    expected = float(sum(number * sizes[unit] for number, unit in parts))
    assert parse_duration("".join(f"{number}{unit}" for number, unit in parts)) == expected


@given(st.integers(0, 2**40), st.sampled_from(["B", "KiB", "MiB", "GiB", "kB", "MB", "GB"]))
def test_a_size_is_its_number_of_units(number: int, unit: str) -> None:
    """Powers of two have an i, powers of ten have none."""
    size = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    assert parse_size(f"{number}{unit}") == number * size


@given(st.integers(0, 2**40))
def test_a_size_survives_being_shown_and_read(size: int) -> None:
    """Exactly, whatever unit it is shown in."""
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (65536, "64KiB"), (10 * 2**20, "10MiB"), (10**6, "1MB"), (1001, "1001B")]
)
def test_a_size_is_shown_in_its_shortest_form(size: int, shown: str) -> None:
    """As people would have written it."""
    assert show_size(size) == shown


@given(st.integers(0, 10**7))
def test_a_ratio_is_exact_and_survives_being_shown_and_read(hundred_thousandths: int) -> None:
    """99.999% is 99999/100000, not a float that is near it."""
    ratio = Fraction(hundred_thousandths, 10**7)
    assert parse_ratio(show_ratio(ratio)) == ratio


@pytest.mark.parametrize("text", ["", "15", 15, 1.5, "15 s", "-1s", "s", "1.s", "1h 30m", None, True, "1y", "１s "])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Also bare numbers, which may be of anything."""
    with pytest.raises(ValueError, match="a duration is written like"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "64", 64, "64K", "64 kib", "-1B", None])
def test_what_is_no_size_is_refused(text: object) -> None:
    """Also bare numbers."""
    with pytest.raises(ValueError, match="a size is written like"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "99.9", 0.999, "-1%", "100.1%", "%", None])
def test_what_is_no_ratio_is_refused(text: object) -> None:
    """0.999 and 99.9 alike: they are too easy to mix up. More than everything is nothing."""
    with pytest.raises(ValueError, match="a ratio is"):
        parse_ratio(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    """No other exception comes out of a configuration file."""
    for parse in (parse_duration, parse_size, parse_ratio):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0
