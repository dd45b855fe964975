"""Regular expressions that people write in the configuration: RE2, so that no pattern can hang the loop."""

from typing import Protocol, cast

import re2


class Pattern(Protocol):
    """A compiled RE2 expression over bytes."""

    def search(self, text: bytes) -> object | None:
        """A match anywhere in the text, or None."""
        ...


def compile_pattern(text: str, where: str) -> Pattern:
    """Compile for searching in UTF-8 bytes. Raises ValueError naming `where` it stands, the pattern and its mistake.

    Syntax: https://github.com/google/re2/wiki/Syntax. There are no look-arounds and no back-references.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return cast("Pattern", re2.compile(text.encode(), options))
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"{where}: {text!r} is not an RE2 expression: {reason}") from None
