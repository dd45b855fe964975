"""What a matrix has found so far, on disk: one JSON line a cell, flushed, so that an interrupted one goes on where it was."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stormwatch.chaos.matrix import Control, Outcome
from stormwatch.chaos.matrix_cell import Cell


class MatrixJournal:
    """One file. Its first line says which matrix it is of: cells of another one are not taken for ours."""

    def __init__(self, path: Path, cells: Iterable[Cell], *, scale: str, repeat: int) -> None:
        self.path = path
        asked = json.dumps([[cell.as_json() for cell in cells], scale, repeat], sort_keys=True)
        self._of = hashlib.sha256(asked.encode()).hexdigest()

    def begin(self) -> None:
        """Start anew. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.unlink(missing_ok=True)
        self._append({"matrix": self._of})

    def outcome(self, outcome: Outcome) -> None:
        """Keep an outcome: it is on disk when this returns. Raises OSError."""
        self._append({"outcome": outcome.as_json()})

    def control(self, control: Control) -> None:
        """Keep a control. Raises OSError."""
        self._append({"control": control.as_json()})

    def read(self) -> tuple[tuple[Outcome, ...], tuple[Control, ...]] | None:
        """What was found so far; None when the file is not there or of another matrix. A torn last line does not count."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        read = [document for line in lines if (document := _document(line)) is not None]
        if not read or read[0].get("matrix") != self._of:
            return None
        try:
            return (
                tuple(Outcome.from_json(one["outcome"]) for one in read if "outcome" in one),
                tuple(Control.from_json(one["control"]) for one in read if "control" in one),
            )
        except (KeyError, ValueError, TypeError):
            return None

    def _append(self, document: Mapping[str, Any]) -> None:
        line = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            # What a death tore off must not take the next line with it.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            line = b"\n" * torn + line
            while line:
                line = line[file.write(line) :]
            os.fsync(descriptor)


def _document(line: str) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
