"""The units that people write: `15s`, `5m`, `30d`; `64KiB`; `99.9%`; read once, kept as seconds, bytes and Fractions."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
    "w": Fraction(604800),
}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?(B|KiB|MiB|GiB|kB|MB|GB)")
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s?%")


def parse_duration(text: object) -> float:
    """Seconds from `800ms`, `15s`, `5m`, `1h30m`, `21d`. Raises ValueError for anything else, also for bare numbers."""
    if isinstance(text, str) and _DURATION.fullmatch(text):
        return float(sum((Fraction(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text)), Fraction(0)))
    raise ValueError(f"a duration is written like 800ms, 15s, 5m, 1h30m or 30d, not {_shown(text)}")


def parse_size(text: object) -> int:
    """Bytes from `512B`, `64KiB`, `10MB`. Raises ValueError for anything else."""
    if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
        return int(Fraction(match[1]) * _BYTES[match[2]])
    raise ValueError(f"a size is written like 512B, 64KiB or 10MB, not {_shown(text)}")


def parse_ratio(text: object) -> Fraction:
    """An exact fraction from `99.9%`. Raises ValueError for anything else: 0.999 and 99.9 alike are too easy to mix up."""
    if isinstance(text, str) and (match := _RATIO.fullmatch(text)):
        ratio = Fraction(match[1]) / 100
        if ratio <= 1:
            return ratio
        raise ValueError(f"a ratio is at most 100%, not {text}")
    raise ValueError(f"a ratio is written like 99.9%, not {_shown(text)}")


def show_duration(seconds: float) -> str:
    """The shortest way to write a duration: `90s` is `1m30s`, a tenth of a second `100ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000 or milliseconds % 1000:
        return f"{milliseconds}ms" if milliseconds < 1000 else f"{milliseconds / 1000:g}s"
    rest, parts = milliseconds // 1000, []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def show_size(size: int) -> str:
    """The shortest exact way to write a size: 65536 is `64KiB`, 1000 is `1kB`, 1001 is `1001B`."""
    exact = (f"{size // unit}{name}" for name, unit in _BYTES.items() if size % unit == 0)
    return min(exact, key=len) if size else "0B"


def show_ratio(ratio: Fraction) -> str:
    """A ratio as an exact percentage: `99.9%`."""
    percent = ratio * 100
    text = f"{float(percent):.10f}".rstrip("0").rstrip(".")
    return f"{text}%"


def _shown(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$", "examples": ["15s", "5m", "30d"]}),
]
"""A duration field: users write `15s`, the program has 15.0."""

Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(show_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s?(B|KiB|MiB|GiB|kB|MB|GB)$", "examples": ["64KiB"]}),
]
"""A size field: users write `64KiB`, the program has 65536."""

Ratio = Annotated[
    Fraction,
    BeforeValidator(parse_ratio),
    PlainSerializer(show_ratio, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s?%$", "examples": ["99.9%"]}),
]
"""A ratio field: users write `99.9%`, the program has Fraction(999, 1000)."""
