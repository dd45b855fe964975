"""What a program reports about its target in one JSON object: our own small protocol. Pure: bytes in, a value out.

{"outcome": "down", "reason": "refused", "message": "…", "measures": {"queue_length": 17}, "evidence": {…}}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stormwatch.probes.result import BROKEN_REASONS, Outcome, Reason
from stormwatch.probes.units import show_size

MOST: Final = 50
"""Measures that a report may have: each becomes a time series."""
EVIDENCE: Final = 8 * 2**10
"""Characters of JSON that its evidence may have."""
NAME: Final = 100
"""Characters of the longest name of a measure."""

_KEYS: Final = ("outcome", "reason", "message", "measures", "evidence")
_FOR: Final[Mapping[Outcome, frozenset[Reason]]] = {
    Outcome.UP: frozenset({Reason.NONE}),
    Outcome.DOWN: frozenset(Reason) - BROKEN_REASONS - {Reason.NONE, Reason.STEP},
    Outcome.BROKEN: BROKEN_REASONS - {Reason.BROWSER, Reason.COLLECTION},
}
_DEFAULT: Final = {Outcome.UP: Reason.NONE, Outcome.DOWN: Reason.ASSERTION, Outcome.BROKEN: Reason.INTERNAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report that is as it should be."""

    reason: Reason
    """`none` for up; whose reason it is says whether the run is down or broken."""
    message: str = ""
    measures: Mapping[str, float] = field(default_factory=dict[str, float])
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read(data: bytes) -> Report:
    """Read a report. Raises ValueError, one sentence, for anything else."""
    try:
        document = json.loads(data, parse_constant=_no_number)
        json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair can be written, and not be sent on
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its output is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("its output is not a JSON object")  # noqa: TRY004 - it is what a program wrote
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise ValueError(f"{unknown[0][:NAME]!r} is not one of {', '.join(_KEYS)}")
    evidence = _of_type(document, "evidence", dict, {})
    if len(json.dumps(evidence)) > EVIDENCE:
        raise ValueError(f"its evidence has more than {show_size(EVIDENCE)}: keep the files, and name them here")
    return Report(
        reason=_reason(document),
        message=_of_type(document, "message", str, ""),
        measures=_measures(_of_type(document, "measures", dict, {})),
        evidence=evidence,
    )


def _reason(document: Mapping[str, Any]) -> Reason:
    outcomes = [outcome.value for outcome in Outcome]
    if document.get("outcome") not in outcomes:
        raise ValueError(f"outcome is one of {', '.join(outcomes)}, not {_shown(document.get('outcome'))}")
    outcome = Outcome(document["outcome"])
    allowed = [reason.value for reason in Reason if reason in _FOR[outcome]]
    reason = document.get("reason", _DEFAULT[outcome].value)
    if reason not in allowed:
        raise ValueError(f"the reason of outcome {outcome} is one of {', '.join(allowed)}, not {_shown(reason)}")
    return Reason(reason)


def _measures(written: Mapping[str, Any]) -> Mapping[str, float]:
    if len(written) > MOST:
        raise ValueError(f"it has {len(written)} measures, and may have {MOST}")
    measures: dict[str, float] = {}
    for name, value in written.items():
        number = _finite(value)
        if number is None or not name or len(name) > NAME:
            raise ValueError(f"the measure {name[:NAME]!r} is {_shown(value)}; it is a short name and a finite number")
        measures[name] = number
    return measures


def _finite(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _of_type(document: Mapping[str, Any], key: str, wanted: type[Any], default: Any) -> Any:
    value = document.get(key, default)
    if not isinstance(value, wanted):
        raise ValueError(f"{key} is {'a text' if wanted is str else 'an object'}, not {_shown(value)}")  # noqa: TRY004
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _shown(value: Any) -> str:
    return repr(value)[:NAME]
