"""Annotations `stormwatch/…`: what OpenSLO v1 has no field for, so that what we write is read back as it was.

| annotation | of | says |
|---|---|---|
| `stormwatch/objective` | SLO | the name, where OpenSLO's rules for names changed it |
| `stormwatch/probes` | SLO | the probes that it judges, with commas between them |
| `stormwatch/slower-than` | SLO | a run that took longer is bad |
| `stormwatch/step` | SLO | the step or phase that is judged instead of the run |
| `stormwatch/certificate-expires-within` | SLO | the certificate is judged instead of the run |
| `stormwatch/slice` | SLO | the length of a time slice, where OpenSLO's units cannot say it |
| `stormwatch/window` | SLO | the window, where OpenSLO's units cannot say it |
| `stormwatch/policy` | SLO | the policy whose rules guard it; the alert policies show what follows from it |
| `stormwatch/labels` | SLO | labels, as a JSON object, whose names OpenSLO does not allow |
| `stormwatch/runbook` | SLO | where its alerts send people |
| `stormwatch/short-window`, `stormwatch/long-window` | AlertPolicy | both windows of a pair: version 1 has one condition with one window |
| `stormwatch/factor` | AlertPolicy | the burn rate, where it has no finite decimal: `14/15` |
| `stormwatch/for` | AlertPolicy | how long it must last, where OpenSLO's units cannot say it |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

from stormwatch.probes.units import parse_duration, show_duration
from stormwatch.slo.openslo import Metadata
from stormwatch.slo.promise import NotCarried, Place

PREFIX: Final = "stormwatch/"
_KEYS: Final = frozenset(
    {"objective", "probes", "slower-than", "step", "certificate-expires-within"}
    | {"slice", "window", "policy", "labels", "runbook"}
    | {"short-window", "long-window", "factor", "for"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What the annotations of one object say."""

    name: str = ""
    probes: tuple[str, ...] = ()
    slower_than: Fraction | None = None
    step: str = ""
    expires_within: Fraction | None = None
    slice_seconds: float | None = None
    window: float | None = None
    policy: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    runbook: str = ""
    short: float | None = None
    long: float | None = None
    factor: Fraction | None = None
    lasting: float | None = None


def read_annotations(annotations: Mapping[str, str]) -> Ours:
    """What our annotations say; those of others are left alone. Raises ValueError when one of ours is not as we write it."""
    given = {key.removeprefix(PREFIX): text for key, text in annotations.items() if key.startswith(PREFIX)}
    for key in given.keys() - _KEYS:
        raise ValueError(
            f"no annotation is called {PREFIX}{key}; known: {', '.join(sorted(PREFIX + each for each in _KEYS))}"
        )
    return Ours(
        name=given.get("objective", ""),
        probes=tuple(name.strip() for name in given["probes"].split(",")) if "probes" in given else (),
        slower_than=_fraction(_seconds(given, "slower-than")),
        step=given.get("step", ""),
        expires_within=_fraction(_seconds(given, "certificate-expires-within")),
        slice_seconds=_seconds(given, "slice"),
        window=_seconds(given, "window"),
        policy=given.get("policy", ""),
        labels=_labels(given.get("labels", "{}")),
        runbook=given.get("runbook", ""),
        short=_seconds(given, "short-window"),
        long=_seconds(given, "long-window"),
        factor=_factor(given["factor"]) if "factor" in given else None,
        lasting=_seconds(given, "for"),
    )


def annotations_of(metadata: Metadata, place: Place) -> Ours:
    """What our annotations say of an object that stands at a place. Raises NotCarried."""
    try:
        return read_annotations(metadata.annotations)
    except ValueError as error:
        raise NotCarried(place, str(error)) from error


def exact_duration(seconds: float) -> str:
    """A duration that is read back as the same number: `5m`, or all digits of the seconds where that has more."""
    shown = show_duration(seconds)
    return shown if parse_duration(shown) == seconds else f"{Decimal(repr(float(seconds))):f}s"


def _seconds(given: Mapping[str, str], key: str) -> float | None:
    if key not in given:
        return None
    try:
        return parse_duration(given[key])
    except ValueError as error:
        raise ValueError(f"{PREFIX}{key}: {error}") from error


def _fraction(seconds: float | None) -> Fraction | None:
    return None if seconds is None else Fraction(repr(seconds))


def _labels(text: str) -> dict[str, str]:
    try:
        data: Any = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict):
        labels = cast("dict[str, Any]", data)
        if all(isinstance(value, str) for value in labels.values()):
            return labels
    raise ValueError(f"{PREFIX}labels is written like {json.dumps({'team': 'web'})}, not {text[:60]!r}")


def _factor(text: str) -> Fraction:
    try:
        factor = Fraction(text)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if factor <= 0:
        raise ValueError(f"{PREFIX}factor is written like 14.4 or 14/15, not {text[:60]!r}")
    return factor
