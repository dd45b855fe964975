"""A table that is made when somebody first looks into it."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Deferred(Mapping[str, Row], Generic[Row]):
    """Rows by name. What they need is imported with the first look: a configuration without drills has no use for any of it."""

    def __init__(self, rows: Callable[[], Mapping[str, Row]]) -> None:
        """`rows` is called once."""
        self._make = rows

    @cached_property
    def _rows(self) -> Mapping[str, Row]:
        return self._make()

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
