"""What the options of all faults share: how strictly they are read, and what is asked of a share."""

from dataclasses import Field
from fractions import Fraction
from typing import Any, ClassVar, Protocol

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid")
"""For the options that a user writes: an unknown key is a mistake; the docstrings are the reference."""


class Options(Protocol):
    """The options of any fault: a frozen dataclass that pydantic can validate."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def share_is_some(share: Fraction) -> None:
    """Raise ValueError for a share of nothing."""
    if share <= 0:
        raise ValueError("share must be more than 0%: a fault that is never drawn proves nothing")
