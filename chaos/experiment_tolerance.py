"""Whether a value is within its tolerance, and in which words. Pure; what another probe decides is asked elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from stormwatch.chaos.experiment import Asked, AtPath, Exactly, Matches, OneOf, Provider, Tolerance, Within
from stormwatch.chaos.experiment_variables import Variables
from stormwatch.probes.pattern import compile_pattern

_SHOWN = 120
"""Characters of a value that a sentence shows."""


@dataclass(frozen=True, slots=True)
class Met:
    """Whether it is within the tolerance, what was asked and what was seen."""

    met: bool
    asked: str
    seen: str


def meets(tolerance: Exactly | OneOf | Within | Matches | AtPath, value: Any, variables: Variables) -> Met:
    """Compare, as chaoslib does; what cannot be compared is not met."""
    if isinstance(tolerance, Exactly):
        wanted = variables.fill(tolerance.value) if isinstance(tolerance.value, str) else tolerance.value
        found = _status(value) if isinstance(wanted, int) and not isinstance(wanted, bool) else value
        return Met(bool(found == wanted), show(wanted), show(found))
    if isinstance(tolerance, OneOf):
        return _one_of(tolerance, value)
    found = _at(tolerance.target, value)
    if isinstance(tolerance, Within):
        return _within(tolerance, found)
    if isinstance(tolerance, Matches):
        pattern = str(variables.fill(tolerance.pattern))
        met = isinstance(found, str) and bool(_find(pattern, found))
        return Met(met, f"/{pattern}/", show(found))
    return _at_path(tolerance, found, variables)


def decided(provider: Provider, output: Any) -> bool:
    """What the probe that was asked says: a truth of Python, an exit status of 0, an answer below 400."""
    if provider is Provider.PYTHON:
        return bool(output)
    status = _status(output)
    return isinstance(status, int) and (status == 0 if provider is Provider.PROCESS else status < 400)


def show_tolerance(tolerance: Tolerance) -> str:
    """For people."""
    match tolerance:
        case Exactly():
            return show(tolerance.value)
        case OneOf():
            return f"one of {show(list(tolerance.values))}"
        case Within():
            return f"from {tolerance.low} to {tolerance.high}"
        case Matches():
            return f"/{tolerance.pattern}/"
        case AtPath():
            return tolerance.path
        case Asked():
            return f"{tolerance.probe.name} says so"


def show(value: Any) -> str:
    """A value for people, cut to what a line can hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _one_of(tolerance: OneOf, value: Any) -> Met:
    found = _status(value)
    if found is value and len(tolerance.values) == 2:
        low, high = tolerance.values
        try:
            met = bool(low <= value <= high)
        except TypeError:
            met = False
        return Met(met, f"from {show(low)} to {show(high)}", show(value))
    return Met(found in tolerance.values, f"one of {show(list(tolerance.values))}", show(found))


def _within(tolerance: Within, found: Any) -> Met:
    asked = f"from {tolerance.low} to {tolerance.high}"
    try:
        # By its digits, not its bits: 0.1 is within [0.1, 0.2] whichever of them was a text.
        number, low, high = (Decimal(str(one).strip()) for one in (found, tolerance.low, tolerance.high))
    except InvalidOperation:
        return Met(False, asked, f"{show(found)}, no number")
    return Met(not number.is_nan() and low <= number <= high, asked, show(found))


def _at_path(tolerance: AtPath, found: Any, variables: Variables) -> Met:
    # jsonpath2 is chaoslib's own, so that a path means the same here.
    from jsonpath2.path import Path

    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return Met(False, tolerance.path, f"{show(found)}, no JSON")
    path = str(variables.fill(tolerance.path))
    values = [match.current_value for match in Path.parse_str(path).match(found)]
    asked, met = path, bool(values)
    if tolerance.count is not None:
        asked, met = f"{path} {tolerance.count} times", len(values) == tolerance.count
    if tolerance.has_expect:
        expect = variables.fill(tolerance.expect)
        asked = f"{path} is {show(expect)}"
        met = values == (expect if isinstance(expect, list) else [expect])
    return Met(met, asked, show(values))


def _find(pattern: str, text: str) -> object:
    return compile_pattern(pattern, "tolerance").search(text.encode(errors="replace"))


def _status(value: Any) -> Any:
    return value["status"] if isinstance(value, Mapping) and "status" in value else value


def _at(target: str, value: Any) -> Any:
    return value.get(target, value) if target and isinstance(value, Mapping) else value
