"""What a Nagios plugin says on its standard output: a line, a longer text, performance data. Pure: text in, values out.

https://www.monitoring-plugins.org/doc/guidelines.html and https://nagios-plugins.org/doc/guidelines.html, "Plugin Output
for Nagios" and "Performance data".
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

STATES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
"""Their exit codes are 0, 1, 2 and 3."""
MOST: Final = 64
"""Values of performance data that are read: each becomes a time series."""
_LABEL: Final = 100
"""Characters of the longest label that is kept."""

_NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"({_NUMBER})([^\s;\d.,][^\s;]{{0,15}})?")
_BOUND = re.compile(_NUMBER)
_ITEM = re.compile(r"\S*")
_UNITS: Final = {
    "s": (1.0, "seconds"),
    "ms": (1e-3, "seconds"),
    "us": (1e-6, "seconds"),
    "µs": (1e-6, "seconds"),
    "ns": (1e-9, "seconds"),
    "%": (0.01, "ratio"),
    "B": (1.0, "bytes"),
    # Plugins write MB and mean 2**20: check_disk and check_swap divide by 1024.
    **{f"{sign}{i}B": (1024.0**power, "bytes") for power, sign in enumerate("KMGTPE", 1) for i in ("", "i")},
    "kB": (1024.0, "bytes"),
    "c": (1.0, "total"),
}


@dataclass(frozen=True, slots=True)
class Range:
    """A range of thresholds: alert outside of it, or inside where `inside`. Ends that are infinite are none."""

    low: float
    high: float
    inside: bool = False

    @classmethod
    def parse(cls, text: str, factor: float = 1.0) -> "Range | None":
        """Read `10`, `10:`, `~:10`, `10:20`, `@10:20`; None for anything else. Ends are multiplied by `factor`."""
        inside, text = text.startswith("@"), text.removeprefix("@")
        start, colon, end = text.partition(":")
        if not colon:
            start, end = "0", start
        low = -math.inf if start == "~" else _scaled(start or "0", factor)
        high = math.inf if colon and not end else _scaled(end, factor)
        if low is None or high is None or low > high:
            return None
        return cls(low, high, inside)


@dataclass(frozen=True, slots=True)
class Perfdata:
    """One value, in base units."""

    label: str
    value: float
    unit: str
    """`seconds`, `bytes`, `ratio`, `total` for a counter, empty for a plain number, or what the plugin wrote."""
    warning: Range | None = None
    critical: Range | None = None
    minimum: float | None = None
    maximum: float | None = None

    def limits(self) -> Iterator[tuple[str, float]]:
        """The thresholds and bounds that it has, by name."""
        for name, span in (("warning", self.warning), ("critical", self.critical)):
            for end, value in (("low", span.low), ("high", span.high)) if span is not None else ():
                if math.isfinite(value):
                    yield f"{name}_{end}", value
        for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is not None:
                yield name, bound

    def as_json(self) -> dict[str, Any]:
        """What there is of it."""
        return {"label": self.label, "value": self.value, "unit": self.unit, **dict(self.limits())}


@dataclass(frozen=True, slots=True)
class PluginOutput:
    """All that a plugin said."""

    text: str
    """The first line."""
    longer: tuple[str, ...]
    perfdata: tuple[Perfdata, ...]


def read_output(output: str) -> PluginOutput:
    """Read what a plugin wrote. Anything can be read: what is no performance data is passed over.

    The first `|` of the first line begins performance data, and so does the first one after it, from where on all is.
    """
    first, *others = output.splitlines() or [""]
    text, _, data = first.partition("|")
    longer: list[str] = []
    for number, line in enumerate(others):
        before, bar, after = line.partition("|")
        longer.append(before.rstrip())
        if bar:
            data = " ".join((data, after, *others[number + 1 :]))
            break
    found: dict[tuple[str, str], Perfdata] = {}
    for each in read_perfdata(data):
        if len(found) < MOST or (each.label, each.unit) in found:
            found[each.label, each.unit] = each
    return PluginOutput(text.strip(), tuple(longer), tuple(found.values()))


def read_perfdata(text: str) -> Iterator[Perfdata]:
    """Read `'label'=value[unit];[warn];[crit];[min];[max]` separated by blanks; what is not like that is passed over."""
    place = 0
    while True:
        label, end = _label(text, place)
        if end < 0:
            return
        if not text.startswith("=", end):
            place = end + 1
            continue
        item = _ITEM.match(text, end + 1)
        assert item is not None
        place = item.end()
        if label and (read := _value(label, item[0])) is not None:
            yield read


def _label(text: str, place: int) -> tuple[str, int]:
    """The label that begins there or after blanks, and where it ends; -1 when there is none any more."""
    while place < len(text) and text[place].isspace():
        place += 1
    if not text.startswith("'", place):
        end = place
        while end < len(text) and text[end] != "=" and not text[end].isspace():
            end += 1
        return text[place:end], end if end < len(text) else -1
    end = place + 1
    while (end := text.find("'", end)) >= 0 and text.startswith("''", end):
        end += 2  # a quote inside is written twice
    return text[place + 1 : end].replace("''", "'"), end + 1 if end >= 0 else -1


def _value(label: str, item: str) -> Perfdata | None:
    written, *limits = item.split(";")
    match = _VALUE.fullmatch(written)
    if match is None:  # `U` says that the value is not known
        return None
    factor, unit = _UNITS.get(match[2] or "", (1.0, match[2] or ""))
    value = _scaled(match[1], factor)
    if value is None:
        return None
    warning, critical, minimum, maximum = (*limits, "", "", "", "")[:4]
    return Perfdata(
        label=label[:_LABEL],
        value=value,
        unit=unit,
        warning=Range.parse(warning, factor) if warning else None,
        critical=Range.parse(critical, factor) if critical else None,
        minimum=_scaled(minimum, factor),
        maximum=_scaled(maximum, factor),
    )


def _scaled(text: str, factor: float) -> float | None:
    """A finite number, also one with the comma of some languages, times the factor; None for anything else."""
    if not _BOUND.fullmatch(text):
        return None
    value = float(text.replace(",", ".")) * factor
    return value if math.isfinite(value) else None
