"""One mistake in a configuration file, and the error that carries all of them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """What is wrong in one place. Sorts by file, line and path."""

    file: str
    line: int
    """Counted from 1; 0 when it is about the file as a whole."""
    path: str
    """Where it stands in the document, like `probes[front].http.expect`; empty for the whole document."""
    sentence: str
    """What was asked, what was seen, the remedy. Never holds a secret."""

    def __str__(self) -> str:
        """One line for people and editors: `file:line: path: sentence`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.sentence) if part)


class ConfigError(Exception):
    """A configuration cannot be used. Carries every mistake in it, once, in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """One printable line a mistake."""
        return tuple(str(mistake) for mistake in self.mistakes)
