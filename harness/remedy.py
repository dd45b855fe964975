"""What somebody probably meant: the nearest known word, the same quantity with its unit."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from fractions import Fraction

from stormwatch.probes.units import show_ratio

LISTED = 20
"""Known names that are listed at most when none is near."""

_UNITS = {
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "week", "weeks"),
}
_DURATION_UNIT = {word: unit for unit, words in _UNITS.items() for word in words}
_SIZE_UNIT = {"b": "B", "k": "KiB", "kb": "KiB", "kib": "KiB", "m": "MiB", "mb": "MiB", "mib": "MiB", "g": "GiB"}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SEXAGESIMAL = re.compile(r"(\d+):(\d\d)")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean every?`, or the list of what is known when nothing is near."""
    names = list(known)
    near = get_close_matches(word, names, n=1) or get_close_matches(word.lower(), names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"known: {', '.join(names[:LISTED])}{more}" if names else "nothing is known here"


def near_duration(value: object) -> str:
    """How the duration is written that a value looks like: `15s` for 15, `1m30s or 1h30m` for 1:30; empty if none."""
    if isinstance(value, str) and (clock := _SEXAGESIMAL.fullmatch(value)):
        first, second = int(clock[1]), int(clock[2])
        return f"{first}m{second}s or {first}h{second}m"
    number, word = _quantity(value)
    if number and not word and float(number) >= 100:
        return f"{number}ms or {number}s"
    unit = _DURATION_UNIT.get(word.lower(), "") if word else "s"
    return f"{number}{unit}" if number and unit else ""


def near_size(value: object) -> str:
    """How the size is written that a value looks like: `64KiB` for 64k; empty if it looks like none."""
    number, word = _quantity(value)
    unit = _SIZE_UNIT.get(word.lower(), "") if word else "B"
    return f"{number}{unit}" if number and unit else ""


def near_ratio(value: object) -> str:
    """How the ratio is written that a number looks like: `99.9%` for 0.999 and for 99.9; empty if it looks like none."""
    number, word = _quantity(value)
    if not number or word:
        return ""
    ratio = Fraction(number)
    if ratio < 1:
        return show_ratio(ratio)
    return show_ratio(ratio / 100) if 1 < ratio <= 100 else ""


def _quantity(value: object) -> tuple[str, str]:
    """The number and the word of `15 sec`; two empty texts for anything else."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) < 40 else None
    return (match[1], match[2]) if match else ("", "")
