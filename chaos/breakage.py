"""One way to break something that no proxy stands in front of: how to do it, and all that is needed to undo it."""

from collections.abc import Mapping
from typing import Any, Protocol

from stormwatch.chaos.evidence import Evidence


class CannotBreak(Exception):
    """It could not be broken. One sentence: what was asked, what was seen, the remedy."""


class Breakage(Protocol):
    """What `HeldFault` holds. Undoing is not here: it has to work from the arguments alone, in another process."""

    @property
    def method(self) -> str:
        """Which of `undoers.UNDOERS` takes it back."""
        ...

    async def prepare(self) -> Mapping[str, Any]:
        """The arguments of the undoing, JSON values: known before anything is touched, and enough whenever we die.

        Looks, and changes nothing. Raises CannotBreak.
        """
        ...

    async def inject(self) -> None:
        """Break it, and see that it is broken. Raises CannotBreak; the undoing is called after that, too."""
        ...

    async def evidence(self) -> Evidence:
        """What it has touched until now. Raises CannotBreak when it is not in place any more."""
        ...
