"""Prometheus' text format 0.0.4, from families of samples to bytes.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What an answer with this text is to be called."""

FamilyKind = Literal["counter", "gauge", "histogram", "summary", "untyped"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_NOT_FINITE = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_ENCODING = re.compile(r"([\w*!#$%&'+.^`|~-]+)(?:\s*;\s*q=([\d.]+))?")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. `suffix` is what stands behind the family's name: `_bucket`, `_sum`, `_count` of a histogram."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric name. The name of a counter ends in `_total`. Raises ValueError for an invalid name."""

    name: str
    help: str
    kind: FamilyKind
    samples: Sequence[Sample]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"metric name {self.name!r} does not match {_NAME.pattern}")


def render(families: Iterable[Family]) -> bytes:
    """The whole text: families sorted by name, those of one name put together."""
    return b"".join(heading(f.name, f.help, f.kind) + lines(f) for f in merged(families))


def merged(families: Iterable[Family]) -> Iterator[Family]:
    """Families sorted by name; families of one name become one, under the first one's help and kind."""
    found: dict[str, list[Family]] = {}
    for family in families:
        found.setdefault(family.name, []).append(family)
    for name in sorted(found):
        first, *others = found[name]
        samples = [*first.samples, *(sample for other in others for sample in other.samples)]
        yield Family(name, first.help, first.kind, samples)


def heading(name: str, help: str, kind: FamilyKind) -> bytes:  # noqa: A002 - the word of the format
    """The lines HELP and TYPE."""
    return f"# HELP {name} {_escaped_help(help)}\n# TYPE {name} {kind}\n".encode(errors="replace")


def lines(family: Family) -> bytes:
    """The sample lines of one family. Label names that are not valid become the nearest that are."""
    rendered = [
        f"{family.name}{s.suffix}{{{label_pairs({label_name(n): v for n, v in s.labels.items()})}}} {number(s.value)}\n"
        if s.labels
        else f"{family.name}{s.suffix} {number(s.value)}\n"
        for s in family.samples
    ]
    return "".join(rendered).encode(errors="replace")


def label_pairs(labels: Mapping[str, str]) -> str:
    """`name="value"` pairs with commas between, escaped. The names must be valid: see `label_name`."""
    return ",".join([f'{name}="{escaped(value)}"' for name, value in labels.items()])


def label_name(name: str) -> str:
    """The nearest valid label name: letters, digits and underscores, not beginning with a digit or with `__`."""
    cleaned = _NOT_IN_A_LABEL.sub("_", name)
    if cleaned.startswith("__"):
        cleaned = "_" + cleaned.lstrip("_")
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned


def escaped(value: str) -> str:
    """A label value between its quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def number(value: float) -> str:
    """A value as Go's ParseFloat reads it back without loss."""
    text = repr(float(value))
    if text.endswith(".0"):
        return text[:-2]
    return _NOT_FINITE.get(text, text)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header Accept-Encoding allows gzip (RFC 9110, section 12.5.3)."""
    weights = {name.lower(): float(weight or 1) for name, weight in _ENCODING.findall(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


class GzipStream:
    """Compresses a stream. Level 1: an exposition shrinks to a twentieth at any level, and time is what it costs."""

    def __init__(self) -> None:
        stream = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
        self.compress: Callable[[bytes], bytes] = stream.compress
        """Releases the interpreter lock, so that it may be left to a thread. May give nothing yet."""
        self.flush: Callable[[], bytes] = stream.flush
        """The rest, once, at the end."""


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
