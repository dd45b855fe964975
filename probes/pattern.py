"""Regular expressions that people write in the configuration: RE2, so that no pattern can hang the loop."""

from collections.abc import Mapping
from typing import Protocol, cast

import re2


class Match(Protocol):
    """Where an expression matched."""

    def group(self, number: int, /) -> bytes | None:
        """What a group matched; 0 is the whole match, and None says that the group took no part in it."""
        ...


class Pattern(Protocol):
    """A compiled RE2 expression over bytes."""

    @property
    def groups(self) -> int:
        """How many groups it has."""
        ...

    @property
    def groupindex(self) -> Mapping[bytes, int]:
        """The number of each named group."""
        ...

    def search(self, text: bytes) -> Match | None:
        """A match anywhere in the text, or None."""
        ...


def compile_pattern(text: str, where: str, *, binary: bool = False) -> Pattern:
    r"""Compile for searching in UTF-8 bytes. Raises ValueError naming `where` it stands, the pattern and its mistake.

    Syntax: https://github.com/google/re2/wiki/Syntax. There are no look-arounds and no back-references. With `binary`
    every byte is a character of its own, `\xff` is the byte 0xFF, and `.` matches any byte but a line feed.
    """
    options = re2.Options()
    options.log_errors = False
    if binary:
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        return cast("Pattern", re2.compile(text.encode("latin-1" if binary else "utf-8"), options))
    except UnicodeEncodeError:
        raise ValueError(f"{where}: {text!r} has signs that are no bytes: write them as \\x00 to \\xff") from None
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"{where}: {text!r} is not an RE2 expression: {reason}") from None
