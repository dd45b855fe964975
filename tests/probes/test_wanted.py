"""What a value must be: every type that a driver gives, and every way to say it."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormwatch.probes.wanted import ExpectValue, Wanted, as_json, as_number

HELD: list[tuple[Any, dict[str, Any]]] = [
    (3, {"equals": 3, "above": 2, "below": 4, "matches": "^3$"}),
    ("3", {"equals": 3, "above": 2}),
    (3, {"equals": "3"}),
    (Decimal("9.50"), {"equals": 9.5}),
    (timedelta(seconds=90), {"below": 100, "above": 89}),
    (datetime(2026, 1, 2, tzinfo=UTC), {"matches": "^2026-01-02T"}),
    (date(2026, 1, 2), {"equals": "2026-01-02"}),
    (b"text", {"equals": "text"}),
    (True, {"equals": True, "above": 0}),
    ([1, "a"], {"equals": [1, "a"], "matches": '"a"'}),
    ({"a": None}, {"equals": {"a": None}}),
]


@pytest.mark.parametrize(("value", "expect"), HELD)
def test_an_expectation_holds(value: Any, expect: dict[str, Any]) -> None:
    """All of it together."""
    assert Wanted.of("it", ExpectValue(**expect), where="expect").judge(value) is None


BROKEN: list[tuple[Any, dict[str, Any], str]] = [
    (3, {"equals": 4}, "it is 3, wanted equal to 4"),
    (1, {"equals": True}, "it is 1, wanted equal to true"),
    (None, {"above": 0}, "it is null, wanted above 0"),
    (float("nan"), {"below": 1}, 'it is "nan", wanted below 1'),
    ("x", {"below": 1}, 'it is "x", wanted below 1'),
    (3, {"above": 3}, "it is 3, wanted above 3"),
    (3, {"below": 3}, "it is 3, wanted below 3"),
    ("abc", {"matches": "^b"}, "it is \"abc\", wanted to match '^b'"),
    ("a" * 1000, {"equals": "b"}, f'it is "{"a" * 199}…, wanted equal to "b"'),
]


@pytest.mark.parametrize(("value", "expect", "message"), BROKEN)
def test_an_expectation_that_does_not_hold_says_what_was_seen(value: Any, expect: dict[str, Any], message: str) -> None:
    """And what was wanted."""
    failure = Wanted.of("it", ExpectValue(**expect), where="expect").judge(value)
    assert failure is not None
    assert failure.message == message


@settings(max_examples=300)
@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.lists(st.dictionaries(st.integers(), st.floats()))
)
def test_any_value_of_a_driver_is_json_and_perhaps_a_number(value: Any) -> None:
    """Never an exception."""
    json.dumps(as_json(value), allow_nan=False)
    assert isinstance(as_number(value), float | None)
