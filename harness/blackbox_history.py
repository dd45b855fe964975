"""The last runs that were asked for through `/probe`, and the last failures however many came after them."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from stormwatch.probes.result import Outcome, Result


@dataclass(frozen=True, slots=True)
class Entry:
    """One run and what was answered."""

    number: int
    """Counted from 1 since the start."""
    module: str
    target: str
    """As it was asked for."""
    result: Result
    page: bytes
    """The metrics that were returned."""

    @property
    def success(self) -> bool:
        """What `probe_success` said."""
        return self.result.outcome is Outcome.UP


class BlackboxHistory:
    """Keeps the last `limit` runs, and as many failures beside them: one that matters is still there when somebody looks."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: OrderedDict[int, Entry] = OrderedDict()
        self._failures: OrderedDict[int, Entry] = OrderedDict()
        self._count = 0

    def add(self, module: str, target: str, result: Result, page: bytes) -> Entry:
        """Remember a run."""
        self._count += 1
        entry = Entry(self._count, module, target, result, page)
        self._last[entry.number] = entry
        if len(self._last) > self._limit:
            _, old = self._last.popitem(last=False)
            if not old.success:
                self._failures[old.number] = old
                if len(self._failures) > self._limit:
                    self._failures.popitem(last=False)
        return entry

    def __iter__(self) -> Iterator[Entry]:
        """The newest first."""
        yield from reversed(self._last.values())
        yield from reversed(self._failures.values())

    def by_number(self, number: int) -> Entry | None:
        """The run with this number, while it is kept."""
        return self._last.get(number) or self._failures.get(number)

    def by_target(self, target: str, module: str = "") -> Entry | None:
        """The newest run of this target, and of this module if one is given."""
        return next((each for each in self if each.target == target and module in ("", each.module)), None)
