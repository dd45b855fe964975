"""What one value must be (a column, a reply, a field): the option class, and its compiled form. Pure."""

import json
import math
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, JsonValue

from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.options import STRICT
from stormwatch.probes.pattern import Pattern, compile_pattern
from stormwatch.probes.result import Reason

SHOWN = 200
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectValue:
    """What a value must be. Everything that is given must hold; one of them at least is given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    equals: JsonValue = None
    """The value itself. A number equals a text that says the same number."""
    matches: str | None = None
    """An RE2 expression that is found in the value, written as text."""
    above: float | None = None
    """A number that the value must exceed."""
    below: float | None = None
    """A number that the value must stay below."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One expectation, compiled."""

    what: str
    """What the value is, for messages: `column lag_seconds`."""
    expect: ExpectValue
    pattern: Pattern | None

    @classmethod
    def of(cls, what: str, expect: ExpectValue, *, where: str) -> Self:
        """Raises ValueError for what can never be judged; `where` is the option's name."""
        if expect == ExpectValue():
            raise ValueError(f"{where}: give equals, matches, above or below")
        pattern = compile_pattern(expect.matches, f"{where}.matches") if expect.matches is not None else None
        return cls(what=what, expect=expect, pattern=pattern)

    def judge(self, value: Any) -> ProbeFailed | None:
        """What is wrong with a value as a driver gives it, or None."""
        expect, seen = self.expect, as_json(value)
        if expect.equals is not None and not _same(seen, expect.equals):
            return self._complain(seen, f"equal to {_show(expect.equals)}")
        if self.pattern is not None and not self.pattern.search(as_text(seen).encode()):
            return self._complain(seen, f"to match {expect.matches!r}")
        number = as_number(seen)
        if expect.above is not None and not (number is not None and number > expect.above):
            return self._complain(seen, f"above {expect.above:g}")
        if expect.below is not None and not (number is not None and number < expect.below):
            return self._complain(seen, f"below {expect.below:g}")
        return None

    def _complain(self, seen: JsonValue, wanted: str) -> ProbeFailed:
        return ProbeFailed(Reason.ASSERTION, f"{self.what} is {_show(seen)}, wanted {wanted}")


def as_json(value: Any) -> JsonValue:
    """A driver's value as JSON: decimals as numbers where that is exact enough to compare, times in ISO 8601."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(each) for each in value]
    return str(value)


def as_number(value: Any) -> float | None:
    """The number that a value is, or says; a truth value is 1 or 0; None for anything else."""
    seen = as_json(value)
    if isinstance(seen, bool | int | float):
        return _finite(seen)
    if isinstance(seen, str) and len(seen) <= 64:
        return _finite(seen)
    return None


def _finite(value: float | str) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_text(value: JsonValue) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same(seen: JsonValue, wanted: JsonValue) -> bool:
    if isinstance(seen, bool) or isinstance(wanted, bool):
        return seen is wanted
    if isinstance(seen, str) and isinstance(wanted, int | float):
        return as_number(seen) == wanted
    if isinstance(wanted, str) and isinstance(seen, int | float):
        return as_number(wanted) == seen
    return seen == wanted


def _show(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
