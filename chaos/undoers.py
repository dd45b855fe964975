"""The inverse of each way to inject: what `stormwatch undo`, the reaper and the fault itself take it back with."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from stormwatch.chaos.absence import Absence
from stormwatch.chaos.proxy_control import undo_proxy_fault

Undoer = Callable[[Mapping[str, Any]], Awaitable[Absence]]
"""Takes a fault back by the arguments of its record: idempotent, proves that it is gone, raises UndoFailed."""

UNDOERS: Mapping[str, Undoer] = MappingProxyType({"proxy": undo_proxy_fault})
"""By the name that the records carry. A family of faults adds its own here."""
