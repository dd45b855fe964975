"""`@pytest.mark.journey(name, every, timeout)`: what a journey says of itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from stormwatch.probes.units import parse_duration, show_duration

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ORDER: Final = ("name", "every", "timeout")
"""As they may be given without their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyMark:
    """What is not given is as the configuration has it."""

    name: str = ""
    """What the journey is called in metrics and reports; empty: as its test."""
    every: float | None = None
    """Seconds between the starts of two scheduled runs."""
    timeout: float | None = None
    """Seconds that a run may take."""


def read_mark(arguments: Sequence[object], named: Mapping[str, object]) -> JourneyMark:
    """What the arguments of a mark mean. Raises ValueError, one sentence without the mark's name."""
    if len(arguments) > len(_ORDER):
        raise ValueError(f"takes {', '.join(_ORDER)} and nothing else, not {len(arguments)} values")
    given: dict[str, object] = dict(zip(_ORDER, arguments, strict=False))
    for key, value in named.items():
        if key not in _ORDER:
            near = get_close_matches(key, _ORDER, n=1)
            raise ValueError(
                f"knows no {key}; " + (f"did you mean {near[0]}?" if near else f"it knows {', '.join(_ORDER)}")
            )
        if key in given:
            raise ValueError(f"has {key} twice; give it once")
        given[key] = value
    every, timeout = (_seconds(key, given.get(key)) for key in ("every", "timeout"))
    if every is not None and timeout is not None and timeout >= every:
        raise ValueError(
            f"has a timeout of {show_duration(timeout)}, which is not less than every {show_duration(every)}; "
            "shorten timeout, or raise every"
        )
    return JourneyMark(name=_name(given.get("name", "")), every=every, timeout=timeout)


def _name(value: object) -> str:
    if not isinstance(value, str) or (value and not _NAME.fullmatch(value)):
        raise ValueError(
            f"has the name {value!r}; a name is up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return value


def _seconds(key: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, int | float) and value is not True else parse_duration(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"has {key} {value!r}; write a duration above 0 like '45s' or '2m', or a number of seconds")
    return seconds
