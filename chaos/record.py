"""What a journal says of an observation: only what is new since the line before, so that any prefix of it is a record.

An observation in JSON is an object of which some values change and some lists grow. `growth` is the way from one to a
later one, `grown` goes it. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_AT_ONCE = 100
"""How many entries of a list stand in one line: the journal finds its last line in the last megabyte of the file."""


def growth(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What has to be said, in one part or, where much has come at once, in several: none when nothing is new.

    A part has `now`, values that are different, and `more`, what has come to the ends of lists.
    """
    changed: dict[str, Any] = {}
    arrived: list[tuple[str, Any]] = []
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, list) and isinstance(old, list) and value[: len(old)] == old:
            arrived += [(key, entry) for entry in value[len(old) :]]
        elif key not in before or value != old:
            changed[key] = value
    for start in range(0, max(len(arrived), 1), _AT_ONCE):
        more: dict[str, list[Any]] = {}
        for key, entry in arrived[start : start + _AT_ONCE]:
            more.setdefault(key, []).append(entry)
        part = {"now": changed if start == 0 else {}, "more": more}
        if kept := {name: what for name, what in part.items() if what}:
            yield kept


def grown(document: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The observation after one part of a `growth`. Raises TypeError or AttributeError for what is none."""
    after = {**document, **part.get("now", {})}
    for key, entries in part.get("more", {}).items():
        after[key] = [*after.get(key, []), *entries]
    return after
