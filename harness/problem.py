"""How a command ends when it cannot do what was asked: one clear line on stderr and an exit code that is an interface."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    GOOD = 0
    NOT_GOOD = 1
    """A probe is down, a verdict is not `proved`."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    NO_VERDICT = 3
    """Broken or inconclusive: nothing is proved either way."""
    UNSAFE = 4
    """A fault may still be in place."""


class Problem(Exception):
    """Ends a command. The lines are for a person: what was asked, what was seen, the remedy."""

    def __init__(self, *lines: str, code: Exit = Exit.USAGE) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code
