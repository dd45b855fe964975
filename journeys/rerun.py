"""One test again and again in one process: what pytest keeps of a run on the test is taken off before the next.

In CI a test runs once, so pytest has no need for that: what a run printed and logged, the properties that it recorded and the
marks that it added would be there in every later run, and be more each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest


@dataclass(frozen=True, slots=True)
class _Collected:
    """What a test had before its first run."""

    properties: Sequence[tuple[str, object]]
    marks: Sequence[pytest.Mark]


_COLLECTED: Final = pytest.StashKey[_Collected]()
"""On an item."""


def as_collected(item: pytest.Item) -> None:
    """Make a test what it was when it was collected. To be called before each run, the first among them."""
    first = item.stash.setdefault(_COLLECTED, _Collected(tuple(item.user_properties), tuple(item.own_markers)))
    # Lists of its own: a copy of the test shares them with what it was made of.
    item.user_properties = list(first.properties)
    item.own_markers = list(first.marks)
    kept = cast("Any", item)
    kept._report_sections = []  # noqa: SLF001 - what was captured has no public name
    if getattr(item, "cls", None) is not None:
        # A test in a class finds a new instance in every run, as it does in CI. pytest keeps the one it made on the item.
        vars(item).pop("_instance", None)
        vars(item)["_obj"] = None
