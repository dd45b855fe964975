"""One journey for many clients: a probe for each combination of what a matrix lists."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from math import prod
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stormwatch.journeys.client import ColorScheme, Device, Locale, NetworkName, Slowness, Zone
from stormwatch.probes.options import STRICT
from stormwatch.probes.probe import Variant

LARGEST: Final = 24
"""Probes that one matrix may stand for: each has a worker with a browser of its own, and the pool has few places."""

Browser = Literal["chromium", "firefox", "webkit"]
_Some = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """What is combined with what. Each key that is given lists at least one value."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    browser: Annotated[tuple[Browser, ...], _Some] | None = None
    """Browsers."""
    device: Annotated[tuple[Device, ...], _Some] | None = None
    """Devices of Playwright's registry."""
    locale: Annotated[tuple[Locale, ...], _Some] | None = None
    """Languages."""
    timezone: Annotated[tuple[Zone, ...], _Some] | None = None
    """Time zones."""
    color_scheme: Annotated[tuple[ColorScheme, ...], _Some] | None = None
    """What `prefers-color-scheme` says."""
    network: Annotated[tuple[NetworkName, ...], _Some] | None = None
    """Slow lines, by their names."""
    cpu: Annotated[tuple[Slowness, ...], _Some] | None = None
    """How many times slower."""


_ADAPTER: Final = TypeAdapter(Matrix)


def variants(block: Mapping[str, Any]) -> Sequence[Variant]:
    """What the options of a journey, as they were written, stand for: a variant for each combination, or nothing.

    Nothing also for a matrix that is no valid one: reading it as an option says what is wrong with it. Raises ValueError
    for what the values' own rules do not say: too many, one twice, one that `client:` has too.
    """
    written = block.get("matrix")
    if not isinstance(written, dict) or not written:
        return ()
    try:
        matrix = _ADAPTER.validate_json(json.dumps(written), strict=True)
    except (ValidationError, TypeError):
        return ()
    listed = {each.name: values for each in fields(Matrix) if (values := getattr(matrix, each.name))}
    _check(listed, block)
    own = {key: value for key, value in block.items() if key != "matrix"}
    return [_variant(own, dict(zip(listed, chosen, strict=True))) for chosen in product(*listed.values())]


def _check(listed: Mapping[str, Sequence[Any]], block: Mapping[str, Any]) -> None:
    client = block.get("client")
    for name, values in listed.items():
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"matrix.{name}: has {twice[0]} twice; list it once")
        beside = block if name == "browser" else client
        if isinstance(beside, Mapping) and name in beside:
            where = name if name == "browser" else f"client.{name}"
            raise ValueError(f"matrix.{name}: {where} is given too; give one of them")
    if (count := prod(map(len, listed.values()))) > LARGEST:
        sizes = " × ".join(str(len(values)) for values in listed.values())
        raise ValueError(
            f"matrix: {sizes} are {count} probes, each with a browser of its own; list fewer, {LARGEST} at most"
        )


def _variant(block: Mapping[str, Any], chosen: Mapping[str, Any]) -> Variant:
    written = block.get("client")
    options = dict(block)
    own = {name: value for name, value in chosen.items() if name != "browser"}
    if own:
        options["client"] = {**written, **own} if isinstance(written, Mapping) else written or own
    if "browser" in chosen:
        options["browser"] = chosen["browser"]
    labels = {name: _label(value) for name, value in chosen.items()}
    return Variant(suffix=".".join(map(_in_name, labels.values())), labels=labels, options=options)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_name(value: str) -> str:
    """As readable as the value, of the signs that a probe's name may have: `iPhone-13`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", value).strip("-.")
