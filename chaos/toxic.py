"""Toxics: faults as Toxiproxy's API has them, by its names and in its units. Pure: JSON in, JSON out.

Beside Toxiproxy's types every fault of ours that acts on connections is one, by its own name and with its own options as
attributes (`{"type": "http-status", "attributes": {"status": 503}}`). What Toxiproxy does not know stands in fields of its own:
`seed`, which works here, and `ttl`.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from stormwatch.chaos.behaviour import Effect, Ending, Way
from stormwatch.chaos.catalog import FAULTS, read_options
from stormwatch.chaos.fault_kind import ROUTE
from stormwatch.chaos.option import Options
from stormwatch.chaos.tcp_effects import CutOff, LateEnd, Later, Sliced, Slower, Swallowed

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "latency": ("latency", "jitter"),
    "bandwidth": ("rate",),
    "slow_close": ("delay",),
    "timeout": ("timeout",),
    "reset_peer": ("timeout",),
    "slicer": ("average_size", "size_variation", "delay"),
    "limit_data": ("bytes",),
    "noop": (),
}
"""The attributes of Toxiproxy's types, whole numbers all: milliseconds, KB a second, bytes; `slicer`'s delay in microseconds."""


class BadToxic(Exception):
    """The document is no toxic. `status` is the one of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """The options of a toxic of Toxiproxy's own types. It does what its numbers say, also where ours would be refused."""

    name: str
    type: str
    stream: Way
    toxicity: float = 1.0
    attributes: Mapping[str, int] = field(default_factory=dict[str, int])
    seed: int = 0
    replaced: bool = False
    """Whether another takes its place: its end closes no connections."""

    @property
    def share(self) -> Fraction:
        """Of connections."""
        return Fraction(self.toxicity).limit_denominator(10**9)

    def effect(self, way: Way, draw: random.Random) -> Effect | None:
        """What it does to one direction."""
        if not self.stream.includes(way):
            return None
        numbers = self.attributes
        match self.type:
            case "latency":
                return Later(numbers["latency"] / 1000, numbers["jitter"] / 1000, draw)
            case "bandwidth" if numbers["rate"] > 0:
                return Slower(numbers["rate"] * 1000)
            case "slow_close":
                return LateEnd(numbers["delay"] / 1000)
            case "slicer" if numbers["average_size"] > 0:
                return Sliced(numbers["average_size"], numbers["size_variation"], numbers["delay"] / 1e6, draw)
            case "limit_data":
                return CutOff(numbers["bytes"])
            case "timeout":
                return Swallowed()
            case _:
                return None

    def ending(self) -> Ending | None:
        """How it ends connections."""
        after = self.attributes.get("timeout", 0) / 1000
        if self.type == "reset_peer":
            return Ending(reset=True, after=after)
        if self.type == "timeout":
            return Ending(reset=False, after=after or math.inf, when_removed=not self.replaced)
        return None

    def as_json(self) -> dict[str, Any]:
        """As Toxiproxy shows it."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream.value,
            "toxicity": self.toxicity,
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxicFault:
    """A fault of ours under a toxic's name."""

    name: str
    type: str
    stream: Way
    written: Mapping[str, Any]
    """The attributes, as they were sent."""
    options: Options

    def as_json(self) -> dict[str, Any]:
        """In the form of Toxiproxy's."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream.value,
            "toxicity": float(getattr(self.options, "share", 1)),
            "attributes": dict(self.written),
        }


def read_toxic(document: Any) -> Toxic | ToxicFault:
    """A toxic from a request's body. Raises BadToxic in Toxiproxy's words."""
    if not isinstance(document, dict):
        raise BadToxic("bad request body: it is not a JSON object")
    kind = _text(document, "type", "")
    try:
        stream = Way((_text(document, "stream", "") or "downstream").lower())
    except ValueError:
        stream = Way.BOTH
    if stream is Way.BOTH:
        raise BadToxic("stream was invalid, can be either upstream or downstream")
    toxicity = _toxicity(document, 1.0)
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise BadToxic("bad request body: seed is a whole number")
    name = _text(document, "name", "") or f"{kind}_{stream.value}"
    attributes = document.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise BadToxic("bad request body: attributes are a JSON object")
    if kind in ATTRIBUTES:
        numbers = {key: _number(attributes, key, 0) for key in ATTRIBUTES[kind]}
        return Toxic(name=name, type=kind, stream=stream, toxicity=toxicity, attributes=numbers, seed=seed)
    if kind not in FAULTS or FAULTS[kind].of_names or FAULTS[kind].on != ROUTE:
        raise BadToxic("invalid toxic type")
    return _read_fault(document, ToxicFault(name=name, type=kind, stream=stream, written=attributes, options=_NOTHING))


def changed(toxic: Toxic | ToxicFault, document: Any) -> Toxic | ToxicFault:
    """A toxic with other attributes or another toxicity; nothing else can be changed. Raises BadToxic."""
    if not isinstance(document, dict):
        raise BadToxic("bad request body: it is not a JSON object")
    attributes = document.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise BadToxic("bad request body: attributes are a JSON object")
    if isinstance(toxic, ToxicFault):
        return _read_fault({**toxic.as_json(), **document}, replace(toxic, written={**toxic.written, **attributes}))
    numbers = {key: _number(attributes, key, value) for key, value in toxic.attributes.items()}
    return replace(toxic, attributes=numbers, toxicity=_toxicity(document, toxic.toxicity))


@dataclass(frozen=True, slots=True)
class _Nothing:
    pass


_NOTHING = _Nothing()


def _read_fault(document: Mapping[str, Any], toxic: ToxicFault) -> ToxicFault:
    """Our fault's options out of attributes, toxicity, seed, stream and match, where it has such."""
    known = FAULTS[toxic.type].options.__dataclass_fields__
    options = dict(toxic.written)
    if "share" in known and "toxicity" in document:
        options.setdefault("share", f"{_toxicity(document, 1.0) * 100:.7f}".rstrip("0").rstrip(".") + "%")
    if "seed" in known and "seed" in document:
        options.setdefault("seed", document["seed"])
    if "stream" in known and "stream" in document:
        options.setdefault("stream", toxic.stream.value)
    match = document.get("match") or {}
    if not isinstance(match, dict):
        raise BadToxic('bad request body: match is a JSON object like {"path": "/api/*", "method": "POST"}')
    try:
        return replace(toxic, options=read_options(toxic.type, {**match, **options}))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise BadToxic(f"bad request body: {said}") from error


def _text(document: Mapping[str, Any], key: str, default: str) -> str:
    value = document.get(key, default)
    if not isinstance(value, str):
        raise BadToxic(f"bad request body: {key} is text")
    return value


def _number(document: Mapping[str, Any], key: str, default: int) -> int:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadToxic(f"bad request body: {key} is a whole number, 0 or more")
    return value


def _toxicity(document: Mapping[str, Any], default: float) -> float:
    value = document.get("toxicity", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadToxic("bad request body: toxicity is a number from 0 to 1")
    return float(value)
