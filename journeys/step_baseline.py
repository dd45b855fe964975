"""The file of the last runs that steps are compared with: JSON Lines, a run a line, the newest last."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stormwatch.journeys.step_comparison import StepSeconds

LAST: Final = 20
"""How many runs are kept and compared with."""
FILE: Final = "step-times.jsonl"
"""What the file is called in a directory."""


class NoBaseline(Exception):
    """The file cannot be read or written. The message is for a person."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was read: the runs, the oldest first, and how many lines were none."""

    runs: tuple[StepSeconds, ...]
    damaged: int = 0

    @property
    def complaint(self) -> str:
        """What is said of lines that are no runs; empty where all are."""
        if not self.damaged:
            return ""
        lines = (
            "1 line of the baseline is no run and was"
            if self.damaged == 1
            else f"{self.damaged} lines of the baseline are no runs and were"
        )
        return f"{lines} left out"


def baseline_file(given: Path) -> Path:
    """The file itself. What is a directory, or is not there yet and has no suffix, holds it."""
    return given / FILE if given.is_dir() or not (given.suffix or given.exists()) else given


def read_baseline(file: Path) -> Baseline:
    """The last runs in a file; none where there is no file yet. Raises NoBaseline for one that cannot be read.

    A line that is no run is left out and counted: a cache that was cut off must not fail everybody's pipeline.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Baseline(())
    except OSError as error:
        raise NoBaseline(f"cannot read the runs to compare with in {file}: {error.strerror}") from error
    found = [_run_of(line) for line in lines if line.strip()]
    runs = [run for run in found if run is not None]
    return Baseline(tuple(runs[-LAST:]), damaged=len(found) - len(runs))


def record_run(file: Path, before: Sequence[StepSeconds], now: StepSeconds) -> None:
    """Write the last runs with this one, in one piece: who reads it meanwhile reads the one before. Raises NoBaseline."""
    if not any(now.values()):
        return
    lines = [json.dumps({"journeys": run}, ensure_ascii=False) for run in (*before, now)[-LAST:]]
    written = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        written.write_text("\n".join([*lines, ""]), encoding="utf-8")
        written.replace(file)
    except OSError as error:
        raise NoBaseline(f"cannot write the runs to compare with to {file}: {error.strerror}") from error


def _run_of(line: str) -> StepSeconds | None:
    try:
        document: Any = json.loads(line)
        return {
            str(journey): {str(step): _seconds(value) for step, value in steps.items()}
            for journey, steps in document["journeys"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(value)
    return float(value)
