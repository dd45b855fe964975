"""Takes the secrets of a journey out of all that is kept of it: reports, names of files, traces, recordings of requests."""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from stormwatch.probes.masking import masked, pattern_of

LARGEST: Final = 16 * 2**20
"""Bytes of one file inside a trace up to which it is searched. A larger one is left out: what was not searched is not kept."""
_IN_JSON: Final = (".trace", ".network", ".stacks", ".har", ".json")


class Masker:
    """Knows every secret that the journeys of this process were given; it never forgets one."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = pattern_of(())

    @property
    def values(self) -> frozenset[str]:
        """What it takes out."""
        return frozenset(self._values)

    def add(self, values: Iterable[str]) -> None:
        """Take these out as well from now on."""
        if new := {str(value) for value in values if value} - self._values:
            self._values |= new
            self._pattern = pattern_of(self._values)

    def mask(self, value: Any) -> Any:
        """The same JSON value, or text, without any secret."""
        return masked(value, self._pattern) if self._pattern else value

    def finds(self, text: str) -> bool:
        """Whether there is a secret in it, in whatever case: a style sheet may show it in capitals."""
        return self._pattern is not None and re.search(self._pattern.pattern, text, re.IGNORECASE) is not None

    def mask_document(self, name: str, data: bytes) -> bytes:
        """The content of a file without any secret. `name` says what it is: JSON is searched inside its texts, too.

        A text in JSON may hold JSON: a secret with a quotation mark is escaped twice there, and only found by reading.
        """
        if self._pattern is None:
            return data
        text = data.decode("utf-8", "surrogateescape")
        if name.endswith(_IN_JSON):
            text = "\n".join(self._mask_json(line) for line in text.split("\n"))
        return self._pattern.sub("***", text).encode("utf-8", "surrogateescape")

    def mask_archive(self, source: Path, target: Path) -> None:
        """Write a Playwright trace anew, without any secret in what it holds and in how that is called.

        Raises OSError or zipfile.BadZipFile for what is no trace; then there is no `target`.
        """
        try:
            with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as new:
                for entry in old.infolist():
                    if entry.file_size <= LARGEST:
                        new.writestr(self.mask(entry.filename), self.mask_document(entry.filename, old.read(entry)))
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _mask_json(self, line: str) -> str:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return line
        found = self.mask(document)
        return line if found == document else json.dumps(found, ensure_ascii=False)
