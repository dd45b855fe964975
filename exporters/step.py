"""The steps of telling people, in the order in which they are taken: after each, the world or the disk is different.

Whoever promises that nothing is lost has to be killed at every one of them. Tests are told of each and do that; they take
the list from here, so that a step that is added is tried, too.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """A moment at which the process may be killed."""

    EVALUATED = "evaluated"
    """An alert changed its state, in memory only."""
    SNAPSHOT = "snapshot"
    """The state of all alerts is on disk beside the last one."""
    KEPT = "kept"
    """It has taken the place of the last one."""
    TAKEN = "taken"
    """The notification is in the dispatcher's memory."""
    WRITE = "write"
    """What has to be told is about to be written to the outbox."""
    COMMIT = "commit"
    """A transaction of the outbox is whole and not committed: that of messages, of a try, of a receipt."""
    WRITTEN = "written"
    """The messages are on disk."""
    SEND = "send"
    """The try is counted on disk; nothing was sent."""
    SENT = "sent"
    """The receiver took it, and nobody wrote that down."""
    FAILED = "failed"
    """It could not be sent, and will be tried again."""
    REFUSED = "refused"
    """The receiver will never take it, and nobody wrote that down."""
    PASSED_ON = "passed-on"
    """It was decided, in memory only, that the fallback is told."""
    RECEIPTED = "receipted"
    """What the receiver said is on disk."""


Reached = Callable[[Step], None]
"""Called when a step was come to."""


def unheard(_step: Step) -> None:
    """Nobody wants to know."""
