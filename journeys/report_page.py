"""The journeys of one CI run as one HTML page: no script, no network, light and dark, for laptop and phone.

Pictures, videos and traces stand inside it as `data:` addresses, as far as they are not too large; the others are linked where they lie.
"""

import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import jinja2

from stormwatch.journeys.run_record import RunRecord
from stormwatch.journeys.step_comparison import Comparison, Standing, StepComparison
from stormwatch.probes.result import Outcome, Phase

LARGEST: Final = 5 * 2**20
"""Bytes of one file up to which it is inside the page."""
ALL: Final = 40 * 2**20
"""Bytes of all of them together. Pictures go first, then videos."""
SIGN: Final = {Outcome.UP: "✓", Outcome.DOWN: "✗", Outcome.BROKEN: "?"}
"""Beside each colour: colour is never the only sign."""
_ORDER: Final = (Outcome.DOWN, Outcome.BROKEN, Outcome.UP)
_MEDIA: Final = {
    ".png": "image/png",
    ".webm": "video/webm",
    ".zip": "application/zip",
    ".har": "application/json",
}
_FIRST: Final = (".png", ".webm")
_NARROWEST: Final = 0.6
"""Percent of a waterfall's width that each bar has at least: a step of a millisecond can be seen, too."""
_SHOWN: Final = frozenset(
    (
        *("step", "sentence", "where", "url", "text", "soft_failures", "console_errors", "no_video"),
        *("failed_requests", "slowest_requests", "third_parties", "pages"),
    )
)
"""Evidence that has a place of its own on the page."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and which files are inside it."""

    text: str
    embedded: tuple[Path, ...]


def page_of(
    records: Sequence[RunRecord],
    comparison: Comparison | None = None,
    *,
    beside: Path | None = None,
    largest: int = LARGEST,
    in_all: int = ALL,
) -> Page:
    """The page. `beside` is the directory it is written to: what is too large for it is linked from there."""
    inside = _embedded([path for record in records for path in record.artifacts], largest=largest, in_all=in_all)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"seconds": _seconds, "milliseconds": _milliseconds, "moment": _moment, "pretty": _pretty}
    environment.filters |= {"size": _size}
    environment.tests["link"] = _is_link
    template = environment.from_string(
        (files("stormwatch.journeys") / "templates" / "journeys.html").read_text(encoding="utf-8")
    )
    text = template.render(
        verdict=verdict_of(records),
        tone=min((record.outcome for record in records), key=_ORDER.index, default=Outcome.BROKEN).value,
        cards=[
            _card(record, comparison, inside, beside)
            for record in sorted(records, key=lambda record: _ORDER.index(record.outcome))
        ],
        started=min((record.started for record in records), default=None),
        took=sum(record.seconds for record in records),
        comparison=comparison,
        sign=SIGN,
    )
    return Page(text, tuple(inside))


def verdict_of(records: Sequence[RunRecord]) -> str:
    """One sentence for whoever has one second."""
    if not records:
        return "No journey was run."
    noun = "journey" if all(record.kind == "journey" for record in records) else "probe"
    counts = {outcome: sum(record.outcome is outcome for record in records) for outcome in Outcome}
    if counts[Outcome.UP] == len(records):
        return f"The {noun} is up." if len(records) == 1 else f"All {len(records)} {noun}s are up."
    parts = [f"{counts[outcome]} {_ARE[outcome]}" for outcome in _ORDER if counts[outcome]]
    return f"Of {len(records)} {noun}{'' if len(records) == 1 else 's'}: {', '.join(parts)}."


def document_of(records: Sequence[RunRecord], comparison: Comparison | None = None) -> dict[str, Any]:
    """The same for a machine."""
    return {
        "summary": verdict_of(records),
        "journeys": [record.as_json() for record in records],
        "comparison": comparison.as_json() if comparison else None,
    }


_ARE: Final = {Outcome.UP: "up", Outcome.DOWN: "down", Outcome.BROKEN: "could not be run"}


def _card(
    record: RunRecord, comparison: Comparison | None, inside: Mapping[Path, str], beside: Path | None
) -> dict[str, Any]:
    compared = comparison.of(record.key) if comparison else {}
    kept = [_artifact(path, inside, beside) for path in record.artifacts]
    return {
        "record": record,
        "where": _where(record),
        "evidence": {key: record.evidence.get(key) for key in _SHOWN},
        "more": {key: value for key, value in record.evidence.items() if key not in _SHOWN},
        "bars": _bars(record, compared),
        "slower": any(each.standing is Standing.SLOWER for each in compared.values()),
        "pictures": [each for each in kept if each["picture"] and not each["name"].startswith("step-")],
        "film": [each for each in kept if each["picture"] and each["name"].startswith("step-")],
        "videos": [each for each in kept if each["video"]],
        "files": [each for each in kept if not (each["picture"] or each["video"])],
    }


def _bars(record: RunRecord, compared: Mapping[str, StepComparison]) -> list[dict[str, Any]]:
    """A waterfall, in percent of the run. Nested steps stand under the one around them, and are named without it."""
    whole = max((record.seconds, *(step.offset + step.seconds for step in record.steps))) or 1.0
    names = {step.name for step in record.steps}
    return [
        {
            "name": step.name.removeprefix(f"{outer[-1]} / ") if (outer := _around(step, names)) else step.name,
            "depth": len(outer),
            "step": step,
            "left": min(step.offset / whole * 100, 100 - _NARROWEST),
            "width": max(step.seconds / whole * 100, _NARROWEST),
            "compared": (judged := compared.get(step.name)),
            "slower": judged is not None and judged.standing is Standing.SLOWER,
        }
        for step in record.steps
    ]


def _around(step: Phase, names: set[str]) -> list[str]:
    """The steps that this one is inside of, the outermost first. A name of the user's may have ` / ` in it, too."""
    parts = step.name.split(" / ")
    return [outer for count in range(1, len(parts)) if (outer := " / ".join(parts[:count])) in names]


def _embedded(paths: Sequence[Path], *, largest: int, in_all: int) -> dict[Path, str]:
    """Files as `data:` addresses, pictures first, then videos, until there is no more room."""
    found: dict[Path, str] = {}
    left = in_all
    for path in sorted(paths, key=lambda path: _FIRST.index(path.suffix) if path.suffix in _FIRST else len(_FIRST)):
        try:
            size = path.stat().st_size
            if size <= min(largest, left):
                media = _MEDIA.get(path.suffix, "application/octet-stream")
                found[path] = f"data:{media};base64,{b64encode(path.read_bytes()).decode()}"
                left -= size
        except OSError:
            # Somebody tidied up meanwhile. The page says that it is not there.
            continue
    return found


def _artifact(path: Path, inside: Mapping[Path, str], beside: Path | None) -> dict[str, Any]:
    data = inside.get(path, "")
    there = path.is_file()
    link = data or (quote(os.path.relpath(path, beside)) if there and beside else "")
    return {
        "name": path.name,
        "path": str(path),
        "link": link,
        "inside": bool(data),
        "size": path.stat().st_size if there else None,
        "picture": bool(data) and path.suffix == ".png",
        "video": bool(data) and path.suffix == ".webm",
    }


def _where(record: RunRecord) -> str:
    """File and line as they are called where the command runs: in CI, the root of the repository."""
    said = str(record.evidence.get("where", ""))
    return os.path.relpath(said) if said and Path(said).is_relative_to(Path.cwd()) else said


def _is_link(value: Any) -> bool:
    return urlsplit(str(value)).scheme in {"http", "https"}


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else _seconds(value)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{max(1, count // 2**10)} KiB"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _pretty(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
